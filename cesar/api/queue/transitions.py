"""Every transition of a job, as a plain function on a connection, called within a transaction.

Each locks the job's row first (SQLite has locked the whole database by then), makes its checks, and writes the change
together with its event. A worker's changes are fenced: they are refused once its claim is lost.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from cesar.api.models import STORED, TRANSITIONS, Claim, Job, JobFailure, JobResult, JobStatus
from cesar.api.storage.schema import events, jobs
from cesar.errors import ClaimLost, InvalidTransition, JobNotFound, StaleJob
from cesar.options import MAX_SECONDS

MAX_DELAY = timedelta(minutes=10)
_OUTCOME_COLUMNS = ("started_at", "completed_at", *asdict(JobResult()), *asdict(JobFailure()))
"""The columns that `update` writes."""
_FRESH: dict[str, Any] = {
    "failures": 0,
    "lost": 0,
    "losses": 0,
    **dict.fromkeys(("run_after", "cancel_requested_at", "completed_at", "phase")),
    **asdict(JobFailure()),
}
"""What is reset when a failed or cancelled job is queued again."""
_INTERNAL = {"beat", "fingerprint", "idempotency_hash"}
_UPDATE = sa.update(jobs).where(jobs.c.seq == sa.bindparam("this")).returning(*jobs.c)

Row = sa.RowMapping


def job_from_row(row: Row, claim: Claim | None = None) -> Job:
    """Return the job stored in a row."""
    stored = {key: value for key, value in row.items() if key not in _INTERNAL}
    stored["options"] = _clamp_times(stored["options"])
    if row["source_url"] is not None and row["audio_digest"] is None:
        stored["audio_path"] = None  # the column has the address (see decision 22)
    if row["submitter"] and row["idempotency_key"]:
        stored["idempotency_key"] = row["idempotency_key"].removeprefix(f"{row['submitter']}:")
    return Job.model_validate({**stored, "claim": claim}, context=STORED)


def _clamp_times(options: dict[str, Any]) -> dict[str, Any]:
    """Clamp times stored by earlier versions, which had no limits."""
    most = {"start": MAX_SECONDS - 1, "end": MAX_SECONDS}
    return options | {name: time for name, time in most.items() if (options.get(name) or 0) > time}


@dataclass(frozen=True, slots=True)
class ClaimFilter:
    """Which of the waiting jobs a worker may claim."""

    may_fetch: bool = True
    """Whether it may be one whose recording must be fetched."""
    must_fetch: bool = False
    """Whether it must be one whose recording must be fetched."""
    no_fetch_for: Collection[str] = ()
    """The submitters whose recordings must not be fetched."""
    before: tuple[int, int] | None = None
    """Claim only a job ahead of this position: a priority and a sequence number."""

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on the jobs; none for all jobs, so that SQLite uses the index of the queue's order."""
        must_fetch = is_to_be_fetched()
        found: list[sa.ColumnElement[bool]] = []
        if self.must_fetch:
            found.append(must_fetch)
        if not self.may_fetch:
            found.append(sa.not_(must_fetch))
        elif self.no_fetch_for:
            found.append(sa.or_(sa.not_(must_fetch), jobs.c.submitter.not_in(self.no_fetch_for)))
        if self.before is not None:
            priority, seq = self.before
            is_as_urgent = sa.and_(jobs.c.priority == priority, jobs.c.seq < seq)
            found.append(sa.or_(jobs.c.priority > priority, is_as_urgent))
        return found


