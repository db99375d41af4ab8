"""`JobRepository`: the queue's verbs. Each is one transaction; when it returns, what it did is on the disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

import sqlalchemy as sa

from cesar.api import listing, moves, submitting
from cesar.api.database import Database
from cesar.api.models import Claim, Job, JobEvent, JobFilter, JobPage, JobStatus, utc_now
from cesar.api.owners import LEASE_TTL_S, Owner, Watch, steady_clock
from cesar.api.place import Place
from cesar.api.wakeups import Wakeups
from cesar.errors import QueueError
from cesar.transcript import Chunk

T = TypeVar("T")
_KEPT_FIELDS = (
    "seq",
    "version",
    "status",
    "started_at",
    "attempt",
    "owner",
    "failures",
    "lost",
    "run_after",
    "heartbeat_at",
    "cancel_requested_at",
    "claim",
)
"""What the repository changes of a job by itself."""


class JobRepository:
    """The queue in a database: a path, `":memory:"`, or a URL such as `sqlite:///queue.db`.

    Any number of repositories, in any number of processes, may share one file. A claim is lost when its repository is
    closed, its process dies, or no heartbeat or checkpoint has come for `lease_ttl_s`.

    Every method raises `DatabaseUnavailable` if the database does not answer (then nothing was changed), and those
    that take a job id `JobNotFound`.
    """

    def __init__(
        self,
        db: str | os.PathLike[str],
        *,
        lease_ttl_s: float = LEASE_TTL_S,
        retry_delay_s: float = 15.0,
        allow_network_fs: bool = False,
        clock: Callable[[], datetime] = utc_now,
        steady: Callable[[], float] = steady_clock,
    ) -> None:
        place = Place.of(db, allow_network=allow_network_fs)
        self._database = Database(place)
        self._owner = Owner(None if place.path is None else place.path.with_name(f"{place.path.name}-owners"))
        self._watch = Watch(lease_ttl_s)
        self._retry_delay = timedelta(seconds=retry_delay_s)
        self._clock = clock
        self._steady = steady
        self._wakeups = Wakeups(self._database)

    @property
    def lease_ttl_s(self) -> float:
        """How long a claim lasts without a heartbeat, in seconds."""
        return self._watch.ttl_s

    async def connect(self) -> None:
        """Open the database, making or migrating it if need be. Raises `DatabaseError` if it can't be used."""
        await self._database.connect()

    async def close(self) -> None:
        """Let go of the database; what is still claimed is anybody's."""
        await self._wakeups.close()
        await self._database.close()
        self._owner.retire()

    # Submitting and reading

    async def create(self, job: Job) -> Job:
        """Queue a job, and bring the one given up to date.

        With an `idempotency_key` that was used before for the same request, that job is returned and none is made;
        for another request it raises `IdempotencyConflict`.
        """

        def submit(connection: sa.Connection) -> moves.Row:
            if job.status is not JobStatus.QUEUED:
                self._owner.show_alive()
            return submitting.submit(connection, job, self._owner.name, self._clock())

        row = await self._write("submit", submit)
        self._wakeups.tell()
        return _refreshed(job, row) if row["id"] == job.id else moves.job_of(row)

    async def get(self, job_id: str) -> Job | None:
        """Give a job, or None if there is none of that id."""
        row = await self._database.read(lambda connection: listing.find(connection, job_id))
        return None if row is None else moves.job_of(row)

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
    ) -> JobPage:
        """Give up to `limit` jobs that fit the filter, from where the page before ended (its `next_cursor`)."""
        if limit < 1:
            raise QueueError(f"a limit of {limit} jobs can't be used", hint="Ask for one at least.")
        return await self._database.read(
            lambda connection: listing.page(connection, wanted, cursor=cursor, limit=limit, newest_first=newest_first)
        )

    async def counts(self) -> dict[JobStatus, int]:
        """Count the jobs of every status."""
        return await self._database.read(listing.counts)

    async def waiting_before(self, job_id: str) -> int | None:
        """Count the jobs that go before a waiting one; None if it does not wait."""
        return await self._database.read(lambda connection: listing.waiting_before(connection, job_id))

    async def events(self, job_id: str | None = None, *, after: int = 0, limit: int = 1000) -> list[JobEvent]:
        """Give the state changes of a job, or of all, that came after the event `after`; oldest first."""
        return await self._database.read(
            lambda connection: listing.events_of(connection, job_id, after=after, limit=limit)
        )

    async def chunks(self, job_id: str) -> list[Chunk]:
        """Give what of a job is recognised so far, in the recording's order."""
        return await self._database.read(lambda connection: listing.chunks_of(connection, job_id))

    # A worker's verbs

    async def get_next_queued(self) -> Job | None:
        """Claim the job that is first to go: the highest priority, then the oldest. None if none is waiting.

        The job is PROCESSING when it is returned, and nobody else gets it while the claim holds. Jobs whose worker
        was lost go back into the queue first.
        """

        def claim(connection: sa.Connection) -> Job | None:
            self._owner.show_alive()
            self._take_back_abandoned(connection)
            row = moves.claim_next(connection, self._owner.name, self._clock())
            return None if row is None else _claimed(row)

        return await self._write("claim", claim)

    async def update(self, job: Job) -> Job:
        """Write a job's status and outcome, bring the job given up to date, and return it.

        A claimed job is written by its claim, whatever others have changed meanwhile: `ClaimLost` if it was lost. A
        job that was only read is written if nobody has changed it since: `StaleJob` otherwise. `IllegalMove` if the
        status can't follow from what it was. Owner, attempt, progress and the request are not written.
        """

        def write(connection: sa.Connection) -> moves.Row:
            self._owner.show_alive()  # the update may be a claim
            return moves.update(connection, job, self._owner.name, self._clock())

        row = await self._write("update", write)
        if job.status is JobStatus.QUEUED:
            self._wakeups.tell()
        return _refreshed(job, row)

    async def heartbeat(self, job: Job) -> bool:
        """Keep the claim, and write down the job's phase, position and duration; say whether to cancel.

        Raises `ClaimLost`.
        """

        def beat(connection: sa.Connection) -> moves.Row:
            self._owner.show_alive()
            self._watch.tick(self._steady())
            return moves.heartbeat(connection, job, self._clock())

        row = await self._write("heartbeat", beat)
        return row["cancel_requested_at"] is not None

    async def is_cancel_requested(self, job: Job) -> bool:
        """Say whether the job is to be cancelled; costs no write. Raises `ClaimLost`."""
        row = await self._database.read(lambda connection: listing.find(connection, job.id))
        moves.require_claim(row, job)
        return row is not None and row["cancel_requested_at"] is not None

    async def checkpoint(self, job: Job, chunk: Chunk) -> None:
        """Keep a finished chunk, and the claim. Raises `ClaimLost`."""
        await self._write("checkpoint", lambda c: moves.checkpoint(c, job, chunk, self._clock()))

    async def resume(self, job: Job, fingerprint: str) -> list[Chunk]:
        """Give the chunks that are finished; those of other work than the fingerprint's are dropped.

        Raises `ClaimLost`.
        """

        def keep(connection: sa.Connection) -> list[Chunk]:
            moves.keep_checkpoints(connection, job, fingerprint)
            return listing.chunks_of(connection, job.id)

        return await self._write("resume", keep)

    async def release(self, job: Job) -> Job:
        """Give a claimed job back, with its checkpoints; it counts as no failure. Raises `ClaimLost`."""
        row = await self._write("release", lambda c: moves.release(c, job, self._clock()))
        self._wakeups.tell()
        return moves.job_of(row)

    async def retry_later(self, job: Job) -> Job:
        """After a transient failure, whose error the job tells: queue it for later, or end it if it failed too often.

        Raises `ClaimLost`.
        """
        row = await self._write("fail", lambda c: moves.retry_later(c, job, self._retry_delay, self._clock()))
        return moves.job_of(row)

    # Anybody's verbs

    async def request_cancel(self, job_id: str) -> Job:
        """Cancel a waiting job at once, a running one as soon as its worker hears of it; a finished one stays so."""

        def cancel(connection: sa.Connection) -> moves.Row:
            self._take_back_abandoned(connection)
            return moves.cancel(connection, job_id, self._clock())

        return moves.job_of(await self._write("cancel", cancel))

    async def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again; what was recognised is kept. Raises `IllegalMove` for others."""
        row = await self._write("retry", lambda connection: moves.retry(connection, job_id))
        self._wakeups.tell()
        return moves.job_of(row)

    async def delete(self, job_id: str) -> None:
        """Remove a job and all that is stored of it. Raises `IllegalMove` while it is being processed."""

        def delete(connection: sa.Connection) -> None:
            self._take_back_abandoned(connection)
            moves.delete(connection, job_id)

        await self._write("delete", delete)

    async def prune(self, older_than: timedelta, *, limit: int = 500) -> int:
        """Remove up to `limit` jobs that have been over for so long; say how many it were."""
        before = self._clock() - older_than
        return await self._write("prune", lambda connection: moves.prune(connection, before, limit))

    # Waking a worker

    async def subscribe(self, wake: asyncio.Event) -> None:
        """Have the event set whenever there may be a new job: at once, or within 0.5 s if another process made it."""
        self._wakeups.add(wake)

    async def unsubscribe(self, wake: asyncio.Event) -> None:
        """Leave the event alone from now on."""
        self._wakeups.remove(wake)

    def _take_back_abandoned(self, connection: sa.Connection) -> None:
        beats = moves.running(connection)
        expired = self._watch.expired(beats, self._steady())
        dead = {name for name in {beat.owner for beat in beats} if self._owner.is_dead(name)}
        for beat in beats:
            if beat.owner in dead:
                moves.take_back(connection, beat, "worker died", self._clock())
            elif beat in expired:
                moves.take_back(connection, beat, "lease expired", self._clock())

    async def _write(self, name: str, work: Callable[[sa.Connection], T]) -> T:
        return await self._database.write(name, work)


def _claimed(row: moves.Row) -> Job:
    return moves.job_of(row, Claim(owner=row["owner"], attempt=row["attempt"]))


def _refreshed(job: Job, row: moves.Row) -> Job:
    """Bring the caller's job up to date, so that it can be changed and written again."""
    now = _claimed(row) if row["owner"] is not None else moves.job_of(row)
    for name in _KEPT_FIELDS:
        setattr(job, name, getattr(now, name))
    return job
