"""Changes to jobs by `cesar jobs cancel`, `retry` and `delete`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from cesar.api.models import Job, JobStatus
from cesar.cli.exits import describe, report_error
from cesar.cli.queue.backend import Queue, with_queue
from cesar.cli.queue.tables import label, short_id
from cesar.cli.transcription.reporters import write_stderr
from cesar.errors import CesarError, InvalidTransition

if TYPE_CHECKING:
    from cesar.settings.config import Settings

Change = Callable[[Queue, Job], Awaitable[str]]
"""Changes a job and returns a description of the change. Raises `InvalidTransition`."""


def change_each(
    id_prefixes: Sequence[str], settings: Settings, change: Change, *, confirm: Callable[[str], None] | None = None
) -> int:
    """Find all the jobs, then change each; return the exit code of the first failure, or 0.

    confirm: called with the jobs' names before anything is changed; raises to prevent the changes.
    Raises `QueueError` if one of the jobs can't be found; then none is changed.
    """
    jobs = with_queue(settings, lambda queue: _find_all(queue, id_prefixes))
    if confirm:
        confirm(", ".join(label(job) for job in jobs))

    async def change_all(queue: Queue) -> int:
        codes = [await _apply(queue, job, change) for job in jobs]
        return next((code for code in codes if code), 0)

    return with_queue(settings, change_all)


async def cancel(queue: Queue, job: Job) -> str:
    """Cancel a waiting job, or ask its worker to stop."""
    after = await queue.request_cancel(job.id)
    match after.status:
        case JobStatus.CANCELLED:
            return "cancelled"
        case JobStatus.PROCESSING:
            return "stopping"
    raise InvalidTransition(f"{label(job)} is already finished ({after.status})", hint="There is nothing to cancel.")


async def retry(queue: Queue, job: Job) -> str:
    """Queue a job again."""
    try:
        after = await queue.retry(job.id)
    except InvalidTransition as error:
        now = await queue.get(job.id) or job
        hint = "Only failed and cancelled jobs can be queued again."
        raise InvalidTransition(f"{label(job)} is {now.status}", hint=hint) from error
    return f"{after.status} again"


async def delete(queue: Queue, job: Job) -> str:
    """Delete a job."""
    try:
        await queue.delete(job.id)
    except InvalidTransition as error:
        hint = f"Cancel it first: `cesar jobs cancel {short_id(job.id)}`."
        raise InvalidTransition(f"{label(job)} is being processed", hint=hint) from error
    return "deleted"


async def _find_all(queue: Queue, id_prefixes: Sequence[str]) -> list[Job]:
    """Return the jobs without duplicates."""
    jobs = [await queue.find(id_prefix) for id_prefix in id_prefixes]
    return list({job.id: job for job in jobs}.values())


async def _apply(queue: Queue, job: Job, change: Change) -> int:
    try:
        write_stderr(f"{label(job)}: {await change(queue, job)}")
    except CesarError as error:
        status = describe(error)
        report_error(status, error, as_json=False, with_traceback=False)
        return status.code
    return 0
