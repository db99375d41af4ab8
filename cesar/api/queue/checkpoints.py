"""Checkpoints: the finished chunks of a job, with which its next attempt resumes.

They are valid while the job's fingerprint is the same: see `fingerprint`.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa

from cesar.api.models import Job
from cesar.api.queue.attempts import heartbeat
from cesar.api.queue.claims import lock_claimed
from cesar.api.queue.transitions import update_row
from cesar.api.storage.schema import chunks
from cesar.transcript import Chunk


def store(connection: sa.Connection, job: Job, chunk: Chunk, now: datetime) -> None:
    """Store a finished chunk, and renew the claim. Raises `ClaimLost`."""
    row = heartbeat(connection, job, now)
    where = sa.and_(chunks.c.job_seq == row["seq"], chunks.c.start == chunk.start)
    connection.execute(sa.delete(chunks).where(where))
    kept = {"job_seq": row["seq"], "start": chunk.start, "end": chunk.end, "attempt": row["attempt"]}
    connection.execute(sa.insert(chunks), {**kept, "payload": asdict(chunk)})
    if row["lost"] or row["losses"]:
        update_row(connection, row, lost=0, losses=0)


def drop_stale(connection: sa.Connection, job: Job, fingerprint: str) -> None:
    """Drop a job's checkpoints unless they have this fingerprint. Raises `ClaimLost`."""
    row = lock_claimed(connection, job)
    if row["fingerprint"] != fingerprint:
        connection.execute(sa.delete(chunks).where(chunks.c.job_seq == row["seq"]))
        again = row["generation"] + (row["fingerprint"] is not None)
        update_row(connection, row, fingerprint=fingerprint, position=0.0, generation=again)
