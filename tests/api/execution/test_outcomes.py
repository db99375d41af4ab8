"""The outcomes of a run: which failures are transient, and what each outcome changes in the job."""

from __future__ import annotations

import errno

import pytest

from cesar import errors
from cesar.api.execution.outcomes import Completed, Failed, is_transient, was_killed
from cesar.api.models import JobStatus
from cesar.errors import ClaimLost

TRANSIENT = {
    errors.RecognitionError,
    errors.RecogniserNotStarted,
    errors.WorkerLost,
    errors.RecordingChanged,
    errors.DiskFull,
    errors.DownloadFailed,
    errors.FetchFailed,
}


@pytest.mark.parametrize("kind", errors.BY_CODE.values(), ids=lambda kind: kind.__name__)
def test_only_these_of_our_errors_are_transient(kind: type[errors.CesarError]) -> None:
    assert is_transient(kind("it failed")) == (kind in TRANSIENT)


@pytest.mark.parametrize("kind", [errors.ChildCrashed, errors.ChildKilled, errors.ChildStalled])
def test_errors_that_the_recording_cannot_have_caused_are_transient(kind: type[errors.RecognitionError]) -> None:
    error = kind("it failed before the recording was opened")
    error.is_transient = True
    assert is_transient(error)
    assert was_killed(error) == (kind is errors.ChildKilled)


def test_exhausting_the_memory_limit_is_not_a_kill() -> None:
    assert not was_killed(errors.ChildKilled("memory ran out"))


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (OSError(errno.ENOSPC, "no space"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (OSError(errno.ENOMEM, "no memory"), True),
        (OSError(errno.EMFILE, "too many open files"), True),
        (OSError(errno.ENFILE, "too many open files in the system"), True),
        (MemoryError(), True),
        (OSError(errno.EIO, "broken disk"), False),
        (FileNotFoundError("gone"), False),
        (PermissionError(errno.EACCES, "not yours"), False),
        (TimeoutError("slow"), False),
        (ValueError("a bug"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_other_errors_are_transient_only_for_want_of_resources(error: BaseException, is_so: bool) -> None:
    assert is_transient(error) is is_so


def test_errors_caused_by_a_transient_error_are_transient() -> None:
    error = errors.ModelCorrupt("config.json can't be read")
    error.__cause__ = OSError(errno.EMFILE, "too many open files")
    assert is_transient(error)


def test_a_lost_claim_is_not_a_transient_failure() -> None:
    assert not is_transient(ClaimLost("lost"))


def test_a_completed_job_keeps_no_failure_of_an_earlier_attempt() -> None:
    changes = Completed({"text": "Words.", "language": "en"}, {"duration": 2.0}).changes()
    assert (changes["status"], changes["result_text"], changes["detected_language"]) == ("completed", "Words.", "en")
    assert changes["outcome"] == {"duration": 2.0}
    assert (changes["error_code"], changes["error_message"], changes["error_hint"]) == (None, None, None)


def test_only_a_permanent_failure_ends_the_job() -> None:
    permanent, transient = Failed(errors.NotMedia("a picture")), Failed(errors.DiskFull("no room"))
    assert permanent.changes()["status"] is JobStatus.ERROR
    assert "status" not in transient.changes()
    assert transient.changes()["error_code"] == "disk_full"
