"""A job told as OpenAI streams it: a delta for each segment as it is stored, and in the end all of the text at once.

Deltas can't be taken back: a job that is begun anew after the first of them ends the stream with an error.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from fastapi import Request

from cesar.api.execution.backoff import backoff
from cesar.api.http import errors
from cesar.api.http.dependencies import Service
from cesar.api.http.openai.errors import envelope, status_of
from cesar.api.http.openai.keep_alive import Manner
from cesar.api.http.openai.request import Asked
from cesar.api.http.openai.responses import additions, logprobs_of
from cesar.api.http.openai.separators import joiner_of
from cesar.api.http.openai.wait import require_completed, require_running
from cesar.api.http.responses.stored import read_stored
from cesar.api.queue.cursor import Cursor, Tail
from cesar.api.queue.transcripts import transcript_of
from cesar.errors import CesarError, DatabaseError, JobNotFound, StaleJob
from cesar.transcript import Segment

_CHUNKS_AT_ONCE = 10
_END = b"data: [DONE]\n\n"


def event(content: dict[str, Any]) -> bytes:
    r"""Write an event. Only ASCII: some clients take other marks than line feeds for the end of a line.

    >>> event({"delta": "a\u2028b"})
    b'data: {"delta": "a\\u2028b"}\n\n'
    """
    return f"data: {json.dumps(content, allow_nan=False)}\n\n".encode()


def write_failure(request: Request, error: CesarError) -> bytes:
    """Write the event that tells of an error: OpenAI's clients raise it."""
    told = errors.tell(request, error)
    return event(envelope(error, told, status_of(error, told)).model_dump())


MANNER = Manner("text/event-stream", is_whole=False, filler=b": ping\n\n", write_failure=write_failure)


async def streamed(service: Service, asked: Asked, job_id: str) -> AsyncGenerator[bytes, None]:
    """Give the events of a job. Raises the error that ends it, or `StaleJob` if it is begun anew."""
    telling = _Telling(asked)
    async for tail in tails(service, job_id):
        for chunk in tail.chunks:
            for segment in chunk.segments:
                yield telling.delta(segment)
    job, chunks = await read_stored(service.repository, job_id)
    require_completed(job)
    transcript = transcript_of(job, chunks)
    yield event({"type": "transcript.text.done", "text": telling.text, **additions(asked, transcript)})
    yield _END


async def tails(service: Service, job_id: str) -> AsyncGenerator[Tail, None]:
    """Give what is new of a job, as it is stored, until the job is over."""
    cursor, delays = Cursor(), backoff()
    with service.hub.watching(job_id) as wake:
        while True:
            wake.clear()
            try:
                tail = await service.repository.tail(job_id, cursor, limit=_CHUNKS_AT_ONCE)
            except DatabaseError:
                await asyncio.sleep(next(delays))
                continue
            cursor = _moved(cursor, tail, job_id)
            assert tail is not None
            if tail.chunks:
                yield tail
            if len(tail.chunks) == _CHUNKS_AT_ONCE:
                continue
            if tail.job.status.is_final:
                return
            require_running(service)
            delays = backoff()
            await wake.wait()


def _moved(cursor: Cursor, tail: Tail | None, job_id: str) -> Cursor:
    """Give the place after what has come. Raises `JobNotFound` or `StaleJob`."""
    if tail is None:
        raise JobNotFound(f"the job {job_id} was deleted", hint="Send the recording again.")
    if tail.job.generation != cursor.generation and cursor.chunk_start >= 0:
        raise StaleJob(f"the job {job_id} was begun anew", hint="Send the request again.")
    event_id = tail.events[-1].id if tail.events else cursor.event
    reached = tail.chunks[-1].start if tail.chunks else cursor.chunk_start
    return replace(cursor, event=event_id, generation=tail.job.generation, chunk_start=reached)


class _Telling:
    """The text so far."""

    def __init__(self, asked: Asked) -> None:
        self.text = ""
        self._asked = asked
        self._joiner: str | None = None

    def delta(self, segment: Segment) -> bytes:
        """Tell of the next segment: all deltas together are the text."""
        if self._joiner is None:
            self._joiner = joiner_of(self._asked.options, segment.text)
        delta = f"{self._joiner if self.text else ''}{segment.text}"
        self.text += delta
        content: dict[str, Any] = {"type": "transcript.text.delta", "delta": delta}
        if self._asked.options.token_logprobs:
            content["logprobs"] = logprobs_of([segment])
        return event(content)
