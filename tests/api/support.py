"""Shared by the queue's tests: a real repository with its own clocks, gates for the work, and waiting."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import IsolatedAsyncioTestCase
from unittest.mock import patch

from cesar.api.models import Job, JobStatus
from cesar.api.repository import JobRepository
from cesar.api.worker import BackgroundWorker
from cesar.transcript import Chunk, Segment, Span

PATIENCE_S = 60.0
"""A busy machine is not a fault."""
FLUSH_TIMEOUT_S = 3.0
"""Time for a worker to release its job in tests; in production it is 0.9 s, which a busy machine may exceed."""
NO_MODEL = "scripted:/there/is/no/such/script.json"
"""A model that is looked up neither on this machine nor on a network."""

WAYS: Mapping[JobStatus, tuple[JobStatus, ...]] = {
    JobStatus.QUEUED: (),
    JobStatus.PROCESSING: (JobStatus.PROCESSING,),
    JobStatus.COMPLETED: (JobStatus.PROCESSING, JobStatus.COMPLETED),
    JobStatus.ERROR: (JobStatus.PROCESSING, JobStatus.ERROR),
    JobStatus.CANCELLED: (JobStatus.CANCELLED,),
}
"""How a new job reaches each status."""


@dataclass
class Clocks:
    """A wall clock and a monotonic clock that stand still until they are moved."""

    now: datetime = datetime(2030, 5, 17, 12, tzinfo=UTC)
    monotonic_s: float = 1000.0

    def wall(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.monotonic_s

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.monotonic_s += seconds


class QueueCase(IsolatedAsyncioTestCase):
    """Each test has an open repository: in memory, or, in subclasses that say so, in a file."""

    in_memory = True

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory(prefix="cesar-test-")))
        self.file = self.folder / "queue.db"
        self.clocks = Clocks()

    async def asyncSetUp(self) -> None:
        without_debugging()
        self.repository = await self.open(":memory:" if self.in_memory else self.file)

    async def open(self, db: str | Path | None = None, **options: Any) -> JobRepository:
        """Open a repository on the test's file, or elsewhere; it is closed when the test ends."""
        clocks = {"clock": self.clocks.wall, "monotonic": self.clocks.monotonic}
        repository = JobRepository(self.file if db is None else db, **{**clocks, **options})
        self.addAsyncCleanup(repository.close)
        await repository.connect()
        return repository

    async def queue(self, audio_path: str | None = "/talk.wav", **fields: Any) -> Job:
        return await self.repository.create(Job(audio_path=audio_path, **fields))

    async def claim(self, repository: JobRepository | None = None) -> Job:
        """Claim the next job; there must be one."""
        job = await (repository or self.repository).get_next_queued()
        assert job is not None
        return job

    async def queue_as(self, status: JobStatus, audio_path: str = "/talk.wav", **fields: Any) -> Job:
        """Queue a job and bring it to that status by valid transitions."""
        job = await self.queue(audio_path, **fields)
        for step in WAYS[status]:
            job.status = step
            await self.repository.update(job)
        return job

    async def read(self, job: Job | str) -> Job:
        """Read a job again; it must exist."""
        found = await self.repository.get(job if isinstance(job, str) else job.id)
        assert found is not None
        return found

    async def reasons(self, job: Job) -> list[str]:
        return [event.reason for event in await self.repository.events(job.id)]

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Execute SQL on the file through another connection, in a transaction."""
        with closing(sqlite3.connect(self.file, timeout=PATIENCE_S)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def hold_writes(self) -> Callable[[], None]:
        """Keep the writing thread busy; return what releases it."""
        may_go_on = threading.Event()
        self.addCleanup(may_go_on.set)
        self.repository.database._writing.submit(may_go_on.wait, PATIENCE_S)
        return may_go_on.set


class Gate:
    """Replaces `_run_transcription`: signals that work has begun, and ends it when the gate is opened.

    errors: how the work fails, by the recording's path.
    """

    def __init__(self, *, is_open: bool = False, errors: Mapping[str, BaseException] | None = None) -> None:
        self.begun: list[str] = []
        self.most_at_once = 0
        self._at_once = 0
        self._errors = errors or {}
        self._may_end = threading.Event()
        if is_open:
            self.open()

    def __call__(self, audio_path: str, model_size: str) -> dict[str, str]:
        self.begun.append(audio_path)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        assert self._may_end.wait(PATIENCE_S)
        self._at_once -= 1
        if audio_path in self._errors:
            raise self._errors[audio_path]
        return {"text": f"the words of {audio_path}", "language": "en"}

    def open(self) -> None:
        self._may_end.set()


class WorkerCase(QueueCase):
    """Workers with a real repository; they are stopped, and their gates opened, when the test ends."""

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(patch("cesar.api.worker._FLUSH_TIMEOUT_S", FLUSH_TIMEOUT_S))
        self.running: dict[BackgroundWorker, asyncio.Task[None]] = {}
        self.gate = Gate()

    async def asyncTearDown(self) -> None:
        self.gate.open()
        for worker in self.running:
            await self.stop(worker)

    def replace(self, worker: BackgroundWorker, transcribe: Callable[[str, str], dict[str, str]]) -> None:
        worker._run_transcription = transcribe  # type: ignore[method-assign, assignment]

    def start_worker_with(self, transcribe: Callable[[str, str], dict[str, str]], **options: Any) -> BackgroundWorker:
        """Start a worker that does its work this way."""
        worker = BackgroundWorker(self.repository, **{"poll_interval": 0.01, **options})
        self.replace(worker, transcribe)
        self.start(worker)
        return worker

    def start(self, worker: BackgroundWorker) -> None:
        self.running[worker] = asyncio.create_task(worker.run())

    async def stop(self, worker: BackgroundWorker) -> None:
        await worker.shutdown(now=True)
        await asyncio.gather(self.running[worker], return_exceptions=True)

    async def wait_until_subscribed(self) -> None:
        """Wait until a worker has found the queue empty and has subscribed to it."""
        await eventually(lambda: self.repository._notifier.on_new_job)
        for _ in range(3):
            await self.repository.database.change_counter()
            await self.repository.counts()

    async def wait_until_finished(self, *jobs: Job, allow_other_jobs: bool = False) -> None:
        """Wait until these jobs are finished and no worker is processing one, or only these others."""

        async def are_over() -> bool:
            return all([(await self.read(job)).status.is_final for job in jobs])

        await eventually(are_over)
        if not allow_other_jobs:
            await eventually(lambda: not any(worker.is_processing for worker in self.running))


def without_debugging() -> None:
    """Disable asyncio's debug mode, which takes a third of the time; `python -X dev` enables it again."""
    asyncio.get_running_loop().set_debug(sys.flags.dev_mode)


def chunk(start: float, end: float, text: str = "Some words.") -> Chunk:
    """Return a chunk as the recogniser finishes it."""
    return Chunk(start, end, (Segment(start, end, text),), (Span(start, end, "speech"),))


async def eventually(condition: Callable[[], object | Awaitable[object]], timeout_s: float = PATIENCE_S) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain"
        await asyncio.sleep(0.005)
