"""The queue on this machine, as one command uses it: opened, asked, closed; a job is found by how its id begins.

Imports the database's libraries, so commands import this module when they run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa

from cesar.api.migrate import HEAD
from cesar.api.models import JobFilter, JobPage, JobStatus
from cesar.api.place import Place
from cesar.api.repository import JobRepository
from cesar.api.tables import jobs
from cesar.api.transcripts import transcript_of
from cesar.errors import JobNotFound, NotADatabase, QueueError, UsageError
from cesar.formats import parse_formats, render

if TYPE_CHECKING:
    from cesar.api.models import Job
    from cesar.config import Settings

T = TypeVar("T")
SHORTEST_BEGINNING = 4
"""Fewer letters of an id are too easily another job's."""
_LAST_LETTER = "\U0010ffff"
_FIRST_STEP = "Queue a recording with `cesar jobs submit FILE`."
_PAGE = 500


class LocalQueue(JobRepository):
    """The queue in the database that the settings name."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.database_place, allow_network_fs=settings.allow_network_fs)

    async def find(self, beginning: str) -> Job:
        """Give the job whose id is this, or the one whose id begins so.

        Raises `JobNotFound` if there is none, `QueueError` if there are several.
        """
        require_text(beginning)
        if exact := await self.get(beginning):
            return exact
        if len(beginning) < SHORTEST_BEGINNING:
            hint = f"Give its whole id, or at least the first {SHORTEST_BEGINNING} letters."
            raise JobNotFound(f"there is no job {beginning!r}", hint=hint)
        is_meant = sa.and_(jobs.c.id >= beginning, jobs.c.id < beginning + _LAST_LETTER)
        some = sa.select(jobs.c.id).where(is_meant).limit(3)
        ids = await self._database.read(lambda connection: connection.execute(some).scalars().all())
        if len(ids) > 1:
            raise QueueError(
                f"{beginning!r} may be several jobs: {', '.join(ids[:2])}{', ...' if ids[2:] else ''}",
                hint="Give more of the id.",
            )
        found = await self.get(ids[0]) if ids else None
        if found is None:
            raise JobNotFound(f"there is no job {beginning!r}")
        return found

    async def require_soundness(self) -> None:
        """Read the whole database. Raises `NotADatabase` if something in it is damaged."""
        found = await self._database.read(lambda c: c.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
        if found != "ok":
            raise NotADatabase(f"{self._database.place} is damaged: {found}")


def in_queue(settings: Settings, work: Callable[[LocalQueue], Awaitable[T]], *, may_make: bool = False) -> T:
    """Open the queue, do the work, close the queue.

    may_make: whether the database is made if it isn't there; else `JobNotFound` is raised.
    """
    file = database_file(settings)
    if not may_make and not file.exists():
        raise JobNotFound(f"there are no jobs yet: {file} is not there", hint=_FIRST_STEP)

    async def opened() -> T:
        queue = LocalQueue(settings)
        try:
            await queue.connect()
            return await work(queue)
        finally:
            await queue.close()

    return asyncio.run(opened())


def database_file(settings: Settings) -> Path:
    """Say where the queue's database is, or will be.

    Raises `DatabaseError` for a place that can't be one, `UsageError` for memory, which ends with the command.
    """
    path = Place.of(settings.database_place).path
    if path is None:
        raise UsageError("a queue in memory would end with the command", hint="Name a file with --database.")
    return path


def wish_for(*, statuses: Sequence[str], model: str | None, name_contains: str | None) -> JobFilter:
    """Say which jobs to list. Raises `UsageError` for what is no text."""
    for text in (model or "", name_contains or ""):
        require_text(text)
    status = frozenset(JobStatus(status) for status in statuses)
    return JobFilter(status=status, model_size=model, name_contains=name_contains)


def list_jobs(settings: Settings, wanted: JobFilter, *, cursor: str | None, limit: int | None) -> JobPage:
    """Give up to `limit` jobs, the newest first; all of them without a limit, none where there is no queue yet."""
    if not database_file(settings).exists():
        return JobPage(jobs=(), next_cursor=None)

    async def read(queue: LocalQueue) -> JobPage:
        page = await queue.list_page(wanted, cursor=cursor, limit=limit or _PAGE)
        found = list(page.jobs)
        while limit is None and page.next_cursor is not None:
            page = await queue.list_page(wanted, cursor=page.next_cursor, limit=_PAGE)
            found += page.jobs
        return JobPage(jobs=tuple(found), next_cursor=page.next_cursor)

    return in_queue(settings, read)


def read_text(settings: Settings, beginning: str, format_names: str | None) -> tuple[Job, str]:
    """Give a job, and its transcript in a format or as plain text; what there is of it, if it is not completed."""
    names = parse_formats(format_names or "txt")
    if len(names) > 1:
        raise UsageError(f"{len(names)} formats can't share standard output", hint="Give one format.")

    async def read(queue: LocalQueue) -> tuple[Job, str]:
        job = await queue.find(beginning)
        if format_names is None and job.result_text is not None:
            return job, f"{job.result_text}\n" if job.result_text else ""
        return job, render(transcript_of(job, await queue.chunks(job.id)), names[0])

    return in_queue(settings, read)


def check_database(settings: Settings) -> str:
    """Say where the queue's database is and what is in it. Raises `DatabaseError` if it can't be used."""
    file = database_file(settings)
    if not file.exists():
        return f"{file} is not there yet"

    async def read(queue: LocalQueue) -> dict[JobStatus, int]:
        await queue.require_soundness()
        return await queue.counts()

    counts = in_queue(settings, read)
    listed = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{file}, schema {HEAD}, {listed or 'no jobs'}"


def require_text(text: str) -> None:
    """Raise `UsageError` for an argument that was no UTF-8: the database can't take it."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UsageError(f"{text!r} is not text", hint="The queue takes UTF-8 only.")
