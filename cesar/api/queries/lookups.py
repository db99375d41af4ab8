"""Queries: one job, a filtered page of jobs, their events, their checkpoints, and counts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

import sqlalchemy as sa

from cesar.api.models import Job, JobEvent, JobFilter, JobPage, JobStatus, PageContent
from cesar.api.queries.cursor import Changes, Cursor, Tail
from cesar.api.queue.transitions import Row, is_status, is_to_be_fetched, job_from_row
from cesar.api.storage.schema import chunks, events, jobs
from cesar.errors import QueueError
from cesar.transcript import Chunk, chunk_from_dict

_WITHOUT_TEXT = [column for column in jobs.c if column.name != "result_text"]
_LAST_CHARACTER = "\U0010ffff"
_ROW_BYTES = 1024
"""What a job takes besides its recording, its text and what was asked for: about so much."""


def find(connection: sa.Connection, job_id: str) -> Row | None:
    """Return a job's row."""
    return connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().first()


def find_by_key(connection: sa.Connection, stored_key: str) -> Row | None:
    """Return the row of the job with a stored idempotency key."""
    return connection.execute(sa.select(jobs).where(jobs.c.idempotency_key == stored_key)).mappings().first()


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The start, the maximum length and the direction of a page."""

    cursor: str | None
    limit: int
    newest_first: bool


def page(connection: sa.Connection, wanted: JobFilter, request: PageRequest, content: PageContent) -> JobPage:
    """Return up to `limit` jobs after the cursor; fewer if their text would exceed `content.max_bytes`."""
    conditions = _conditions(wanted)
    if request.cursor is not None:
        seq = _seq_of(request.cursor)
        conditions.append(jobs.c.seq < seq if request.newest_first else jobs.c.seq > seq)
    order = jobs.c.seq.desc() if request.newest_first else jobs.c.seq
    limit = request.limit
    if content.max_bytes is not None:
        sizes = sa.select(_size(content)).where(*conditions).order_by(order).limit(limit)
        limit = _how_many(connection.execute(sizes).scalars(), content.max_bytes)
    columns = jobs.c if content.with_text else _WITHOUT_TEXT
    rows = connection.execute(sa.select(*columns).where(*conditions).order_by(order).limit(limit + 1)).mappings().all()
    found = tuple(job_from_row(row) for row in rows[:limit])
    return JobPage(jobs=found, next_cursor=str(found[-1].seq) if len(rows) > limit else None)


def _size(content: PageContent) -> sa.ColumnElement[int]:
    """Return the length, in characters, of the parts of a job that may be long."""
    size = sa.func.length(sa.cast(jobs.c.options, sa.Text))
    return size + sa.func.coalesce(sa.func.length(jobs.c.result_text), 0) if content.with_text else size


def _how_many(sizes: Iterable[int], max_total: int) -> int:
    """Return how many of the first sizes add up to `max_total` at most; at least one."""
    return max(1, sum(total <= max_total for total in accumulate(sizes)))


def fetches_before(connection: sa.Connection, job_ids: Collection[str]) -> dict[str, int]:
    """Return the number of running fetches for each of the jobs whose recording waits to be fetched."""
    under_way = sa.select(sa.func.count()).select_from(jobs).where(is_status(JobStatus.PROCESSING), is_to_be_fetched())
    waiting = sa.select(jobs.c.id).where(is_status(JobStatus.QUEUED), is_to_be_fetched(), jobs.c.id.in_(job_ids))
    ids = connection.execute(waiting).scalars().all()
    return dict.fromkeys(ids, connection.execute(under_way).scalar_one()) if ids else {}


def counts(connection: sa.Connection) -> dict[JobStatus, int]:
    """Return the number of jobs of every status."""
    found = connection.execute(sa.select(jobs.c.status, sa.func.count()).group_by(jobs.c.status))
    return dict.fromkeys(JobStatus, 0) | {JobStatus(status): count for status, count in found}


def events_of(
    connection: sa.Connection, job_id: str | None, *, after: int, limit: int, submitter: str | None = None
) -> list[JobEvent]:
    """Return the events with ids above `after`, oldest first: those of a job, of a submitter, or all."""
    statement = sa.select(*(c for c in events.c if c.name != "job_seq"), jobs.c.id.label("job_id"))
    statement = statement.join(jobs, jobs.c.seq == events.c.job_seq).where(events.c.id > after)
    if job_id is not None:
        statement = statement.where(jobs.c.id == job_id)
    if submitter is not None:
        statement = statement.where(jobs.c.submitter == submitter)
    rows = connection.execute(statement.order_by(events.c.id).limit(limit)).mappings()
    return [JobEvent(**row) for row in rows]


def history(connection: sa.Connection, job_id: str, after: int, limit: int) -> tuple[Job, list[JobEvent]] | None:
    """Return a job and its events with ids above `after`, oldest first; None if there is no such job."""
    row = find(connection, job_id)
    return None if row is None else (job_from_row(row), events_of(connection, job_id, after=after, limit=limit))


def chunks_of(connection: sa.Connection, job_id: str) -> list[Chunk]:
    """Return a job's finished chunks, in the order of the recording."""
    statement = sa.select(chunks.c.payload).join(jobs, jobs.c.seq == chunks.c.job_seq).where(jobs.c.id == job_id)
    return [chunk_from_dict(payload) for payload in connection.execute(statement.order_by(chunks.c.start)).scalars()]


