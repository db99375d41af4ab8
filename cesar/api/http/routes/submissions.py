"""Submitting recordings, as an upload or by their address."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from cesar.api.execution.download.address_policy import policy_from, require_address
from cesar.api.http.dependencies import Service, ServiceDep
from cesar.api.http.middleware.auth import Caller, Submitter
from cesar.api.http.middleware.revocation import require_valid_key
from cesar.api.http.quotas import require_priority
from cesar.api.http.schemas import JobView
from cesar.api.http.uploads.file_writer import require_free_space
from cesar.api.http.uploads.multipart import FILE_FIELD, receive_upload
from cesar.api.http.uploads.options import (
    FORM_FIELDS,
    TranscriptionRequest,
    UrlTranscriptionRequest,
    body_schema,
    parse_form,
    parse_json,
    resolve_model,
)
from cesar.api.http.uploads.result_cache import result_key
from cesar.api.http.uploads.source import Source
from cesar.api.models import Job
from cesar.api.queue.enqueue import SubmissionPolicy
from cesar.errors import ServiceStopping
from cesar.limits import MAX_KEY_LENGTH
from cesar.options import TranscribeOptions

router = APIRouter(tags=["Submitting"])
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_KEY_LENGTH,
        description="Any text you choose: repeating a request with the same key returns the same job, so that a "
        "request whose response was lost can be sent again. A different request with that key gives 409.",
    ),
]
_LOCATION = {"Location": {"description": "The job's address.", "schema": {"type": "string"}}}
_ACCEPTED: dict[int | str, dict[str, Any]] = {202: {"description": "The job", "headers": _LOCATION}}
_RECORDING = {
    "type": "string",
    "format": "binary",
    "description": "The recording: any audio or video file. Its file name becomes the job's name.",
}


def _body(kind: str, schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI description of a body that the framework doesn't parse."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema, "example": example}}}}


@router.post(
    "/transcribe",
    summary="Submit a recording",
    status_code=202,
    responses=_ACCEPTED,
    openapi_extra=_body(
        "multipart/form-data",
        body_schema(TranscriptionRequest, file=_RECORDING),
        {FILE_FIELD: "talk.mp3", "language": "en"},
    ),
)
async def transcribe(
    request: Request,
    service: ServiceDep,
    response: Response,
    caller: Annotated[Caller, Submitter],
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Submit a recording.

    It is stored as it arrives, once for identical bytes, and its job joins the queue. If the same bytes were
    recognised for you before, with the same options, model and version of Cesar, the job is `completed` at once, and
    `cached_from` names the job whose result it has.

    `curl -F file=@talk.mp3 -F language=en http://127.0.0.1:5000/transcribe`
    """
    _require_running(service)
    async with receive_upload(request, service, FORM_FIELDS) as upload:
        await require_valid_key(request, service, caller)
        submission = parse_form(dict(upload.fields))
        require_priority(caller, submission.priority, service.settings)
        async with service.storage_quota.reserve(caller, service.settings, upload.size_bytes, upload.digest):
            source = Source.of_upload(upload, service.audio)
            job = _job(submission, source, service, caller, idempotency_key)
            key = await asyncio.to_thread(result_key, job, service.settings)
            job = await service.repository.create(job, upload=upload.path, policy=_policy(service, key))
    return await _accepted(service, response, job)


@router.post(
    "/transcribe/url",
    summary="Submit a recording by its address",
    status_code=202,
    responses=_ACCEPTED,
    openapi_extra=_body(
        "application/json", body_schema(UrlTranscriptionRequest), {"url": "https://example.org/talk.mp3"}
    ),
)
async def transcribe_url(
    request: Request,
    service: ServiceDep,
    response: Response,
    caller: Annotated[Caller, Submitter],
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Submit the http or https address of a recording, which the service fetches and transcribes.

    Fetching is the first phase of the job, with progress; it resumes after a broken connection. Only publicly
    reachable addresses are fetched.
    """
    _require_running(service)
    submission = await parse_json(request)
    await require_valid_key(request, service, caller)
    require_address(submission.url, policy_from(service.settings))
    require_priority(caller, submission.priority, service.settings)
    source = Source.at_address(submission.url, submission.name)
    job = _job(submission, source, service, caller, idempotency_key)
    await asyncio.to_thread(require_free_space, service.settings.audio_dir, 0, service.settings.min_free_bytes)
    async with service.storage_quota.reserve(caller, service.settings, _text_bytes(job.options)):
        job = await service.repository.create(job, policy=_policy(service, None))
    return await _accepted(service, response, job)


def _text_bytes(options: TranscribeOptions) -> int:
    """Return the approximate size of the options in the queue; prompt and hotwords may be long."""
    return sum(len(value) for value in options.to_dict().values() if isinstance(value, str))


def _job(request: TranscriptionRequest, source: Source, service: Service, caller: Caller, key: str | None) -> Job:
    return Job(
        name=source.name,
        audio_path=source.audio_path,
        audio_digest=source.audio_digest,
        audio_bytes=source.audio_bytes,
        source_url=source.source_url,
        model_size=resolve_model(request.model, service.settings),
        options=request.options(),
        priority=request.priority,
        no_cache=request.no_cache,
        idempotency_key=key,
        submitter=caller.key_id,
    )


def _policy(service: Service, key: str | None) -> SubmissionPolicy:
    return SubmissionPolicy(result_key=key, max_open=service.settings.max_open_jobs)


async def _accepted(service: Service, response: Response, job: Job) -> JobView:
    """Return the view of a new job, which may have finished already."""
    response.headers["Location"] = f"/jobs/{job.id}"
    return await service.job_presenter.view(await service.repository.get(job.id) or job)


def _require_running(service: Service) -> None:
    if service.stopping.is_set():
        raise ServiceStopping("the service is shutting down")
