"""`JobReader`: what can be asked about jobs. Each question is answered from one consistent state of the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cesar.api.models import Job, JobEvent, JobFilter, JobPage, JobStatus, PageContent
from cesar.api.queue import enqueue, position, queries, transitions
from cesar.api.queue.cursor import Changes, Cursor, Tail
from cesar.api.queue.eta import QueuePosition, QueueSnapshot, Throughput
from cesar.api.storage.database import Database
from cesar.errors import QueueError
from cesar.transcript import Chunk


class JobReader:
    """Reads the queue in a database. Reading waits for no writer.

    Every method raises `DatabaseUnavailable` if the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get(self, job_id: str) -> Job | None:
        """Give a job, or None if there is none of that id."""
        row = await self.database.read(lambda connection: queries.find(connection, job_id))
        return None if row is None else transitions.job_from_row(row)

    async def find_by_key(self, submitter: str, key: str) -> Job | None:
        """Give the job that a submitter's idempotency key stands for, or None if it stands for none."""
        stored = enqueue.stored_key(submitter, key)
        row = await self.database.read(lambda connection: queries.find_by_key(connection, stored))
        return None if row is None else transitions.job_from_row(row)

    async def list_all(self) -> list[Job]:
        """Give all jobs, newest first. See `list_page` for many."""
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
        """Give up to `limit` jobs that fit the filter, from where the page before ended (its `next_cursor`)."""
        if limit < 1:
            raise QueueError(f"a limit of {limit} jobs can't be used", hint="Ask for one at least.")
        request = queries.PageRequest(cursor, limit, newest_first=newest_first)
        return await self.database.read(lambda connection: queries.page(connection, wanted, request, content))

    async def stored_bytes(self, submitter: str, *, besides: str = "") -> int:
        """Return the size of the recordings that are kept for a submitter's jobs, each once, but for that digest."""
        return await self.database.read(lambda connection: queries.stored_bytes(connection, submitter, besides))

    async def counts(self) -> dict[JobStatus, int]:
        """Count the jobs of every status."""
        return await self.database.read(queries.counts)

    async def waiting_before(self, job_id: str) -> int | None:
        """Count the jobs that go before a waiting one; None if it does not wait."""
        return await self.database.read(lambda connection: queries.waiting_before(connection, job_id))

    async def fetches_before(self, job_ids: Collection[str]) -> dict[str, int]:
        """Return the number of fetches under way, for each of the jobs whose own recording waits to be fetched."""
        return await self.database.read(lambda connection: queries.fetches_before(connection, job_ids))

    async def queue_snapshot(self) -> QueueSnapshot:
        """Give the jobs that are being processed, and the models of all that are unfinished."""
        return await self.database.read(position.snapshot)

    async def next_position(self, model_size: str, throughputs: Mapping[str, Throughput]) -> QueuePosition:
        """Give the place that a new job for a model would have, with the usual length, and the work before it."""
        return await self.database.read(lambda connection: position.next_position(connection, model_size, throughputs))

    async def positions(self, ids: Sequence[str], throughputs: Mapping[str, Throughput]) -> dict[str, QueuePosition]:
        """Give the place of each of these jobs that waits, and the work before it. paces: those that are known."""
        return await self.database.read(lambda connection: position.positions(connection, ids, throughputs))

    async def jobs_ahead(self, job_ids: Collection[str]) -> dict[str, int | None]:
        """Say for those of the jobs that there are how many go before each that waits; None: it does not wait."""
        return await self.database.read(lambda connection: queries.jobs_ahead(connection, job_ids))

    async def events(
        self, job_id: str | None = None, *, after: int = 0, limit: int = 1000, submitter: str | None = None
    ) -> list[JobEvent]:
        """Give the state changes that came after the event `after`, oldest first.

        job_id, submitter: only that job's, only those of that submitter's jobs.
        """
        return await self.database.read(
            lambda connection: queries.events_of(connection, job_id, after=after, limit=limit, submitter=submitter)
        )

    async def chunks(self, job_id: str) -> list[Chunk]:
        """Give what of a job is recognised so far, in the recording's order."""
        return await self.database.read(lambda connection: queries.chunks_of(connection, job_id))

    async def tail(self, job_id: str, after: Cursor, *, limit: int = 1000) -> Tail | None:
        """Give what has happened to a job since then; None if there is no such job."""
        return await self.database.read(lambda connection: queries.tail(connection, job_id, after, limit))

    async def changes(self, after: int) -> Changes:
        """Say which jobs may have changed since an event."""
        return await self.database.read(lambda connection: queries.changes(connection, after))

    async def last_event(self) -> int:
        """Give the id of the newest event; 0 if there is none."""
        return await self.database.read(queries.last_event)

    async def recent_outcomes(self, model_size: str, *, limit: int = 20) -> list[Job]:
        """Give the jobs that were completed last with a model, the newest first."""
        return await self.database.read(lambda connection: queries.recent_outcomes(connection, model_size, limit))
