"""`/v1`: OpenAI's audio endpoints, and its list of models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, MutableMapping
from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from cesar.api.http.dependencies import Service, ServiceDep
from cesar.api.http.middleware.auth import Caller, Reader, Submitter
from cesar.api.http.middleware.revocation import key_validity, require_valid_key, until_revoked
from cesar.api.http.openai import models, sse
from cesar.api.http.openai.deduplication import submit_or_join
from cesar.api.http.openai.errors import RESPONSES
from cesar.api.http.openai.forms import Form
from cesar.api.http.openai.keep_alive import KeepAliveResponse, ResponseMode
from cesar.api.http.openai.models import OpenAIModel, OpenAIModels
from cesar.api.http.openai.openapi import TRANSCRIPT, TRANSCRIPTION, TRANSLATION
from cesar.api.http.openai.request import OpenAIRequest, parse_request
from cesar.api.http.openai.responses import JSON, media_type_of, render_response
from cesar.api.http.openai.wait import require_completed, require_running, until_finished
from cesar.api.http.responses.stored import load_chunks
from cesar.api.http.schemas import job_view
from cesar.api.http.uploads.multipart import Upload, receive_upload
from cesar.api.models import Job
from cesar.api.queries.transcripts import transcript_of
from cesar.options import Task

router = APIRouter(prefix="/v1", tags=["as OpenAI has it"], responses=RESPONSES)
JOB = "X-Cesar-Job"
WARNINGS = "X-Cesar-Warnings"


@router.post(
    "/audio/transcriptions",
    summary="Transcribe, as OpenAI does",
    response_class=Response,
    responses=TRANSCRIPT,
    openapi_extra=TRANSCRIPTION,
)
async def create_transcription(request: Request, service: ServiceDep, caller: Annotated[Caller, Submitter]) -> Response:
    """Transcribe a recording, and return the transcript when it is finished.

    It becomes a job like any other; the header `X-Cesar-Job` has its id, and `X-Cesar-Warnings` has warnings about its
    text, unless the response took so long that its headers had to be sent before. Repeating a call with the same
    recording and options joins the same job, and returns its text at once if it has finished.
    """
    return await _answer(request, service, caller, "transcribe")


@router.post(
    "/audio/translations",
    summary="Translate into English, as OpenAI does",
    response_class=Response,
    responses=TRANSCRIPT,
    openapi_extra=TRANSLATION,
)
async def create_translation(request: Request, service: ServiceDep, caller: Annotated[Caller, Submitter]) -> Response:
    """Translate a recording into English, and return the text when it is finished; else as for transcriptions."""
    return await _answer(request, service, caller, "translate")


@router.get("/models", summary="List the models, as OpenAI does")
async def list_models(service: ServiceDep, _caller: Annotated[Caller, Reader]) -> OpenAIModels:
    """List the names that `model` accepts: OpenAI's, served by the model of `openai_model`, and Cesar's."""
    return OpenAIModels(data=await models.list_all(service.settings))


@router.get("/models/{model}", summary="Show a model, as OpenAI does")
async def show_model(service: ServiceDep, _caller: Annotated[Caller, Reader], model: str) -> OpenAIModel:
    """Show one of them."""
    return await models.find(model, service.settings)


async def _answer(request: Request, service: Service, caller: Caller, task: Task) -> Response:
    require_running(service)
    async with receive_upload(request, service, known_fields=None) as upload:
        await require_valid_key(request, service, caller)
        parsed = parse_request(Form(upload.fields), task)
        model_size = await models.resolve(parsed.model, service.settings)
        async with service.storage_quota.reserve(caller, service.settings, upload.size_bytes, upload.digest):
            job = await submit_or_join(service, _job(parsed, model_size, upload, service, caller), upload.path)
    headers = {JOB: job.id, "X-Accel-Buffering": "no"}  # turns off nginx's buffering
    if parsed.is_stream:
        parts, mode = sse.stream_events(service, parsed, job.id), sse.STREAM_MODE
    else:
        media_type = media_type_of(parsed.response_format)
        parts = _transcript(service, parsed, job.id, headers)
        mode = ResponseMode(media_type, keep_alive_bytes=b" " if media_type == JSON else None)
    parts = until_revoked(parts, key_validity(request, service, caller))
    return KeepAliveResponse(parts, mode, headers, service.keep_alive_s)


def _job(parsed: OpenAIRequest, model_size: str, upload: Upload, service: Service, caller: Caller) -> Job:
    return Job(
        model_size=model_size,
        options=parsed.options,
        submitter=caller.key_id,
        audio_path=str(service.audio.path_of(upload.digest)),
        audio_digest=upload.digest,
        audio_bytes=upload.size_bytes,
        name=upload.name,
    )


async def _transcript(
    service: Service, parsed: OpenAIRequest, job_id: str, headers: MutableMapping[str, str]
) -> AsyncGenerator[bytes, None]:
    """Yield the transcript of a job as one part when it has finished. Raises the error that ended it.

    headers: those of the response; the transcript's warnings are added, as OpenAI's bodies have no field for them.
    """
    require_completed(await until_finished(service, job_id))
    job, chunks = await load_chunks(service.repository, job_id)
    require_completed(job)
    if warnings := job_view(job).warnings:
        headers[WARNINGS] = "; ".join(warnings).encode("unicode_escape").decode("ascii")
    text = await asyncio.to_thread(
        lambda: render_response(parsed, transcript_of(job, chunks))
    )  # hours of words take a while
    yield text.encode()
