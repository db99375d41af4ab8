"""`/jobs/{id}/events` and `/events`: what happens, as it happens."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from cesar.api.http.dependencies import service_of
from cesar.api.http.live.sse import ProgressView, SegmentView
from cesar.api.http.live.streams import EventStream, EverythingFollower, JobFollower, read_news, told
from cesar.api.http.middleware.auth import Caller, Reader, find_job
from cesar.api.http.middleware.revocation import welcome_of
from cesar.api.http.openapi_document import inlined
from cesar.api.http.schemas import EventView
from cesar.api.queue.cursor import Cursor
from cesar.errors import BadRequest

router = APIRouter(tags=["events"])
LastEventId = Annotated[
    str,
    Header(alias="Last-Event-ID", description="The id of the last event that came: the stream goes on after it."),
]
LastEventIdInQuery = Annotated[
    str,
    Query(alias="last_event_id", description="The same, for clients that can't set headers. The header wins."),
]
_LONGEST_EVENT_ID = 18
_HINT = "Send the id of an event of this stream, or leave it out."


def _stream(*views: type[EventView | SegmentView | ProgressView], **others: str) -> dict[int | str, dict[str, Any]]:
    """Describe a stream for `/docs`."""
    datas = [inlined(view.model_json_schema()) for view in views]
    texts = {name: {"type": "string"} for name in ("event", "id", "data")}
    content = {"text/event-stream": {"schema": {"type": "object", "properties": texts}, "x-event-data": datas}}
    described: dict[int | str, dict[str, Any]] = {200: {"description": "Server-sent events", "content": content}}
    return {**described, **{int(code[1:]): {"description": text} for code, text in others.items()}}


@router.get(
    "/jobs/{job_id}/events",
    summary="Follow a job",
    response_class=Response,
    responses=_stream(
        EventView, SegmentView, ProgressView, _204="The job is over, and `Last-Event-ID` is that of `end`."
    ),
)
async def follow_job(
    request: Request,
    caller: Annotated[Caller, Reader],
    job_id: str,
    header: LastEventId = "",
    query: LastEventIdInQuery = "",
) -> Response:
    """Tell of everything that happens to a job, from its beginning, as it happens: server-sent events.

    - `status`: its status has changed.
    - `segment`: a segment is recognised, and stored.
    - `progress`: how far it has come, or how many jobs go before it; it has no id.
    - `reset`: it is begun anew, with another model version for example; forget the segments that were told.
    - `end`: it is completed, failed or cancelled; the data is the job, without its text.
    - `deleted`: it is no more.

    After `end` and `deleted` nothing comes, and the stream is closed. When a connection breaks, ask again with the
    header `Last-Event-ID`, as browsers do by themselves: nothing is left out and nothing comes twice, also when the
    service was started anew. Who has got `end` is answered with 204.
    """
    service = service_of(request)
    await find_job(service, caller, job_id)
    after = _cursor(header or query)
    if after.is_end:
        news = await read_news(service.repository, job_id, after)
        if news is not None and news.is_over and not news.written:
            return Response(status_code=204)
    follower = JobFollower(service.hub, service.repository, job_id, after)
    return EventStream(told(follower, service.hub, service.stopping), welcome_of(request, service, caller))


@router.get("/events", summary="Follow all jobs", response_class=Response, responses=_stream(EventView, ProgressView))
async def follow_all(
    request: Request,
    caller: Annotated[Caller, Reader],
    header: LastEventId = "",
    query: LastEventIdInQuery = "",
) -> Response:
    """Tell of all jobs that the caller may see, from now on or after `Last-Event-ID`: server-sent events.

    - `status`: a job's status has changed; the id is that of the change.
    - `progress`: how far a job at work has come; it has no id.

    The stream has no end.
    """
    service = service_of(request)
    last_id = header or query
    after = _event_id(last_id) if last_id else await service.repository.last_event()
    submitter = None if caller.sees_all else caller.key_id
    follower = EverythingFollower(service.hub, service.repository, after, submitter)
    return EventStream(told(follower, service.hub, service.stopping), welcome_of(request, service, caller))


def _cursor(last_id: str) -> Cursor:
    try:
        return Cursor.parse(last_id) if last_id else Cursor()
    except ValueError:
        raise BadRequest(f"{last_id[:64]!r} is no id of an event", hint=_HINT) from None


def _event_id(last_id: str) -> int:
    if not (last_id.isascii() and last_id.isdigit() and len(last_id) <= _LONGEST_EVENT_ID):
        raise BadRequest(f"{last_id[:64]!r} is no id of an event", hint=_HINT)
    return int(last_id)
