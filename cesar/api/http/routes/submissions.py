"""Handing in recordings: as an upload, or by their address."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Header, Request, Response

from cesar.api.execution.download.address_policy import policy_from, require_address
from cesar.api.http.dependencies import Service, service_of
from cesar.api.http.middleware.auth import Caller, Submitter
from cesar.api.http.quotas import require_priority
from cesar.api.http.schemas import JobView
from cesar.api.http.uploads.multipart import FILE, Upload, clean_name, receive
from cesar.api.http.uploads.options import FIELDS, UrlWishes, Wishes, model_for, schema_of, url_wishes_of, wishes_of
from cesar.api.http.uploads.result_cache import result_key
from cesar.api.models import Job
from cesar.api.queue.enqueue import SubmissionPolicy
from cesar.errors import AddressRefused, ServiceStopping

router = APIRouter(tags=["Submitting"])
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Any text of your own: sending the same request with the same key again gives the same job, "
        "so that a request whose answer got lost can be repeated. Another request with that key gives 409.",
    ),
]
_LOCATION = {"Location": {"description": "The job's address.", "schema": {"type": "string"}}}
_TAKEN: dict[int | str, dict[str, Any]] = {202: {"description": "The job", "headers": _LOCATION}}
_RECORDING = {
    "type": "string",
    "format": "binary",
    "description": "The recording: any audio or video file. Its name becomes the job's, without folders.",
}


def _body(kind: str, schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that the framework doesn't read."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema, "example": example}}}}


def _last_of(url: str) -> str:
    """Give an address's last part, or its host if there is none."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise AddressRefused(f"the address can't be read: {error}") from None
    return unquote(parts.path).rstrip("/").rpartition("/")[2] or parts.hostname or ""


@router.post(
    "/transcribe",
    summary="Hand in a recording",
    status_code=202,
    responses=_TAKEN,
    openapi_extra=_body(
        "multipart/form-data", schema_of(Wishes, file=_RECORDING), {FILE: "talk.mp3", "language": "en"}
    ),
)
async def transcribe(
    request: Request,
    response: Response,
    caller: Annotated[Caller, Submitter],
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Hand in a recording.

    It is stored as it arrives, once for the same bytes, and its job joins the queue. If the same bytes were
    recognised before for you, with the same wishes, model and program, the job is `completed` at once and
    `cached_from` says whose result it has.

    `curl -F file=@talk.mp3 -F language=en http://127.0.0.1:5000/transcribe`
    """
    service = service_of(request)
    _require_open(service)
    async with receive(request, service, FIELDS) as upload:
        wishes = wishes_of(dict(upload.fields))
        require_priority(caller, wishes.priority, service.settings)
        async with service.stored.room_for(caller, service.settings, upload.size_bytes, upload.digest):
            job = _job(wishes, service, caller, **_kept(upload, service), idempotency_key=idempotency_key)
            key = await asyncio.to_thread(result_key, job, service.settings)
            job = await service.repository.create(job, upload=upload.path, policy=_terms(service, key))
    return await _taken(service, response, job)


@router.post(
    "/transcribe/url",
    summary="Have a recording fetched",
    status_code=202,
    responses=_TAKEN,
    openapi_extra=_body("application/json", schema_of(UrlWishes), {"url": "https://example.org/talk.mp3"}),
)
async def transcribe_url(
    request: Request,
    response: Response,
    caller: Annotated[Caller, Submitter],
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Have a recording fetched from an http or https address, and transcribed.

    Fetching is the first phase of the job, with progress; it goes on where it was if the connection breaks. Only
    addresses that anybody can reach are fetched from.
    """
    service = service_of(request)
    _require_open(service)
    wishes = await url_wishes_of(request)
    require_address(wishes.url, policy_from(service.settings))
    require_priority(caller, wishes.priority, service.settings)
    place = {
        "audio_path": wishes.url,
        "source_url": wishes.url,
        "name": clean_name(wishes.name or _last_of(wishes.url)),
    }
    job = _job(wishes, service, caller, **place, idempotency_key=idempotency_key)
    async with service.stored.room_for(caller, service.settings):
        job = await service.repository.create(job, policy=_terms(service, None))
    return await _taken(service, response, job)


def _job(wishes: Wishes, service: Service, caller: Caller, **more: Any) -> Job:
    return Job(
        model_size=model_for(wishes.model, service.settings),
        options=wishes.options(),
        priority=wishes.priority,
        no_cache=wishes.no_cache,
        submitter=caller.key_id,
        **more,
    )


def _kept(upload: Upload, service: Service) -> dict[str, Any]:
    """Say where the recording of a job will lie, and what it is called."""
    return {
        "audio_path": str(service.audio.path_of(upload.digest)),
        "audio_digest": upload.digest,
        "audio_bytes": upload.size_bytes,
        "name": upload.name,
    }


def _terms(service: Service, key: str | None) -> SubmissionPolicy:
    return SubmissionPolicy(result_key=key, max_open=service.settings.max_open_jobs)


async def _taken(service: Service, response: Response, job: Job) -> JobView:
    """Tell of the job, which may be over already."""
    response.headers["Location"] = f"/jobs/{job.id}"
    return await service.outlook.view(await service.repository.get(job.id) or job)


def _require_open(service: Service) -> None:
    if service.stopping.is_set():
        raise ServiceStopping("the service is about to end")
