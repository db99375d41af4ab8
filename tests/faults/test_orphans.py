"""A killed worker's child ends with it, and the next worker takes over its job at once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from cesar.api.models import Job
from tests.faults.jobs import (
    SENTENCE,
    child_of,
    history,
    is_over,
    middle,
    model,
    pace,
    reasons,
    require_sound,
    row_of,
    submit,
    working,
)
from tests.faults.support import WorkerProcess, is_alive, is_stopped, statuses, wait_until

pytestmark = pytest.mark.slow

TAKEN_OVER = ["submitted", "claimed", "worker died", "claimed", "completed"]


def hanging_job(folder: Path, number: int) -> Job:
    """A job that hangs once: it completes only if the worker is killed."""
    fault = {"at": middle(0), "do": "hang", "unless": str(folder / f"hung-{number}")}
    return Job(audio_path=str(SENTENCE), model_size=model(folder, fault, word=f"word{number}"))


def kill_at_inference(worker: WorkerProcess, hung: Path) -> tuple[int, float]:
    """Kill a worker while its child is decoding; return the child and how many seconds it outlived its parent."""
    wait_until(hung.exists)
    child = child_of(worker)
    assert is_alive(child)
    worker.kill()
    begun = time.monotonic()
    wait_until(lambda: not is_alive(child), timeout_s=10)
    return child, time.monotonic() - begun


def test_a_killed_workers_child_ends_and_the_next_worker_resumes(tmp_path, rounds, note):
    database = tmp_path / "queue.db"
    count = rounds(3, 200)
    jobs = submit(database, *(hanging_job(tmp_path, number) for number in range(count)))
    outlived, waited = [], []
    for number, job in enumerate(jobs):
        slower = pace()
        with working(database) as worker:
            outlived.append(kill_at_inference(worker, tmp_path / f"hung-{number}")[1])
            assert statuses(database)[job] == "processing", "a killed worker tells nobody"
        assert outlived[-1] <= 1.0 * slower
        if number > 0:
            waited.append(history(database, jobs[number - 1])[3][1] - worker.ready_at)
            assert waited[-1] <= 2.0 * slower
    with working(database) as worker:
        wait_until(lambda: is_over(database, *jobs))
        worker.drain()
    for number, job in enumerate(jobs):
        assert reasons(database, job) == TAKEN_OVER
        assert row_of(database, job)["result_text"] == f"Word{number} 0."
        assert row_of(database, job)["lost"] == 0, "it was finished after all"
    require_sound(database, jobs)
    note(
        "parent killed during inference", count, orphans=0, longest_outlived_s=max(outlived), longest_wait_s=max(waited)
    )


def test_a_stopped_child_ends_with_its_worker(tmp_path):
    """A stopped child can't notice by itself that its parent is gone."""
    database = tmp_path / "queue.db"
    [job] = submit(database, hanging_job(tmp_path, 0))
    with working(database) as worker:
        wait_until((tmp_path / "hung-0").exists)
        child = child_of(worker)
        os.kill(child, signal.SIGSTOP)
        wait_until(lambda: is_stopped(child))
        worker.kill()
        wait_until(lambda: not is_alive(child), timeout_s=1.0 * pace())
    assert statuses(database) == {job: "processing"}


def test_a_waiting_worker_takes_over_from_a_killed_one(tmp_path):
    database = tmp_path / "queue.db"
    [job] = submit(database, hanging_job(tmp_path, 0))
    with working(database) as first:
        wait_until((tmp_path / "hung-0").exists)
        with working(database) as second:
            killed_at = time.time()
            child, _ = kill_at_inference(first, tmp_path / "hung-0")
            wait_until(lambda: is_over(database, job))
            second.drain()
    assert reasons(database, job) == TAKEN_OVER
    assert history(database, job)[3][1] - killed_at <= 2.0 * pace()
    require_sound(database, [job], child)


def test_two_workers_share_a_queue_and_each_job_is_done_once(tmp_path):
    database = tmp_path / "queue.db"
    name = model(tmp_path)
    jobs = submit(database, *(Job(audio_path=str(SENTENCE), model_size=name) for _ in range(40)))
    with working(database) as first, working(database) as second:
        wait_until(lambda: is_over(database, *jobs))
        done = [worker.log.read_text().count("is completed") for worker in (first, second)]
        first.drain()
        second.drain()
    assert sum(done) == len(jobs)
    assert min(done) >= 5, "neither is idle while there is work"
    assert all(reasons(database, job) == ["submitted", "claimed", "completed"] for job in jobs)
    require_sound(database, jobs)
