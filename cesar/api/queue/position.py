"""The line of unfinished jobs: what is at work, and how much work goes before each that waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from cesar.api.models import Job, JobStatus
from cesar.api.queue.eta import AtWork, Line, Pace, Waiting
from cesar.api.queue.transitions import is_status, job_of
from cesar.api.storage.schema import jobs


def line(connection: sa.Connection) -> Line:
    """Give the jobs that are being processed, and the models of all that are unfinished."""
    rows = connection.execute(sa.select(jobs).where(is_status(JobStatus.PROCESSING))).mappings()
    at_work = tuple(_at_work(job_of(row)) for row in rows)
    waiting = sa.select(jobs.c.model_size).where(is_status(JobStatus.QUEUED)).distinct()
    models = {*connection.execute(waiting).scalars(), *(job.model_size for job in at_work)}
    return Line(at_work, frozenset(models))


def waiting(connection: sa.Connection, ids: Sequence[str], paces: Mapping[str, Pace]) -> dict[str, Waiting]:
    """Give the place of each of these jobs that waits.

    A recording whose length is not known yet counts as the usual one of its model. It is all reckoned in the
    database: there may be many thousands.
    """
    work = _work_s(paces)
    up_to_it: dict[str, Any] = {"order_by": (jobs.c.priority.desc(), jobs.c.seq), "rows": (None, 0)}
    inner = (
        sa.select(
            jobs.c.id,
            jobs.c.run_after,
            work.label("own_s"),
            sa.func.count().over(**up_to_it).label("place"),
            sa.func.count(work).over(**up_to_it).label("known"),
            sa.func.sum(work).over(**up_to_it).label("total_s"),
        )
        .where(is_status(JobStatus.QUEUED))
        .subquery()
    )
    rows = connection.execute(sa.select(inner).where(inner.c.id.in_(ids))).mappings()
    return {row["id"]: _waiting_of(row) for row in rows}


def ahead(connection: sa.Connection, model_size: str, paces: Mapping[str, Pace]) -> Waiting:
    """Give the place that a new job of the usual priority would have: after all that wait with no lower one."""
    work = _work_s(paces)
    counted = sa.select(sa.func.count(), sa.func.count(work), sa.func.sum(work))
    before = counted.where(is_status(JobStatus.QUEUED), jobs.c.priority >= 0)
    place, known, total_s = connection.execute(before).one()
    pace = paces.get(model_size)
    own_s = None if pace is None else pace.usual_s / pace.speed
    return Waiting(place, (total_s or 0.0) if place == known else None, own_s, None)


def _at_work(job: Job) -> AtWork:
    return AtWork(
        id=job.id,
        model_size=job.model_size,
        position=job.position,
        duration=job.duration,
        start=job.options.start,
        end=job.options.end,
        attempt=job.attempt,
        started_at=job.started_at,
    )


def _waiting_of(row: sa.RowMapping) -> Waiting:
    own_s = row["own_s"]
    is_known = row["place"] - 1 == row["known"] - (own_s is not None)
    before_s = (row["total_s"] or 0.0) - (own_s or 0.0) if is_known else None
    return Waiting(row["place"] - 1, before_s, own_s, row["run_after"])


def _work_s(paces: Mapping[str, Pace]) -> sa.ColumnElement[Any]:
    """Reckon the seconds of work that a waiting job still needs; NULL where its model's pace isn't known."""
    if not paces:
        return sa.null()
    of_model = {"value": jobs.c.model_size}
    speed = sa.case({model: pace.speed for model, pace in paces.items()}, **of_model)
    usual = sa.case({model: pace.usual_s for model, pace in paces.items()}, **of_model)
    length = sa.func.coalesce(jobs.c.duration, usual)
    start, end = (jobs.c.options[name].as_float() for name in ("start", "end"))
    left = sa.func.min(sa.func.coalesce(end, length), length) - sa.func.max(start, jobs.c.position)
    return sa.func.max(0.0, left) / speed
