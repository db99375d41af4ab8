"""`/v1`: OpenAI's audio endpoints, and its list of models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, MutableMapping
from typing import Annotated

from fastapi import APIRouter, Request
from starlette.responses import Response

from cesar.api.http.dependencies import Service, service_of
from cesar.api.http.middleware.auth import Caller, Reader, Submitter
from cesar.api.http.middleware.revocation import welcome_of, while_welcome
from cesar.api.http.openai import models, sse
from cesar.api.http.openai.deduplication import join
from cesar.api.http.openai.errors import RESPONSES
from cesar.api.http.openai.forms import Form
from cesar.api.http.openai.keep_alive import LongAnswer, Manner
from cesar.api.http.openai.models import OpenAIModel, OpenAIModels
from cesar.api.http.openai.openapi import TRANSCRIPTION, TRANSLATION, WRITTEN
from cesar.api.http.openai.request import Asked, asked_of
from cesar.api.http.openai.responses import JSON, media_type_of, written
from cesar.api.http.openai.wait import require_completed, require_running, until_over
from cesar.api.http.responses.stored import read_stored
from cesar.api.http.schemas import view_of
from cesar.api.http.uploads.multipart import Upload, receive
from cesar.api.models import Job
from cesar.api.queue.transcripts import transcript_of
from cesar.options import Task

router = APIRouter(prefix="/v1", tags=["as OpenAI has it"], responses=RESPONSES)
JOB = "X-Cesar-Job"
WARNINGS = "X-Cesar-Warnings"


@router.post(
    "/audio/transcriptions",
    summary="Transcribe, as OpenAI does",
    response_class=Response,
    responses=WRITTEN,
    openapi_extra=TRANSCRIPTION,
)
async def create_transcription(request: Request, caller: Annotated[Caller, Submitter]) -> Response:
    """Transcribe a recording, and answer when it is done.

    It becomes a job like any other; the header `X-Cesar-Job` has its id, and `X-Cesar-Warnings` what is to be known
    of its text, unless the answer was so long in coming that its head had to be sent before. Who sends the same
    recording and wishes again gets the same job, and its text at once if it is done.
    """
    return await _answer(request, caller, "transcribe")


@router.post(
    "/audio/translations",
    summary="Translate into English, as OpenAI does",
    response_class=Response,
    responses=WRITTEN,
    openapi_extra=TRANSLATION,
)
async def create_translation(request: Request, caller: Annotated[Caller, Submitter]) -> Response:
    """Give what is said in a recording in English, and answer when it is done. The rest is as for transcriptions."""
    return await _answer(request, caller, "translate")


@router.get("/models", summary="List the models, as OpenAI does")
async def list_models(request: Request, _caller: Annotated[Caller, Reader]) -> OpenAIModels:
    """Give every name that `model` may have: OpenAI's, to which the model of `openai_model` answers, and ours."""
    return OpenAIModels(data=await models.list_all(service_of(request).settings))


@router.get("/models/{model}", summary="Look at a model, as OpenAI does")
async def show_model(request: Request, _caller: Annotated[Caller, Reader], model: str) -> OpenAIModel:
    """Give one of them."""
    return await models.find(model, service_of(request).settings)


async def _answer(request: Request, caller: Caller, task: Task) -> Response:
    service = service_of(request)
    require_running(service)
    async with receive(request, service, known_fields=None) as upload:
        asked = asked_of(Form(upload.fields), task)
        model_size = await models.model_size_of(asked.model, service.settings)
        async with service.stored.room_for(caller, service.settings, upload.size_bytes, upload.digest):
            job = await join(service, _job(asked, model_size, upload, service, caller), upload.path)
    headers = {JOB: job.id, "X-Accel-Buffering": "no"}  # what is to be seen at once is not to be collected
    if asked.is_stream:
        parts, manner = sse.streamed(service, asked, job.id), sse.MANNER
    else:
        media_type = media_type_of(asked.response_format)
        parts = _whole(service, asked, job.id, headers)
        manner = Manner(media_type, filler=b" " if media_type == JSON else None)
    parts = while_welcome(parts, welcome_of(request, service, caller))
    return LongAnswer(parts, manner, headers, service.keep_alive_s)


def _job(asked: Asked, model_size: str, upload: Upload, service: Service, caller: Caller) -> Job:
    return Job(
        model_size=model_size,
        options=asked.options,
        submitter=caller.key_id,
        audio_path=str(service.audio.path_of(upload.digest)),
        audio_digest=upload.digest,
        audio_bytes=upload.size_bytes,
        name=upload.name,
    )


async def _whole(
    service: Service, asked: Asked, job_id: str, headers: MutableMapping[str, str]
) -> AsyncGenerator[bytes, None]:
    """Give the transcript of a job in one part, when it is over. Raises the error that ended it.

    headers: those of the answer; they get the transcript's warnings, for which OpenAI's bodies have no place.
    """
    require_completed(await until_over(service, job_id))
    job, chunks = await read_stored(service.repository, job_id)
    require_completed(job)
    if warnings := view_of(job).warnings:
        headers[WARNINGS] = "; ".join(warnings).encode("unicode_escape").decode("ascii")
    text = await asyncio.to_thread(lambda: written(asked, transcript_of(job, chunks)))  # hours of words take a while
    yield text.encode()
