"""Jobs: list, show, cancel, retry and delete them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AwareDatetime

from cesar.api.http.dependencies import Service, ServiceDep
from cesar.api.http.middleware.auth import Caller, Reader, Submitter, find_job
from cesar.api.http.schemas import EventView, JobsView, JobView, event_view
from cesar.api.http.uploads.options import resolve_model
from cesar.api.models import JobFilter, JobStatus, PageContent
from cesar.errors import UsageError

router = APIRouter(tags=["Jobs"])
_MAX_PAGE_BYTES = 4 * 1024**2
_NO_NUL = r"^[^\x00]*$"  # it would end the string in SQL
JobId = Annotated[str, Path(max_length=255, description="The job's id.")]


class JobQuery:
    """Which jobs to list: a dependency that reads the query parameters."""

    def __init__(
        self,
        status: Annotated[
            list[JobStatus] | None, Query(description="Only jobs with this status; may be repeated.")
        ] = None,
        model: Annotated[str | None, Query(max_length=255, description="Only jobs for this model.")] = None,
        name: Annotated[
            str | None, Query(max_length=255, pattern=_NO_NUL, description="Only jobs whose name contains this text.")
        ] = None,
        id_prefix: Annotated[
            str | None, Query(max_length=255, description="Only jobs whose ids start with this.")
        ] = None,
        created_after: Annotated[AwareDatetime | None, Query(description="Only jobs created after this time.")] = None,
        created_before: Annotated[
            AwareDatetime | None, Query(description="Only jobs created before this time.")
        ] = None,
    ) -> None:
        self.status = frozenset(status or ())
        self.model = model
        self.name = name
        self.id_prefix = id_prefix
        self.created_after = created_after
        self.created_before = created_before


@router.get("/jobs", summary="List jobs")
async def list_jobs(
    service: ServiceDep,
    caller: Annotated[Caller, Reader],
    query: Annotated[JobQuery, Depends()],
    cursor: Annotated[str | None, Query(max_length=32, description="`next_cursor` of the previous page.")] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Maximum number of jobs.")] = 50,
    include: Annotated[
        list[Literal["text"]] | None, Query(description="`text`: include the jobs' texts, which are null otherwise.")
    ] = None,
) -> JobsView:
    """List your jobs, newest first; with the scope `admin`, everyone's.

    A page has at most 4 MiB of text, so it may have fewer jobs than `limit` and still a `next_cursor`.
    """
    content = PageContent(with_text="text" in (include or ()), max_bytes=_MAX_PAGE_BYTES)
    job_filter = _filter(query, service, caller)
    page = await service.repository.list_page(job_filter, cursor=cursor, limit=limit, content=content)
    return JobsView(jobs=await service.job_presenter.views(page.jobs), next_cursor=page.next_cursor)


@router.get("/jobs/{job_id}", summary="Show a job")
async def show_job(service: ServiceDep, caller: Annotated[Caller, Reader], job_id: JobId) -> JobView:
    """Show a job: its progress, its queue position and estimated end; once it has completed, its text."""
    return await service.job_presenter.view(await find_job(service, caller, job_id))


@router.get("/jobs/{job_id}/history", summary="Read a job's history")
async def show_history(service: ServiceDep, caller: Annotated[Caller, Reader], job_id: JobId) -> list[EventView]:
    """List the changes of a job's status so far, oldest first."""
    await find_job(service, caller, job_id)
    return [event_view(event) for event in await service.repository.events(job_id)]


@router.delete("/jobs/{job_id}", summary="Delete a job", status_code=204)
async def delete_job(service: ServiceDep, caller: Annotated[Caller, Submitter], job_id: JobId) -> Response:
    """Delete a job with its recording, checkpoints and text. A running job has to be cancelled first (409)."""
    await find_job(service, caller, job_id)
    await service.repository.delete(job_id)
    return Response(status_code=204)


@router.post("/jobs/{job_id}/cancel", summary="Cancel a job")
async def cancel_job(service: ServiceDep, caller: Annotated[Caller, Submitter], job_id: JobId) -> JobView:
    """Cancel a job: a queued one at once, a running one soon (`cancel_requested`); a finished one stays as it is.

    What has been recognised is kept for a retry.
    """
    await find_job(service, caller, job_id)
    return await service.job_presenter.view(await service.repository.request_cancel(job_id))


@router.post("/jobs/{job_id}/retry", summary="Retry a job")
async def retry_job(service: ServiceDep, caller: Annotated[Caller, Submitter], job_id: JobId) -> JobView:
    """Queue a failed or cancelled job again, at its old position; it resumes where it stopped. Others give 409.

    It counts as an unfinished job again: 429 if the limit is reached.
    """
    await find_job(service, caller, job_id)
    job = await service.repository.retry(job_id, max_open=service.settings.max_open_jobs)
    return await service.job_presenter.view(job)


def _filter(query: JobQuery, service: Service, caller: Caller) -> JobFilter:
    try:
        return JobFilter(
            status=query.status,
            model_size=None if query.model is None else resolve_model(query.model, service.settings),
            name_contains=query.name,
            id_prefix=query.id_prefix,
            created_after=query.created_after,
            created_before=query.created_before,
            submitter=None if caller.sees_all else caller.key_id,
        )
    except OverflowError:  # a time in the year 1 or 9999 that has no equivalent in UTC
        raise UsageError("a time is out of range", hint="Use one such as 2030-05-17T12:00:00Z.") from None
