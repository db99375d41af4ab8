"""`cesar jobs cancel`, `retry` and `delete`."""

from __future__ import annotations

import sys

import pytest

from cesar.api.models import JobStatus
from tests.cli.queues import only_line, run_on_terminal


def test_a_waiting_job_is_cancelled_at_once(invoke, queue, three_jobs):
    code, out, err = invoke("jobs", "cancel", "aaaa1")
    assert (code, out, err) == (0, "", "first (aaaa1111): cancelled\n")
    assert [job.status.value for job in queue.jobs()] == ["queued", "queued", "cancelled"]


def test_a_running_job_is_asked_to_stop(invoke, queue):
    with queue.running_job() as job:
        code, _, err = invoke("jobs", "cancel", job.id)
        assert (code, queue.read(job).status) == (0, JobStatus.PROCESSING)
        assert queue.read(job).cancel_requested_at is not None
    assert only_line(err).endswith("stopping")


def test_cancelling_twice_is_harmless(invoke, queue):
    job = queue.add(JobStatus.CANCELLED)
    assert invoke("jobs", "cancel", job.id)[0] == 0


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.ERROR])
def test_a_finished_job_cannot_be_cancelled(status, invoke, queue):
    job = queue.add(status, name="talk")
    code, _, err = invoke("jobs", "cancel", job.id)
    assert code == 6
    assert f"is already finished ({status.value})" in only_line(err)
    assert queue.read(job).status is status


@pytest.mark.parametrize("status", [JobStatus.ERROR, JobStatus.CANCELLED])
def test_a_failed_or_cancelled_job_is_queued_again(status, invoke, queue):
    job = queue.add(status, name="talk")
    code, _, err = invoke("jobs", "retry", job.id)
    assert code == 0
    assert only_line(err).endswith(": queued again")
    assert queue.read(job).status is JobStatus.QUEUED


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.COMPLETED])
def test_only_failed_and_cancelled_jobs_can_be_retried(status, invoke, queue):
    job = queue.add(status)
    code, _, err = invoke("jobs", "retry", job.id)
    assert code == 6
    assert f"is {status.value}. Only failed and cancelled jobs" in only_line(err)
    assert queue.read(job).version == job.version


def test_a_running_job_cannot_be_retried(invoke, queue):
    with queue.running_job() as job:
        code, _, err = invoke("jobs", "retry", job.id)
        assert queue.read(job).status is JobStatus.PROCESSING
    assert code == 6
    assert "is processing" in only_line(err)


def test_a_deleted_job_is_gone(invoke, queue, three_jobs):
    code, out, err = invoke("jobs", "delete", "bbbb", "aaaa1")
    assert (code, out) == (0, "")
    assert err.splitlines() == ["third (bbbb3333): deleted", "first (aaaa1111): deleted"]
    assert [job.name for job in queue.jobs()] == ["second"]


def test_deleting_a_running_job_is_refused_with_advice(invoke, queue):
    with queue.running_job(id="eeee-1") as job:
        code, _, err = invoke("jobs", "delete", job.id, "-y")
        assert queue.read(job).status is JobStatus.PROCESSING
    assert code == 6
    assert "cesar jobs cancel eeee-1" in only_line(err)


def test_one_failed_change_does_not_stop_the_others(invoke, queue, three_jobs):
    over = queue.add(JobStatus.COMPLETED, id="cccc-1")
    code, _, err = invoke("jobs", "cancel", three_jobs[0].id, over.id, three_jobs[1].id)
    assert code == 6
    assert len(err.splitlines()) == 3
    assert [job.status.value for job in queue.jobs()] == ["completed", "queued", "cancelled", "cancelled"]


def test_one_unknown_id_prevents_all_changes(invoke, queue, three_jobs):
    code, _, err = invoke("jobs", "delete", three_jobs[0].id, "gone")
    assert code == 6
    assert "no job 'gone'" in only_line(err)
    assert len(queue.jobs()) == 3


def test_a_job_given_twice_is_changed_once(invoke, three_jobs):
    assert invoke("jobs", "delete", "bbbb", "bbbb3333")[2] == "third (bbbb3333): deleted\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(("answer", "expected", "left"), [(b"n\n", 130, 1), (b"y\n", 0, 0)])
def test_on_a_terminal_delete_asks_first(answer, expected, left, environ, queue):
    job = queue.add(name="two\nlines")
    code, shown = run_on_terminal("jobs", "delete", job.id[:8], typed=answer)
    assert rf"Delete two\nlines ({job.id[:8]}) for good?" in shown
    assert code == expected
    assert len(queue.jobs()) == left


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_on_a_terminal_delete_with_yes_does_not_ask(environ, queue):
    job = queue.add()
    code, shown = run_on_terminal("jobs", "delete", job.id, "--yes")
    assert (code, queue.jobs()) == (0, [])
    assert "for good?" not in shown
