"""Reading jobs: one, some by a filter and a cursor, their events, their checkpoints, how many there are."""

from __future__ import annotations

import sqlalchemy as sa

from cesar.api.models import JobEvent, JobFilter, JobPage, JobStatus
from cesar.api.moves import Row, job_of
from cesar.api.tables import chunks, events, jobs
from cesar.errors import QueueError
from cesar.transcript import Chunk, chunk_from_dict


def find(connection: sa.Connection, job_id: str) -> Row | None:
    """Give a job's row."""
    return connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().first()


def page(
    connection: sa.Connection, wanted: JobFilter, *, cursor: str | None, limit: int, newest_first: bool
) -> JobPage:
    """Give up to `limit` jobs after the cursor."""
    conditions = _conditions(wanted)
    if cursor is not None:
        seq = _seq_of(cursor)
        conditions.append(jobs.c.seq < seq if newest_first else jobs.c.seq > seq)
    order = jobs.c.seq.desc() if newest_first else jobs.c.seq
    rows = connection.execute(sa.select(jobs).where(*conditions).order_by(order).limit(limit + 1)).mappings().all()
    found = tuple(job_of(row) for row in rows[:limit])
    return JobPage(jobs=found, next_cursor=str(found[-1].seq) if len(rows) > limit else None)


def waiting_before(connection: sa.Connection, job_id: str) -> int | None:
    """Count the jobs that go before a waiting one; None if it does not wait."""
    row = (
        connection.execute(sa.select(jobs.c.status, jobs.c.priority, jobs.c.seq).where(jobs.c.id == job_id))
        .mappings()
        .first()
    )
    if row is None or row["status"] != JobStatus.QUEUED:
        return None
    goes_before = sa.or_(
        jobs.c.priority > row["priority"], sa.and_(jobs.c.priority == row["priority"], jobs.c.seq < row["seq"])
    )
    waiting = jobs.c.status == JobStatus.QUEUED
    return connection.execute(sa.select(sa.func.count()).select_from(jobs).where(waiting, goes_before)).scalar_one()


def counts(connection: sa.Connection) -> dict[JobStatus, int]:
    """Count the jobs of every status."""
    found = connection.execute(sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status))
    return dict.fromkeys(JobStatus, 0) | {JobStatus(status): count for status, count in found}


def events_of(connection: sa.Connection, job_id: str | None, *, after: int, limit: int) -> list[JobEvent]:
    """Give the events with a higher id than `after`, oldest first: a job's, or everybody's."""
    statement = sa.select(*(c for c in events.c if c.name != "job_seq"), jobs.c.id.label("job_id"))
    statement = statement.join(jobs, jobs.c.seq == events.c.job_seq).where(events.c.id > after)
    if job_id is not None:
        statement = statement.where(jobs.c.id == job_id)
    rows = connection.execute(statement.order_by(events.c.id).limit(limit)).mappings()
    return [JobEvent(**row) for row in rows]


def chunks_of(connection: sa.Connection, job_id: str) -> list[Chunk]:
    """Give a job's finished chunks, in the recording's order."""
    statement = sa.select(chunks.c.payload).join(jobs, jobs.c.seq == chunks.c.job_seq).where(jobs.c.id == job_id)
    return [chunk_from_dict(payload) for payload in connection.execute(statement.order_by(chunks.c.start)).scalars()]


def _conditions(wanted: JobFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.status:
        conditions.append(jobs.c.status.in_([status.value for status in wanted.status]))
    if wanted.model_size is not None:
        conditions.append(jobs.c.model_size == wanted.model_size)
    if wanted.name_contains:
        conditions.append(jobs.c.name.icontains(wanted.name_contains, autoescape=True))
    if wanted.created_after is not None:
        conditions.append(jobs.c.created_at > wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(jobs.c.created_at < wanted.created_before)
    return conditions


def _seq_of(cursor: str) -> int:
    if cursor.isascii() and cursor.isdigit():
        return int(cursor[:18])
    raise QueueError(f"{cursor!r} is no cursor", hint="Use next_cursor of the page before.")
