"""Jobs: list them, look at one, cancel, retry and delete."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AwareDatetime

from cesar.api.http.dependencies import Service, service_of
from cesar.api.http.middleware.auth import Caller, Reader, Submitter, find_job
from cesar.api.http.schemas import EventView, JobsView, JobView, event_view
from cesar.api.http.uploads.options import model_for
from cesar.api.models import JobFilter, JobStatus, PageContent
from cesar.errors import UsageError

router = APIRouter(tags=["Jobs"])
_MOST_PAGE_BYTES = 4 * 1024**2
_NO_NUL = r"^[^\x00]*$"  # it would end the text for the database
JobId = Annotated[str, Path(max_length=255, description="The id that the job was given.")]


class Wanted:
    """Which jobs to list: a dependency that reads it from the query."""

    def __init__(
        self,
        status: Annotated[
            list[JobStatus] | None, Query(description="Only jobs of this status; may be given several times.")
        ] = None,
        model: Annotated[str | None, Query(max_length=255, description="Only jobs of this model.")] = None,
        name: Annotated[
            str | None, Query(max_length=255, pattern=_NO_NUL, description="Only jobs with this text in the name.")
        ] = None,
        id_prefix: Annotated[str | None, Query(max_length=255, description="Only jobs whose ids begin so.")] = None,
        created_after: Annotated[AwareDatetime | None, Query(description="Only jobs that are newer.")] = None,
        created_before: Annotated[AwareDatetime | None, Query(description="Only jobs that are older.")] = None,
    ) -> None:
        self.status = frozenset(status or ())
        self.model = model
        self.name = name
        self.id_prefix = id_prefix
        self.created_after = created_after
        self.created_before = created_before


@router.get("/jobs", summary="List jobs")
async def list_jobs(
    request: Request,
    caller: Annotated[Caller, Reader],
    wanted: Annotated[Wanted, Depends()],
    cursor: Annotated[str | None, Query(max_length=32, description="`next_cursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="How many jobs to give at most.")] = 50,
    include: Annotated[
        list[Literal["text"]] | None, Query(description="`text`: the jobs with their whole texts, else null.")
    ] = None,
) -> JobsView:
    """List jobs, the newest first: your own; all with a key that has the scope `admin`.

    A page holds 4 MiB of text at most, so it may have fewer jobs than `limit` and still a `next_cursor`.
    """
    service = service_of(request)
    extent = PageContent(with_text="text" in (include or ()), max_bytes=_MOST_PAGE_BYTES)
    filtered = _filter(wanted, service, caller)
    page = await service.repository.list_page(filtered, cursor=cursor, limit=limit, content=extent)
    return JobsView(jobs=await service.outlook.views(page.jobs), next_cursor=page.next_cursor)


@router.get("/jobs/{job_id}", summary="Look at a job")
async def show_job(request: Request, caller: Annotated[Caller, Reader], job_id: JobId) -> JobView:
    """Look at a job: how far it is, what goes before it and when it will be done; in the end its text."""
    service = service_of(request)
    return await service.outlook.view(await find_job(service, caller, job_id))


@router.get("/jobs/{job_id}/history", summary="Read a job's history")
async def show_history(request: Request, caller: Annotated[Caller, Reader], job_id: JobId) -> list[EventView]:
    """List the changes of a job's status so far, the oldest first."""
    service = service_of(request)
    await find_job(service, caller, job_id)
    return [event_view(event) for event in await service.repository.events(job_id)]


@router.delete("/jobs/{job_id}", summary="Delete a job", status_code=204)
async def delete_job(request: Request, caller: Annotated[Caller, Submitter], job_id: JobId) -> Response:
    """Delete a job with its recording, checkpoints and text. A job at work has to be cancelled first (409)."""
    service = service_of(request)
    await find_job(service, caller, job_id)
    await service.repository.delete(job_id)
    return Response(status_code=204)


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job")
async def cancel_job(request: Request, caller: Annotated[Caller, Submitter], job_id: JobId) -> JobView:
    """Cancel a job: one that waits at once, one at work soon (`cancel_requested`), and one that is over not at all.

    What was recognised is kept, for when the job is tried again.
    """
    service = service_of(request)
    await find_job(service, caller, job_id)
    return await service.outlook.view(await service.repository.request_cancel(job_id))


@router.post("/jobs/{job_id}/retry", summary="Have a job tried again")
async def retry_job(request: Request, caller: Annotated[Caller, Submitter], job_id: JobId) -> JobView:
    """Queue a failed or cancelled job again, at its old place; it goes on where it was. Others give 409.

    It counts as one more unfinished job: 429 if there are as many as may be.
    """
    service = service_of(request)
    await find_job(service, caller, job_id)
    job = await service.repository.retry(job_id, max_open=service.settings.max_open_jobs)
    return await service.outlook.view(job)


def _filter(wanted: Wanted, service: Service, caller: Caller) -> JobFilter:
    try:
        return JobFilter(
            status=wanted.status,
            model_size=None if wanted.model is None else model_for(wanted.model, service.settings),
            name_contains=wanted.name,
            id_prefix=wanted.id_prefix,
            created_after=wanted.created_after,
            created_before=wanted.created_before,
            submitter=None if caller.sees_all else caller.key_id,
        )
    except OverflowError:  # a time in the year 1 or 9999 that is none in UTC
        raise UsageError("a time is too far away", hint="Give one such as 2030-05-17T12:00:00Z.") from None
