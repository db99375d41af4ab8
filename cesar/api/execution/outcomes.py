"""How the work on a job ended, as a frozen value, and what that changes in the job."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cesar.api.execution.job_run import JobRun, StopReason
from cesar.api.models import JobFailure, JobResult, JobStatus, utc_now
from cesar.errors import (
    CesarError,
    ChildKilled,
    ClaimLost,
    DiskFull,
    DownloadFailed,
    FetchFailed,
    FetchTooSlow,
    RecognitionError,
    RecordingChanged,
)
from cesar.files.disk import DISK_FULL_ERRNOS

_TRANSIENT_ERRORS = (RecordingChanged, DiskFull, DownloadFailed, FetchFailed, MemoryError)
_TRANSIENT_ERRNOS = (*DISK_FULL_ERRNOS, errno.ENOMEM, errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class Completed:
    """The recording was transcribed."""

    result: Mapping[str, str]
    """The `text` and its `language`."""
    details: Mapping[str, Any] | None
    """The transcript without its text (see `details_of`), if it is known."""

    def changes(self) -> dict[str, Any]:
        """Return the job's new values. Raises LookupError or TypeError if the result lacks any."""
        return {
            "status": JobStatus.COMPLETED,
            "completed_at": utc_now(),
            **asdict(JobResult(self.result["text"], self.result["language"], self.details)),
            **asdict(JobFailure()),
        }


@dataclass(frozen=True, slots=True)
class Failed:
    """The work failed: for good, or the job is to be queued again."""

    error: BaseException

    @property
    def is_transient(self) -> bool:
        """Whether the same work may succeed later without any change."""
        return is_transient(self.error)

    @property
    def message(self) -> str:
        """The error's message, in characters that can be stored."""
        return _storable_message(self.error)

    def changes(self) -> dict[str, Any]:
        """Return the job's new values."""
        code, hint = CesarError.code, None
        if isinstance(self.error, CesarError):
            code, hint = self.error.code, self.error.hint
        changes = asdict(JobFailure(code, self.message, hint)) | asdict(JobResult())
        return changes if self.is_transient else changes | {"status": JobStatus.ERROR, "completed_at": utc_now()}


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The work was stopped because the job was cancelled."""

    def changes(self) -> dict[str, Any]:
        """Return the job's new values."""
        return {"status": JobStatus.CANCELLED, "completed_at": utc_now()}


@dataclass(frozen=True, slots=True)
class Released:
    """The work was stopped for another reason, and goes on in another attempt."""

    reason: StopReason

    def changes(self) -> dict[str, Any]:
        """Return the job's new values."""
        return {"status": JobStatus.QUEUED}


Outcome = Completed | Failed | Cancelled | Released


def outcome_of(run: JobRun, work: asyncio.Task[dict[str, str]]) -> Outcome:
    """Return how the work of a run ended: if it was finished, that counts, even if it was to be stopped.

    Raises `ClaimLost`.
    """
    if run.stop_reason == "claim lost":
        raise ClaimLost(f"the claim on job {run.job.id} was lost")
    error = _exception_of(work)
    if work.done() and error is None:
        return Completed(work.result(), run.details)
    if run.stop_reason == "cancelled":
        return Cancelled()
    if run.stop_reason is not None:
        return Released(run.stop_reason)
    assert error is not None, "the work was neither finished nor stopped"
    return Failed(error)


def details_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `AudioTranscriber.transcribe_file` says about a transcript, without its text."""
    return {
        "duration": result.get("audio_duration"),
        "language_probability": result.get("language_probability"),
        "model": result.get("model"),
        "timings": result.get("timings"),
        "warnings": result.get("warnings"),
        "dropped_s": result.get("dropped_s"),
        "origin": result.get("origin"),
    }


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


def _exception_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Return a task's exception; None if it has none, or is still running."""
    if not task.done():
        return None
    return CesarError("the work cancelled itself") if task.cancelled() else task.exception()


def _storable_message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error whose message can't be formatted
        text = ""
    return (text or type(error).__name__).encode("utf-8", "replace").decode("utf-8")
