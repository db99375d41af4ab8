"""The queue on this machine, opened for one command. Jobs are found by id prefix.

Imports the database libraries, so commands import this module only when they run.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cesar.api.models import JobFilter, JobPage
from cesar.api.queries.transcripts import transcript_of
from cesar.api.recovery.ownership import require_database
from cesar.api.repository import JobRepository
from cesar.api.storage.integrity import find_damage
from cesar.api.storage.location import DatabaseLocation
from cesar.api.storage.migrate import HEAD
from cesar.api.storage.recordings import AudioStore
from cesar.cli.queue.id_prefix import require_min_length, require_unique, require_utf8
from cesar.errors import DatabaseDamaged, DatabaseError, JobNotFound, UsageError
from cesar.formats import render

if TYPE_CHECKING:
    from cesar.api.models import Job, JobEvent
    from cesar.formats.subtitles.cues import SubtitleOptions
    from cesar.settings.config import Settings

T = TypeVar("T")
_SUBMIT_HINT = "Queue a recording with `cesar jobs submit FILE`."
_PAGE_SIZE = 500
_POLL_INTERVAL_S = 1.0


class LocalQueue(JobRepository):
    """The queue in the database that the settings name."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            settings.database_location,
            allow_network_fs=settings.allow_network_fs,
            audio=AudioStore(settings.audio_dir),
        )

    async def find(self, id_prefix: str) -> Job:
        """Return the job with this id, or the only one whose id begins with it.

        Raises `JobNotFound` if there is none, `QueueError` if there are several.
        """
        require_utf8(id_prefix)
        if exact := await self.get(id_prefix):
            return exact
        require_min_length(id_prefix)
        page = await self.list_page(JobFilter(id_prefix=id_prefix), limit=3)
        matches = {job.id: job for job in page.jobs}
        return matches[require_unique(sorted(matches), id_prefix)]

    async def render_transcript(self, job: Job, format_name: str | None, subtitles: SubtitleOptions) -> str:
        """Return a job's transcript in a format, or as plain text; until it is completed, what is recognised so far."""
        if format_name is None and job.result_text is not None:
            return f"{job.result_text}\n" if job.result_text else ""
        return render(transcript_of(job, await self.chunks(job.id)), format_name or "txt", subtitles)

    async def updates(self, job_id: str) -> AsyncIterator[tuple[Job, Sequence[JobEvent]]]:
        """Yield the job whenever it may have changed, with its new events, until it is finished."""
        wake = asyncio.Event()
        await self.subscribe(wake)
        seen, is_final = 0, False
        while not is_final:
            wake.clear()
            state = await self.history(job_id, after=seen)
            if state is None:
                raise JobNotFound(f"the job {job_id} was deleted")
            job, events = state
            seen, is_final = (events[-1].id if events else seen), job.status.is_final
            yield job, events
            if not is_final:
                with suppress(TimeoutError):  # not wait_for, which forgets Ctrl-C if the wake-up comes with it (3.11)
                    async with asyncio.timeout(_POLL_INTERVAL_S):
                        await wake.wait()

    async def has_worker(self) -> bool:
        """Whether a worker is running; True if unknown."""
        try:
            return await super().has_worker()
        except DatabaseError:
            return True


def with_queue(settings: Settings, work: Callable[[LocalQueue], Awaitable[T]], *, create: bool = False) -> T:
    """Open the queue, await the work, and close the queue.

    create: create a missing database instead of raising `JobNotFound`.
    """
    file = database_file(settings)
    if not create and not _database_exists(settings):
        raise JobNotFound(f"there are no jobs yet: {file} does not exist", hint=_SUBMIT_HINT)

    async def opened() -> T:
        queue = LocalQueue(settings)
        try:
            await queue.connect()
            return await work(queue)
        finally:
            await queue.close()

    return asyncio.run(opened())


def database_file(settings: Settings) -> Path:
    """Return the path of the queue's database, which need not exist.

    Raises `DatabaseError` for an unusable or inaccessible location, `UsageError` for one in memory, which would end
    with the command.
    """
    location = DatabaseLocation.parse(settings.database_location)
    if location.path is None:
        raise UsageError("a queue in memory would end with the command", hint="Name a file with --database.")
    location.require_access()
    return location.path


def _database_exists(settings: Settings) -> bool:
    """Whether the database exists. Raises `DatabaseMissing` if it does not, but recordings belong to it."""
    file = database_file(settings)
    if file.exists():
        return True
    require_database(DatabaseLocation(file), AudioStore(settings.audio_dir), for_recordings=False)
    return False


def list_jobs(settings: Settings, filters: JobFilter, *, cursor: str | None, limit: int | None) -> JobPage:
    """Return up to `limit` jobs, newest first; all jobs without a limit, none if there is no queue yet."""
    if not _database_exists(settings):
        return JobPage(jobs=(), next_cursor=None)

    async def read(queue: LocalQueue) -> JobPage:
        page = await queue.list_page(filters, cursor=cursor, limit=limit or _PAGE_SIZE)
        found = list(page.jobs)
        while limit is None and page.next_cursor is not None:
            page = await queue.list_page(filters, cursor=page.next_cursor, limit=_PAGE_SIZE)
            found += page.jobs
        return JobPage(jobs=tuple(found), next_cursor=page.next_cursor)

    return with_queue(settings, read)


def check_database(settings: Settings) -> str:
    """Return a description of the queue's database and its jobs. Raises `DatabaseError` if it can't be used."""
    file = database_file(settings)
    if not file.exists():
        return f"{file} does not exist yet"
    if found := find_damage(DatabaseLocation(file)):
        raise DatabaseDamaged(f"{file} is damaged: {found}")
    counts = with_queue(settings, LocalQueue.counts)
    listed = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return f"{file}, schema {HEAD}, {listed or 'no jobs'}"
