"""`JobRepository`: the queue's operations. Each is one transaction, and durable once it returns."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from cesar.api.job_recordings import JobRecordings
from cesar.api.models import LEASE_TTL_S, Claim, Job, JobStatus, utc_now
from cesar.api.queries import lookups
from cesar.api.queries.reader import JobReader
from cesar.api.queue import attempts, changes, checkpoints, claims, enqueue, removals, transitions
from cesar.api.queue.claims import QueueRank
from cesar.api.queue.enqueue import SubmissionPolicy
from cesar.api.queue.leases import LeaseMonitor, LeaseOwner, monotonic_clock
from cesar.api.queue.notifications import JobNotifier
from cesar.api.queue.recording_references import has_recordings
from cesar.api.recovery import ownership
from cesar.api.storage.database import Database
from cesar.api.storage.location import DatabaseLocation
from cesar.api.storage.recordings import AudioStore, SweepResult
from cesar.api.storage.reserve import DiskReserve
from cesar.errors import DatabaseFull, QueueError
from cesar.transcript import Chunk

T = TypeVar("T")


class JobRepository(JobReader):
    """The queue in a database: a path, `":memory:"`, or a URL such as `sqlite:///queue.db`.

    Any number of repositories, in any number of processes, may share one file. A claim is lost when its repository is
    closed, its process dies, or no heartbeat or checkpoint has arrived for `lease_ttl_s`.

    Every method raises `DatabaseUnavailable` if the database does not respond (nothing was changed then), and those
    that take a job id raise `JobNotFound`.
    """

    def __init__(  # noqa: PLR0913 - all but the first have defaults that only tests change
        self,
        db: str | os.PathLike[str],
        *,
        lease_ttl_s: float = LEASE_TTL_S,
        retry_delay_s: float = 15.0,
        busy_timeout_s: float | None = None,
        allow_network_fs: bool = False,
        audio: AudioStore | None = None,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = monotonic_clock,
    ) -> None:
        location = DatabaseLocation.parse(db, allow_network=allow_network_fs)
        super().__init__(Database(location, busy_timeout_s=busy_timeout_s))
        self._owner = LeaseOwner(
            None if location.path is None else location.path.with_name(f"{location.path.name}-owners")
        )
        self._leases = LeaseMonitor(lease_ttl_s)
        self._reserve = DiskReserve(location)
        self._retry_delay = timedelta(seconds=retry_delay_s)
        self._clock = clock
        self._monotonic = monotonic
        self._notifier = JobNotifier(self.database)
        self.audio = audio
        """The store of recordings that came over the network; None: there is none."""

    async def connect(self, *, for_recordings: bool = False, check: bool = False) -> None:
        """Open the database, creating or migrating it if necessary. Raises `DatabaseError` if it can't be used.

        for_recordings: whether recordings will be stored, so that their folder must belong to this database or none.
        check: whether to check the database for damage first.
        """
        if self.audio is not None:
            location, store = self.database.location, self.audio
            await asyncio.to_thread(ownership.require_database, location, store, for_recordings=for_recordings)
        await self.database.connect(check=check)
        if for_recordings:
            await self.database.write("claim folder", self._recordings.claim_folder)
            await asyncio.to_thread(self._reserve.keep)

    async def connect_for_work(self) -> None:
        """Open the database as a worker does: claim the recordings' folder if any job has a recording."""
        await self.connect(check=True)
        if self.audio is not None and await self.database.read(has_recordings):
            await self.database.write("claim folder", self._recordings.claim_folder)

    async def close(self) -> None:
        """Close the database and give up all claims."""
        await self._notifier.close()
        await self.database.close()
        self._owner.release()

    # Submitting

    async def create(
        self,
        job: Job,
        *,
        upload: Path | None = None,
        policy: SubmissionPolicy = SubmissionPolicy(),  # noqa: B008 - frozen
    ) -> Job:
        """Queue a job, and refresh the one passed in.

        upload: the uploaded file, whose digest is `job.audio_digest`; it is moved to `job.audio_path` if the job is
        new, and left alone otherwise.

        If the `idempotency_key` was used before for the same request, that job is returned and none is created;
        for another request, `IdempotencyConflict` is raised. Raises `TooManyJobs` if the policy says so.
        """

        def submit(connection: sa.Connection) -> transitions.Row:
            if job.status is not JobStatus.QUEUED:
                self._owner.ensure_lock()
            row = enqueue.submit(connection, job, self._owner.name, self._clock(), policy)
            if upload is not None and row["id"] == job.id:
                self._recordings.claim_folder(connection)
                self._recordings.store.add(upload, row["audio_digest"])
            return row

        row = await self._write("submit", submit)
        self._notifier.notify_waiting()
        return job.refresh(self._claimed(row)) if row["id"] == job.id else transitions.job_from_row(row)

    async def new_upload(self) -> Path:
        """Return a new path for an upload. If this process dies before a job has the file, it is deleted."""

        def new_path(connection: sa.Connection) -> Path:
            self._owner.ensure_lock()
            self._recordings.claim_folder(connection)
            return self._recordings.store.new_upload(self._owner.name)

        return await self.database.write("new upload", new_path)

    # For workers

    async def get_next_queued(
        self, *, may_fetch: bool = True, no_fetch_for: Collection[str] = (), before: QueueRank | None = None
    ) -> Job | None:
        """Claim the next job: the one with the highest priority, then the oldest. None if no job is waiting.

        may_fetch: whether the job may be one whose recording must be fetched; no_fetch_for: the submitters whose
        recordings must not be fetched; before: claim only a job ahead of this one.

        The job is PROCESSING when it is returned, and no other worker gets it while the claim holds. Jobs whose
        worker was lost are queued again first.
        """
        wanted = claims.ClaimFilter(may_fetch=may_fetch, no_fetch_for=no_fetch_for, before=before)
        claimed = await self._write("claim", lambda connection: self._claim(connection, wanted))
        return claimed[0] if claimed else None

    async def get_next_to_fetch(self, *, limit: int = 1, no_fetch_for: Collection[str] = ()) -> list[Job]:
        """Claim the first jobs whose recordings must be fetched, as `get_next_queued` does: one of each submitter.

        There are none if this repository does not store recordings.
        """
        if self.audio is None:
            return []

        wanted = claims.ClaimFilter(must_fetch=True, no_fetch_for=frozenset(no_fetch_for))
        return await self._write("claim", lambda connection: self._claim(connection, wanted, limit))

    def _claim(self, connection: sa.Connection, wanted: claims.ClaimFilter, limit: int = 1) -> list[Job]:
        """Claim up to `limit` jobs, each of another submitter."""
        self._owner.mark_as_worker()
        self._reclaim_abandoned(connection)
        claimed: list[Job] = []
        while len(claimed) < limit:
            row = claims.claim_next(connection, self._owner.name, self._clock(), wanted)
            if row is None:
                break
            if self.audio is not None:
                row = self._recordings.with_current_path(connection, row)
            claimed.append(self._claimed(row))
            wanted = replace(wanted, no_fetch_for={*wanted.no_fetch_for, row["submitter"]})
        return claimed

    async def update(self, job: Job) -> Job:
        """Write a job's status and outcome, refresh the job passed in, and return it.

        A claimed job is written under its claim, whatever others have changed meanwhile: `ClaimLost` if it was lost.
        A job that was only read is written if it has not changed since: `StaleJob` otherwise. `InvalidTransition` if
        there is no such transition. Owner, attempt, progress and the request are not written.
        """

        def write(connection: sa.Connection) -> transitions.Row:
            self._owner.ensure_lock()  # the update may be a claim
            return changes.update(connection, job, self._owner.name, self._clock())

        row = await self._write("update", write)
        if job.status is JobStatus.QUEUED:
            self._notifier.notify_waiting()
        return job.refresh(self._claimed(row))

    async def heartbeat(self, job: Job) -> bool:
        """Renew the claim, and record the job's phase, position and duration; return whether to cancel it.

        Raises `ClaimLost`.
        """

        def renew(connection: sa.Connection) -> transitions.Row:
            self._owner.ensure_lock()
            self._leases.tick(self._monotonic())
            return attempts.heartbeat(connection, job, self._clock())

        row = await self._write("heartbeat", renew)
        return row["cancel_requested_at"] is not None

    async def is_cancel_requested(self, job: Job) -> bool:
        """Return whether the job should be cancelled, without a write. Raises `ClaimLost`."""
        row = await self.database.read(lambda connection: lookups.find(connection, job.id))
        claims.require_claim(row, job)
        return row is not None and row["cancel_requested_at"] is not None

    async def mark_begun(self, job: Job) -> None:
        """Record that recognition is about to begin. Raises `ClaimLost`.

        A worker killed before this says nothing about the job; one killed afterwards may count against it.
        """
        await self._write("begin", lambda connection: attempts.mark_begun(connection, job, self._clock()))

    async def checkpoint(self, job: Job, chunk: Chunk) -> None:
        """Store a finished chunk, and renew the claim. Raises `ClaimLost`."""
        await self._write("checkpoint", lambda c: checkpoints.store(c, job, chunk, self._clock()))

    async def resume(self, job: Job, fingerprint: str) -> list[Chunk]:
        """Return the job's finished chunks; if they have another fingerprint, drop them. Raises `ClaimLost`."""

        def resume(connection: sa.Connection) -> list[Chunk]:
            checkpoints.drop_stale(connection, job, fingerprint)
            return lookups.chunks_of(connection, job.id)

        return await self._write("resume", resume)

    async def download_path(self, job: Job) -> Path:
        """Return the path of a job's partial download, in a folder claimed for this database."""

        def new_path(connection: sa.Connection) -> Path:
            self._recordings.claim_folder(connection)
            return self._recordings.store.partial_path(job.id)

        return await self.database.write("download path", new_path)

    async def store_download(self, job: Job, arrived: Path, digest: str, size_bytes: int) -> str:
        """Store a job's downloaded recording, refresh the job passed in, and return its path. Raises `ClaimLost`."""

        def store(connection: sa.Connection) -> transitions.Row:
            row = attempts.store_download(connection, job, self._recordings.store.path_of(digest), digest, size_bytes)
            self._recordings.claim_folder(connection)
            self._recordings.store.add(arrived, digest)
            return row

        row = await self._write("store download", store)
        await asyncio.to_thread(self._recordings.store.remove_partial, job.id)
        job.refresh(self._claimed(row))
        return str(row["audio_path"])

    async def release(self, job: Job) -> Job:
        """Return a claimed job, with its checkpoints, to the queue; this is not a failure. Raises `ClaimLost`."""
        row = await self._write("release", lambda c: attempts.release(c, job, self._clock()))
        self._notifier.notify_waiting()
        return transitions.job_from_row(row)

    async def retry_later(self, job: Job) -> Job:
        """Queue a job for later after the transient failure recorded in it, or end it if it failed too often.

        Raises `ClaimLost`.
        """
        row = await self._write("retry later", lambda c: attempts.retry_later(c, job, self._retry_delay, self._clock()))
        return transitions.job_from_row(row)

    async def postpone(self, job: Job) -> Job:
        """Return a job to the queue whose work this machine could not begin; its error says why.

        This does not count against the job. Raises `ClaimLost`.
        """
        row = await self._write("put back", lambda c: attempts.postpone(c, job, self._clock()))
        return transitions.job_from_row(row)

    async def requeue_killed(self, job: Job) -> Job:
        """Queue a job for later after the system killed its recogniser, or end it if its recording is the likely cause.

        Raises `ClaimLost`.
        """
        row = await self._write(
            "requeue killed", lambda c: attempts.requeue_killed(c, job, self._clock(), self._retry_delay)
        )
        return transitions.job_from_row(row)

    # For everyone

    async def request_cancel(self, job_id: str) -> Job:
        """Cancel a waiting job at once, and a running one once its worker notices; leave a finished one alone."""

        def cancel(connection: sa.Connection) -> transitions.Row:
            self._reclaim_abandoned(connection)
            return changes.cancel(connection, job_id, self._clock())

        return transitions.job_from_row(await self._write("cancel", cancel))

    async def retry(self, job_id: str, *, max_open: int | None = None) -> Job:
        """Queue a failed or cancelled job again, with its checkpoints. Raises `InvalidTransition` for others.

        max_open: maximum number of unfinished jobs of its submitter, this one included; `TooManyJobs` beyond that.
        """

        def retry(connection: sa.Connection) -> transitions.Row:
            row = transitions.lock(connection, job_id)
            if max_open is not None and changes.can_be_retried(row):
                enqueue.require_quota(connection, row["submitter"], max_open)
            return changes.retry(connection, job_id, self._clock())

        row = await self._write("retry", retry)
        self._notifier.notify_waiting()
        return transitions.job_from_row(row)

    async def delete(self, job_id: str) -> None:
        """Delete a job and everything stored for it. Raises `InvalidTransition` while it is being processed."""

        def delete(connection: sa.Connection) -> transitions.Row:
            self._reclaim_abandoned(connection)
            row = changes.delete(connection, job_id)
            removals.record(connection, [row], self._clock())
            return row

        def make_room(connection: sa.Connection) -> None:
            row = lookups.find(connection, job_id)
            if row is not None and row["status"] != JobStatus.PROCESSING and self.audio is not None:
                self._recordings.remove_before_deletion(connection, row)

        try:
            row = await self._write("delete", delete)
        except DatabaseFull:  # a deletion is written down first, and even that needs room
            row = await self._delete_on_full_disk(delete, make_room)
        await self._delete_recordings([row])
        await asyncio.to_thread(self._reserve.fill)

    async def _delete_on_full_disk(
        self, delete: Callable[[sa.Connection], transitions.Row], make_room: Callable[[sa.Connection], None]
    ) -> transitions.Row:
        await asyncio.to_thread(self._reserve.release)
        try:
            return await self._write("delete", delete)
        except DatabaseFull:
            await self._write("make room", make_room)
            return await self._write("delete", delete)

    async def prune(self, older_than: timedelta, *, limit: int = 500) -> int:
        """Delete up to `limit` jobs that finished that long ago; return the number deleted."""
        before = self._clock() - older_than

        def prune(connection: sa.Connection) -> Sequence[transitions.Row]:
            gone = changes.prune(connection, before, limit)
            removals.record(connection, gone, self._clock())
            return gone

        gone = await self._write("prune", prune)
        await self._delete_recordings(gone)
        return len(gone)

    async def sweep(self) -> SweepResult:
        """Set aside recordings without a job, such as a crash leaves behind, and restore those that a job needs.

        Deletions that a crash interrupted are completed. See `JobRecordings.sweep`.
        """

        def sweep(connection: sa.Connection) -> SweepResult:
            self._owner.ensure_lock()
            return self._recordings.sweep(connection, self._owner.is_dead)

        result = await self._write("sweep", sweep)
        self._recordings.report(result)
        return result

    async def adopt_recordings(self) -> int:
        """Make the folder's recordings this database's, whatever they belonged to; return how many have no job."""
        return await self._write("adopt", self._recordings.adopt)

    async def has_worker(self) -> bool:
        """Whether another process that takes jobs is alive."""
        return await self.database.write("has worker", lambda _connection: self._owner.sees_other_worker())

    async def _delete_recordings(self, gone: Sequence[transitions.Row]) -> None:
        """Delete the recordings of deleted jobs, unless others have them, and the rows' traces in the log."""
        if self.audio is not None and any(row["audio_digest"] or row["source_url"] for row in gone):
            await self._write("forget", lambda connection: self._recordings.remove(connection, gone))
        if gone:
            with suppress(DatabaseFull):  # they are deleted; the log is emptied when there is room
                await self.database.truncate_wal()

    # Notifications

    async def subscribe(self, wake: asyncio.Event, *, to_changes: bool = False) -> None:
        """Set the event whenever there may be a new job: at once, or within 0.5 s if another process created it.

        to_changes: set it whenever anything may have changed.
        """
        self._notifier.add(wake, to_changes=to_changes)

    async def unsubscribe(self, wake: asyncio.Event) -> None:
        """Stop setting the event."""
        self._notifier.remove(wake)

    def _reclaim_abandoned(self, connection: sa.Connection) -> None:
        heartbeats = attempts.running_heartbeats(connection)
        expired = self._leases.expired(heartbeats, self._monotonic())
        dead = {name for name in {heartbeat.owner for heartbeat in heartbeats} if self._owner.is_dead(name)}
        for heartbeat in heartbeats:
            if heartbeat.owner in dead:
                attempts.reclaim(connection, heartbeat, "worker died", self._clock(), self._retry_delay)
            elif heartbeat in expired:
                attempts.reclaim(connection, heartbeat, "lease expired", self._clock(), self._retry_delay)

    def _claimed(self, row: transitions.Row) -> Job:
        """Return the job of a row, with the claim under which it was written, if there is one."""
        if row["owner"] is None:
            return transitions.job_from_row(row)
        claim = Claim(owner=row["owner"], attempt=row["attempt"], lease_ttl_s=self._leases.ttl_s)
        return transitions.job_from_row(row, claim)

    async def _write(self, name: str, work: Callable[[sa.Connection], T]) -> T:
        result = await self.database.write(name, work)
        self._notifier.notify_change()
        return result

    @property
    def _recordings(self) -> JobRecordings:
        if self.audio is None:
            raise QueueError("this repository can't store recordings", hint="Pass it an AudioStore.")
        return JobRecordings(self.database.location, self.audio)
