"""Texts as they are recognised, through the iterators of the official Python package."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

from tests.acceptance.conftest import Program
from tests.acceptance.openai.support import (
    IN_THE_MIDDLE,
    LONG,
    SPEECH,
    TEXT,
    create_async_client,
    create_client,
    jobs,
)
from tests.acceptance.service import PATIENCE_S, Service, serving
from tests.faults.support import wait_until
from tests.runner.support import write_script

pytestmark = pytest.mark.slow

STREAMING = "gpt-4o-transcribe"
"""OpenAI streams the texts of this model, and not those of whisper-1."""


def require_stream(events: list[Any], text: str) -> None:
    """See that deltas and one end make up the text."""
    *deltas, done = events
    assert all(isinstance(event, TranscriptionTextDeltaEvent) for event in deltas)
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert (done.type, done.text) == ("transcript.text.done", text)
    assert "".join(event.delta for event in deltas) == text
    assert done.usage is not None


def test_a_stream_has_deltas_and_then_the_whole_text(client):
    with client.audio.transcriptions.create(file=SPEECH, model=STREAMING, stream=True) as stream:
        require_stream(list(stream), TEXT)


def test_the_async_client_streams_too(service):
    async def follow() -> list[Any]:
        async with create_async_client(service) as client:
            stream = await client.audio.transcriptions.create(file=SPEECH, model=STREAMING, stream=True)
            return [event async for event in stream]

    require_stream(asyncio.run(follow()), TEXT)


@pytest.fixture
def hanging(program: Program) -> Iterator[tuple[Service, Path]]:
    """A service whose recogniser hangs once in the middle of the long recording, and the mark that it makes then."""
    marker = program.folder / "hung"
    model = write_script(program.folder / "hang.json", {"at": IN_THE_MIDDLE, "do": "hang", "unless": str(marker)})
    with serving(program, "--model", model) as service:
        yield service, marker


def test_deltas_arrive_while_the_rest_is_recognised(hanging):
    """The recogniser hangs in the middle; the beginning is sent all the same. It is killed, and the rest follows."""
    service, marker = hanging
    with create_client(service) as client:
        stream = client.audio.transcriptions.create(file=LONG, model=STREAMING, stream=True)
        events: list[Any] = [next(stream)]
        wait_until(marker.exists, PATIENCE_S)
        [job] = jobs(service)
        assert job["status"] == "processing"
        for child in service.children():
            os.kill(child, signal.SIGKILL)
        events += stream
    require_stream(events, service.result(job["id"])["text"])


def test_an_error_in_a_stream_is_raised_by_the_iterator(hanging):
    """Here the job is cancelled after the stream has started."""
    service, marker = hanging
    with create_client(service, max_retries=0) as client:
        stream = client.audio.transcriptions.create(file=LONG, model=STREAMING, stream=True)
        assert next(stream).type == "transcript.text.delta"
        wait_until(marker.exists, PATIENCE_S)
        [job] = jobs(service)
        service.client.post(f"/jobs/{job['id']}/cancel").raise_for_status()
        with pytest.raises(openai.APIError, match="was cancelled") as caught:
            list(stream)
    assert caught.value.code == "interrupted"


def test_a_client_that_stops_reading_does_not_stop_the_job(client, service):
    before = {job["id"] for job in jobs(service)}
    stream = client.audio.transcriptions.create(file=LONG, model=STREAMING, stream=True, prompt="Going away.")
    stream.close()
    [job] = [job for job in jobs(service) if job["id"] not in before]
    assert service.result(job["id"])["text"]
