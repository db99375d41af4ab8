"""Whether the service is well: a verdict on what the monitor saw, without asking anything."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from cesar.api.http.dependencies import Service
from cesar.api.http.monitoring.monitor import Sight, Trouble
from cesar.api.models import JobStatus
from cesar.errors import DatabaseError

Reason = (
    Literal[
        "starting", "stopping", "database_away", "worker_stopped", "no_progress", "jobs_ignored", "disk_nearly_full"
    ]
    | Trouble
)
_IGNORED_S = 60.0
"""A worker takes up a job within a second, or half a minute after many errors."""
_STALL_MARGIN_S = 60.0
"""The recogniser is killed when it stands still; this is for when that does not help."""


class HealthDetails(BaseModel):
    """What the verdict rests on."""

    version: str
    jobs: dict[JobStatus, int] = Field(description="Jobs by status.")
    oldest_queued_s: float | None = Field(
        description="How long ago the oldest job was handed in that may begin now; null: none waits."
    )
    at_work: int = Field(description="Jobs that are being processed, by this process or others.")
    heartbeat_age_s: float | None = Field(
        description="How long ago a worker last said that it is at its job; the longest of all."
    )
    progress_age_s: float | None = Field(description="For how long a job at work has not come any further.")
    disk_free_bytes: int | None = Field(description="Room on the data folder's disk.")


class Health(BaseModel):
    """How the service is."""

    status: Literal["ok", "unhealthy"]
    worker: Literal["running", "stopped"] = Field(
        description="Whether jobs are worked on: by this process, or by another on the same queue."
    )
    reasons: list[Reason] = Field(
        description="Why it is unhealthy. `no_progress`: a job at work stands still. `jobs_ignored`: jobs wait, and "
        "nobody takes them up. `database_not_writable`, `recordings_not_writable`: something was written to try it, "
        "and failed. `database_damaged`: nothing more is taken until it is repaired. `no_threads`: the system gives "
        "no more threads."
    )
    details: HealthDetails | None = Field(description="Null without the scope `read`, and while the database is away.")


def unready_reason(service: Service, sight: Sight) -> Reason | None:
    """Say why the service can't take requests now; None: it can."""
    if service.stopping.is_set():
        return "stopping"
    if not service.monitor.is_watching:
        return "starting"
    return sight.trouble or ("database_away" if sight.vitals is None else None)


def is_working(service: Service, sight: Sight) -> bool:
    """Whether jobs are worked on: our worker runs, or another process' does, as far as can be seen."""
    if service.worker is not None:
        return service.working is not None and not service.working.done()
    return sight.vitals is not None and bool(sight.vitals.running)


async def has_idle_worker(service: Service) -> bool:
    """Whether a worker of another process lives, where this one is to have none; it need not have a job."""
    if service.worker is not None:
        return False
    try:
        return await service.repository.has_worker()
    except DatabaseError:
        return False


def reasons(service: Service, sight: Sight) -> list[Reason]:
    """Say why the service is unhealthy; empty: it is well.

    A service that is to have no worker is well without one, until jobs wait that nobody takes up.
    """
    settings = service.settings
    unready = unready_reason(service, sight)
    free = sight.disk_free_bytes
    checks: dict[Reason, bool] = {
        "worker_stopped": service.worker is not None and not is_working(service, sight),
        "no_progress": sight.progress_age_s > settings.stall_timeout_s + _STALL_MARGIN_S,
        "jobs_ignored": sight.ignored_s > _IGNORED_S,
        "disk_nearly_full": free is not None and free < settings.min_free_bytes,
    }
    return [*([unready] if unready else []), *(reason for reason, holds in checks.items() if holds)]


def details_of(sight: Sight, version: str, now: datetime) -> HealthDetails | None:
    """Tell what was seen; None if the database was away."""
    seen = sight.vitals
    if seen is None:
        return None
    return HealthDetails(
        version=version,
        jobs=seen.counts,
        oldest_queued_s=_age_s(seen.waiting_since, now),
        at_work=len(seen.running),
        heartbeat_age_s=_age_s(seen.oldest_heartbeat_at, now),
        progress_age_s=round(sight.progress_age_s, 1) if seen.running else None,
        disk_free_bytes=sight.disk_free_bytes,
    )


async def look(service: Service) -> Sight:
    """Look how things are, also before the service has started."""
    return await service.monitor.look() if service.monitor.is_watching else Sight()


def _age_s(then: datetime | None, now: datetime) -> float | None:
    return None if then is None else round(max(0.0, (now - then).total_seconds()), 1)
