"""What becomes of a job whose worker, or whose recogniser, was killed; and when that counts against the job.

A kill may be the job's doing (its recording takes all memory), or anything else's: a power cut, an operator, another
program's hunger for memory. Three things tell them apart: whether the recording had been begun at all, whether the
machine has proved itself on another job since the last loss, and whether other jobs lose their workers too.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from cesar.api.models import JobStatus
from cesar.api.moves import LONGEST_DELAY, Row, move
from cesar.api.tables import events, jobs
from cesar.errors import WorkerLost

MAX_LOST = 6
"""So many losses that count against a job end it. With three, a service that was killed every few seconds, at random,
ended 3 of 305 innocent jobs."""
MAX_LOSSES_ALONE = 20
"""So many losses in a row end a job that is the only one to lose its workers, whatever the machine has proved."""
_MAX_LOSSES_BEFORE_BEGUN = 7
"""Losses before the recording was begun make no job wait for longer than these do: a minute."""


def wait_after(losses: int, delay: timedelta) -> timedelta:
    """Return how long a job waits after so many losses in a row: not at all after the first, then ever longer."""
    return timedelta() if losses < 2 else min(delay / 16 * 2 ** min(losses - 1, 20), LONGEST_DELAY)


def lose(  # noqa: PLR0913 - what is known of a loss
    connection: sa.Connection,
    row: Row,
    reason: str,
    now: datetime,
    delay: timedelta,
    *,
    is_begun: bool,
    error: dict[str, str | None] | None = None,
) -> Row:
    """Queue a job again whose worker or recogniser was killed, or end it if that counts against it once too often.

    is_begun: whether the recogniser had been given the recording. error: what its worker could tell of the kill.
    """
    if row["cancel_requested_at"] is not None:
        return move(connection, row, JobStatus.CANCELLED, reason, completed_at=now)
    counts = is_begun and (row["lost"] == 0 or _has_machine_proved_itself(connection, row))
    is_counted_for_delay = is_begun or row["losses"] < _MAX_LOSSES_BEFORE_BEGUN
    lost, losses = row["lost"] + counts, row["losses"] + is_counted_for_delay
    is_alone = is_begun and losses >= MAX_LOSSES_ALONE and not _do_others_lose(connection, row)
    if lost >= MAX_LOST or is_alone:
        end: dict[str, Any] = {**(error or _worker_lost(losses)), "lost": lost, "losses": losses, "completed_at": now}
        return move(connection, row, JobStatus.ERROR, end["error_code"], **end)
    wait = wait_after(losses, delay)
    later: dict[str, Any] = {"run_after": now + wait if wait else None, "lost": lost, "losses": losses, **(error or {})}
    return move(connection, row, JobStatus.QUEUED, reason, **later)


def _has_machine_proved_itself(connection: sa.Connection, row: Row) -> bool:
    """Whether a worker has completed another job since this one's last loss: then this loss has to do with the job."""
    mine = sa.and_(events.c.job_seq == row["seq"], events.c.before == JobStatus.PROCESSING)
    last = sa.select(sa.func.max(events.c.id)).where(mine).scalar_subquery()
    is_done = sa.and_(events.c.before == JobStatus.PROCESSING, events.c.after == JobStatus.COMPLETED)
    others = sa.select(events.c.id).where(events.c.id > last, is_done, events.c.job_seq != row["seq"])
    return connection.execute(others.limit(1)).first() is not None


def _do_others_lose(connection: sa.Connection, row: Row) -> bool:
    is_open = jobs.c.status.in_([status.value for status in JobStatus if not status.is_final])
    others = sa.select(jobs.c.seq).where(is_open, jobs.c.losses > 0, jobs.c.seq != row["seq"])
    return connection.execute(others.limit(1)).first() is not None


def _worker_lost(losses: int) -> dict[str, str | None]:
    error = WorkerLost(
        f"the worker was lost {losses} times in a row over this recording, while others were done or none were lost"
    )
    return {"error_code": error.code, "error_message": error.message, "error_hint": error.hint}
