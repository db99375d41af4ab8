"""Statistics of the whole queue: its jobs, what is running, and the transitions since the last look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from cesar.api.models import JobStatus
from cesar.api.queries import lookups
from cesar.api.queue.transitions import is_status
from cesar.api.storage.schema import chunks, events, jobs

_MAX_TRANSITIONS = 5000


@dataclass(frozen=True, slots=True)
class RunningProgress:
    """The progress of a job that is being processed."""

    seq: int
    attempt: int
    phase: str | None
    position: float
    fetched_bytes: int


@dataclass(frozen=True, slots=True)
class Transition:
    """A job's transition from one status to another."""

    before: JobStatus | None
    """None: the job was new."""
    after: JobStatus
    reason: str
    attempt: int
    time_in_state_s: float | None
    """Seconds spent in the previous status; None for a new job."""
    audio_s: float | None
    """Length of the requested span in seconds; None while it is unknown."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One consistent state of the queue."""

    counts: dict[JobStatus, int]
    waiting_since: datetime | None
    """When the oldest job that may start now was submitted; None if there is none."""
    running: tuple[RunningProgress, ...]
    oldest_heartbeat_at: datetime | None
    """The oldest of the claims' last heartbeats; None if no job is running."""
    checkpoint_bytes: int
    """Stored size of the running jobs' chunks."""
    last_event: int
    transitions: tuple[Transition, ...]


def queue_stats(connection: sa.Connection, now: datetime, after: int | None) -> QueueStats:
    """Return the statistics of the queue.

    after: the event after which transitions are returned, at most some thousands; None: none are. Deleted jobs are
    not included.
    """
    columns = (jobs.c.seq, jobs.c.attempt, jobs.c.phase, jobs.c.position, jobs.c.fetched_bytes, jobs.c.heartbeat_at)
    working = connection.execute(sa.select(*columns).where(is_status(JobStatus.PROCESSING))).all()
    found = [] if after is None else connection.execute(_since(after)).all()
    newest = found[-1].id if found else after if after is not None else lookups.last_event(connection)
    return QueueStats(
        counts=lookups.counts(connection),
        waiting_since=_waiting_since(connection, now),
        running=tuple(RunningProgress(*row[:5]) for row in working),
        oldest_heartbeat_at=min((row.heartbeat_at for row in working if row.heartbeat_at is not None), default=None),
        checkpoint_bytes=_checkpoint_bytes(connection, [row.seq for row in working]),
        last_event=newest,
        transitions=tuple(_transition(row) for row in found),
    )


def _waiting_since(connection: sa.Connection, now: datetime) -> datetime | None:
    is_due = sa.or_(jobs.c.run_after.is_(None), jobs.c.run_after <= now)
    oldest = sa.select(jobs.c.created_at).where(is_status(JobStatus.QUEUED), is_due).order_by(jobs.c.seq).limit(1)
    return connection.execute(oldest).scalar_one_or_none()


def _checkpoint_bytes(connection: sa.Connection, working: list[int]) -> int:
    if not working:
        return 0
    length = sa.func.sum(sa.func.length(sa.cast(chunks.c.payload, sa.String)))
    return connection.execute(sa.select(length).where(chunks.c.job_seq.in_(working))).scalar_one() or 0


def _since(after: int) -> sa.Select[tuple[object, ...]]:
    earlier = events.alias()
    is_earlier = sa.and_(earlier.c.job_seq == events.c.job_seq, earlier.c.id < events.c.id)
    previous_at = sa.select(earlier.c.at).where(is_earlier).order_by(earlier.c.id.desc()).limit(1).scalar_subquery()
    columns = (events.c.id, events.c.before, events.c.after, events.c.reason, events.c.attempt, events.c.at)
    statement = sa.select(*columns, previous_at.label("previous_at"), jobs.c.duration, jobs.c.options)
    statement = statement.join(jobs, jobs.c.seq == events.c.job_seq).where(events.c.id > after)
    return statement.order_by(events.c.id).limit(_MAX_TRANSITIONS)


def _transition(row: sa.Row[tuple[object, ...]]) -> Transition:
    start, end = row.options.get("start") or 0.0, row.options.get("end")
    audio_s = None if row.duration is None else max(0.0, min(end or row.duration, row.duration) - start)
    return Transition(
        before=None if row.before is None else JobStatus(row.before),
        after=JobStatus(row.after),
        reason=row.reason,
        attempt=row.attempt,
        time_in_state_s=None if row.previous_at is None else max(0.0, (row.at - row.previous_at).total_seconds()),
        audio_s=audio_s,
    )
