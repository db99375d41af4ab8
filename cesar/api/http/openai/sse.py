"""Transcripts streamed as OpenAI does: a delta for each segment as it is stored, and the whole text at the end.

Deltas can't be withdrawn: if the job is restarted after the first delta, the stream ends with an error.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import Request

from cesar.api.execution.backoff import retry_until_available
from cesar.api.http import errors
from cesar.api.http.dependencies import Service
from cesar.api.http.openai.errors import error_envelope, status_of
from cesar.api.http.openai.keep_alive import ResponseMode
from cesar.api.http.openai.request import OpenAIRequest
from cesar.api.http.openai.responses import extra_fields, logprobs_of
from cesar.api.http.openai.separators import separator_for
from cesar.api.http.openai.wait import require_completed, require_running
from cesar.api.http.responses.stored import load_chunks
from cesar.api.queries.cursor import Cursor, Tail
from cesar.api.queries.transcripts import transcript_of
from cesar.errors import CesarError, JobNotFound, StaleJob
from cesar.transcript import Segment

_CHUNKS_AT_ONCE = 10
_END = b"data: [DONE]\n\n"


def event(content: dict[str, Any]) -> bytes:
    r"""Return an encoded event. Only ASCII, as some clients take other characters than line feeds for line ends.

    >>> event({"delta": "a\u2028b"})
    b'data: {"delta": "a\\u2028b"}\n\n'
    """
    return f"data: {json.dumps(content, allow_nan=False)}\n\n".encode()


def encode_failure(request: Request, error: CesarError) -> bytes:
    """Return the event for an error, which OpenAI's clients raise."""
    problem = errors.translate(request, error)
    return event(error_envelope(error, problem, status_of(error, problem)).model_dump())


STREAM_MODE = ResponseMode(
    "text/event-stream", is_single_part=False, keep_alive_bytes=b": ping\n\n", encode_failure=encode_failure
)


async def stream_events(service: Service, request: OpenAIRequest, job_id: str) -> AsyncGenerator[bytes, None]:
    """Yield the events of a job. Raises the error that ended it, or `StaleJob` if it is restarted."""
    encoder = _DeltaEncoder(request)
    async for tail in follow_tails(service, job_id):
        for chunk in tail.chunks:
            for segment in chunk.segments:
                yield encoder.delta(segment)
    job, chunks = await load_chunks(service.repository, job_id)
    require_completed(job)
    transcript = transcript_of(job, chunks)
    yield event({"type": "transcript.text.done", "text": encoder.text, **extra_fields(request, transcript)})
    yield _END


async def follow_tails(service: Service, job_id: str) -> AsyncGenerator[Tail, None]:
    """Yield what is new of a job as it is stored, until the job has finished."""
    cursor = Cursor()
    with service.hub.subscribe(job_id) as wake:
        while True:
            wake.clear()
            read = partial(service.repository.tail, job_id, cursor, limit=_CHUNKS_AT_ONCE)
            tail = await retry_until_available(read)
            cursor = _advance(cursor, tail, job_id)
            assert tail is not None
            if tail.chunks:
                yield tail
            if len(tail.chunks) == _CHUNKS_AT_ONCE:
                continue
            if tail.job.status.is_final:
                return
            require_running(service)
            await wake.wait()


def _advance(cursor: Cursor, tail: Tail | None, job_id: str) -> Cursor:
    """Return the cursor after a tail. Raises `JobNotFound` or `StaleJob`."""
    if tail is None:
        raise JobNotFound(f"the job {job_id} was deleted", hint="Send the recording again.")
    if tail.job.generation != cursor.generation and cursor.chunk_start >= 0:
        raise StaleJob(f"the job {job_id} was restarted", hint="Send the request again.")
    event_id = tail.events[-1].id if tail.events else cursor.event
    reached = tail.chunks[-1].start if tail.chunks else cursor.chunk_start
    return replace(cursor, event=event_id, generation=tail.job.generation, chunk_start=reached)


class _DeltaEncoder:
    """Encodes segments as deltas, and keeps the text so far."""

    def __init__(self, request: OpenAIRequest) -> None:
        self.text = ""
        self._request = request
        self._separator: str | None = None

    def delta(self, segment: Segment) -> bytes:
        """Return the delta of the next segment: all deltas together are the text."""
        if self._separator is None:
            self._separator = separator_for(self._request.options, segment.text)
        delta = f"{self._separator if self.text else ''}{segment.text}"
        self.text += delta
        content: dict[str, Any] = {"type": "transcript.text.delta", "delta": delta}
        if self._request.options.token_logprobs:
            content["logprobs"] = logprobs_of([segment])
        return event(content)
