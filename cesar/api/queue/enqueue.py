"""How a job enters the queue: at its end, once per idempotency key, or completed at once if its result is stored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from cesar.api.models import Job, JobStatus
from cesar.api.queue.claims import claim
from cesar.api.queue.transitions import Row, is_status, lock_where, record_event, transition
from cesar.api.storage.schema import chunks, jobs
from cesar.errors import CesarError, IdempotencyConflict, QueueError, TooManyJobs

_GENERATED_FIELDS = {
    "seq",
    "version",
    "attempt",
    "owner",
    "claim",
    "options",
    "heartbeat_at",
    "cached_from",
    "generation",
}
_RESULT_COLUMNS = ("result_text", "detected_language", "outcome", "position", "duration", "fingerprint")
_NEW_OPTIONS = {"languages", "track"}
"""Requests without these hash as they did before the options existed, so idempotency keys survive an update."""
_INSERT = sa.insert(jobs).returning(*jobs.c)


@dataclass(frozen=True, slots=True)
class SubmissionPolicy:
    """The conditions under which a job is accepted."""

    result_key: str | None = None
    """The fingerprint of its work: a completed job of the same submitter and fingerprint supplies the result."""
    max_open: int | None = None
    """Maximum number of unfinished jobs of its submitter, this one included."""
    refusal: CesarError | None = None
    """The error to raise for a new job that would have to wait; None: it is accepted."""


def submit(connection: sa.Connection, job: Job, owner: str, now: datetime, policy: SubmissionPolicy) -> Row:
    """Append a new job to the queue, and take it from there to its status if that is another.

    If the idempotency key is known, return that key's job and do nothing.

    Raises `IdempotencyConflict` if the key was used for another request, `TooManyJobs` if the submitter has reached
    its limit, and `QueueError` if the id is taken.
    """
    request = _request_hash(job, job.audio_digest or job.location)
    key = None if job.idempotency_key is None else stored_key(job.submitter, job.idempotency_key)
    if key is not None:
        earlier = lock_where(connection, jobs.c.idempotency_key == key)
        if earlier is not None:
            legacy = _request_hash(job, job.location)  # as earlier versions stored it
            if earlier["idempotency_hash"] not in (request, legacy):
                raise IdempotencyConflict(f"the key {job.idempotency_key!r} was used for another request")
            return earlier
    if lock_where(connection, jobs.c.id == job.id) is not None:
        raise QueueError(f"there is already a job {job.id}", hint="Leave out the id: each job gets one of its own.")
    known = None if job.no_cache or policy.result_key is None else _find_result(connection, job, policy.result_key)
    if known is None and policy.refusal is not None:
        raise policy.refusal
    if known is None and policy.max_open is not None:
        require_quota(connection, job.submitter, policy.max_open)
    new = {"options": job.options.to_dict(), "version": 0, "attempt": 0, "beat": 0, "idempotency_hash": request}
    values = job.model_dump(exclude=_GENERATED_FIELDS) | {
        "status": JobStatus.QUEUED,
        "idempotency_key": key,
        "audio_path": job.location,
    }
    row = connection.execute(_INSERT, values | new).mappings().one()
    record_event(connection, row, None, "submitted", now)
    if known is not None:
        return _complete_from(connection, row, known, owner, now)
    if job.status in (JobStatus.PROCESSING, JobStatus.COMPLETED, JobStatus.ERROR):
        row = claim(connection, row, owner, now, "claimed when submitted")
    if job.status.is_final:
        row = transition(connection, row, job.status, job.status.value, now)
    return row


def stored_key(submitter: str, key: str) -> str:
    """Return an idempotency key as it is stored: each submitter has its own keys."""
    return f"{submitter}:{key}" if submitter else key


def _request_hash(job: Job, recording: str) -> str:
    """Return the hash that identifies a request. recording: its digest, which survives moving the data folder."""
    options = {name: value for name, value in job.options.to_dict().items() if value or name not in _NEW_OPTIONS}
    request = [recording, job.model_size, job.name, job.priority, options]
    request += ["no_cache"] if job.no_cache else []
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()


def require_quota(connection: sa.Connection, submitter: str, max_open: int) -> None:
    """Raise `TooManyJobs` if a submitter has reached its limit of unfinished jobs."""
    is_open = jobs.c.status.in_([JobStatus.QUEUED.value, JobStatus.PROCESSING.value])
    its_open = sa.select(sa.func.count()).select_from(jobs).where(is_open, jobs.c.submitter == submitter)
    if connection.execute(its_open).scalar_one() >= max_open:
        raise TooManyJobs(f"{max_open} jobs are already waiting or running, which is the limit")


def _find_result(connection: sa.Connection, job: Job, result_key: str) -> Row | None:
    """Find the newest completed job of the same submitter, so that no one learns what others have submitted."""
    same = (jobs.c.fingerprint == result_key, is_status(JobStatus.COMPLETED), jobs.c.submitter == job.submitter)
    return connection.execute(sa.select(jobs).where(*same).order_by(jobs.c.seq.desc()).limit(1)).mappings().first()


def _complete_from(connection: sa.Connection, row: Row, known: Row, owner: str, now: datetime) -> Row:
    """Copy another job's result to a job, chunk by chunk, as if it had been recognised in no time."""
    row = claim(connection, row, owner, now, "the result is known")
    columns = (chunks.c.start, chunks.c.end, chunks.c.payload)
    copied = sa.select(sa.literal(row["seq"]), sa.literal(row["attempt"]), *columns).where(
        chunks.c.job_seq == known["seq"]
    )
    connection.execute(sa.insert(chunks).from_select(["job_seq", "attempt", "start", "end", "payload"], copied))
    result = {name: known[name] for name in _RESULT_COLUMNS}
    return transition(
        connection, row, JobStatus.COMPLETED, "cached", now, completed_at=now, cached_from=known["id"], **result
    )
