"""A worker that is asked to stop keeps its job for the grace period, releases it unharmed, and ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import sqlite3
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from cesar.api.models import Job, JobStatus, utc_now
from cesar.api.repository import JobRepository
from cesar.api.worker import BackgroundWorker
from tests.faults.jobs import (
    SENTENCE,
    cancel,
    child_of,
    chunks_of,
    history,
    middle,
    model,
    pace,
    reasons,
    require_sound,
    row_of,
    submit,
    working,
    write_sentences,
)
from tests.faults.support import WorkerProcess, all_over, is_alive, statuses, wait_until
from tests.runner.support import recognisers

pytestmark = pytest.mark.slow

FLUSH_TIMEOUT_S = 1.0
"""What `run()` may take beyond the grace period."""
EXIT_S = 1.5
"""What an interpreter may take to exit, and a test to notice."""


def hanging_model(folder: Path, chunk: int = 0) -> str:
    """Return a model that hangs at that chunk, once."""
    return model(folder, {"at": middle(chunk), "do": "hang", "unless": str(folder / "hung")})


def time_to_end(worker: WorkerProcess) -> float:
    """Ask a worker to stop, and return the seconds it took."""
    begun = time.monotonic()
    worker.drain()
    return time.monotonic() - begun


def hand_over(folder: Path, grace_s: float) -> tuple[float, float]:
    """Drain a worker whose job hangs while another waits; return the seconds until it ended and the other started."""
    database = folder / "queue.db"
    recording = write_sentences(folder / "recording.wav", 3)
    [job] = submit(database, Job(audio_path=recording, model_size=hanging_model(folder, 1)))
    options = ("--grace-s", str(grace_s), "--lease-ttl-s", str(grace_s / 2))
    with working(database, *options) as first, working(database, *options) as second:
        wait_until(lambda: (folder / "hung").exists() and len(chunks_of(database, job)) == 1)
        holder, waiting = (first, second) if first.children() else (second, first)
        child = child_of(holder)
        took = time_to_end(holder)
        wait_until(lambda: all_over(database))
        waiting.drain()
    require_sound(database, [job], child)
    assert reasons(database, job) == ["submitted", "claimed", "released", "claimed", "completed"], "no takeover"
    told = row_of(database, job)
    assert (told["result_text"], told["failures"], told["lost"]) == ("Word 0.\n\nWord 1.\n\nWord 2.", 0, 0)
    assert [attempt for _, _, attempt, _ in chunks_of(database, job)] == [1, 2, 2], "what was done is not done again"
    times = [at for _, at in history(database, job)]
    return took, times[3] - times[2]


def test_a_draining_worker_keeps_its_job_for_the_grace_period_and_another_resumes_it(tmp_path, rounds, note):
    """The lease is shorter than the grace period: without a heartbeat after the signal the job would be lost."""
    count = rounds(1, 100)
    overtimes, waits = [], []
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        slower = pace()
        grace_s = 4.0 * slower
        took, waited = hand_over(folder, grace_s)
        assert took >= grace_s, "the job has all of its grace"
        assert took <= grace_s + (FLUSH_TIMEOUT_S + EXIT_S) * slower
        assert waited <= 2.0 * slower
        overtimes.append(took - grace_s)
        waits.append(waited)
    note("drains", count, takeovers=0, longest_overtime_s=max(overtimes), longest_wait_s=max(waits))


def test_a_job_that_ends_within_the_grace_period_is_completed_and_no_other_starts(tmp_path):
    database = tmp_path / "queue.db"
    name = model(tmp_path)
    one, two = submit(database, *(Job(audio_path=str(SENTENCE), model_size=name) for _ in range(2)))
    with working(database, "--grace-s", "60") as worker:
        child = child_of(worker)
        os.kill(child, signal.SIGSTOP)
        worker.send(signal.SIGTERM)
        wait_until(lambda: b"asked to stop" in worker.log.read_bytes())
        os.kill(child, signal.SIGCONT)
        assert worker.process.wait(60) == 0
    assert statuses(database) == {one: "completed", two: "queued"}
    assert reasons(database, two) == ["submitted"]
    require_sound(database, [one, two], child)


@pytest.mark.parametrize("how", ["hung", "stopped"])
def test_an_unresponsive_child_is_killed_after_the_grace_period(tmp_path, how, rounds, note):
    database = tmp_path / "queue.db"
    count = rounds(1, 50)
    longest = 0.0
    for _ in range(count):
        slower = pace()
        [job] = submit(database, Job(audio_path=str(SENTENCE), model_size=hanging_model(tmp_path)))
        with working(database, "--grace-s", "1") as worker:
            child = child_of(worker)
            if how == "stopped":
                os.kill(child, signal.SIGSTOP)
            else:
                wait_until((tmp_path / "hung").exists)
            took = time_to_end(worker)
        assert took <= 1 + (FLUSH_TIMEOUT_S + EXIT_S) * slower
        longest = max(longest, took)
        assert not is_alive(child)
        assert reasons(database, job) == ["submitted", "claimed", "released"]
        (tmp_path / "hung").unlink(missing_ok=True)
        cancel(database, job)
    note(f"drains refused: child {how}", count, orphans=0, longest_end_s=longest, grace_s=1)


def test_a_worker_without_a_job_ends_at_once(tmp_path):
    with working(tmp_path / "queue.db") as worker:
        assert time_to_end(worker) <= EXIT_S * pace()


def test_an_interrupt_ends_the_grace_period(tmp_path):
    """Ctrl-C skips the grace period."""
    database = tmp_path / "queue.db"
    [job] = submit(database, Job(audio_path=str(SENTENCE), model_size=hanging_model(tmp_path)))
    with working(database, "--grace-s", "60") as worker:
        child = child_of(worker)
        worker.send(signal.SIGINT)
        worker.process.wait((FLUSH_TIMEOUT_S + EXIT_S) * pace())
    assert reasons(database, job) == ["submitted", "claimed", "released"]
    require_sound(database, [job], child)


def test_an_interrupt_after_the_first_signal_ends_the_grace_period(tmp_path):
    database = tmp_path / "queue.db"
    [job] = submit(database, Job(audio_path=str(SENTENCE), model_size=hanging_model(tmp_path)))
    with working(database, "--grace-s", "60") as worker:
        child = child_of(worker)
        worker.send(signal.SIGTERM)
        wait_until(lambda: b"asked to stop" in worker.log.read_bytes())
        worker.send(signal.SIGINT)
        worker.process.wait((FLUSH_TIMEOUT_S + EXIT_S) * pace())
    assert reasons(database, job) == ["submitted", "claimed", "released"]
    require_sound(database, [job], child)


def test_shutdown_now_ends_the_grace_period_and_returns_within_a_second(tmp_path):
    database = tmp_path / "queue.db"
    name = hanging_model(tmp_path)

    async def hurry() -> float:
        repository = JobRepository(database)
        await repository.connect()
        job = await repository.create(Job(audio_path=str(SENTENCE), model_size=name))
        worker = BackgroundWorker(repository, 0.1, grace_s=60)
        running = asyncio.create_task(worker.run())
        await asyncio.to_thread(wait_until, (tmp_path / "hung").exists)
        await worker.shutdown()
        assert worker.current_job_id == job.id
        begun = time.monotonic()
        await worker.shutdown(now=True)
        await running
        took = time.monotonic() - begun
        read = await repository.get(job.id)
        assert read is not None
        assert read.status is JobStatus.QUEUED
        await repository.close()
        return took

    before = recognisers()
    assert asyncio.run(hurry()) <= FLUSH_TIMEOUT_S * pace()
    wait_until(lambda: recognisers() <= before)


def test_a_claim_granted_after_the_signal_does_not_delay_the_end(tmp_path):
    """Another program keeps the database busy while the signal comes."""
    database = tmp_path / "queue.db"
    slower = pace()
    grace_s = 2 * slower
    with working(database, "--grace-s", str(grace_s)) as worker:
        due = utc_now() + timedelta(seconds=grace_s)
        [job] = submit(database, Job(audio_path=str(SENTENCE), model_size=hanging_model(tmp_path), run_after=due))
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            wait_until(lambda: is_locked(Path(f"{database}-lock")))  # the worker waits for the other program now
            begun = time.monotonic()
            worker.send(signal.SIGTERM)
            wait_until(lambda: utc_now() > due and time.monotonic() - begun > grace_s * 0.6)
        left = begun + grace_s - time.monotonic()
        worker.process.wait(left + (FLUSH_TIMEOUT_S + EXIT_S) * slower)
    assert statuses(database) == {job: "queued"}
    assert row_of(database, job)["lost"] == 0
    require_sound(database, [job])


def is_locked(path: Path) -> bool:
    """Whether a lock file is locked."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_hashing_a_long_recording_does_not_delay_the_end(tmp_path):
    database = tmp_path / "queue.db"
    huge = tmp_path / "huge.wav"
    with huge.open("wb") as file:
        file.truncate(100 * 2**30)  # a hole: it takes no room, and minutes to read
    [job] = submit(database, Job(audio_path=str(huge), model_size=model(tmp_path)))
    with working(database, "--grace-s", "1") as worker:
        wait_until(lambda: statuses(database)[job] == "processing")
        worker.send(signal.SIGTERM)
        worker.process.wait(1 + (FLUSH_TIMEOUT_S + EXIT_S) * pace())
    assert reasons(database, job) == ["submitted", "claimed", "released"]
