"""`/jobs/{id}/events` and `/events`: server-sent events."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from cesar.api.http.dependencies import ServiceDep
from cesar.api.http.live.sse import ProgressView, SegmentView
from cesar.api.http.live.streams import AllJobsEventSource, EventStream, JobEventSource, read_batch, stream_events
from cesar.api.http.middleware.auth import Caller, Reader, find_job
from cesar.api.http.middleware.revocation import key_validity
from cesar.api.http.openapi_document import inline_refs
from cesar.api.http.schemas import EventView
from cesar.api.queries.cursor import Cursor
from cesar.errors import BadRequest

router = APIRouter(tags=["events"])
LastEventId = Annotated[
    str,
    Header(alias="Last-Event-ID", description="The id of the last event received: the stream resumes after it."),
]
LastEventIdInQuery = Annotated[
    str,
    Query(
        alias="last_event_id", description="The same, for clients that can't set headers. The header takes precedence."
    ),
]
_MAX_EVENT_ID_DIGITS = 18
_HINT = "Send the id of an event of this stream, or leave it out."


def _stream(*views: type[EventView | SegmentView | ProgressView], **others: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of a stream."""
    datas = [inline_refs(view.model_json_schema()) for view in views]
    texts = {name: {"type": "string"} for name in ("event", "id", "data")}
    content = {"text/event-stream": {"schema": {"type": "object", "properties": texts}, "x-event-data": datas}}
    described: dict[int | str, dict[str, Any]] = {200: {"description": "Server-sent events", "content": content}}
    return {**described, **{int(code[1:]): {"description": text} for code, text in others.items()}}


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=Response,
    responses=_stream(
        EventView, SegmentView, ProgressView, _204="The job has finished, and `Last-Event-ID` is that of `end`."
    ),
)
async def follow_job(
    request: Request,
    service: ServiceDep,
    caller: Annotated[Caller, Reader],
    job_id: str,
    header: LastEventId = "",
    query: LastEventIdInQuery = "",
) -> Response:
    """Stream everything that happens to a job, from its creation on, as server-sent events.

    - `status`: the status has changed.
    - `segment`: a segment has been recognised and stored.
    - `progress`: its progress or its queue position; this event has no id.
    - `reset`: the job was restarted, for example with another model version; discard the segments received so far.
    - `end`: the job has completed, failed or been cancelled; the data is the job, without its text.
    - `deleted`: the job was deleted.

    The stream is closed after `end` and `deleted`. When a connection breaks, reconnect with the header
    `Last-Event-ID`, as browsers do by themselves: no event is lost or repeated, even if the service was restarted.
    A client that has received `end` gets 204.
    """
    await find_job(service, caller, job_id)
    after = _cursor(header or query)
    if after.is_end:
        batch = await read_batch(service.repository, job_id, after)
        if batch is not None and batch.is_finished and not batch.data:
            return Response(status_code=204)
    source = JobEventSource(service.hub, service.repository, job_id, after)
    return EventStream(stream_events(source, service.hub, service.stopping), key_validity(request, service, caller))


@router.get("/events", summary="Follow all jobs", response_class=Response, responses=_stream(EventView, ProgressView))
async def follow_all(
    request: Request,
    service: ServiceDep,
    caller: Annotated[Caller, Reader],
    header: LastEventId = "",
    query: LastEventIdInQuery = "",
) -> Response:
    """Stream the events of all jobs that the caller may see, from now on or after `Last-Event-ID`.

    - `status`: a job's status has changed; the id is that of the change.
    - `progress`: the progress of a running job; this event has no id.

    The stream does not end.
    """
    last_id = header or query
    after = _event_id(last_id) if last_id else await service.repository.last_event()
    submitter = None if caller.sees_all else caller.key_id
    source = AllJobsEventSource(service.hub, service.repository, after, submitter)
    return EventStream(stream_events(source, service.hub, service.stopping), key_validity(request, service, caller))


def _cursor(last_id: str) -> Cursor:
    try:
        return Cursor.parse(last_id) if last_id else Cursor()
    except ValueError:
        raise BadRequest(f"{last_id[:64]!r} is not the id of an event", hint=_HINT) from None


def _event_id(last_id: str) -> int:
    if not (last_id.isascii() and last_id.isdigit() and len(last_id) <= _MAX_EVENT_ID_DIGITS):
        raise BadRequest(f"{last_id[:64]!r} is not the id of an event", hint=_HINT)
    return int(last_id)
