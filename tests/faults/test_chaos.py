"""Workers on one database that are killed, stopped, woken and restarted at random while jobs arrive."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from cesar.api.models import Job
from cesar.api.repository import JobRepository
from tests.faults.jobs import ask, model, submit, write_sentences
from tests.faults.support import (
    WorkerProcess,
    all_over,
    committed_chunks,
    faults_found,
    is_alive,
    rows,
    wait_until,
    write_silence,
)

pytestmark = pytest.mark.slow

WORKERS = 3
SENTENCES = 3
LEASE = ("--lease-ttl-s", "2")
JOBS_PER_FAULT = 4
LONGEST_STOP_S = 3.0
"""Longer than the lease: some workers lose their job while they are stopped."""


@dataclass
class Chaos:
    """A database, its workers, and what was done to them."""

    folder: Path
    rng: random.Random
    done: Counter[str] = field(default_factory=Counter)
    jobs: list[str] = field(default_factory=list)
    chunks: dict[tuple[int, float], int] = field(default_factory=dict)
    children: set[int] = field(default_factory=set)
    workers: list[WorkerProcess] = field(default_factory=list)
    asleep: dict[WorkerProcess, float] = field(default_factory=dict)
    """Stopped workers, with the time at which to wake them."""

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.database = self.folder / "queue.db"
        self.quiet = str(write_silence(self.folder / "quiet.wav"))
        self.spoken = write_sentences(self.folder / "spoken.wav", SENTENCES)
        self.model = model(self.folder)

    def run(self, count: int) -> None:
        submit(self.database)
        with ExitStack() as running, ThreadPoolExecutor(1) as client:
            self.workers = [self._start(running) for _ in range(WORKERS)]
            self.workers[0].wait_until_ready()
            submitting = client.submit(lambda: asyncio.run(self._submit(count)))
            while not submitting.done() or not all_over(self.database):
                if self.done.total() < count / JOBS_PER_FAULT:
                    self._disturb(self.rng.randrange(WORKERS), running)
                self._wake(time.monotonic())
                time.sleep(self.rng.uniform(0.05, 0.5))  # waits for nothing: it is a part of the chance
            submitting.result()
            self._wake(float("inf"))
            self._retry_parked()
            wait_until(lambda: all_over(self.database))
            for worker in self.workers:
                worker.drain()

    async def _submit(self, count: int) -> None:
        chance = random.Random(count)
        repository = JobRepository(self.database)
        await repository.connect()
        for path in chance.choices((self.quiet, self.spoken), (5, 1), k=count):
            self.jobs.append((await repository.create(Job(audio_path=path, model_size=self.model))).id)
            await asyncio.sleep(chance.uniform(0, 0.1))
        await repository.close()

    def _start(self, running: ExitStack) -> WorkerProcess:
        return running.enter_context(WorkerProcess(self.database, *LEASE))

    def _disturb(self, number: int, running: ExitStack) -> None:
        worker = self.workers[number]
        assert worker.is_running, worker.log.read_text()
        match self.rng.choices(("kill", "stop", "nothing"), (3, 2, 5))[0]:
            case "kill":
                with suppress(OSError):  # a thread of it has just ended
                    self.children |= set(worker.children())
                worker.kill()
                self.asleep.pop(worker, None)
                self.chunks = committed_chunks(self.database) | self.chunks
                self.workers[number] = self._start(running)
                self.done["kills"] += 1
            case "stop" if worker not in self.asleep:
                worker.send(signal.SIGSTOP)
                self.asleep[worker] = time.monotonic() + self.rng.uniform(0.1, LONGEST_STOP_S)
                self.done["stops"] += 1

    def _wake(self, now: float) -> None:
        for worker, at in list(self.asleep.items()):
            if at <= now:
                worker.send(signal.SIGCONT)
                del self.asleep[worker]

    def _retry_parked(self) -> None:
        """Three workers in a row may have been killed during the same job: then it ends as an error, and says so."""
        for row in rows(self.database, "SELECT id FROM jobs WHERE status = 'error' AND error_code = 'worker_lost'"):
            ask(self.database, partial(JobRepository.retry, job_id=row["id"]))
            self.done["parked"] += 1

    def faults(self) -> list[str]:
        """Return every violation, now that everything is finished."""
        found = faults_found(self.database, self.jobs)
        whole = "\n\n".join(f"Word {number}." for number in range(SENTENCES))
        for row in rows(self.database, "SELECT * FROM jobs"):
            wanted = whole if row["audio_path"] == self.spoken else ""
            if (row["status"], row["result_text"]) != ("completed", wanted):
                found.append(f"{row['id']} is {row['status']}: {row['result_text']!r} {row['error_message']}")
        kept = committed_chunks(self.database)
        return found + [
            f"I7 chunk {chunk} was done again" for chunk, by in self.chunks.items() if kept.get(chunk) != by
        ]

    @property
    def repeated(self) -> int:
        """Return the number of claims beyond the one that each job needs."""
        return int(rows(self.database, "SELECT sum(attempt) - count(*) FROM jobs")[0][0]) - self.done["parked"]


def test_no_job_is_lost_or_done_twice_in_chaos(
    tmp_path: Path, rng: random.Random, rounds: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    for number in range(rounds(1, 5)):
        begun = time.monotonic()
        chaos = Chaos(tmp_path / str(number), random.Random(rng.random()))
        chaos.run(rounds(60, 600))
        faults = chaos.faults()
        note(
            "jobs in chaos",
            len(chaos.jobs),
            lost=sum(not fault.startswith("I2") for fault in faults),
            doubled=sum(fault.startswith("I2") for fault in faults),
            repeated=chaos.repeated,
            seconds=round(time.monotonic() - begun),
            **chaos.done,
        )
        assert faults == []
        assert chaos.repeated <= chaos.done["kills"] + WORKERS * chaos.done["stops"]
        wait_until(lambda: not any(is_alive(child) for child in chaos.children))  # noqa: B023
