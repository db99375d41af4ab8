"""Changes that are asked for: a job's outcome or an edit (`update`), cancelling, retrying, deleting and pruning.

`attempts` has those that follow from how a worker fared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from cesar.api.models import Claim, Job, JobFailure, JobResult, JobStatus
from cesar.api.queue.claims import claim, lock_claimed
from cesar.api.queue.transitions import Row, lock, lock_where, transition, update_row
from cesar.api.storage.schema import events, jobs
from cesar.errors import InvalidTransition, StaleJob

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
    _require_not_running(row)
    return transition(connection, row, JobStatus.QUEUED, "retried by hand", now, **_FRESH)


def delete(connection: sa.Connection, job_id: str) -> Row:
    """Delete a job and everything that belongs to it. Raises `InvalidTransition` while it is being processed."""
    row = lock(connection, job_id)
    _require_not_running(row)
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


def _require_not_running(row: Row) -> None:
    if row["status"] == JobStatus.PROCESSING:
        raise InvalidTransition(f"the job {row['id']} is being processed", hint="Cancel it first.")


def _already_written(connection: sa.Connection, job: Job, claim: Claim) -> Row | None:
    """Return the row if this very outcome was already committed by a write whose response was lost."""
    row = lock_where(connection, jobs.c.id == job.id)
    if row is None or row["status"] != job.status or not job.status.is_final:
        return None
    newest = sa.select(events).where(events.c.job_seq == row["seq"]).order_by(events.c.id.desc()).limit(1)
    event = connection.execute(newest).mappings().one()
    by_this_claim = (event["after"], event["owner"], event["attempt"]) == (job.status, claim.owner, claim.attempt)
    return row if by_this_claim else None
