"""Positions of unfinished jobs: which are running, and how much work is ahead of each waiting one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from cesar.api.models import Job, JobStatus
from cesar.api.queue.eta import QueuePosition, QueueSnapshot, RunningJob, Throughput
from cesar.api.queue.transitions import is_status, job_from_row
from cesar.api.storage.schema import jobs


def snapshot(connection: sa.Connection) -> QueueSnapshot:
    """Return the running jobs, and the models of all unfinished ones."""
    rows = connection.execute(sa.select(jobs).where(is_status(JobStatus.PROCESSING))).mappings()
    running = tuple(_running_job(job_from_row(row)) for row in rows)
    waiting = sa.select(jobs.c.model_size).where(is_status(JobStatus.QUEUED)).distinct()
    models = {*connection.execute(waiting).scalars(), *(job.model_size for job in running)}
    return QueueSnapshot(running, frozenset(models))


def positions(
    connection: sa.Connection, ids: Sequence[str], throughputs: Mapping[str, Throughput]
) -> dict[str, QueuePosition]:
    """Return the position of each of these jobs that waits.

    A recording of unknown length counts as its model's mean. The database does the arithmetic: there may be many
    thousands of jobs.
    """
    work = _work_s(throughputs)
    up_to_it: dict[str, Any] = {"order_by": (jobs.c.priority.desc(), jobs.c.seq), "rows": (None, 0)}
    inner = (
        sa.select(
            jobs.c.id,
            jobs.c.run_after,
            work.label("own_s"),
            sa.func.count().over(**up_to_it).label("rank"),
            sa.func.count(work).over(**up_to_it).label("known"),
            sa.func.sum(work).over(**up_to_it).label("total_s"),
        )
        .where(is_status(JobStatus.QUEUED))
        .subquery()
    )
    rows = connection.execute(sa.select(inner).where(inner.c.id.in_(ids))).mappings()
    return {row["id"]: _position_of(row) for row in rows}


def next_position(connection: sa.Connection, model_size: str, throughputs: Mapping[str, Throughput]) -> QueuePosition:
    """Return the position of a new job of default priority: behind all waiting jobs of at least that priority."""
    work = _work_s(throughputs)
    counted = sa.select(sa.func.count(), sa.func.count(work), sa.func.sum(work))
    before = counted.where(is_status(JobStatus.QUEUED), jobs.c.priority >= 0)
    rank, known, total_s = connection.execute(before).one()
    throughput = throughputs.get(model_size)
    own_work_s = None if throughput is None else throughput.mean_duration_s / throughput.speed
    return QueuePosition(rank, (total_s or 0.0) if rank == known else None, own_work_s, None)


def _running_job(job: Job) -> RunningJob:
    return RunningJob(
        id=job.id,
        model_size=job.model_size,
        position=job.position,
        duration=job.duration,
        start=job.options.start,
        end=job.options.end,
        attempt=job.attempt,
        started_at=job.started_at,
    )


def _position_of(row: sa.RowMapping) -> QueuePosition:
    own_work_s = row["own_s"]
    is_known = row["rank"] - 1 == row["known"] - (own_work_s is not None)
    work_ahead_s = (row["total_s"] or 0.0) - (own_work_s or 0.0) if is_known else None
    return QueuePosition(row["rank"] - 1, work_ahead_s, own_work_s, row["run_after"])


def _work_s(throughputs: Mapping[str, Throughput]) -> sa.ColumnElement[Any]:
    """Return the seconds of work that a waiting job needs; NULL if its model's throughput is unknown."""
    if not throughputs:
        return sa.null()
    of_model = {"value": jobs.c.model_size}
    speed = sa.case({model: throughput.speed for model, throughput in throughputs.items()}, **of_model)
    usual = sa.case({model: throughput.mean_duration_s for model, throughput in throughputs.items()}, **of_model)
    length = sa.func.coalesce(jobs.c.duration, usual)
    start, end = (jobs.c.options[name].as_float() for name in ("start", "end"))
    left = sa.func.min(sa.func.coalesce(end, length), length) - sa.func.max(start, jobs.c.position)
    return sa.func.max(0.0, left) / speed
