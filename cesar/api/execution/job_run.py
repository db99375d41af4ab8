"""`JobRun`: one job at work. What its thread is given, what it tells, and why it is to stop."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeVar

from cesar.api.execution.backoff import backoff
from cesar.api.models import Job
from cesar.api.queue.fingerprint import fingerprint
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.errors import (
    AddressRefused,
    CesarError,
    ChildKilled,
    ClaimLost,
    DatabaseError,
    DiskFull,
    DownloadFailed,
    FetchFailed,
    FetchTooSlow,
    Interrupted,
    RecognitionError,
    RecordingChanged,
)
from cesar.settings.config import Settings, load
from cesar.transcriber import find_engine
from cesar.transcript import Chunk, Progress

T = TypeVar("T")
StopReason = Literal["cancelled", "claim lost", "claim not kept", "shutdown"]
_TRANSIENT_ERRORS = (RecordingChanged, DiskFull, DownloadFailed, FetchFailed, MemoryError)
_TRANSIENT_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_log = logging.getLogger(__name__)


class JobRun:
    """A job at work, between the event loop (which may stop it) and its thread (which does it)."""

    def __init__(self, job: Job, repository: JobRepository) -> None:
        self.job = job
        self.stopped = asyncio.Event()
        self.stop_reason: StopReason | None = None
        self.outcome: dict[str, Any] | None = None
        """What the transcript tells besides its text, once the thread is through."""
        self._repository = repository
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._recording: tuple[Path, object] | None = None
        self._reported_bytes: tuple[int, int | None] | None = None

    def stop(self, reason: StopReason) -> None:
        """Have the work end soon: the child is killed. The first reason counts. Only from the event loop."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.stopped.set()
            self._stop.set()

    async def fetch(self, url: str, store: AudioStore, settings: Settings | None) -> Path:
        """Get the recording from an address, and note what it is; give the file, which is not yet in its place.

        Raises `AddressRefused`, `FetchRefused`, `FetchFailed`, `DiskFull`, or `Interrupted` when stopped.
        """
        settings = await asyncio.to_thread(load) if settings is None else settings
        if settings.offline:
            raise AddressRefused("nothing is fetched: the worker is offline", hint="Start it without `--offline`.")
        self.job.phase = "fetching"
        await asyncio.to_thread(
            import_module, "cesar.api.execution.download.fetch"
        )  # it takes a while, and the loop has to serve
        from cesar.api.execution.download.fetch import Limits, fetch

        partial = await self._repository.download_path(self.job)
        fetched = await fetch(url, partial, Limits.of(settings), self._on_fetched, self.stopped)
        self.job.audio_digest = fetched.digest
        self.job.audio_bytes = self.job.fetched_bytes = fetched.size
        self.job.audio_path = str(store.path_of(fetched.digest))
        _log.info("job %s has its recording: %d bytes", self.job.id, fetched.size)
        return partial

    def _on_fetched(self, fetched_bytes: int, audio_bytes: int | None) -> None:
        self.job.fetched_bytes, self.job.audio_bytes = fetched_bytes, audio_bytes

    @property
    def has_unreported_bytes(self) -> bool:
        """Whether more of the recording has been fetched than the last beat told."""
        return self.job.phase == "fetching" and self._reported_bytes != (self.job.fetched_bytes, self.job.audio_bytes)

    def mark_reported(self) -> None:
        """Take it that a beat tells now what has arrived."""
        self._reported_bytes = self.job.fetched_bytes, self.job.audio_bytes

    # From here on: the thread's side.

    def transcribe_arguments(self, settings: Settings | None) -> dict[str, Any]:
        """Give `AudioTranscriber.transcribe_file` what it needs beyond the two paths."""
        settings = load() if settings is None else settings
        return {
            "options": self.job.options,
            "on_progress": self._on_progress,
            "on_chunk": self._on_chunk,
            "on_begin": self._on_begin,
            "should_stop": self._stop.is_set,
            "done": self._completed_chunks(settings),
        }

    def require_same_recording(self) -> None:
        """Raise `RecordingChanged` if the file is not the one that the work began with."""
        if self._recording is not None:
            path, before = self._recording
            if _identity(path) not in (None, before):
                raise RecordingChanged(f"{self.job.name} was changed while it was transcribed")

    def _completed_chunks(self, settings: Settings) -> list[Chunk]:
        """Give the chunks that an earlier attempt has finished."""
        recording = Path(self.job.audio_path)
        if not os.path.isfile(recording):  # noqa: PTH113 - unlike Path.is_file it never raises
            return []
        try:
            engine = find_engine(self.job.model_size, settings)
            self._recording = recording, _identity(recording)
            work = fingerprint(recording, engine, self.job.options, self._stop.is_set)
        except Interrupted:
            raise
        except (CesarError, OSError):
            return []  # the transcription will meet the same trouble, and tell of it better
        found = self._call_repository(lambda: self._repository.resume(self.job, work))
        done = found if isinstance(found, list) else []
        self.job.position = done[-1].end if done else 0.0
        if done:
            _log.info("job %s goes on after %.0f s", self.job.id, done[-1].end)
        return done

    def _on_begin(self) -> None:
        self._call_repository(lambda: self._repository.mark_begun(self.job))

    def _on_progress(self, progress: Progress) -> None:
        self.job.phase = progress.phase
        self.job.position = max(self.job.position, progress.position)  # a resumed run passes what is done
        self.job.duration = progress.duration or self.job.duration  # an earlier attempt has opened it

    def _on_chunk(self, chunk: Chunk) -> None:
        self.require_same_recording()
        self._call_repository(lambda: self._repository.checkpoint(self.job, chunk))

    def _call_repository(self, call: Any) -> Any:
        """Have the event loop do it, again and again while the database is away. Raises `Interrupted` when stopped."""
        for delay_s in backoff():
            try:
                return asyncio.run_coroutine_threadsafe(call(), self._loop).result()
            except ClaimLost:
                self._loop.call_soon_threadsafe(self.stop, "claim lost")
                raise Interrupted("the claim was lost") from None
            except DatabaseError as error:
                _log.warning("job %s waits for the database: %s", self.job.id, error)
            if self._stop.wait(delay_s):
                break
        raise Interrupted("the work was stopped")


