"""A cancelled job ends within seconds in any state and stays cancelled; a finished one stays finished."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cesar.api.models import Job, JobStatus
from cesar.api.repository import JobRepository
from cesar.api.worker import BackgroundWorker
from tests.faults.clerk import ClerkProcess
from tests.faults.jobs import (
    SENTENCE,
    ask,
    cancel,
    child_of,
    is_over,
    middle,
    model,
    reasons,
    require_sound,
    row_of,
    submit,
    working,
    write_sentences,
)
from tests.faults.support import is_alive, is_stopped, statuses, wait_until

pytestmark = pytest.mark.slow

WITHIN_S = 10.0


def job(name: str) -> Job:
    return Job(audio_path=str(SENTENCE), model_size=name)


def hanging(folder: Path, how: str = "hang") -> Job:
    return job(model(folder, {"at": middle(0), "do": how, "unless": str(folder / "hung")}, word=how))


def test_a_cancelled_waiting_job_never_starts(tmp_path):
    database = tmp_path / "queue.db"
    one, two = submit(database, job(model(tmp_path)), job(model(tmp_path)))
    assert [cancel(database, one), cancel(database, one)] == ["cancelled", "cancelled"]
    with working(database) as worker:
        wait_until(lambda: is_over(database, two))
        worker.drain()
    assert reasons(database, one) == ["submitted", "cancelled"]
    assert statuses(database) == {one: "cancelled", two: "completed"}
    require_sound(database, [one, two])


def test_a_job_waiting_for_a_retry_is_cancelled_at_once(tmp_path):
    database = tmp_path / "queue.db"
    [one] = submit(database, job(model(tmp_path, {"at": middle(0), "do": "kill"})))
    with working(database, "--retry-delay-s", "3600") as worker:
        wait_until(lambda: reasons(database, one)[-4:] == ["claimed", "recogniser killed"] * 2)
        assert cancel(database, one) == "cancelled"
        worker.drain()
    require_sound(database, [one])


@pytest.mark.parametrize("phase", ["loading", "recognising", "draining"])
def test_a_cancelled_jobs_child_is_gone_in_seconds_and_the_next_job_runs(tmp_path, phase):
    database = tmp_path / "queue.db"
    one, two = submit(database, hanging(tmp_path), job(model(tmp_path)))
    with working(database, "--grace-s", "60") as worker:
        child = child_of(worker)
        if phase == "loading":
            os.kill(child, signal.SIGSTOP)  # an interpreter takes longer to come up than we to see it
            assert not (tmp_path / "hung").exists()
        else:
            wait_until((tmp_path / "hung").exists)
        if phase == "draining":
            worker.send(signal.SIGTERM)
            wait_until(lambda: b"asked to stop" in worker.log.read_bytes())
        begun = time.monotonic()
        assert [cancel(database, one), cancel(database, one)] == ["processing", "processing"]
        wait_until(lambda: not is_alive(child) and is_over(database, one), timeout_s=WITHIN_S)
        if phase == "draining":
            assert worker.process.wait(WITHIN_S) == 0
            assert time.monotonic() - begun < WITHIN_S, "the grace ends with the job"
        else:
            wait_until(lambda: is_over(database, two))
            worker.drain()
    assert reasons(database, one) == ["submitted", "claimed", "cancelled"]
    assert row_of(database, two)["status"] == ("queued" if phase == "draining" else "completed")
    require_sound(database, [one, two], child)


@pytest.mark.parametrize(
    ("failpoint", "told"),
    [
        ("checkpoint:committed", {"processing"}),  # its last chunk
        ("update:written@2", {"processing", "completed"}),  # the outcome, which nobody else sees yet
        ("update:committed@2", {"completed"}),
    ],
)
def test_the_first_commit_wins_if_a_job_is_cancelled_while_it_ends(tmp_path, failpoint, told):
    database = tmp_path / "queue.db"
    [one] = submit(database, job(model(tmp_path)))
    name, _, at = failpoint.partition("@")
    environ = {"CESAR_FAILPOINT": f"{name}=stop@{at or 1}"}
    with ClerkProcess(database) as clerk, working(database, environ=environ) as worker:
        clerk.wait_until_ready()
        wait_until(lambda: is_stopped(worker.process.pid))
        if name.endswith(":written"):
            clerk.tell("cancel", job=one)  # waits for the transaction that stands still
            worker.send(signal.SIGCONT)
            answer = clerk.answer()
        else:
            answer = clerk.ask("cancel", job=one)
            worker.send(signal.SIGCONT)
        wait_until(lambda: is_over(database, one))
        assert answer in told
        [two] = submit(database, job(model(tmp_path)))
        wait_until(lambda: is_over(database, two))
        again = clerk.ask("cancel", job=one)
        worker.drain()
    final = row_of(database, one)["status"]
    assert final == again
    assert final == "completed" or (final, answer) == ("cancelled", "processing")
    require_sound(database, [one, two])


def test_a_job_whose_worker_is_dead_is_cancelled_at_once(tmp_path):
    database = tmp_path / "queue.db"
    [one] = submit(database, hanging(tmp_path))
    with working(database) as worker:
        wait_until((tmp_path / "hung").exists)
        worker.kill()
    assert cancel(database, one) == "cancelled"
    assert reasons(database, one) == ["submitted", "claimed", "worker died", "cancelled"]
    require_sound(database, [one])


def test_a_late_thread_of_a_cancelled_job_leaves_the_next_job_alone(tmp_path, monkeypatch):
    """All threads of the process were busy, as they may be in a server."""
    monkeypatch.setattr("cesar.api.worker._STOP_TIMEOUT_S", 0.1)
    name = model(tmp_path)
    long = write_sentences(tmp_path / "recording.wav", 3)

    async def work() -> tuple[list[float], float | None]:
        repository = JobRepository(tmp_path / "queue.db")
        await repository.connect()
        one = await repository.create(Job(audio_path=long, model_size=name))
        two = await repository.create(job(name))
        loop, gate = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        others = loop.run_in_executor(None, gate.wait)
        worker = BackgroundWorker(repository, 0.1)
        running = asyncio.create_task(worker.run())
        await until(lambda: worker.current_job_id == one.id)
        await repository.request_cancel(one.id)
        await until(lambda: worker.current_job_id == two.id)
        gate.set()
        await others
        await until(lambda: not worker.is_processing)
        await worker.shutdown()
        await running
        done = await repository.get(two.id)
        assert done is not None
        assert done.result_text == "Word 0."
        chunks = [chunk.start for chunk in await repository.chunks(two.id)]
        await repository.close()
        return chunks, done.duration

    chunks, duration = asyncio.run(work())
    assert chunks == [0.0], "the other recording has more"
    assert duration == pytest.approx(2.0, abs=0.1)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition without blocking the loop."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_a_retried_cancelled_job_resumes_from_its_checkpoints(tmp_path):
    database = tmp_path / "queue.db"
    [one] = submit(database, hanging(tmp_path))

    async def retry(repository: JobRepository) -> JobStatus:
        return (await repository.retry(one)).status

    with working(database) as worker:
        wait_until((tmp_path / "hung").exists)
        cancel(database, one)
        wait_until(lambda: is_over(database, one))
        assert ask(database, retry) is JobStatus.QUEUED
        wait_until(lambda: is_over(database, one))
        worker.drain()
    told = row_of(database, one)
    assert (told["status"], told["result_text"]) == ("completed", "Hang 0.")
    require_sound(database, [one])