def tail(connection: sa.Connection, job_id: str, after: Cursor, limit: int) -> Tail | None:
    """Return what has happened to a job since the cursor, as one consistent state; None if there is no such job."""
    row = find(connection, job_id)
    if row is None:
        return None
    if after.generation != row["generation"]:
        after = Cursor(event=after.event, generation=row["generation"])
    is_new = sa.and_(chunks.c.job_seq == row["seq"], chunks.c.start > after.chunk_start)
    payloads = connection.execute(sa.select(chunks.c.payload).where(is_new).order_by(chunks.c.start).limit(limit))
    new = tuple(chunk_from_dict(payload) for payload in payloads.scalars())
    return Tail(job_from_row(row), tuple(events_of(connection, job_id, after=after.event, limit=limit)), new)


def changes(connection: sa.Connection, after: int) -> Changes:
    """Return the jobs that may have changed since the event `after`: those with newer events, and running ones."""
    newer = sa.select(events.c.id, jobs.c.id).join(jobs, jobs.c.seq == events.c.job_seq).where(events.c.id > after)
    found = connection.execute(newer).all()
    at_work = connection.execute(sa.select(jobs.c.id).where(is_status(JobStatus.PROCESSING))).scalars().all()
    return Changes(
        max((number for number, _ in found), default=after), frozenset({*at_work, *(job for _, job in found)})
    )


def last_event(connection: sa.Connection) -> int:
    """Return the id of the newest event; 0 if there is none."""
    return connection.execute(sa.select(sa.func.max(events.c.id))).scalar_one() or 0


def recent_outcomes(connection: sa.Connection, model_size: str, limit: int) -> list[Job]:
    """Return the latest jobs completed with a model, newest first, without those that received a stored result."""
    done = (is_status(JobStatus.COMPLETED), jobs.c.model_size == model_size, jobs.c.cached_from.is_(None))
    newest = sa.select(*_WITHOUT_TEXT).where(*done).order_by(jobs.c.seq.desc()).limit(limit)
    return [job_from_row(row) for row in connection.execute(newest).mappings()]


def last_written(connection: sa.Connection) -> datetime | None:
    """Return the time of the last event or heartbeat of any job; None if there is no job."""
    happened = connection.execute(sa.select(sa.func.max(events.c.at))).scalar_one()
    beaten = connection.execute(sa.select(sa.func.max(jobs.c.heartbeat_at))).scalar_one()
    return max((moment for moment in (happened, beaten) if moment is not None), default=None)


def stored_bytes(connection: sa.Connection, submitter: str, besides: str) -> int:
    """Return the size of what is kept for a submitter's jobs: requests, texts, and recordings.

    Each recording counts once, and that digest not at all.
    """
    is_kept = (jobs.c.submitter == submitter, jobs.c.audio_digest != besides)
    recordings = sa.select(jobs.c.audio_digest, jobs.c.audio_bytes).where(*is_kept).distinct().subquery()
    size_of_texts = sa.func.sum(_size(PageContent(with_text=True)) + _ROW_BYTES)
    texts = connection.execute(sa.select(size_of_texts).where(jobs.c.submitter == submitter)).scalar_one() or 0
    return texts + (connection.execute(sa.select(sa.func.sum(recordings.c.audio_bytes))).scalar_one() or 0)


def is_unfinished(connection: sa.Connection, job_id: str) -> bool:
    """Whether the job exists and is not completed."""
    row = find(connection, job_id)
    return row is not None and row["status"] != JobStatus.COMPLETED


def _conditions(wanted: JobFilter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if wanted.status:
        conditions.append(jobs.c.status.in_([status.value for status in wanted.status]))
    if wanted.model_size is not None:
        conditions.append(jobs.c.model_size == wanted.model_size)
    if wanted.name_contains:
        conditions.append(jobs.c.name.icontains(wanted.name_contains, autoescape=True))
    if wanted.submitter is not None:
        conditions.append(jobs.c.submitter == wanted.submitter)
    if wanted.id_prefix:
        conditions += [jobs.c.id >= wanted.id_prefix, jobs.c.id < wanted.id_prefix + _LAST_CHARACTER]
    if wanted.created_after is not None:
        conditions.append(jobs.c.created_at > wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(jobs.c.created_at < wanted.created_before)
    return conditions


def _seq_of(cursor: str) -> int:
    if cursor.isascii() and cursor.isdigit():
        return int(cursor[:18])
    raise QueueError(f"{cursor!r} is not a cursor", hint="Use next_cursor of the previous page.")