def claim_next(connection: sa.Connection, owner: str, now: datetime, wanted: ClaimFilter = ClaimFilter()) -> Row | None:
    """Claim the next job for this owner: the one with the highest priority, then the oldest."""
    is_due = sa.or_(
        jobs.c.run_after.is_(None),
        jobs.c.run_after <= now,
        jobs.c.run_after > now + MAX_DELAY,  # no delay is this long: the clock was set back
    )
    row = (
        connection.execute(
            sa.select(jobs)
            .where(is_status(JobStatus.QUEUED), is_due, *wanted.conditions())
            .order_by(jobs.c.priority.desc(), jobs.c.seq)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        .mappings()
        .first()
    )
    return None if row is None else claim(connection, row, owner, now, "claimed")


def update(connection: sa.Connection, job: Job, owner: str, now: datetime) -> Row:
    """Write a job's status and outcome: under its claim, or without one if it has not changed since it was read.

    Raises `ClaimLost`, `StaleJob`, `InvalidTransition` or `JobNotFound`.
    """
    changes = {column: getattr(job, column) for column in _OUTCOME_COLUMNS}
    if job.claim is None:
        row = lock(connection, job.id)
        changes["priority"] = job.priority
        if row["version"] != job.version:
            raise StaleJob(f"the job {job.id} has changed since it was read")
    else:
        written = _already_written(connection, job, job.claim)
        if written is not None:
            return written
        row = lock_claimed(connection, job)
    if job.status == row["status"]:
        return update_row(connection, row, version=row["version"] + 1, **changes)
    if job.status is JobStatus.PROCESSING:
        if job.started_at == row["started_at"]:  # of an earlier attempt, or none: the claim sets it
            del changes["started_at"]
        return update_row(connection, claim(connection, row, owner, now, "claimed by update"), **changes)
    if job.status is JobStatus.QUEUED and job.claim is None:
        changes |= _FRESH
    reason = job.error_code if job.status is JobStatus.ERROR else None
    return transition(connection, row, job.status, reason or job.status.value, now, **changes)


def cancel(connection: sa.Connection, job_id: str, now: datetime) -> Row:
    """Cancel a waiting job, ask the worker of a running one to stop, and leave a finished one alone."""
    row = lock(connection, job_id)
    match JobStatus(row["status"]):
        case JobStatus.QUEUED:
            return transition(
                connection, row, JobStatus.CANCELLED, "cancelled", now, cancel_requested_at=now, completed_at=now
            )
        case JobStatus.PROCESSING if row["cancel_requested_at"] is None:
            return update_row(connection, row, version=row["version"] + 1, cancel_requested_at=now)
    return row


def can_be_retried(row: Row) -> bool:
    """Whether a job has failed or was cancelled."""
    return row["status"] in (JobStatus.ERROR, JobStatus.CANCELLED)


def retry(connection: sa.Connection, job_id: str, now: datetime) -> Row:
    """Queue a failed or cancelled job again, in its old position, with its checkpoints. Raises `InvalidTransition`."""
    row = lock(connection, job_id)
    if row["status"] == JobStatus.PROCESSING:
        raise InvalidTransition(f"the job {job_id} is being processed", hint="Cancel it first.")
    return transition(connection, row, JobStatus.QUEUED, "retried by hand", now, **_FRESH)


def delete(connection: sa.Connection, job_id: str) -> Row:
    """Delete a job and everything that belongs to it. Raises `InvalidTransition` while it is being processed."""
    row = lock(connection, job_id)
    if row["status"] == JobStatus.PROCESSING:
        raise InvalidTransition(f"the job {job_id} is being processed", hint="Cancel it first.")
    connection.execute(sa.delete(jobs).where(jobs.c.seq == row["seq"]))
    return row


def prune(connection: sa.Connection, before: datetime, limit: int) -> Sequence[Row]:
    """Delete up to `limit` of the jobs that finished before that time, oldest first; return their rows."""
    is_over = jobs.c.status.not_in([status.value for status in JobStatus if not status.is_final])  # uses no index
    old = sa.select(jobs.c.seq).where(is_over, jobs.c.completed_at < before)
    oldest = old.order_by(jobs.c.completed_at).limit(limit).scalar_subquery()
    gone = (
        sa.delete(jobs)
        .where(jobs.c.seq.in_(oldest))
        .returning(jobs.c.id, jobs.c.audio_digest, jobs.c.audio_path, jobs.c.source_url)
    )
    return connection.execute(gone).mappings().all()


def lock(connection: sa.Connection, job_id: str) -> Row:
    """Lock a job's row until the end of the transaction, and return it. Raises `JobNotFound`."""
    row = lock_where(connection, jobs.c.id == job_id)
    if row is None:
        raise JobNotFound(f"there is no job {job_id}")
    return row


def lock_claimed(connection: sa.Connection, job: Job) -> Row:
    """Lock the row of a job whose claim is still valid. Raises `ClaimLost` otherwise."""
    row = lock_where(connection, jobs.c.id == job.id)
    require_claim(row, job)
    assert row is not None
    return row


def require_claim(row: Row | None, job: Job) -> None:
    """Enforce the fence: a claim is valid while its owner and attempt are the row's. Raises `ClaimLost`."""
    if job.claim is None:
        raise ClaimLost(f"the job {job.id} was not claimed", hint="Take the job from get_next_queued().")
    if row is None or (row["owner"], row["attempt"]) != (job.claim.owner, job.claim.attempt):
        raise ClaimLost(f"the claim on job {job.id} (attempt {job.claim.attempt}) was lost")


def transition(
    connection: sa.Connection, row: Row, after: JobStatus, reason: str, now: datetime, **changes: Any
) -> Row:
    """Change a job's state, and record the event. Raises `InvalidTransition`.

    A job has an owner only while it is PROCESSING.
    """
    before = JobStatus(row["status"])
    if after not in TRANSITIONS[before]:
        raise InvalidTransition(f"the job {row['id']} is {before} and can't become {after}")
    owner = changes.pop("owner", None)
    moved = update_row(connection, row, status=after, owner=owner, version=row["version"] + 1, **changes)
    record_event(connection, moved, before, reason, now, owner or row["owner"])
    return moved


def claim(connection: sa.Connection, row: Row, owner: str, now: datetime, reason: str) -> Row:
    """Claim a waiting job for an owner, as a new attempt."""
    return transition(
        connection,
        row,
        JobStatus.PROCESSING,
        reason,
        now,
        owner=owner,
        attempt=row["attempt"] + 1,
        beat=row["beat"] + 1,
        heartbeat_at=now,
        started_at=now,
        run_after=None,
    )


def _already_written(connection: sa.Connection, job: Job, claim: Claim) -> Row | None:
    """Return the row if this very outcome was already committed by a write whose response was lost."""
    row = lock_where(connection, jobs.c.id == job.id)
    if row is None or row["status"] != job.status or not job.status.is_final:
        return None
    newest = sa.select(events).where(events.c.job_seq == row["seq"]).order_by(events.c.id.desc()).limit(1)
    event = connection.execute(newest).mappings().one()
    by_this_claim = (event["after"], event["owner"], event["attempt"]) == (job.status, claim.owner, claim.attempt)
    return row if by_this_claim else None


def update_row(connection: sa.Connection, row: Row, **changes: Any) -> Row:
    """Update a row without an event."""
    return connection.execute(_UPDATE, {"this": row["seq"], **changes}).mappings().one()


def record_event(
    connection: sa.Connection, row: Row, before: JobStatus | None, reason: str, now: datetime, owner: str | None = None
) -> None:
    """Record the event of a transition that has just been made."""
    event = {"job_seq": row["seq"], "at": now, "before": before, "after": row["status"], "reason": reason}
    connection.execute(sa.insert(events), {**event, "attempt": row["attempt"], "owner": owner})


def lock_where(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Row | None:
    """Lock and return the one row that meets the condition; None if there is none."""
    return connection.execute(sa.select(jobs).where(where).with_for_update()).mappings().first()


def is_status(status: JobStatus) -> sa.ColumnElement[bool]:
    """Return a condition on the status as a literal: SQLite uses no partial index for a bound value."""
    return jobs.c.status == sa.bindparam(None, status.value, literal_execute=True)


def is_to_be_fetched() -> sa.ColumnElement[bool]:
    """Return the condition of jobs without an `audio_path`: their recordings have still to be fetched."""
    return sa.and_(jobs.c.source_url.is_not(None), jobs.c.audio_digest.is_(None))
