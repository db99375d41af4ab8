"""Which queue a command works with: this machine's, or that of a service.

Imports neither the database's libraries nor the web's: only the queue that is used does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from cesar.cli.queue.id_prefix import require_utf8
from cesar.cli.transcription.reporters import write_stderr
from cesar.errors import UsageError
from cesar.settings.config import load

if TYPE_CHECKING:
    from cesar.api.models import Job, JobEvent, JobFilter, JobPage
    from cesar.formats.subtitles.cues import SubtitleOptions
    from cesar.settings.config import Settings

T = TypeVar("T")
NO_SERVER = "none"


class Queue(Protocol):
    """What a command does with a queue, wherever that is."""

    async def find(self, id_prefix: str) -> Job:
        """Give the job whose id is this, or the one whose id begins so.

        Raises `JobNotFound` if there is none, `QueueError` if there are several.
        """

    async def get(self, job_id: str) -> Job | None: ...

    async def waiting_before(self, job_id: str) -> int | None:
        """Count the jobs that go before a waiting one; None if it does not wait."""

    async def fetches_before(self, job_ids: Collection[str]) -> Mapping[str, int]:
        """Return the number of fetches under way, for each of the jobs whose own recording waits to be fetched."""

    async def events(self, job_id: str) -> Sequence[JobEvent]: ...

    async def has_worker(self) -> bool:
        """Whether anybody does the jobs; true also where that can't be told."""

    async def render_transcript(self, job: Job, format_name: str | None, subtitles: SubtitleOptions) -> str:
        """Give a job's transcript in a format, or as plain text; what there is of it, if it is not completed."""

    def updates(self, job_id: str) -> AsyncIterator[tuple[Job, Sequence[JobEvent]]]:
        """Give a job whenever it has changed, with what has happened to it, until it is over.

        Raises `JobNotFound` if it is deleted.
        """

    async def request_cancel(self, job_id: str) -> Job: ...

    async def retry(self, job_id: str) -> Job: ...

    async def delete(self, job_id: str) -> None: ...


async def warn_if_no_worker(queue: Queue, settings: Settings, jobs: Iterable[Job]) -> bool:
    """Print a warning if some of the jobs wait and no worker is there to take them; return whether it was printed."""
    if all(job.status.is_final for job in jobs) or await queue.has_worker():
        return False
    if settings.server is not None:
        where = f"the service at {settings.server} has no worker"
        hint = "run `cesar worker` beside it, or `cesar serve` without --no-worker"
    else:
        where = "no worker is running"
        option = f" --database {settings.database}" if settings.origins.get("database") == "flag" else ""
        hint = f"start one with `cesar worker{option}`"
    write_stderr(f"cesar: {where}, so nothing happens to waiting jobs: {hint}")
    return True


def load_for_queue(*, database: str | None, server: str | None, **flags: object) -> Settings:
    """Gather the settings of a command that works with a queue.

    Either flag wins over what is set otherwise for the other. Raises `UsageError` if both are given.
    """
    if database is not None and server not in (None, NO_SERVER):
        raise UsageError("--database and --server can't both be given", hint="Name one queue.")
    return load({**flags, "database": database, "server": server if database is None else NO_SERVER})


def with_queue(settings: Settings, work: Callable[[Queue], Awaitable[T]]) -> T:
    """Open the queue that the settings name, do the work, close the queue."""
    if settings.server is not None:
        from cesar.cli.queue.remote import with_service

        return with_service(settings, work)
    from cesar.cli.queue import local

    return local.with_queue(settings, work)


def list_jobs(settings: Settings, filters: JobFilter, *, cursor: str | None, limit: int | None) -> JobPage:
    """Give up to `limit` jobs, the newest first; all of them without a limit."""
    if settings.server is not None:
        from cesar.cli.queue.remote import with_service

        return with_service(settings, lambda queue: queue.list_jobs(filters, cursor=cursor, limit=limit))
    from cesar.cli.queue import local

    return local.list_jobs(settings, filters, cursor=cursor, limit=limit)


def queue_location(settings: Settings) -> str:
    """Say where the queue is."""
    if settings.server is not None:
        return settings.server
    from cesar.cli.queue.local import database_file

    return str(database_file(settings))


def build_filter(*, statuses: Sequence[str], model: str | None, name_contains: str | None) -> JobFilter:
    """Say which jobs to list. Raises `UsageError` for what is no text."""
    from cesar.api.models import JobFilter, JobStatus

    for text in (model or "", name_contains or ""):
        require_utf8(text)
    status = frozenset(JobStatus(status) for status in statuses)
    return JobFilter(status=status, model_size=model, name_contains=name_contains)


def read_transcript(
    settings: Settings, id_prefix: str, formats: Sequence[str], subtitles: SubtitleOptions
) -> tuple[Job, str]:
    """Return a job, and its transcript in a format, or as plain text without one; what there is of it so far."""
    if len(formats) > 1:
        raise UsageError(f"{len(formats)} formats can't share standard output", hint="Give one format.")

    async def read(queue: Queue) -> tuple[Job, str]:
        job = await queue.find(id_prefix)
        return job, await queue.render_transcript(job, formats[0] if formats else None, subtitles)

    return with_queue(settings, read)
