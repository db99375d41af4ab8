"""A service that is killed at random, again and again, ends no job as an error but the one whose recording kills it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cesar.api.models import Job
from tests.faults.jobs import SENTENCE, killed, middle, model, start, submit
from tests.faults.support import WorkerProcess, all_over, faults_found, rows, statuses

RETRY = ("--retry-delay-s", "1")
WAITING = 4
"""So many jobs are always there."""


@dataclass
class Lane:
    """A queue whose workers are killed one after the other."""

    folder: Path
    rng: random.Random
    is_early: bool
    """Whether most kills come within the first moments of an attempt, and not at any time."""
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
        """Let everything be done, as a service manager does who starts the service whenever it has died."""
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
        """How often the unluckiest innocent job lost its worker."""
        found = rows(self.database, "SELECT max(attempt) - 1 AS most FROM jobs WHERE id <> ?", self.bad)
        return int(found[0]["most"])


def test_a_service_that_is_killed_at_random_ends_only_the_job_that_is_to_blame(
    tmp_path: Path, rounds: Callable[[int, int], int], rng: random.Random, note: Callable[..., None]
) -> None:
    lanes = [Lane(tmp_path / name, random.Random(rng.random()), name == "early") for name in ("random", "early")]
    with ThreadPoolExecutor(len(lanes)) as pool:
        list(pool.map(lambda lane: lane.run(rounds(10, 550), rounds(6, 300)), lanes))
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
