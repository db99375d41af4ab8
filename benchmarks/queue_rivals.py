"""Other queues compared with Cesar's, behind the same operations, each used as its documentation shows.

What a queue has on disk when an operation returns is stated in its `keeps`, so that like is compared with like.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Protocol
from uuid import uuid4

from cesar.api import BackgroundWorker, Job, JobRepository, JobStatus

TEXT = "Words that stand for words. " * 32
"""As long as a minute of speech."""

Tick = Callable[[], None]


class Queue(Protocol):
    """A new queue of no-op jobs."""

    name: str
    keeps: str
    """What is on disk when an operation returns."""
    has_worker: bool

    async def open(self) -> None: ...
    async def submit(self) -> None: ...
    async def claim(self) -> Any: ...
    async def finish(self, job: Any) -> None: ...
    async def work(self, tick: Tick) -> None:
        """Run the library's own worker, one job at a time, which calls `tick` for each job, until cancelled."""

    async def close(self) -> None: ...


class Cesar:
    """Cesar's repository and worker."""

    name = "cesar"
    keeps = "each verb one transaction with fsync: row, event, fence; the text with the result"
    has_worker = True

    def __init__(self, folder: Path) -> None:
        self.repository = JobRepository(folder / "cesar.db")

    async def open(self) -> None:
        await self.repository.connect()

    async def submit(self) -> None:
        await self.repository.create(Job(audio_path="/recordings/interview.m4a"))

    async def claim(self) -> Any:
        return await self.repository.get_next_queued()

    async def finish(self, job: Any) -> None:
        job.status, job.result_text, job.detected_language = JobStatus.COMPLETED, TEXT, "en"
        await self.repository.update(job)

    async def work(self, tick: Tick) -> None:
        def transcribe(_audio_path: str, _model_size: str) -> dict[str, str]:
            tick()
            return {"text": TEXT, "language": "en"}

        worker = BackgroundWorker(self.repository)
        worker._run_transcription = transcribe  # type: ignore[method-assign,assignment]  # noqa: SLF001 - the contract's way
        try:
            await worker.run()
        finally:
            await worker.shutdown(now=True)

    async def close(self) -> None:
        await self.repository.close()


class BareSqlite:
    """The minimum of a durable queue on SQLite: for each operation, one row written and one commit."""

    name = "bare sqlite"
    keeps = "each verb one transaction with fsync: one row; no event, no fence; no worker"
    has_worker = False
    synchronous = "FULL"

    def __init__(self, folder: Path) -> None:
        self.connection = sqlite3.connect(folder / "bare.db", isolation_level=None)

    async def open(self) -> None:
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(f"PRAGMA synchronous={self.synchronous}")
        self.connection.execute("CREATE TABLE jobs(id INTEGER PRIMARY KEY, status TEXT, path TEXT, text TEXT)")
        self.connection.execute("CREATE INDEX waiting ON jobs(id) WHERE status = 'queued'")

    async def submit(self) -> None:
        self._commit("INSERT INTO jobs(status, path) VALUES('queued', ?)", "/recordings/interview.m4a")

    async def claim(self) -> Any:
        first = "(SELECT min(id) FROM jobs WHERE status = 'queued')"
        return self._commit(f"UPDATE jobs SET status = 'processing' WHERE id = {first} RETURNING id")[0]

    async def finish(self, job: Any) -> None:
        self._commit("UPDATE jobs SET status = 'completed', text = ? WHERE id = ?", TEXT, job)

    async def work(self, tick: Tick) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        self.connection.close()

    def _commit(self, sql: str, *values: Any) -> Any:
        self.connection.execute("BEGIN IMMEDIATE")
        row = self.connection.execute(sql, values).fetchone()
        self.connection.execute("COMMIT")
        return row


class BareSqliteUnsynced(BareSqlite):
    """The same without waiting for the disk: the difference is the cost of fsync."""

    name = "bare sqlite, no fsync"
    keeps = "nothing until the next checkpoint: a power cut loses what was acknowledged"
    synchronous = "NORMAL"


