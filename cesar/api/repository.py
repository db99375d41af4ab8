"""`JobRepository`: the queue's verbs. Each is one transaction; when it returns, what it did is on the disk."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from cesar.api.models import (
    Claim,
    Job,
    JobStatus,
    utc_now,
)
from cesar.api.queue import attempts, enqueue, queries, removals, transitions
from cesar.api.queue.enqueue import Terms
from cesar.api.queue.leases import LEASE_TTL_S, Owner, Watch, steady_clock
from cesar.api.queue.notifications import Wakeups
from cesar.api.queue.reader import JobReader
from cesar.api.recovery import ownership
from cesar.api.storage.database import Database
from cesar.api.storage.location import Place
from cesar.api.storage.recordings import ASIDE_DAYS, AudioStore, Swept
from cesar.errors import QueueError
from cesar.transcript import Chunk

T = TypeVar("T")
_log = logging.getLogger(__name__)
_KEPT_FIELDS = (
    "seq",
    "version",
    "status",
    "started_at",
    "attempt",
    "owner",
    "failures",
    "lost",
    "begun",
    "losses",
    "run_after",
    "heartbeat_at",
    "cancel_requested_at",
    "generation",
    "cached_from",
    "claim",
)
"""What the repository changes of a job by itself."""


class JobRepository(JobReader):
    """The queue in a database: a path, `":memory:"`, or a URL such as `sqlite:///queue.db`.

    Any number of repositories, in any number of processes, may share one file. A claim is lost when its repository is
    closed, its process dies, or no heartbeat or checkpoint has come for `lease_ttl_s`.

    Every method raises `DatabaseUnavailable` if the database does not answer (then nothing was changed), and those
    that take a job id `JobNotFound`.
    """

    def __init__(  # noqa: PLR0913 - all but the first have defaults that nobody but tests changes
        self,
        db: str | os.PathLike[str],
        *,
        lease_ttl_s: float = LEASE_TTL_S,
        retry_delay_s: float = 15.0,
        patience_s: float | None = None,
        allow_network_fs: bool = False,
        audio: AudioStore | None = None,
        clock: Callable[[], datetime] = utc_now,
        steady: Callable[[], float] = steady_clock,
    ) -> None:
        place = Place.of(db, allow_network=allow_network_fs)
        super().__init__(Database(place, patience_s=patience_s))
        self._owner = Owner(None if place.path is None else place.path.with_name(f"{place.path.name}-owners"))
        self._watch = Watch(lease_ttl_s)
        self._retry_delay = timedelta(seconds=retry_delay_s)
        self._clock = clock
        self._steady = steady
        self._wakeups = Wakeups(self.database)
        self.audio = audio
        """Where recordings are kept that came over the network; None: there are none."""

    @property
    def lease_ttl_s(self) -> float:
        """How long a claim lasts without a heartbeat, in seconds."""
        return self._watch.ttl_s

    async def connect(self, *, for_recordings: bool = False, check: bool = False) -> None:
        """Open the database, making or migrating it if need be. Raises `DatabaseError` if it can't be used.

        for_recordings: whether recordings are to be kept, so that their folder must be this database's, or no one's.
        check: whether the database is read through for damage first.
        """
        if self.audio is not None:
            place, store = self.database.place, self.audio
            await asyncio.to_thread(ownership.require_database, place, store, for_recordings=for_recordings)
        await self.database.connect(check=check)
        if for_recordings:
            await self.database.write("claim folder", self._claim_folder)

    async def connect_for_work(self) -> None:
        """Open the database as a worker does: as its recordings' owner, if some job has one."""
        await self.connect(check=True)
        if self.audio is not None and await self.database.read(queries.has_recordings):
            await self.database.write("claim folder", self._claim_folder)

    async def close(self) -> None:
        """Let go of the database; what is still claimed is anybody's."""
        await self._wakeups.close()
        await self.database.close()
        self._owner.retire()

    # Submitting

    async def create(self, job: Job, *, upload: Path | None = None, terms: Terms = Terms()) -> Job:  # noqa: B008
        """Queue a job, and bring the one given up to date.

        upload: the file that has arrived with the job, whose `audio_digest` it has; if the job is new, it is moved to
        where the job says, else it is left alone.

        With an `idempotency_key` that was used before for the same request, that job is returned and none is made;
        for another request it raises `IdempotencyConflict`. Raises `TooManyJobs` if the terms say so.
        """

        def submit(connection: sa.Connection) -> transitions.Row:
            if job.status is not JobStatus.QUEUED:
                self._owner.show_alive()
            row = enqueue.submit(connection, job, self._owner.name, self._clock(), terms)
            if upload is not None and row["id"] == job.id:
                self._claim_folder(connection)
                self._store.keep(upload, row["audio_digest"])
            return row

        row = await self._write("submit", submit)
        self._wakeups.tell()
        return _refreshed(job, row) if row["id"] == job.id else transitions.job_of(row)

    async def new_upload(self) -> Path:
        """Name a file for a recording that is about to arrive. If we die before it is a job's, it is deleted."""

        def name(connection: sa.Connection) -> Path:
            self._owner.show_alive()
            self._claim_folder(connection)
            return self._store.new_upload(self._owner.name)

        return await self.database.write("name upload", name)

    # A worker's verbs

    async def get_next_queued(
        self, *, may_fetch: bool = True, no_fetch_for: Collection[str] = (), before: tuple[int, int] | None = None
    ) -> Job | None:
        """Claim the job that is first to go: the highest priority, then the oldest. None if none is waiting.

        may_fetch: whether it may be one whose recording is still to be fetched; no_fetch_for: the submitters whose
        recordings must not be; before: only a job that goes before this priority and `Job.seq`.

        The job is PROCESSING when it is returned, and nobody else gets it while the claim holds. Jobs whose worker
        was lost go back into the queue first.
        """
        return await self._claim(transitions.Wanted(may_fetch=may_fetch, no_fetch_for=no_fetch_for, before=before))

    async def get_next_to_fetch(self, *, no_fetch_for: Collection[str] = ()) -> Job | None:
        """Claim the first job whose recording is still to be fetched, as `get_next_queued` does."""
        return await self._claim(transitions.Wanted(must_fetch=True, no_fetch_for=no_fetch_for))

    async def _claim(self, wanted: transitions.Wanted) -> Job | None:
        def claim(connection: sa.Connection) -> Job | None:
            self._owner.show_working()
            self._take_back_abandoned(connection)
            row = transitions.claim_next(connection, self._owner.name, self._clock(), wanted)
            return None if row is None else _claimed(self._located(connection, row))

        return await self._write("claim", claim)

    async def update(self, job: Job) -> Job:
        """Write a job's status and outcome, bring the job given up to date, and return it.

        A claimed job is written by its claim, whatever others have changed meanwhile: `ClaimLost` if it was lost. A
        job that was only read is written if nobody has changed it since: `StaleJob` otherwise. `IllegalMove` if the
        status can't follow from what it was. Owner, attempt, progress and the request are not written.
        """

        def write(connection: sa.Connection) -> transitions.Row:
            self._owner.show_alive()  # the update may be a claim
            return transitions.update(connection, job, self._owner.name, self._clock())

        row = await self._write("update", write)
        if job.status is JobStatus.QUEUED:
            self._wakeups.tell()
        return _refreshed(job, row)

    async def heartbeat(self, job: Job) -> bool:
        """Keep the claim, and write down the job's phase, position and duration; say whether to cancel.

        Raises `ClaimLost`.
        """

        def beat(connection: sa.Connection) -> transitions.Row:
            self._owner.show_alive()
            self._watch.tick(self._steady())
            return attempts.heartbeat(connection, job, self._clock())

        row = await self._write("heartbeat", beat)
        return row["cancel_requested_at"] is not None

    async def is_cancel_requested(self, job: Job) -> bool:
        """Say whether the job is to be cancelled; costs no write. Raises `ClaimLost`."""
        row = await self.database.read(lambda connection: queries.find(connection, job.id))
        transitions.require_claim(row, job)
        return row is not None and row["cancel_requested_at"] is not None

    async def begin(self, job: Job) -> None:
        """Note that the recogniser is about to be given the recording. Raises `ClaimLost`.

        If the worker is killed from here on, that may be the job's doing; sooner, it can't be.
        """
        await self._write("begin", lambda connection: attempts.begin(connection, job, self._clock()))

    async def checkpoint(self, job: Job, chunk: Chunk) -> None:
        """Keep a finished chunk, and the claim. Raises `ClaimLost`."""
        await self._write("checkpoint", lambda c: attempts.checkpoint(c, job, chunk, self._clock()))

    async def resume(self, job: Job, fingerprint: str) -> list[Chunk]:
        """Give the chunks that are finished; those of other work than the fingerprint's are dropped.

        Raises `ClaimLost`.
        """

        def keep(connection: sa.Connection) -> list[Chunk]:
            attempts.keep_checkpoints(connection, job, fingerprint)
            return queries.chunks_of(connection, job.id)

        return await self._write("resume", keep)

    async def place_to_fetch(self, job: Job) -> Path:
        """Return where a job's download is kept until it is whole, in a folder that is this database's by then."""

        def name(connection: sa.Connection) -> Path:
            self._claim_folder(connection)
            return self._store.part_of(job.id)

        return await self.database.write("name part", name)

    async def keep_fetched(self, job: Job, arrived: Path) -> None:
        """Take the file that was fetched for a job, whose `audio_path` and digest say where to. Raises `ClaimLost`."""

        def keep(connection: sa.Connection) -> None:
            attempts.keep_fetched(connection, job)
            assert job.audio_digest is not None
            self._claim_folder(connection)
            self._store.keep(arrived, job.audio_digest)

        await self._write("fetched", keep)

    async def release(self, job: Job) -> Job:
        """Give a claimed job back, with its checkpoints; it counts as no failure. Raises `ClaimLost`."""
        row = await self._write("release", lambda c: attempts.release(c, job, self._clock()))
        self._wakeups.tell()
        return transitions.job_of(row)

    async def retry_later(self, job: Job) -> Job:
        """After a transient failure, whose error the job tells: queue it for later, or end it if it failed too often.

        Raises `ClaimLost`.
        """
        row = await self._write("fail", lambda c: attempts.retry_later(c, job, self._retry_delay, self._clock()))
        return transitions.job_of(row)

    async def put_back(self, job: Job) -> Job:
        """After the system has killed the job's recogniser: queue it for later, or end it if it is to blame.

        Raises `ClaimLost`.
        """
        row = await self._write("put back", lambda c: attempts.put_back(c, job, self._clock(), self._retry_delay))
        return transitions.job_of(row)

    # Anybody's verbs

    async def request_cancel(self, job_id: str) -> Job:
        """Cancel a waiting job at once, a running one as soon as its worker hears of it; a finished one stays so."""

        def cancel(connection: sa.Connection) -> transitions.Row:
            self._take_back_abandoned(connection)
            return transitions.cancel(connection, job_id, self._clock())

        return transitions.job_of(await self._write("cancel", cancel))

    async def retry(self, job_id: str, *, most_open: int | None = None) -> Job:
        """Queue a failed or cancelled job again; what was recognised is kept. Raises `IllegalMove` for others.

        most_open: how many unfinished jobs its submitter may have, this one included; `TooManyJobs` beyond that.
        """

        def retry(connection: sa.Connection) -> transitions.Row:
            row = transitions.lock(connection, job_id)
            if most_open is not None and transitions.can_be_retried(row):
                enqueue.require_room(connection, row["submitter"], most_open)
            return transitions.retry(connection, job_id)

        row = await self._write("retry", retry)
        self._wakeups.tell()
        return transitions.job_of(row)

    async def delete(self, job_id: str) -> None:
        """Remove a job and all that is stored of it. Raises `IllegalMove` while it is being processed."""

        def delete(connection: sa.Connection) -> transitions.Row:
            self._take_back_abandoned(connection)
            row = transitions.delete(connection, job_id)
            removals.note(connection, [row], self._clock())
            return row

        await self._forget([await self._write("delete", delete)])

    async def prune(self, older_than: timedelta, *, limit: int = 500) -> int:
        """Remove up to `limit` jobs that have been over for so long; say how many it were."""
        before = self._clock() - older_than

        def prune(connection: sa.Connection) -> Sequence[transitions.Row]:
            gone = transitions.prune(connection, before, limit)
            removals.note(connection, gone, self._clock())
            return gone

        gone = await self._write("prune", prune)
        await self._forget(gone)
        return len(gone)

    async def sweep(self) -> Swept:
        """Put aside recordings that no job has, as a crash may leave them behind, and bring back those that one has.

        What a deletion has left that was interrupted by a crash is deleted.

        Recordings that are newer than anything the database knows stay: it may be a copy from before them.
        """

        def sweep(connection: sa.Connection) -> Swept:
            if self.database.place.is_memory:  # it has forgotten all that it knew of any recording
                return Swept()
            self._owner.show_alive()
            self._claim_folder(connection)
            spared = ownership.spared_in(self._store)
            finished = removals.finish(connection, self._store, spared)
            swept = self._store.sweep(
                is_wanted=lambda digest: queries.has_audio(connection, digest),
                is_dead=self._owner.is_dead,
                has_job=lambda job_id: queries.is_unfinished(connection, job_id),
                known_until=queries.last_written(connection),
                spared=spared,
            )
            ownership.spare(self._store, swept.spared)
            return replace(swept, removed=swept.removed + finished)

        swept = await self._write("sweep", sweep)
        self._tell_of(swept)
        return swept

    def _tell_of(self, swept: Swept) -> None:
        folder = self._store.folder
        if swept.spared:
            text = "%d recordings in %s have no job in this database, which may be a copy from before them; they stay"
            _log.warning(text, len(swept.spared), folder)
        if swept.put_aside:
            text = "%d files in %s that no job needs are put aside: they lie in `aside` for %d days"
            _log.warning(text, swept.put_aside, folder, ASIDE_DAYS)
        if swept.brought_back:
            _log.warning("%d recordings in %s that had been put aside have jobs again", swept.brought_back, folder)

    async def adopt_recordings(self) -> int:
        """Make the folder's recordings this database's, whosever they were; return how many have no job."""
        await self._write("adopt", lambda c: ownership.adopt(c, self.database.place, self._store))
        return len(ownership.spared_in(self._store))

    def _claim_folder(self, connection: sa.Connection) -> None:
        ownership.claim(connection, self.database.place, self._store)

    async def _forget(self, gone: Sequence[transitions.Row]) -> None:
        """Delete the recordings of jobs that are gone, unless others have them, and what the log has of the rows."""

        def forget(connection: sa.Connection) -> None:
            for row in gone:
                for store in self._stores_of(connection, row):
                    store.remove_part(row["id"])
                    if row["audio_digest"] is not None:
                        if not queries.has_audio(connection, row["audio_digest"]):
                            store.remove(row["audio_digest"])
                        removals.forget(connection, row["audio_digest"])

        if self.audio is not None and any(row["audio_digest"] or row["source_url"] for row in gone):
            await self._write("forget", forget)
        if gone:
            await self.database.empty_log()

    def _stores_of(self, connection: sa.Connection, row: transitions.Row) -> list[AudioStore]:
        """Return the folders with a job's recording that are this database's: a copy of it has no right to them."""
        place, mine, written = self.database.place, self._store, self._store
        if row["audio_digest"] is not None and Path(row["audio_path"]).name == row["audio_digest"]:
            written = AudioStore(Path(row["audio_path"]).parents[1])  # this process may have been told another
        is_ours = (
            place.is_memory or ownership.note_in(written) is None or ownership.is_owner(connection, place, written)
        )
        stores = [written] if is_ours else []
        if written.folder != mine.folder and ownership.is_owner(connection, place, mine):
            stores.append(mine)  # the folder was moved since
        return stores

    def _located(self, connection: sa.Connection, row: transitions.Row) -> transitions.Row:
        """Return a job's row with the recording's path as it is now: the data folder may have been moved."""
        if self.audio is None or row["audio_digest"] is None:
            return row
        path = self.audio.path_of(row["audio_digest"])
        if str(path) == row["audio_path"] or not path.is_file():
            return row
        return transitions.write(connection, row, audio_path=str(path))

    # Waking a worker

    async def subscribe(self, wake: asyncio.Event, *, to_changes: bool = False) -> None:
        """Have the event set whenever there may be a new job: at once, or within 0.5 s if another process made it.

        to_changes: whenever anything may have changed.
        """
        self._wakeups.add(wake, to_changes=to_changes)

    async def has_worker(self) -> bool:
        """Whether another process lives that takes jobs."""
        return await self.database.write("look for workers", lambda _connection: self._owner.sees_worker())

    async def unsubscribe(self, wake: asyncio.Event) -> None:
        """Leave the event alone from now on."""
        self._wakeups.remove(wake)

    def _take_back_abandoned(self, connection: sa.Connection) -> None:
        beats = attempts.running(connection)
        expired = self._watch.expired(beats, self._steady())
        dead = {name for name in {beat.owner for beat in beats} if self._owner.is_dead(name)}
        for beat in beats:
            if beat.owner in dead:
                attempts.take_back(connection, beat, "worker died", self._clock(), self._retry_delay)
            elif beat in expired:
                attempts.take_back(connection, beat, "lease expired", self._clock(), self._retry_delay)

    async def _write(self, name: str, work: Callable[[sa.Connection], T]) -> T:
        result = await self.database.write(name, work)
        self._wakeups.tell_of_change()
        return result

    @property
    def _store(self) -> AudioStore:
        if self.audio is None:
            raise QueueError("recordings can't be kept here", hint="Give the repository an AudioStore.")
        return self.audio


def _claimed(row: transitions.Row) -> Job:
    return transitions.job_of(row, Claim(owner=row["owner"], attempt=row["attempt"]))


def _refreshed(job: Job, row: transitions.Row) -> Job:
    """Bring the caller's job up to date, so that it can be changed and written again."""
    now = _claimed(row) if row["owner"] is not None else transitions.job_of(row)
    for name in _KEPT_FIELDS:
        setattr(job, name, getattr(now, name))
    return job
