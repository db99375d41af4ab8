"""The operations of the queue on full tables: with 10, 10,000 and 1,000,000 jobs, finished or waiting.

The rows are inserted with plain SQL in one transaction, finished ones with a text and their three events. Prints JSON:
for every operation the median and the 99th percentile, the ratio of the median to the smallest table's, and SQLite's
query plan for each statement.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from cesar.api import Job, JobRepository, JobStatus
from cesar.api.http.monitoring.job_presenter import JobPresenter
from cesar.api.models import JobFilter
from cesar.transcript import Chunk

Call = Callable[[], Awaitable[Any]]
_WARM_UP = 10
_RECORDING = "/recordings/interview.m4a"
_TEXT = "Words that stand for words. " * 32
_NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows) "
_JOBS = """
INSERT INTO jobs(id, status, priority, name, audio_path, model_size, options, created_at, started_at, completed_at,
                 version, attempt, beat, failures, lost, position, duration, result_text, detected_language)
SELECT lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2))
             || '-' || hex(randomblob(6))),
       :status, 0, 'interview-' || i || '.m4a', '/recordings/interview-' || i || '.m4a', 'base', :options,
       datetime('2026-01-01', i || ' seconds'), iif(:done, datetime('2026-01-01', i || ' seconds'), NULL),
       iif(:done, datetime('2026-01-01', i || ' seconds'), NULL),
       iif(:done, 2, 0), :done, 0, 0, 0, iif(:done, 60.0, 0.0), iif(:done, 60.0, NULL), iif(:done, :text, NULL),
       iif(:done, 'en', NULL) FROM n
"""
_EVENTS = """
INSERT INTO job_events(job_seq, at, before, after, attempt, reason)
SELECT seq, created_at, :before, :after, :attempt, :reason FROM jobs
"""
_HISTORY = (
    (None, "queued", 0, "submitted"),
    ("queued", "processing", 1, "claimed"),
    ("processing", "completed", 1, "completed"),
)


def fill(database: Path, status: JobStatus, rows: int) -> None:
    """Insert that many jobs into a database created by a repository."""
    is_done = status is JobStatus.COMPLETED
    options = {"beam_size": 5, "end": None, "hotwords": None, "language": None, "prompt": None, "start": 0.0}
    values = {"options": json.dumps(options), "status": status, "done": is_done, "text": _TEXT, "rows": rows}
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("BEGIN")
        connection.execute(_NUMBERS + _JOBS, values)
        for before, after, attempt, reason in _HISTORY if is_done else _HISTORY[:1]:
            connection.execute(_EVENTS, {"before": before, "after": after, "attempt": attempt, "reason": reason})
        connection.execute("COMMIT")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def seldom(repository: JobRepository, job: Job) -> dict[str, Call]:
    """Calls that may read many rows, and are not made for every job."""
    presenter = JobPresenter(repository)

    async def shown_page() -> Any:
        return await presenter.views((await repository.list_page(limit=50)).jobs)

    def page(**wanted: Any) -> Call:
        return lambda: repository.list_page(JobFilter(**wanted), limit=50)

    return {
        "counts": repository.counts,
        "view, of the last job": lambda: presenter.view(job),
        "view, of a page of 50 jobs": shown_page,
        "estimate, for a new job": lambda: presenter.estimate("base"),
        "waiting_before": lambda: repository.waiting_before(job.id),
        "list_page, completed": page(status={JobStatus.COMPLETED}),
        "list_page, all but error": page(status=set(JobStatus) - {JobStatus.ERROR}),
        "list_page, error": page(status={JobStatus.ERROR}),
        "list_page, a name that is not there": page(name_contains="nowhere"),
        "prune, nothing to do": lambda: repository.prune(timedelta(days=3650)),
    }


async def time_calls(repository: JobRepository, seconds: dict[str, list[float]], *, with_seldom: bool) -> None:
    """Process a job with every operation; append the seconds of each call."""

    async def timed(name: str, call: Call) -> Any:
        begun = time.perf_counter()
        result = await call()
        seconds.setdefault(name, []).append(time.perf_counter() - begun)
        return result

    job = await timed("submit", lambda: repository.create(Job(audio_path=_RECORDING)))
    await timed("get", lambda: repository.get(job.id))
    await timed("list_page", lambda: repository.list_page(limit=50))
    claimed = await timed("claim", repository.get_next_queued)
    claimed.status, claimed.result_text = JobStatus.COMPLETED, _TEXT
    await timed("finish", lambda: repository.update(claimed))
    if with_seldom:
        waiting = await repository.create(Job(audio_path=_RECORDING))
        for name, call in seldom(repository, waiting).items():
            await timed(name, call)
        await repository.request_cancel(waiting.id)
        await repository.delete(waiting.id)


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Record every statement executed within the block."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, parameters))

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def how(connection: sqlite3.Connection, statement: str, parameters: Sequence[Any]) -> str:
    """Return SQLite's query plan."""
    verb = " ".join(statement.split()[:2])
    if verb.startswith(("BEGIN", "INSERT")):
        return verb.removesuffix(" INTO")
    plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", tuple(parameters)).fetchall()
    return f"{verb.split()[0]}: {'; '.join(row[3] for row in plan)}"