def _identity(path: Path) -> object:
    """Something that differs when a file was replaced or written to; None if it is gone: who reads it, reads on."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def was_killed(error: BaseException) -> bool:
    """Whether the system has killed the recogniser, which may have to do with its job or with anything else."""
    return isinstance(error, ChildKilled) and error.may_pass


def is_transient(error: BaseException) -> bool:
    """Whether the same work may well succeed later, by itself."""
    reasons = (error, error.__cause__)
    if any(isinstance(reason, OSError) and reason.errno in _TRANSIENT_ERRNOS for reason in reasons):
        return True
    if isinstance(error, RecognitionError):
        return error.may_pass
    return isinstance(error, _TRANSIENT_ERRORS) and not isinstance(error, FetchTooSlow)


def outcome_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """What a transcript tells besides its text, as plain JSON values."""
    return {
        "duration": result.get("audio_duration"),
        "language_probability": result.get("language_probability"),
        "model": result.get("model"),
        "timings": result.get("timings"),
        "warnings": result.get("warnings"),
        "dropped_s": result.get("dropped_s"),
        "origin": result.get("origin"),
    }


def exception_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Give what a task has raised; None if it has not, or goes on."""
    if not task.done():
        return None
    return CesarError("the work gave itself up") if task.cancelled() else task.exception()


def safe_message(error: BaseException) -> str:
    """Say what an error says, in characters that can be stored."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error that can't even tell what it is
        text = ""
    return (text or type(error).__name__).encode("utf-8", "replace").decode("utf-8")


def retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Take note of a result that nobody may come for, so that asyncio doesn't complain of it."""
    if not task.cancelled():
        task.exception()
