"""The choice of queue for a command: this machine's, or that of a service.

Imports neither the database libraries nor the web libraries; the chosen queue does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from cesar.cli.queue.id_prefix import require_utf8
from cesar.cli.transcription.reporters import write_stderr
from cesar.errors import UsageError

if TYPE_CHECKING:
    from cesar.api.models import Job, JobEvent, JobFilter, JobPage
    from cesar.formats.subtitles.cues import SubtitleOptions
    from cesar.settings.config import Settings

T = TypeVar("T")


class Queue(Protocol):
    """The operations of commands on a queue, local or remote."""

    async def find(self, id_prefix: str) -> Job:
        """Return the job with this id, or the only one whose id begins with it.

        Raises `JobNotFound` if there is none, `QueueError` if there are several.
        """

    async def get(self, job_id: str) -> Job | None: ...

    async def waiting_before(self, job_id: str) -> int | None:
        """Return the number of jobs ahead of a waiting job; None if it is not waiting."""

    async def fetches_before(self, job_ids: Collection[str]) -> Mapping[str, int]:
        """Return the number of fetches in progress, for each of the jobs whose recording is waiting to be fetched."""

    async def events(self, job_id: str) -> Sequence[JobEvent]: ...

    async def has_worker(self) -> bool:
        """Whether a worker is running; True if unknown."""

    async def render_transcript(self, job: Job, format_name: str | None, subtitles: SubtitleOptions) -> str:
        """Return a job's transcript in a format, or as plain text; until it is completed, what is recognised so far."""

    def updates(self, job_id: str) -> AsyncIterator[tuple[Job, Sequence[JobEvent]]]:
        """Yield the job after each change, with its new events, until it is finished.

        Raises `JobNotFound` if it is deleted.
        """

    async def request_cancel(self, job_id: str) -> Job: ...

    async def retry(self, job_id: str) -> Job: ...

    async def delete(self, job_id: str) -> None: ...


async def warn_if_no_worker(queue: Queue, settings: Settings, jobs: Iterable[Job]) -> bool:
    """Print a warning if jobs are waiting and no worker is running; return whether it was printed."""
    if all(job.status.is_final for job in jobs) or await queue.has_worker():
        return False
    if settings.server is not None:
        where = f"the service at {settings.server} has no worker"
        hint = "run `cesar worker` beside it, or `cesar serve` without --no-worker"
    else:
        where = "no worker is running"
        option = f" --database {settings.database}" if settings.origins.get("database") == "flag" else ""
        hint = f"start one with `cesar worker{option}`"
    write_stderr(f"cesar: {where}, so waiting jobs will not run: {hint}")
    return True


def with_queue(settings: Settings, work: Callable[[Queue], Awaitable[T]]) -> T:
    """Open the queue that the settings name, await the work, and close the queue."""
    if settings.server is not None:
        from cesar.cli.queue.remote import with_service

        return with_service(settings, work)
    from cesar.cli.queue import local

    return local.with_queue(settings, work)


def list_jobs(settings: Settings, filters: JobFilter, *, cursor: str | None, limit: int | None) -> JobPage:
    """Return up to `limit` jobs, newest first; all jobs without a limit."""
    if settings.server is not None:
        from cesar.cli.queue.remote import with_service

        return with_service(settings, lambda queue: queue.list_jobs(filters, cursor=cursor, limit=limit))
    from cesar.cli.queue import local

    return local.list_jobs(settings, filters, cursor=cursor, limit=limit)


def queue_location(settings: Settings) -> str:
    """Return the location of the queue: a file or the URL of a service."""
    if settings.server is not None:
        return settings.server
    from cesar.cli.queue.local import database_file

    return str(database_file(settings))


def build_filter(
    *, statuses: Sequence[str] = (), model: str | None = None, name_contains: str | None = None
) -> JobFilter:
    """Return the filter for a list of jobs. Raises `UsageError` for text that is not UTF-8."""
    from cesar.api.models import JobFilter, JobStatus

    for text in (model or "", name_contains or ""):
        require_utf8(text)
    return JobFilter(status=frozenset(map(JobStatus, statuses)), model_size=model, name_contains=name_contains)


def read_transcript(
    settings: Settings, id_prefix: str, formats: Sequence[str], subtitles: SubtitleOptions
) -> tuple[Job, str]:
    """Return a job and its transcript so far, in a format or as plain text."""
    if len(formats) > 1:
        raise UsageError(f"{len(formats)} formats can't share standard output", hint="Give one format.")

    async def read(queue: Queue) -> tuple[Job, str]:
        job = await queue.find(id_prefix)
        return job, await queue.render_transcript(job, formats[0] if formats else None, subtitles)

    return with_queue(settings, read)
