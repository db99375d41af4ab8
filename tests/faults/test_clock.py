"""The wall clock jumps, even back over the turn of the year: no claim and no queue position is lost by it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cesar.api.models import Job, JobStatus
from cesar.api.queue.transitions import MAX_DELAY
from cesar.api.repository import JobRepository
from cesar.api.worker import BackgroundWorker
from tests.faults.support import all_over, faults_found, rows, statuses, taken_back

pytestmark = pytest.mark.slow

NEW_YEAR = datetime(2027, 1, 1, 0, 10, tzinfo=UTC)
JUMPS = [timedelta(hours=1), timedelta(hours=-1), timedelta(days=1), timedelta(days=-1), timedelta(minutes=-5)]


class JumpingClock:
    """Wall time that advances by itself, and jumps on request."""

    def __init__(self) -> None:
        self.jumps = 0
        self._jumped = threading.Condition()
        self._offset = timedelta()
        self._begun = time.monotonic()

    def __call__(self) -> datetime:
        return NEW_YEAR + self._offset + timedelta(seconds=time.monotonic() - self._begun)

    def jump(self, by: timedelta) -> None:
        with self._jumped:
            self._offset += by
            self.jumps += 1
            self._jumped.notify_all()

    def wait_for_jumps(self, count: int) -> None:
        with self._jumped:
            until = self.jumps + count
            assert self._jumped.wait_for(lambda: self.jumps >= until, timeout=60)


class Holders:
    """Several repositories that claim jobs of one database by one clock, and do all kinds of things with them."""

    def __init__(self, database: Path, clock: JumpingClock, rng: random.Random) -> None:
        self.database = database
        self.clock = clock
        self.rng = rng
        # The steady clock stands still: whatever expires, expires by the other one.
        self.repositories = [JobRepository(database, clock=clock, monotonic=lambda: 0.0) for _ in range(3)]
        self.held: list[tuple[JobRepository, Job]] = []
        self.submitted: list[str] = []
        self.claims = 0

    async def submit(self) -> None:
        job = Job(audio_path="a.wav", priority=self.rng.randint(0, 1), created_at=self.clock())
        self.submitted.append((await self.rng.choice(self.repositories).create(job)).id)

    async def claim(self) -> Job | None:
        sql = "SELECT seq FROM jobs WHERE status = 'queued' AND run_after IS NULL ORDER BY priority DESC, seq"
        in_line = rows(self.database, sql)
        repository = self.rng.choice(self.repositories)
        job = await repository.get_next_queued()
        if job is None:
            assert in_line == [], "a job is waiting, and nobody gets it"
            return None
        self._require_first(job, in_line)
        self.claims += 1
        self.held.append((repository, job))
        return job

    def _require_first(self, job: Job, in_line: list[sqlite3.Row]) -> None:
        if job.failures == 0:
            assert [row["seq"] for row in in_line[:1]] == [job.seq], "the order is that of submission"

    async def go_on(self) -> None:
        if not self.held:
            return
        repository, job = self.held.pop(self.rng.randrange(len(self.held)))
        match self.rng.choice(["finish", "fail", "release", "beat", "beat"]):
            case "finish":
                job.status = JobStatus.COMPLETED
                await repository.update(job)
            case "fail":
                job.error_code, job.error_message = "native_crash", "it crashed"
                await repository.retry_later(job)
            case "release":
                await repository.release(job)
            case _:
                await repository.heartbeat(job)
                self.held.append((repository, job))

    async def finish_all(self) -> None:
        """Failed jobs are due again once the longest delay has passed, wherever the clock has been meanwhile."""
        self.clock.jump(MAX_DELAY)
        while self.held or await self.claim():
            repository, job = self.held.pop()
            job.status = JobStatus.COMPLETED
            await repository.update(job)


def test_a_jumping_clock_takes_no_claim_and_changes_no_order(
    tmp_path: Path, rng: random.Random, rounds: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    clock = JumpingClock()
    holders = Holders(tmp_path / "queue.db", clock, rng)
    steps = rounds(500, 20_000)

    async def chaos() -> None:
        for repository in holders.repositories:
            await repository.connect()
        for _ in range(steps):
            step = rng.choices(["submit", "claim", "go on", "jump"], (3, 4, 6, 1))[0]
            match step:
                case "submit":
                    await holders.submit()
                case "claim":
                    await holders.claim()
                case "go on":
                    await holders.go_on()
                case "jump":
                    clock.jump(rng.choice(JUMPS))
        await holders.finish_all()
        for repository in holders.repositories:
            await repository.close()

    asyncio.run(chaos())
    lost = taken_back(holders.database)
    note("clock jumps", clock.jumps, claims=holders.claims, jobs=len(holders.submitted), takeovers=len(lost))
    assert lost == []
    assert faults_found(holders.database, holders.submitted) == []
    assert all_over(holders.database)


def test_workers_do_each_job_once_and_in_order_while_the_clock_jumps(
    tmp_path: Path, rng: random.Random, rounds: Callable[[int, int], int]
) -> None:
    database = tmp_path / "queue.db"
    clock = JumpingClock()

    def transcribe(audio_path: str, model_size: str) -> dict[str, str]:
        clock.wait_for_jumps(5)
        return {"text": "heard", "language": "en"}

    async def work() -> list[str]:
        repositories = [JobRepository(database, clock=clock, monotonic=lambda: 0.0) for _ in range(2)]
        workers = [BackgroundWorker(repository, 0.01) for repository in repositories]
        for repository, worker in zip(repositories, workers, strict=True):
            await repository.connect()
            worker._run_transcription = transcribe  # type: ignore[method-assign]
        jobs = [await repositories[0].create(Job(audio_path="a.wav")) for _ in range(rounds(12, 200))]
        running = [asyncio.create_task(worker.run()) for worker in workers]
        while not all_over(database):
            clock.jump(rng.choice(JUMPS))
            await asyncio.sleep(0.01)
        for worker, repository, task in zip(workers, repositories, running, strict=True):
            await worker.shutdown()
            await task
            await repository.close()
        return [job.id for job in jobs]

    jobs = asyncio.run(work())
    claimed = rows(database, "SELECT job_seq FROM job_events WHERE reason = 'claimed' ORDER BY id")
    assert [row["job_seq"] for row in claimed] == list(range(1, len(jobs) + 1))
    assert taken_back(database) == []
    assert set(statuses(database).values()) == {"completed"}
    assert faults_found(database, jobs) == []
