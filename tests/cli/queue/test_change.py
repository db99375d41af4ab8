"""`cesar jobs cancel`, `retry` and `delete`."""

from __future__ import annotations

import sys

import pytest

from cesar.api.models import JobStatus
from tests.cli.queues import on_a_terminal, said


def test_a_waiting_job_is_cancelled_at_once(inside, queue, three):
    code, out, err = inside("jobs", "cancel", "aaaa1")
    assert (code, out, err) == (0, "", "first (aaaa1111): cancelled\n")
    assert [job.status.value for job in queue.jobs()] == ["queued", "queued", "cancelled"]


def test_a_running_job_is_asked_to_stop(inside, queue):
    with queue.one_at_work() as job:
        code, _, err = inside("jobs", "cancel", job.id)
        assert (code, queue.read(job).status) == (0, JobStatus.PROCESSING)
        assert queue.read(job).cancel_requested_at is not None
    assert said(err).endswith("is told to stop")


def test_cancelling_twice_is_harmless(inside, queue):
    job = queue.add(JobStatus.CANCELLED)
    assert inside("jobs", "cancel", job.id)[0] == 0


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.ERROR])
def test_a_finished_job_cannot_be_cancelled(status, inside, queue):
    job = queue.add(status, name="talk")
    code, _, err = inside("jobs", "cancel", job.id)
    assert code == 6
    assert f"is over ({status.value})" in said(err)
    assert queue.read(job).status is status


@pytest.mark.parametrize("status", [JobStatus.ERROR, JobStatus.CANCELLED])
def test_a_failed_or_cancelled_job_is_queued_again(status, inside, queue):
    job = queue.add(status, name="talk")
    code, _, err = inside("jobs", "retry", job.id)
    assert code == 0
    assert said(err).endswith(": queued again")
    assert queue.read(job).status is JobStatus.QUEUED


@pytest.mark.parametrize("status", [JobStatus.QUEUED, JobStatus.COMPLETED])
def test_only_failed_and_cancelled_jobs_can_be_retried(status, inside, queue):
    job = queue.add(status)
    code, _, err = inside("jobs", "retry", job.id)
    assert code == 6
    assert f"is {status.value}. Only failed and cancelled jobs" in said(err)
    assert queue.read(job).version == job.version


def test_a_running_job_cannot_be_retried(inside, queue):
    with queue.one_at_work() as job:
        code, _, err = inside("jobs", "retry", job.id)
        assert queue.read(job).status is JobStatus.PROCESSING
    assert code == 6
    assert "is processing" in said(err)


def test_a_deleted_job_is_gone(inside, queue, three):
    code, out, err = inside("jobs", "delete", "bbbb", "aaaa1")
    assert (code, out) == (0, "")
    assert err.splitlines() == ["third (bbbb3333): deleted", "first (aaaa1111): deleted"]
    assert [job.name for job in queue.jobs()] == ["second"]


def test_deleting_a_running_job_is_refused_with_advice(inside, queue):
    with queue.one_at_work(id="eeee-1") as job:
        code, _, err = inside("jobs", "delete", job.id, "-y")
        assert queue.read(job).status is JobStatus.PROCESSING
    assert code == 6
    assert "cesar jobs cancel eeee-1" in said(err)


def test_one_failed_change_does_not_stop_the_others(inside, queue, three):
    over = queue.add(JobStatus.COMPLETED, id="cccc-1")
    code, _, err = inside("jobs", "cancel", three[0].id, over.id, three[1].id)
    assert code == 6
    assert len(err.splitlines()) == 3
    assert [job.status.value for job in queue.jobs()] == ["completed", "queued", "cancelled", "cancelled"]


def test_one_unknown_id_prevents_all_changes(inside, queue, three):
    code, _, err = inside("jobs", "delete", three[0].id, "gone")
    assert code == 6
    assert "no job 'gone'" in said(err)
    assert len(queue.jobs()) == 3


def test_a_job_given_twice_is_changed_once(inside, three):
    assert inside("jobs", "delete", "bbbb", "bbbb3333")[2] == "third (bbbb3333): deleted\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize(("answer", "expected", "left"), [(b"n\n", 130, 1), (b"y\n", 0, 0)])
def test_on_a_terminal_delete_asks_first(answer, expected, left, environ, queue):
    job = queue.add(name="two\nlines")
    code, shown = on_a_terminal("jobs", "delete", job.id[:8], typed=answer)
    assert rf"Delete two\nlines ({job.id[:8]}) for good?" in shown
    assert code == expected
    assert len(queue.jobs()) == left


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_on_a_terminal_delete_with_yes_does_not_ask(environ, queue):
    job = queue.add()
    code, shown = on_a_terminal("jobs", "delete", job.id, "--yes")
    assert (code, queue.jobs()) == (0, [])
    assert "for good?" not in shown
