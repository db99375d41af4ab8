"""Whether the service is healthy: a verdict on the monitor's sample."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from cesar.api.http.dependencies import Service
from cesar.api.http.monitoring.monitor import Fault, HealthSample
from cesar.api.models import JobStatus
from cesar.errors import DatabaseError

Reason = (
    Literal[
        "starting", "stopping", "database_away", "worker_stopped", "no_progress", "jobs_ignored", "disk_nearly_full"
    ]
    | Fault
)
_IGNORED_S = 60.0
"""A worker claims a job within a second, or within half a minute after many errors."""
_STALL_MARGIN_S = 60.0
"""A stalled recogniser is killed; this margin is for when that does not help."""


class HealthDetails(BaseModel):
    """The figures behind the verdict."""

    version: str
    jobs: dict[JobStatus, int] = Field(description="Jobs by status.")
    oldest_queued_s: float | None = Field(
        description="Age of the oldest job that may start now; null: no job is waiting."
    )
    at_work: int = Field(description="Jobs being processed, by this process or others.")
    heartbeat_age_s: float | None = Field(description="Age of the oldest heartbeat of the running jobs.")
    progress_age_s: float | None = Field(description="The longest time for which a running job has made no progress.")
    disk_free_bytes: int | None = Field(description="Free space on the data folder's disk.")


class Health(BaseModel):
    """The health of the service."""

    status: Literal["ok", "unhealthy"]
    worker: Literal["running", "stopped"] = Field(
        description="Whether a worker is running: in this process, or another one on the same queue."
    )
    reasons: list[Reason] = Field(
        description="Why it is unhealthy. `no_progress`: a running job has stalled. `jobs_ignored`: jobs are waiting, "
        "and no worker claims them. `database_not_writable`, `recordings_not_writable`: a test write failed. "
        "`database_damaged`: nothing is accepted until the database is repaired. `no_threads`: the system can't start "
        "more threads."
    )
    details: HealthDetails | None = Field(
        description="Null without the scope `read`, and while the database is unavailable."
    )


def unready_reason(service: Service, sample: HealthSample) -> Reason | None:
    """Return why the service can't serve requests now; None: it can."""
    if service.stopping.is_set():
        return "stopping"
    if not service.monitor.is_running:
        return "starting"
    return sample.fault or ("database_away" if sample.queue_stats is None else None)


def is_working(service: Service, sample: HealthSample) -> bool:
    """Whether a worker is running: ours, or one of another process that has a job."""
    if service.worker is not None:
        return service.worker_task is not None and not service.worker_task.done()
    return sample.queue_stats is not None and bool(sample.queue_stats.running)


async def has_idle_worker(service: Service) -> bool:
    """Whether a worker of another process is alive, with or without a job, if this process is to have none."""
    if service.worker is not None:
        return False
    try:
        return await service.repository.has_worker()
    except DatabaseError:
        return False


def reasons(service: Service, sample: HealthSample) -> list[Reason]:
    """Return why the service is unhealthy; empty: it is healthy.

    A service configured without a worker is healthy without one, until waiting jobs are not claimed.
    """
    settings = service.settings
    unready = unready_reason(service, sample)
    free = sample.disk_free_bytes
    checks: dict[Reason, bool] = {
        "worker_stopped": service.worker is not None and not is_working(service, sample),
        "no_progress": sample.progress_age_s > settings.stall_timeout_s + _STALL_MARGIN_S,
        "jobs_ignored": sample.ignored_s > _IGNORED_S,
        "disk_nearly_full": free is not None and free < settings.min_free_bytes,
    }
    return [*([unready] if unready else []), *(reason for reason, applies in checks.items() if applies)]


def health_details(sample: HealthSample, version: str, now: datetime) -> HealthDetails | None:
    """Return the details of a sample; None if the database was unavailable."""
    stats = sample.queue_stats
    if stats is None:
        return None
    return HealthDetails(
        version=version,
        jobs=stats.counts,
        oldest_queued_s=_age_s(stats.waiting_since, now),
        at_work=len(stats.running),
        heartbeat_age_s=_age_s(stats.oldest_heartbeat_at, now),
        progress_age_s=round(sample.progress_age_s, 1) if stats.running else None,
        disk_free_bytes=sample.disk_free_bytes,
    )


async def take_sample(service: Service) -> HealthSample:
    """Return the current sample; an empty one before the service has started."""
    return await service.monitor.sample() if service.monitor.is_running else HealthSample()


def _age_s(then: datetime | None, now: datetime) -> float | None:
    return None if then is None else round(max(0.0, (now - then).total_seconds()), 1)
