"""A transition of a job and its event, and the job's row: what every change of the queue is made of.

Like those in the modules beside this one, these are plain functions on a connection, called within a transaction. A
change locks the job's row first (SQLite has locked the whole database by then), makes its checks, and writes the
transition together with its event.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from cesar.api.models import STORED, TRANSITIONS, Claim, Job, JobStatus
from cesar.api.storage.schema import events, jobs
from cesar.errors import InvalidTransition, JobNotFound
from cesar.options import MAX_SECONDS

MAX_DELAY = timedelta(minutes=10)
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


def lock(connection: sa.Connection, job_id: str) -> Row:
    """Lock a job's row until the end of the transaction, and return it. Raises `JobNotFound`."""
    row = lock_where(connection, jobs.c.id == job_id)
    if row is None:
        raise JobNotFound(f"there is no job {job_id}")
    return row


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