class Huey:
    """huey's SqliteHuey with its own consumer, one worker thread."""

    name = "huey, default"
    keeps = "SQLite's default (FULL here); a claim deletes the task, so a killed worker loses it; text; no history"
    has_worker = True
    storage: ClassVar[dict[str, Any]] = {}

    def __init__(self, folder: Path) -> None:
        from huey import SqliteHuey

        self.huey = SqliteHuey("benchmark", filename=str(folder / "huey.db"), **self.storage)
        self.tick: Tick = lambda: None
        self.transcribe = self.huey.task()(self._transcribe)

    def _transcribe(self, _path: str) -> str:
        self.tick()
        return TEXT

    async def open(self) -> None: ...

    async def submit(self) -> None:
        self.transcribe("/recordings/interview.m4a")

    async def claim(self) -> Any:
        return self.huey.dequeue()

    async def finish(self, job: Any) -> None:
        self.huey.execute(job)

    async def work(self, tick: Tick) -> None:
        self.tick = tick
        consumer = self.huey.create_consumer(workers=1, periodic=False, initial_delay=0.01)
        threads: list[threading.Thread] = [consumer.scheduler, *(thread for _, thread in consumer.worker_threads)]
        for thread in threads:  # like consumer.start(), but without signal handlers
            thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            consumer.stop(graceful=True)

    async def close(self) -> None:
        self.huey.storage.close()


class HueyFsync(Huey):
    """The same with fsync."""

    name = "huey, fsync=True"
    keeps = "the same, by its own option"
    storage: ClassVar[dict[str, Any]] = {"fsync": True}


class Procrastinate:
    """procrastinate on PostgreSQL, through psycopg."""

    name = "procrastinate"
    keeps = "PostgreSQL, fsync and synchronous_commit on; row and event; no result is stored; no fence"
    has_worker = True

    def __init__(self, dsn: str) -> None:
        from procrastinate import App, PsycopgConnector

        self.app = App(connector=PsycopgConnector(conninfo=dsn))
        self.tick: Tick = lambda: None
        self.transcribe = self.app.task(name="transcribe")(self._transcribe)
        self.worker_id = 0

    async def _transcribe(self, path: str) -> str:  # noqa: ARG002 - what the task is called with
        self.tick()
        return TEXT

    async def open(self) -> None:
        await self.app.open_async()
        await self.app.schema_manager.apply_schema_async()
        self.worker_id = await self.app.job_manager.register_worker()

    async def submit(self) -> None:
        await self.transcribe.defer_async(path="/recordings/interview.m4a")

    async def claim(self) -> Any:
        return await self.app.job_manager.fetch_job(queues=None, worker_id=self.worker_id)

    async def finish(self, job: Any) -> None:
        from procrastinate.jobs import Status

        await self.app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=False)

    async def work(self, tick: Tick) -> None:
        self.tick = tick
        await self.app.run_worker_async(concurrency=1, install_signal_handlers=False)

    async def close(self) -> None:
        await self.app.close_async()


class PgQueuer:
    """pgqueuer on PostgreSQL, through asyncpg."""

    name = "pgqueuer"
    keeps = "PostgreSQL, fsync and synchronous_commit on, its durable tables; row and log; no result; no fence"
    has_worker = True

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    async def open(self) -> None:
        import asyncpg
        from pgqueuer.queries import Queries

        self.connection = await asyncpg.connect(self.dsn)
        self.queries = Queries.from_asyncpg_connection(self.connection)
        await self.queries.install()

    async def submit(self) -> None:
        await self.queries.enqueue("transcribe", b"/recordings/interview.m4a")

    async def claim(self) -> Any:
        from pgqueuer.ports.repository import EntrypointExecutionParameter

        jobs = await self.queries.dequeue(
            batch_size=1,
            entrypoints={"transcribe": EntrypointExecutionParameter(concurrency_limit=0)},
            queue_manager_id=uuid4(),
            global_concurrency_limit=None,
            heartbeat_timeout=timedelta(seconds=30),
        )
        return jobs[0]

    async def finish(self, job: Any) -> None:
        await self.queries.log_jobs([(job, "successful", None)])

    async def work(self, tick: Tick) -> None:
        from pgqueuer.qm import QueueManager

        manager = QueueManager(self.queries)

        async def transcribe(_job: Any) -> None:
            tick()

        manager.entrypoint("transcribe")(transcribe)
        await manager.run(batch_size=1)

    async def close(self) -> None:
        await self.connection.close()


ON_SQLITE: tuple[Callable[[Path], Queue], ...] = (Cesar, BareSqlite, BareSqliteUnsynced, Huey, HueyFsync)
"""Each is created with its own folder."""
ON_POSTGRESQL: tuple[Callable[[str], Queue], ...] = (Procrastinate, PgQueuer)
"""Each is created with the URL of its own database."""
