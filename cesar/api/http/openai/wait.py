"""Waiting until a job has finished, and what its end means for the waiting caller."""

from __future__ import annotations

from cesar.api.execution.backoff import retry_until_available
from cesar.api.http.dependencies import Service
from cesar.api.http.schemas import without_paths
from cesar.api.models import Job, JobStatus
from cesar.errors import BY_CODE, CesarError, Interrupted, JobNotFound, ServiceStopping


async def until_finished(service: Service, job_id: str) -> Job:
    """Wait until a job has finished, and return it. Keeps waiting while the database is unavailable.

    Raises `JobNotFound` if it is deleted, `ServiceStopping` if the service stops first: the job stays queued.
    """
    with service.hub.subscribe(job_id) as wake:
        while True:
            wake.clear()
            job = await retry_until_available(lambda: _read(service, job_id))
            if job.status.is_final:
                return job
            require_running(service)
            await wake.wait()


def require_running(service: Service) -> None:
    """Raise `ServiceStopping` if the service is shutting down."""
    if service.stopping.is_set():
        raise ServiceStopping("the service is shutting down; the job stays in the queue")


def require_completed(job: Job) -> None:
    """Raise the error that ended a job, if any; `Interrupted` if it was cancelled."""
    if job.status is JobStatus.CANCELLED:
        raise Interrupted(f"the job {job.id} was cancelled", hint="Send the recording again to resume it.")
    if job.status is JobStatus.ERROR:
        kind = BY_CODE.get(job.error_code or "", CesarError)
        raise kind(without_paths(job.error_message or "the job failed", job), hint=job.error_hint)


async def _read(service: Service, job_id: str) -> Job:
    """Return a job, read once for all waiting callers. Raises `JobNotFound`."""
    key = ("job", job_id, service.hub.version(job_id))
    job = await service.hub.coalesce(key, lambda: service.repository.get(job_id))
    if job is None:
        raise JobNotFound(f"the job {job_id} was deleted", hint="Send the recording again.")
    return job
