"""How a job comes into the queue: at its end, once for each idempotency key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa

from cesar.api.models import Job, JobStatus
from cesar.api.moves import Row, claim, move, note, one
from cesar.api.tables import jobs
from cesar.errors import IdempotencyConflict, QueueError

_INSERT = sa.insert(jobs).returning(*jobs.c)


def submit(connection: sa.Connection, job: Job, owner: str, now: datetime) -> Row:
    """Put a new job at the end of the queue, and lead it from there to its status if that is another.

    With an idempotency key that is known, give that key's job and do nothing.

    Raises `IdempotencyConflict` if the key was for another request, `QueueError` if the id is taken.
    """
    request = _request_hash(job)
    if job.idempotency_key is not None:
        earlier = one(connection, jobs.c.idempotency_key == job.idempotency_key)
        if earlier is not None:
            if earlier["idempotency_hash"] != request:
                raise IdempotencyConflict(f"the key {job.idempotency_key!r} was used for another request")
            return earlier
    if one(connection, jobs.c.id == job.id) is not None:
        raise QueueError(f"there is a job {job.id} already", hint="Leave the id out: each job gets one of its own.")
    values = job.model_dump(exclude={"seq", "version", "attempt", "owner", "claim", "options", "heartbeat_at"})
    new = {"options": asdict(job.options), "version": 0, "attempt": 0, "beat": 0, "idempotency_hash": request}
    values["status"] = JobStatus.QUEUED
    row = connection.execute(_INSERT, values | new).mappings().one()
    note(connection, row, None, "submitted")
    if job.status in (JobStatus.PROCESSING, JobStatus.COMPLETED, JobStatus.ERROR):
        row = claim(connection, row, owner, now, "claimed when submitted")
    if job.status.is_final:
        row = move(connection, row, job.status, job.status.value)
    return row


def _request_hash(job: Job) -> str:
    request = [job.audio_path, job.model_size, job.name, job.priority, asdict(job.options)]
    return hashlib.sha256(json.dumps(request).encode()).hexdigest()
