"""Claims: which waiting job a worker gets next, and the fence, which refuses its writes once the claim is lost.

The value is `cesar.api.models.Claim`. `leases` has what keeps a claim alive, `attempts` what is written under it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from cesar.api.models import Job, JobStatus
from cesar.api.queue.transitions import MAX_DELAY, Row, is_status, is_to_be_fetched, lock_where, transition
from cesar.api.storage.schema import jobs
from cesar.errors import ClaimLost


class QueueRank(NamedTuple):
    """What determines a job's position in the queue: higher priorities first, then lower sequence numbers."""

    priority: int
    seq: int


@dataclass(frozen=True, slots=True)
class ClaimFilter:
    """Which of the waiting jobs a worker may claim."""

    may_fetch: bool = True
    """Whether it may be one whose recording must be fetched."""
    must_fetch: bool = False
    """Whether it must be one whose recording must be fetched."""
    no_fetch_for: Collection[str] = ()
    """The submitters whose recordings must not be fetched."""
    before: QueueRank | None = None
    """Claim only a job ahead of this one."""

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions on the jobs; none for all jobs, so that SQLite uses the index of the queue's order."""
        must_fetch = is_to_be_fetched()
        found: list[sa.ColumnElement[bool]] = []
        if self.must_fetch:
            found.append(must_fetch)
        if not self.may_fetch:
            found.append(sa.not_(must_fetch))
        elif self.no_fetch_for:
            found.append(sa.or_(sa.not_(must_fetch), jobs.c.submitter.not_in(self.no_fetch_for)))
        if self.before is not None:
            priority, seq = self.before
            is_as_urgent = sa.and_(jobs.c.priority == priority, jobs.c.seq < seq)
            found.append(sa.or_(jobs.c.priority > priority, is_as_urgent))
        return found


def claim_next(connection: sa.Connection, owner: str, now: datetime, wanted: ClaimFilter = ClaimFilter()) -> Row | None:
    """Claim the next job for this owner: the one with the highest priority, then the oldest."""
    is_due = sa.or_(
        jobs.c.run_after.is_(None),
        jobs.c.run_after <= now,
        jobs.c.run_after > now + MAX_DELAY,  # no delay is this long: the clock was set back
    )
    row = (
        connection.execute(
            sa.select(jobs)
            .where(is_status(JobStatus.QUEUED), is_due, *wanted.conditions())
            .order_by(jobs.c.priority.desc(), jobs.c.seq)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        .mappings()
        .first()
    )
    return None if row is None else claim(connection, row, owner, now, "claimed")


def claim(connection: sa.Connection, row: Row, owner: str, now: datetime, reason: str) -> Row:
    """Claim a waiting job for an owner, as a new attempt."""
    return transition(
        connection,
        row,
        JobStatus.PROCESSING,
        reason,
        now,
        owner=owner,
        attempt=row["attempt"] + 1,
        beat=row["beat"] + 1,
        heartbeat_at=now,
        started_at=now,
        run_after=None,
    )


def lock_claimed(connection: sa.Connection, job: Job) -> Row:
    """Lock the row of a job whose claim is still valid. Raises `ClaimLost` otherwise."""
    row = lock_where(connection, jobs.c.id == job.id)
    require_claim(row, job)
    assert row is not None
    return row


def require_claim(row: Row | None, job: Job) -> None:
    """Enforce the fence: a claim is valid while its owner and attempt are the row's. Raises `ClaimLost`."""
    if job.claim is None:
        raise ClaimLost(f"the job {job.id} was not claimed", hint="Take the job from get_next_queued().")
    if row is None or (row["owner"], row["attempt"]) != (job.claim.owner, job.claim.attempt):
        raise ClaimLost(f"the claim on job {job.id} (attempt {job.claim.attempt}) was lost")
