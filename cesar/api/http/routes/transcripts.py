"""`/jobs/{id}/transcript` and `/jobs/{id}/audio`."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

import cesar
from cesar.api.http.dependencies import ServiceDep
from cesar.api.http.middleware.auth import Caller, Reader, find_job
from cesar.api.http.responses.media_types import (
    HEAD_BYTES,
    UNKNOWN,
    content_disposition,
    detect_media_type,
    is_satisfiable,
    is_usable_range,
)
from cesar.api.http.responses.negotiation import choose, etag_matches
from cesar.api.http.responses.stored import load_chunks
from cesar.api.http.schemas import model_name, without_paths
from cesar.api.http.uploads.multipart import clean_name
from cesar.api.models import Job, JobStatus
from cesar.api.queries.transcripts import transcript_of
from cesar.errors import NotAcceptable, QueueError, RecordingNotKept, UnknownFormat
from cesar.formats import FORMAT_NAMES, FORMATS, UNKNOWN_FORMAT_HINT, render
from cesar.formats.subtitles.cues import CUE_DURATION, LINE_LENGTH, LINES, Limit, SubtitleOptions
from cesar.transcript import Chunk, Transcript

router = APIRouter(tags=["transcripts"])
PARTIAL = "X-Cesar-Partial"
_OFFERS = {name: known.media_type for name, known in FORMATS.items()}
_CHARSET_IS_KNOWN = "application/json"
_TRANSCRIPT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"The transcript. With the header `{PARTIAL}: true` it is partial: the job has not completed.",
        "content": {media_type: {"schema": {"type": "string"}} for media_type in _OFFERS.values()}
        | {_CHARSET_IS_KNOWN: {"schema": {"type": "object"}}},
    },
    304: {"description": "Not modified."},
}
_AUDIO: dict[int | str, dict[str, Any]] = {
    200: {"description": "The recording", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "A part of it", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "Not modified."},
}


def _limit(limit: Limit) -> Any:
    return Query(ge=limit.minimum, le=limit.maximum, description=f"srt and vtt: {limit.help}.")


def _subtitle_options(
    max_line_length: Annotated[int, _limit(LINE_LENGTH)] = int(LINE_LENGTH.default),
    max_lines: Annotated[int, _limit(LINES)] = int(LINES.default),
    max_cue_duration: Annotated[float, _limit(CUE_DURATION)] = CUE_DURATION.default,
) -> SubtitleOptions:
    return SubtitleOptions(max_line_length, max_lines, max_cue_duration)


@router.get("/jobs/{job_id}/transcript", summary="Read a transcript", response_class=Response, responses=_TRANSCRIPT)
async def read_transcript(
    request: Request,
    service: ServiceDep,
    caller: Annotated[Caller, Reader],
    job_id: str,
    subtitles: Annotated[SubtitleOptions, Depends(_subtitle_options)],
    format_name: Annotated[
        str | None,
        Query(
            alias="format",
            description="Default: chosen by `Accept`, else txt.",
            json_schema_extra={"enum": [*FORMATS]},
        ),
    ] = None,
) -> Response:
    """Return the transcript in a format; what has been recognised so far, if the job has not completed.

    A partial response has the header `X-Cesar-Partial: true`, and in JSON `is_partial` is true.
    """
    name = _format_of(format_name, ", ".join(request.headers.getlist("Accept")))
    await find_job(service, caller, job_id)
    job, chunks = await load_chunks(service.repository, job_id)
    headers = {"Vary": "Accept", "Content-Disposition": content_disposition("inline", _download_name(job, name))}
    if job.status is JobStatus.COMPLETED:
        headers["ETag"] = _tag(job, name, subtitles)
        if etag_matches(request.headers.get("If-None-Match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
    else:
        headers[PARTIAL] = "true"
    text = await asyncio.to_thread(_render, job, chunks, name, subtitles)  # long transcripts take a while
    return Response(text.encode(), headers=headers | {"Content-Type": _content_type(name)})


@router.get("/jobs/{job_id}/audio", summary="Get the recording", response_class=Response, responses=_AUDIO)
async def read_audio(request: Request, service: ServiceDep, caller: Annotated[Caller, Reader], job_id: str) -> Response:
    """Return the recording, or with `Range` a part of it. Files queued by path have none."""
    job = await find_job(service, caller, job_id)
    if job.audio_digest is None:
        raise RecordingNotKept(f"the recording of job {job_id} is not stored here")
    path, tag = service.audio.path_of(job.audio_digest), f'"{job.audio_digest}"'
    head, status = await asyncio.to_thread(_read_head, path, job_id)
    if etag_matches(request.headers.get("If-None-Match", ""), tag):
        return Response(status_code=304, headers={"ETag": tag})
    _check_range(request, tag, status.st_size)
    media_type = detect_media_type(head, job.name)
    kind = "attachment" if media_type == UNKNOWN else "inline"
    headers = {"ETag": tag, "Content-Disposition": content_disposition(kind, clean_name(job.name))}
    return FileResponse(path, headers=headers, media_type=media_type, stat_result=status)


def _format_of(format_name: str | None, accept: str) -> str:
    """Choose the format. Raises `UnknownFormat` or `NotAcceptable`."""
    if format_name is not None:
        if format_name not in FORMATS:
            raise UnknownFormat(f"there is no format named {format_name[:64]!r}", hint=UNKNOWN_FORMAT_HINT)
        return format_name
    chosen = choose(accept, _OFFERS)
    if chosen is None:
        hint = f"Request one with `format=`: {FORMAT_NAMES}."
        raise NotAcceptable(f"no format has an accepted media type: {accept[:200]}", hint=hint)
    return chosen


def _render(job: Job, chunks: list[Chunk], name: str, subtitles: SubtitleOptions) -> str:
    if job.result_text and not chunks:
        if name != "txt":
            raise QueueError(f"only the text of job {job.id} is stored", hint="Ask for it with `format=txt`.")
        return f"{job.result_text}\n"
    return render(_public(transcript_of(job, chunks), job), name, subtitles)


def _public(transcript: Transcript, job: Job) -> Transcript:
    """Return a transcript without paths of this machine."""
    model = replace(transcript.model, name=model_name(transcript.model.name))
    return replace(
        transcript, model=model, warnings=tuple(without_paths(warning, job) for warning in transcript.warnings)
    )


def _download_name(job: Job, name: str) -> str:
    return f"{PurePosixPath(clean_name(job.name)).stem}{FORMATS[name].extensions[0]}"


def _tag(job: Job, name: str, subtitles: SubtitleOptions) -> str:
    """Return the entity tag of a completed job; its rendering changes only with the version of Cesar."""
    state = f"{job.id} {job.version} {name} {subtitles} {cesar.__version__}"
    return f'"{hashlib.sha256(state.encode()).hexdigest()[:32]}"'


def _content_type(name: str) -> str:
    return _OFFERS[name] if _OFFERS[name] == _CHARSET_IS_KNOWN else f"{_OFFERS[name]}; charset=utf-8"


def _read_head(path: Path, job_id: str) -> tuple[bytes, os.stat_result]:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES), os.fstat(file.fileno())
    except OSError as error:
        raise RecordingNotKept(f"the recording of job {job_id} no longer exists") from error


def _check_range(request: Request, tag: str, size_bytes: int) -> None:
    """Remove an unusable range from the request; raise 416 for one that can't be satisfied."""
    byte_range = request.headers.get("Range", "")
    if not is_usable_range(byte_range, request.headers.get("If-Range", ""), tag):
        request.scope["headers"] = [item for item in request.scope["headers"] if item[0] != b"range"]
    elif not is_satisfiable(byte_range, size_bytes):
        headers = {"Content-Range": f"bytes */{size_bytes}"}
        raise HTTPException(416, "the range lies outside the recording", headers)