async def plans(repository: JobRepository, database: Path) -> dict[str, list[str]]:
    """Return the statements of every operation, each with its query plan."""
    job = await repository.create(Job(audio_path=_RECORDING))
    found: dict[str, list[str]] = {}

    async def noted(name: str, call: Call) -> Any:
        with statements() as seen:
            result = await call()
        with closing(sqlite3.connect(database)) as connection:
            found[name] = [how(connection, *one) for one in seen]
        return result

    await noted("submit", lambda: repository.create(Job(audio_path=_RECORDING)))
    claimed = await noted("claim", repository.get_next_queued)
    await noted("heartbeat", lambda: repository.heartbeat(claimed))
    await noted("checkpoint", lambda: repository.checkpoint(claimed, Chunk(0, 1, (), ())))
    claimed.status = JobStatus.COMPLETED
    await noted("finish", lambda: repository.update(claimed))
    await noted("get", lambda: repository.get(job.id))
    await noted("list_page", lambda: repository.list_page(limit=50))
    for name, call in seldom(repository, job).items():
        await noted(name, call)
    return found


async def filled(database: Path, status: JobStatus, rows: int) -> JobRepository:
    """Return a repository with that many jobs."""
    maker = JobRepository(database)
    await maker.connect()
    await maker.close()
    fill(database, status, rows)
    repository = JobRepository(database)
    await repository.connect()
    return repository


async def measure(folder: Path, status: JobStatus, sizes: Sequence[int], count: int) -> dict[str, Any]:
    """Call the operations on all sizes in alternation, so that other load affects all equally."""
    databases = {rows: folder / f"{status}-{rows}.db" for rows in sizes}
    repositories = {rows: await filled(database, status, rows) for rows, database in databases.items()}
    seconds: dict[int, dict[str, list[float]]] = {rows: {} for rows in sizes}
    for _ in range(_WARM_UP):
        for repository in repositories.values():
            await time_calls(repository, {}, with_seldom=False)
    for number in range(count):
        for rows in random.sample(sizes, len(sizes)):
            await time_calls(repositories[rows], seconds[rows], with_seldom=number % 20 == 0)
    ways = await plans(repositories[max(sizes)], databases[max(sizes)])
    for repository in repositories.values():
        await repository.close()
    few = seconds[min(sizes)]
    return {
        "file_mib": {rows: round(database.stat().st_size / 2**20) for rows, database in databases.items()},
        "verbs": {name: {rows: compared(seconds[rows][name], few[name]) for rows in sizes} for name in few},
        "plans": ways,
    }


def compared(seconds: Sequence[float], few: Sequence[float]) -> dict[str, float]:
    return {
        "p50_ms": round(statistics.median(seconds) * 1000, 3),
        "p99_ms": round(sorted(seconds)[int(len(seconds) * 0.99)] * 1000, 3),
        "times_as_long": round(statistics.median(seconds) / statistics.median(few), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", type=int, default=[10, 10_000, 1_000_000])
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where to put the databases (the system's temporary folder)")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    for status in (JobStatus.COMPLETED, JobStatus.QUEUED):
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            found[status] = asyncio.run(measure(Path(name), status, arguments.rows, arguments.calls))
    json.dump(found, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
