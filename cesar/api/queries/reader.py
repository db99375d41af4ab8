"""`JobReader`: queries on jobs, each answered from one consistent state of the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from cesar.api.models import Job, JobEvent, JobFilter, JobPage, JobStatus, PageContent
from cesar.api.queries import lookups, position
from cesar.api.queries.cursor import Changes, Cursor, Tail
from cesar.api.queries.eta import QueuePosition, QueueSnapshot, Throughput
from cesar.api.queue import enqueue, transitions
from cesar.api.storage.database import Database
from cesar.errors import QueueError
from cesar.transcript import Chunk


class JobReader:
    """Reads the queue, without waiting for writers.

    Every method raises `DatabaseUnavailable` if the database does not respond.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get(self, job_id: str) -> Job | None:
        """Return a job; None if there is none with this id."""
        row = await self.database.read(lambda connection: lookups.find(connection, job_id))
        return None if row is None else transitions.job_from_row(row)

    async def find_by_key(self, submitter: str, key: str) -> Job | None:
        """Return the job with a submitter's idempotency key; None if there is none."""
        stored = enqueue.stored_key(submitter, key)
        row = await self.database.read(lambda connection: lookups.find_by_key(connection, stored))
        return None if row is None else transitions.job_from_row(row)

    async def list_all(self) -> list[Job]:
        """Return all jobs, newest first. For many jobs, see `list_page`."""
        page = await self.list_page(limit=2**31)
        return list(page.jobs)

    async def list_page(
        self,
        wanted: JobFilter = JobFilter(),  # noqa: B008 - frozen
        *,
        cursor: str | None = None,
        limit: int = 100,
        newest_first: bool = True,
        content: PageContent = PageContent(),  # noqa: B008 - frozen
    ) -> JobPage:
        """Return up to `limit` jobs that match the filter, from the end of the previous page (its `next_cursor`)."""
        if limit < 1:
            raise QueueError(f"the limit of {limit} jobs is too low", hint="Ask for at least one.")
        request = lookups.PageRequest(cursor, limit, newest_first=newest_first)
        return await self.database.read(lambda connection: lookups.page(connection, wanted, request, content))

    async def stored_bytes(self, submitter: str, *, besides: str = "") -> int:
        """Return the total size of the recordings stored for a submitter, each counted once, except that digest."""
        return await self.database.read(lambda connection: lookups.stored_bytes(connection, submitter, besides))

    async def counts(self) -> dict[JobStatus, int]:
        """Return the number of jobs of every status."""
        return await self.database.read(lookups.counts)

    async def waiting_before(self, job_id: str) -> int | None:
        """Return the number of jobs ahead of a waiting job; None if it is not waiting."""
        return (await self.jobs_ahead([job_id])).get(job_id)

    async def fetches_before(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the number of running fetches for each of the jobs whose recording waits to be fetched."""
        return await self.database.read(lambda connection: lookups.fetches_before(connection, job_ids))

    async def queue_snapshot(self) -> QueueSnapshot:
        """Return the running jobs, and the models of all unfinished ones."""
        return await self.database.read(position.snapshot)

    async def next_position(self, model_size: str, throughputs: Mapping[str, Throughput]) -> QueuePosition:
        """Return the position of a new job for a model, of mean length, with the work ahead of it."""
        return await self.database.read(lambda connection: position.next_position(connection, model_size, throughputs))

    async def positions(self, ids: Collection[str], throughputs: Mapping[str, Throughput]) -> dict[str, QueuePosition]:
        """Return the position of each of these jobs that waits. throughputs: those known, by model."""
        return await self.database.read(lambda connection: position.positions(connection, ids, throughputs))

    async def jobs_ahead(self, job_ids: Collection[str]) -> dict[str, int | None]:
        """Return the number of jobs ahead of each existing job; None for a job that is not waiting."""
        return await self.database.read(lambda connection: position.jobs_ahead(connection, job_ids))

    async def history(self, job_id: str, *, after: int = 0, limit: int = 1000) -> tuple[Job, list[JobEvent]] | None:
        """Return a job and its events with ids above `after`, oldest first; None if there is no such job.

        Both are of one state of the queue, so a finished job's last event is among them.
        """
        return await self.database.read(lambda connection: lookups.history(connection, job_id, after, limit))

    async def events(
        self, job_id: str | None = None, *, after: int = 0, limit: int = 1000, submitter: str | None = None
    ) -> list[JobEvent]:
        """Return the events with ids above `after`, oldest first.

        job_id, submitter: return only those of this job, or of this submitter's jobs.
        """
        return await self.database.read(
            lambda connection: lookups.events_of(connection, job_id, after=after, limit=limit, submitter=submitter)
        )

    async def chunks(self, job_id: str) -> list[Chunk]:
        """Return a job's finished chunks, in the order of the recording."""
        return await self.database.read(lambda connection: lookups.chunks_of(connection, job_id))

    async def tail(self, job_id: str, after: Cursor, *, limit: int = 1000) -> Tail | None:
        """Return what has happened to a job since the cursor; None if there is no such job."""
        return await self.database.read(lambda connection: lookups.tail(connection, job_id, after, limit))

    async def changes(self, after: int) -> Changes:
        """Return the jobs that may have changed since an event."""
        return await self.database.read(lambda connection: lookups.changes(connection, after))

    async def last_event(self) -> int:
        """Return the id of the newest event; 0 if there is none."""
        return await self.database.read(lookups.last_event)

    async def recent_outcomes(self, model_size: str, *, limit: int = 20) -> list[Job]:
        """Return the latest jobs completed with a model, newest first."""
        return await self.database.read(lambda connection: lookups.recent_outcomes(connection, model_size, limit))
