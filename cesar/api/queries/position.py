"""Positions of unfinished jobs: which are running, and how much work is ahead of each waiting one.

A queue may hold many thousands of jobs, so they are not counted one by one: triggers keep sums over blocks of 256
sequence numbers (the table `queue_blocks`), and only the blocks of the requested jobs are read row by row.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from cesar.api.models import Job, JobStatus
from cesar.api.queries.eta import QueuePosition, QueueSnapshot, RunningJob, Throughput
from cesar.api.queue.transitions import is_status, job_from_row
from cesar.api.storage.schema import UtcDateTime, jobs, queue_blocks

_THROUGHPUTS = """
throughputs AS (SELECT key AS model, json_extract(value, '$[0]') AS speed, json_extract(value, '$[1]') AS usual_s
  FROM json_each(:throughputs))
"""
_WORK = "iif(speed IS NULL, 0, jobs) AS known_jobs, (known_s + unknown_jobs * usual_s) / speed AS work_s"
_POSITIONS = sa.text(f"""
WITH {_THROUGHPUTS},
wanted AS (SELECT id, priority, seq / 256 AS block FROM jobs WHERE id IN (SELECT value FROM json_each(:ids))),
singly AS (SELECT DISTINCT priority, block FROM wanted),
spans AS (
  SELECT jobs.*, json_extract(options, '$.end') AS "end", coalesce(json_extract(options, '$.start'), 0.0) AS start
  FROM singly CROSS JOIN jobs  -- in this order
  WHERE status = 'queued' AND jobs.priority = singly.priority AND seq BETWEEN 256 * block AND 256 * block + 255),
parts AS (
  SELECT id, run_after, priority, seq, model_size, 1 AS jobs, "end" IS NULL AND duration IS NULL AS unknown_jobs,
    coalesce(max(0.0, min(coalesce("end", duration), coalesce(duration, "end")) - max(start, position)), 0.0) AS known_s
  FROM spans
  UNION ALL
  SELECT NULL, NULL, priority, 256 * block, model_size, jobs, unknown_jobs, known_s
  FROM queue_blocks WHERE (priority, block) NOT IN (SELECT priority, block FROM singly)),
works AS (SELECT id, run_after, priority, seq, jobs, {_WORK} FROM parts LEFT JOIN throughputs ON model = model_size),
sums AS (
  SELECT id, run_after, work_s AS own_s, sum(jobs) OVER up_to_it AS rank, sum(known_jobs) OVER up_to_it AS known,
    sum(work_s) OVER up_to_it AS total_s
  FROM works WINDOW up_to_it AS (ORDER BY priority DESC, seq ROWS UNBOUNDED PRECEDING))
SELECT * FROM sums WHERE id IN (SELECT id FROM wanted)
""").columns(run_after=UtcDateTime)  # noqa: S608 - only constants are inserted
_ALL_OF_DEFAULT_PRIORITY = sa.text(f"""
WITH {_THROUGHPUTS}
SELECT total(jobs) AS rank, total(known_jobs) AS known, total(work_s) AS total_s
FROM (SELECT jobs, {_WORK} FROM queue_blocks LEFT JOIN throughputs ON model = model_size WHERE priority >= 0)
""")  # noqa: S608 - only constants are inserted


def snapshot(connection: sa.Connection) -> QueueSnapshot:
    """Return the running jobs, and the models of all unfinished ones."""
    rows = connection.execute(sa.select(jobs).where(is_status(JobStatus.PROCESSING))).mappings()
    running = tuple(_running_job(job_from_row(row)) for row in rows)
    waiting = connection.execute(sa.select(queue_blocks.c.model_size).distinct()).scalars()
    models = {*waiting, *(job.model_size for job in running)}
    return QueueSnapshot(running, frozenset(models))


def positions(
    connection: sa.Connection, ids: Collection[str], throughputs: Mapping[str, Throughput]
) -> dict[str, QueuePosition]:
    """Return the position of each of these jobs that waits.

    A recording of unknown length counts as its model's mean, unless the requested span has an end.
    """
    values = {"ids": json.dumps(list(ids)), "throughputs": _to_json(throughputs)}
    rows = connection.execute(_POSITIONS, values).mappings()
    return {row["id"]: _position_of(row) for row in rows}


def jobs_ahead(connection: sa.Connection, ids: Collection[str]) -> dict[str, int | None]:
    """Return the number of jobs ahead of each existing job; None for a job that is not waiting."""
    existing = connection.execute(sa.select(jobs.c.id).where(jobs.c.id.in_(ids))).scalars().all()
    found = positions(connection, ids, {})
    return {job_id: found[job_id].jobs_ahead if job_id in found else None for job_id in existing}


def next_position(connection: sa.Connection, model_size: str, throughputs: Mapping[str, Throughput]) -> QueuePosition:
    """Return the position of a new job of default priority: behind all waiting jobs of at least that priority."""
    sums = connection.execute(_ALL_OF_DEFAULT_PRIORITY, {"throughputs": _to_json(throughputs)})
    rank, known, total_s = sums.one()
    throughput = throughputs.get(model_size)
    own_work_s = None if throughput is None else throughput.mean_duration_s / throughput.speed
    return QueuePosition(int(rank), total_s if rank == known else None, own_work_s, None)


def _running_job(job: Job) -> RunningJob:
    return RunningJob(
        id=job.id,
        model_size=job.model_size,
        position=job.position,
        duration=job.duration,
        options=job.options,
        attempt=job.attempt,
        started_at=job.started_at,
    )


def _position_of(row: sa.RowMapping) -> QueuePosition:
    own_work_s = row["own_s"]
    is_known = row["rank"] - 1 == row["known"] - (own_work_s is not None)
    work_ahead_s = (row["total_s"] or 0.0) - (own_work_s or 0.0) if is_known else None
    return QueuePosition(row["rank"] - 1, work_ahead_s, own_work_s, row["run_after"])


def _to_json(throughputs: Mapping[str, Throughput]) -> str:
    found = {model: (throughput.speed, throughput.mean_duration_s) for model, throughput in throughputs.items()}
    return json.dumps(found)
