"""`JobRun`: one run of a job: what its thread gets, what it reports, and why it should stop."""

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
from cesar.files.disk import DISK_FULL_ERRNOS
from cesar.settings.config import Settings, load
from cesar.transcriber import find_engine
from cesar.transcript import Chunk, Progress

T = TypeVar("T")
StopReason = Literal["cancelled", "claim lost", "claim not kept", "shutdown"]
_TRANSIENT_ERRORS = (RecordingChanged, DiskFull, DownloadFailed, FetchFailed, MemoryError)
_TRANSIENT_ERRNOS = (*DISK_FULL_ERRNOS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_log = logging.getLogger(__name__)


class JobRun:
    """One run of a job, shared by the event loop, which may stop it, and the thread that does the work."""

    def __init__(self, job: Job, repository: JobRepository) -> None:
        self.job = job
        self.stopped = asyncio.Event()
        self.stop_reason: StopReason | None = None
        self.outcome: dict[str, Any] | None = None
        """The transcript without its text, once the thread is done."""
        self._repository = repository
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._recording: tuple[Path, object] | None = None
        self._reported_bytes: tuple[int, int | None] | None = None

    def stop(self, reason: StopReason) -> None:
        """Stop the work by killing the child. The first reason counts. Call it only from the event loop."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.stopped.set()
            self._stop.set()

    async def fetch(self, url: str, store: AudioStore, settings: Settings | None) -> Path:
        """Fetch the recording, and record its digest and size; return the file, which is not yet in the store.

        Raises `AddressRefused`, `FetchRefused`, `FetchFailed`, `DiskFull`, or `Interrupted` when stopped.
        """
        settings = await asyncio.to_thread(load) if settings is None else settings
        if settings.offline:
            raise AddressRefused("the worker is offline and fetches nothing", hint="Start it without `--offline`.")
        self.job.phase = "fetching"
        await asyncio.to_thread(
            import_module, "cesar.api.execution.download.fetch"
        )  # slow, and the loop must stay responsive
        from cesar.api.execution.download.fetch import Limits, fetch

        partial = await self._repository.download_path(self.job)
        fetched = await fetch(url, partial, Limits.from_settings(settings), self._on_fetched, self.stopped)
        self.job.audio_digest = fetched.digest
        self.job.audio_bytes = self.job.fetched_bytes = fetched.size
        self.job.audio_path = str(store.path_of(fetched.digest))
        _log.info("job %s has its recording: %d bytes", self.job.id, fetched.size)
        return partial

    def _on_fetched(self, fetched_bytes: int, audio_bytes: int | None) -> None:
        self.job.fetched_bytes, self.job.audio_bytes = fetched_bytes, audio_bytes

    @property
    def has_unreported_bytes(self) -> bool:
        """Whether more of the recording has been fetched than the last heartbeat reported."""
        return self.job.phase == "fetching" and self._reported_bytes != (self.job.fetched_bytes, self.job.audio_bytes)

    def mark_reported(self) -> None:
        """Record that a heartbeat reports what has arrived by now."""
        self._reported_bytes = self.job.fetched_bytes, self.job.audio_bytes

    # Called from the thread

    def transcribe_arguments(self, settings: Settings | None) -> dict[str, Any]:
        """Return the arguments of `AudioTranscriber.transcribe_file` beyond the two paths."""
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
        """Raise `RecordingChanged` if the file is no longer the one that the work began with."""
        if self._recording is not None:
            path, before = self._recording
            if _identity(path) not in (None, before):
                raise RecordingChanged(f"{self.job.name} was changed while it was transcribed")

    def _completed_chunks(self, settings: Settings) -> list[Chunk]:
        """Return the chunks that earlier attempts finished."""
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
            return []  # the transcription will hit the same error, and report it better
        found = self._call_repository(lambda: self._repository.resume(self.job, work))
        done = found if isinstance(found, list) else []
        self.job.position = done[-1].end if done else 0.0
        if done:
            _log.info("job %s resumes at %.0f s", self.job.id, done[-1].end)
        return done

    def _on_begin(self) -> None:
        self._call_repository(lambda: self._repository.mark_begun(self.job))

    def _on_progress(self, progress: Progress) -> None:
        self.job.phase = progress.phase
        self.job.position = max(self.job.position, progress.position)  # a resumed run passes finished chunks
        self.job.duration = progress.duration or self.job.duration  # known from an earlier attempt

    def _on_chunk(self, chunk: Chunk) -> None:
        self.require_same_recording()
        self._call_repository(lambda: self._repository.checkpoint(self.job, chunk))

    def _call_repository(self, call: Any) -> Any:
        """Call the repository in the event loop, retrying while the database is unavailable.

        Raises `Interrupted` when stopped.
        """
        for delay_s in backoff():
            try:
                return asyncio.run_coroutine_threadsafe(call(), self._loop).result()
            except ClaimLost:
                self._loop.call_soon_threadsafe(self.stop, "claim lost")
                raise Interrupted("the claim was lost") from None
            except DatabaseError as error:
                _log.warning("job %s is waiting for the database: %s", self.job.id, error)
            if self._stop.wait(delay_s):
                break
        raise Interrupted("the work was stopped")


def _identity(path: Path) -> object:
    """Return a value that changes when a file is replaced or written; None if it was deleted: its reader can go on."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def was_killed(error: BaseException) -> bool:
    """Whether the system killed the recogniser, for its job's sake or for another reason."""
    return isinstance(error, ChildKilled) and error.is_transient


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed later without any change."""
    reasons = (error, error.__cause__)
    if any(isinstance(reason, OSError) and reason.errno in _TRANSIENT_ERRNOS for reason in reasons):
        return True
    if isinstance(error, RecognitionError):
        return error.is_transient
    return isinstance(error, _TRANSIENT_ERRORS) and not isinstance(error, FetchTooSlow)


def outcome_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a transcript without its text, as plain JSON values."""
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
    """Return a task's exception; None if it has none, or is still running."""
    if not task.done():
        return None
    return CesarError("the work cancelled itself") if task.cancelled() else task.exception()


def safe_message(error: BaseException) -> str:
    """Return an error's message, in characters that can be stored."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error whose message can't be formatted
        text = ""
    return (text or type(error).__name__).encode("utf-8", "replace").decode("utf-8")


def retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Retrieve a task's exception that may have no caller left, so that asyncio doesn't log it."""
    if not task.cancelled():
        task.exception()
