"""A job while a worker holds it: heartbeats, and attempts that end without an outcome. Each is fenced by the claim."""

from __future__ import annotations

import random
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from cesar.api.models import Job, JobFailure, JobProgress, JobStatus
from cesar.api.queue.claims import lock_claimed
from cesar.api.queue.leases import Heartbeat
from cesar.api.queue.losses import record_loss
from cesar.api.queue.transitions import MAX_DELAY, Row, is_status, lock_where, transition, update_row
from cesar.api.storage.schema import jobs

MAX_RETRIES = 3
"""Maximum number of transient failures; the next one is final."""


def retry_later(connection: sa.Connection, job: Job, delay: timedelta, now: datetime) -> Row:
    """Queue a job again for later after a transient failure, or end it after too many of them.

    The delay doubles each time, and up to half of it is random, so that jobs that failed together don't retry together.
    """
    row = lock_claimed(connection, job)
    failures = row["failures"] + 1
    failure = asdict(JobFailure.of(job))
    if row["cancel_requested_at"] is not None:
        return transition(connection, row, JobStatus.CANCELLED, "cancelled", now, completed_at=now)
    if failures > MAX_RETRIES:
        return transition(
            connection, row, JobStatus.ERROR, "given up", now, failures=failures, completed_at=now, **failure
        )
    wait = min(delay * 2 ** (failures - 1), MAX_DELAY) * random.uniform(0.5, 1)  # noqa: S311 - no secret
    return transition(
        connection, row, JobStatus.QUEUED, "to be retried", now, failures=failures, run_after=now + wait, **failure
    )


def release(connection: sa.Connection, job: Job, now: datetime) -> Row:
    """Return a job to the queue with its checkpoints, as if nothing had happened. Raises `ClaimLost`."""
    row = lock_claimed(connection, job)
    if row["cancel_requested_at"] is not None:
        return transition(connection, row, JobStatus.CANCELLED, "cancelled", now, completed_at=now)
    return transition(connection, row, JobStatus.QUEUED, "released", now)


def postpone(connection: sa.Connection, job: Job, now: datetime) -> Row:
    """Return a job to the queue whose work this machine could not begin; its error says why. Raises `ClaimLost`."""
    row = lock_claimed(connection, job)
    if row["cancel_requested_at"] is not None:
        return transition(connection, row, JobStatus.CANCELLED, "cancelled", now, completed_at=now)
    return transition(connection, row, JobStatus.QUEUED, "recogniser not started", now, **asdict(JobFailure.of(job)))


def requeue_killed(connection: sa.Connection, job: Job, now: datetime, delay: timedelta) -> Row:
    """Queue a job again after the system killed its recogniser; its error says so. Raises `ClaimLost`."""
    row = lock_claimed(connection, job)
    return record_loss(connection, row, "recogniser killed", now, delay, is_begun=True, failure=JobFailure.of(job))


def reclaim(connection: sa.Connection, seen: Heartbeat, reason: str, now: datetime, delay: timedelta) -> None:
    """Reclaim a job from an owner that is dead or let its lease expire; do nothing if the job has changed since."""
    row = lock_where(connection, jobs.c.seq == seen.job_seq)
    if row is None or seen != heartbeat_of(row) or row["status"] != JobStatus.PROCESSING:
        return
    record_loss(connection, row, reason, now, delay, is_begun=row["begun"] == row["attempt"])


def heartbeat(connection: sa.Connection, job: Job, now: datetime) -> Row:
    """Renew a claim, and record the job's progress. Raises `ClaimLost`."""
    row = lock_claimed(connection, job)
    return update_row(connection, row, beat=row["beat"] + 1, heartbeat_at=now, **asdict(JobProgress.of(job)))


def mark_begun(connection: sa.Connection, job: Job, now: datetime) -> Row:
    """Record that recognition is about to begin. Raises `ClaimLost`.

    Only from here on can losing the worker count against the job.
    """
    row = heartbeat(connection, job, now)
    return update_row(connection, row, begun=row["attempt"])


def store_download(connection: sa.Connection, job: Job, path: Path, digest: str, size_bytes: int) -> Row:
    """Record a downloaded recording. Raises `ClaimLost`."""
    row = lock_claimed(connection, job)
    sizes = {"audio_bytes": size_bytes, "fetched_bytes": size_bytes}
    return update_row(connection, row, audio_path=str(path), audio_digest=digest, **sizes)


def heartbeat_of(row: Row) -> Heartbeat:
    """Return the heartbeat of a job that is being processed."""
    return Heartbeat(row["seq"], row["owner"], row["attempt"], row["beat"])


def running_heartbeats(connection: sa.Connection) -> list[Heartbeat]:
    """Return the heartbeats of all jobs that are being processed."""
    columns = (jobs.c.seq, jobs.c.owner, jobs.c.attempt, jobs.c.beat)
    rows = connection.execute(sa.select(*columns).where(is_status(JobStatus.PROCESSING))).mappings()
    return [heartbeat_of(row) for row in rows]
