"""A service killed at random, again and again, ends only the job whose recording kills it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cesar.api.models import Job, JobStatus
from cesar.api.queue.losses import MIN_LOST
from cesar.api.repository import JobRepository
from tests.faults.jobs import SENTENCE, killed, middle, model, start, submit
from tests.faults.side_by_side import SHM
from tests.faults.support import WorkerProcess, all_over, faults_found, rows, statuses

pytestmark = pytest.mark.slow

RETRY = ("--retry-delay-s", "1")
WAITING = 4
"""The number of jobs that are always waiting."""


@dataclass
class Lane:
    """A queue whose workers are killed one after another."""

    folder: Path
    rng: random.Random
    is_early: bool
    """Whether most kills come in the first moments of an attempt, rather than at any time."""
    good: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.database = self.folder / "queue.db"
        self.good_model = model(self.folder)
        bad_model = model(self.folder, {"at": middle(0), "do": "kill parent"}, word="poison")
        self._submit(1)
        [self.bad] = submit(self.database, Job(audio_path=str(SENTENCE), model_size=bad_model))

    def run(self, kills: int, jobs: int) -> None:
        while self.kills.total() < kills or len(self.good) < jobs:
            open_jobs = sum(status in ("queued", "processing") for status in statuses(self.database).values())
            self._submit(max(0, WAITING - open_jobs))
            self._kill_one()
        self._finish()

    def _submit(self, count: int) -> None:
        if count:
            new = [Job(audio_path=str(SENTENCE), model_size=self.good_model) for _ in range(count)]
            self.good += submit(self.database, *new)

    def _kill_one(self) -> None:
        with start(self.database, *RETRY) as worker:
            worker.wait_until_ready()
            if self.is_early and self.rng.random() < 0.8:
                killed(worker, unless=lambda: "starts" in worker.log.read_text() or all_over(self.database))
            # Waits for nothing: it is a part of the chance.
            time.sleep(self.rng.uniform(0, 2) if self.is_early else self.rng.expovariate(1 / 3))
            self._kill(worker)

    def _kill(self, worker: WorkerProcess) -> None:
        self.kills["by the poison" if not worker.is_running else "of the service"] += 1
        worker.kill()
        worker.log.unlink()

    def _finish(self) -> None:
        """Complete all jobs, restarting the service whenever it dies, like a service manager."""
        while not all_over(self.database):
            with start(self.database, *RETRY) as worker:
                if killed(worker, unless=lambda: all_over(self.database)):
                    self.kills["by the poison"] += 1

    @property
    def innocent_lost(self) -> list[str]:
        now = statuses(self.database)
        return [job for job in self.good if now.get(job) != "completed"]

    @property
    def most_losses(self) -> int:
        """Return how often the unluckiest innocent job lost its worker."""
        found = rows(self.database, "SELECT max(attempt) - 1 AS most FROM jobs WHERE id <> ?", self.bad)
        return int(found[0]["most"])


def test_random_kills_end_only_the_job_that_is_to_blame(
    tmp_path: Path, rounds: Callable[[int, int], int], rng: random.Random, note: Callable[..., None]
) -> None:
    if not rounds(0, 1):
        pytest.skip("the backoff of a job that kills its worker takes too long: scripts/faults --long")
    lanes = [Lane(tmp_path / name, random.Random(rng.random()), name == "early") for name in ("random", "early")]
    with ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(lambda lane: lane.run(rounds(6, 500), rounds(4, 250)), lanes))
    for lane in lanes:
        [bad] = rows(lane.database, "SELECT * FROM jobs WHERE id = ?", lane.bad)
        note(
            f"kills of the service, {lane.folder.name}",
            lane.kills.total(),
            jobs=len(lane.good),
            lost=len(lane.innocent_lost),
            most_losses_of_an_innocent=lane.most_losses,
            attempts_of_the_poison=bad["attempt"],
            poison=bad["error_code"],
            **lane.kills,
        )
    for lane in lanes:
        assert lane.innocent_lost == []
        [bad] = rows(lane.database, "SELECT * FROM jobs WHERE id = ?", lane.bad)
        assert (bad["status"], bad["error_code"]) == ("error", "worker_lost")
        assert faults_found(lane.database, [*lane.good, lane.bad]) == []


class Life:
    """A worker on the real repository, with simulated time, until it is killed."""

    def __init__(self, database: Path, clock: Clock, rng: random.Random) -> None:
        self.repository = clock.repository(database)
        self._clock = clock
        self._rng = rng

    async def live(self, poison: str, until_s: float) -> None:
        """Process one job after another until the end, or until the poisonous one has its turn."""
        await self.repository.connect()
        while self._clock.seconds < until_s and await open_jobs(self.repository):
            job = await self.repository.get_next_queued()
            self._clock.seconds += 0.1
            if job is not None and self._clock.seconds < until_s:
                await self.repository.mark_begun(job)
                work_s = self._rng.uniform(0.5, 1.5)
                if job.id == poison or self._clock.seconds + work_s >= until_s:
                    break
                self._clock.seconds += work_s
                job.status = JobStatus.COMPLETED
                await self.repository.update(job)
            elif job is None:
                self._clock.seconds += 1
        await self._die()

    async def _die(self) -> None:
        """Release the lock without cleaning up, as the kernel does when a process dies."""
        if self.repository._owner._lock is not None:
            self.repository._owner._lock.release()
            self.repository._owner._lock = None
        await self.repository.close()


@dataclass
class Clock:
    """Of a machine on which time passes as the test says."""

    seconds: float = 0.0

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def repository(self, database: Path) -> JobRepository:
        return JobRepository(database, clock=self.now, monotonic=lambda: self.seconds)


async def open_jobs(repository: JobRepository) -> int:
    counts = await repository.counts()
    return counts.get(JobStatus.QUEUED, 0) + counts.get(JobStatus.PROCESSING, 0)


async def live_and_die(database: Path, rng: random.Random, kills: int, *, is_early: bool) -> tuple[str, list[str]]:
    """Kill worker after worker, with jobs always waiting, then complete all; return the bad job and the good ones."""
    clock = Clock()
    front = clock.repository(database)
    await front.connect()
    bad, good = (await front.create(Job(audio_path="/poison.wav"))).id, []
    while await open_jobs(front):
        missing = WAITING - await open_jobs(front) if kills > 0 else 0
        good += [(await front.create(Job(audio_path="/talk.wav"))).id for _ in range(missing)]
        most_s = rng.uniform(0, 2) if is_early and rng.random() < 0.8 else rng.expovariate(1 / 3)
        await Life(database, clock, rng).live(bad, clock.seconds + most_s if kills > 0 else math.inf)
        kills -= 1
    await front.close()
    return bad, good


@pytest.mark.parametrize("is_early", [False, True], ids=["at any time", "mostly early"])
def test_a_thousand_kills_end_no_innocent_job(is_early, rounds, rng, note):
    """The real repository on a real file; recognition is left out, and time is simulated."""
    kills = rounds(60, 3000)
    with TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as folder:
        database = Path(folder) / "queue.db"
        bad, good = asyncio.run(live_and_die(database, rng, kills, is_early=is_early))
        ended = {job["id"]: job for job in rows(database, "SELECT * FROM jobs")}
        assert faults_found(database, [bad, *good]) == []
    most = max(ended[job]["attempt"] for job in good) - 1
    lost = [job for job in good if ended[job]["status"] != "completed"]
    note("kills with a clock of the test's", kills, early=is_early, jobs=len(good), lost=len(lost), most_losses=most)
    assert lost == []
    assert (ended[bad]["status"], ended[bad]["error_code"]) == ("error", "worker_lost")
    assert ended[bad]["lost"] >= MIN_LOST
