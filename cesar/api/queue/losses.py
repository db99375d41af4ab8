"""What happens to a job whose worker or recogniser was killed, and when that counts against the job.

A kill may be the job's fault (its recording exhausts the memory) or have another cause: a power cut, an operator,
another program's use of memory. Two things distinguish them: whether recognition had begun at all, and how the other
jobs fared meanwhile. A job is to blame if it lost its worker far more often than they did.

The column `lost` has the losses in a row after recognition had begun, which count against the job; `losses` has all.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from math import prod
from typing import Any

import sqlalchemy as sa

from cesar.api.models import JobFailure, JobStatus
from cesar.api.queue.transitions import MAX_DELAY, Row, transition
from cesar.api.storage.schema import events, jobs
from cesar.errors import WorkerLost

MIN_LOST = 6
"""Minimum number of losses in a row that end a job, however the others fared."""
MAX_LOST_ALONE = 20
"""Losses in a row that end a job if it alone loses its workers, though no other job was completed."""
BLAME = 1e-4
"""A job is to blame if its losses would be this improbable for a job like the others."""
_LOSS_REASONS = ("worker died", "lease expired", "recogniser killed", WorkerLost.code)
"""The reasons of events that record a loss."""
_MAX_DELAYING_LOSSES_BEFORE_BEGUN = 7
"""Losses before recognition began delay a job no longer than this many do: a minute."""


def delay_after(losses: int, delay: timedelta) -> timedelta:
    """Return the delay after this many losses in a row: none after the first, then ever longer."""
    return timedelta() if losses < 2 else min(delay / 16 * 2 ** min(losses - 1, 20), MAX_DELAY)


def record_loss(  # noqa: PLR0913 - what is known about a loss
    connection: sa.Connection,
    row: Row,
    reason: str,
    now: datetime,
    delay: timedelta,
    *,
    is_begun: bool,
    failure: JobFailure | None = None,
) -> Row:
    """Queue a job again after its worker or recogniser was killed, or end it if it is to blame.

    is_begun: whether recognition had begun. failure: what its worker reported, if it survived.
    """
    if row["cancel_requested_at"] is not None:
        return transition(connection, row, JobStatus.CANCELLED, reason, now, completed_at=now)
    is_counted_for_delay = is_begun or row["losses"] < _MAX_DELAYING_LOSSES_BEFORE_BEGUN
    counted, total = row["lost"] + is_begun, row["losses"] + is_counted_for_delay
    if is_begun and _is_to_blame(connection, row, counted, total):
        failure = failure or _worker_lost(counted)
        end: dict[str, Any] = {"lost": counted, "losses": total, "completed_at": now, **asdict(failure)}
        return transition(connection, row, JobStatus.ERROR, end["error_code"], now, **end)
    wait = delay_after(total, delay)
    later: dict[str, Any] = {"run_after": now + wait if wait else None, "lost": counted, "losses": total}
    later |= asdict(failure) if failure else {}
    return transition(connection, row, JobStatus.QUEUED, reason, now, **later)


def loss_probability(losses: int, *, among_lost: int, among_done: int) -> float:
    """Return the probability of this many losses in a row for a job like the others.

    among_lost, among_done: how many of the others first lost their worker, and how many were first completed. Nothing
    else is known about the rate, so every rate is equally likely beforehand (Laplace's rule of succession): a few
    completed jobs prove little.

    >>> round(loss_probability(1, among_lost=0, among_done=1), 3)
    0.333
    """
    return prod((among_lost + 1 + n) / (among_lost + among_done + 2 + n) for n in range(losses))


def _is_to_blame(connection: sa.Connection, row: Row, counted: int, total: int) -> bool:
    """Whether a job that lost so many workers in a row is to blame.

    counted: losses after recognition began; total: all of them.
    """
    if counted < MIN_LOST:
        return False
    if counted >= MAX_LOST_ALONE and not _other_jobs_lose_workers(connection, row):
        return True
    among_lost, among_done = _count_others(connection, row, counted)
    # A worker killed before recognition began was killed by something else.
    return loss_probability(counted, among_lost=among_lost + total - counted, among_done=among_done) <= BLAME


def _count_others(connection: sa.Connection, row: Row, counted: int) -> tuple[int, int]:
    """Count the other jobs that lost their worker, and those that were completed, since this one's losses began.

    Each counts once, by its first outcome: a second bad recording must not exonerate the first.
    """
    mine = sa.and_(events.c.job_seq == row["seq"], events.c.after == JobStatus.PROCESSING)
    first_attempt = sa.and_(mine, events.c.attempt > row["attempt"] - counted)
    since = sa.select(sa.func.min(events.c.id)).where(first_attempt).scalar_subquery()
    is_loss = events.c.reason.in_(_LOSS_REASONS)
    is_outcome = sa.and_(events.c.before == JobStatus.PROCESSING, is_loss | (events.c.after == JobStatus.COMPLETED))
    others = sa.and_(events.c.id > since, is_outcome, events.c.job_seq != row["seq"])
    firsts = sa.select(sa.func.min(events.c.id)).where(others).group_by(events.c.job_seq)
    counts = sa.select(is_loss, sa.func.count()).where(events.c.id.in_(firsts)).group_by(is_loss)
    found = {bool(is_lost): count for is_lost, count in connection.execute(counts)}
    return found.get(True, 0), found.get(False, 0)


def _other_jobs_lose_workers(connection: sa.Connection, row: Row) -> bool:
    is_open = jobs.c.status.in_([status.value for status in JobStatus if not status.is_final])
    others = sa.select(jobs.c.seq).where(is_open, jobs.c.losses > 0, jobs.c.seq != row["seq"])
    return connection.execute(others.limit(1)).first() is not None


def _worker_lost(times: int) -> JobFailure:
    error = WorkerLost(
        f"the worker was lost {times} times in a row during this recording, "
        "while other jobs completed or none were lost"
    )
    return JobFailure(error.code, error.message, error.hint)
