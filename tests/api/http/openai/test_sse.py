"""Texts that are streamed as they are recognised."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cesar.api.http.openai.separators import separator_for
from cesar.api.models import Job, JobStatus
from cesar.options import TranscribeOptions
from tests.api.http.openai.support import SOUND, TRANSCRIPTIONS, OpenAICase, require_envelope
from tests.api.support import eventually

DONE = "transcript.text.done"


class StreamCase(OpenAICase):
    @asynccontextmanager
    async def open_stream(self, **fields: str) -> AsyncIterator[AsyncIterator[Any]]:
        """Request a stream; yield its events as an official client reads them, with [DONE] as it is."""
        wishes = {"model": "gpt-4o-transcribe", "stream": "true", **fields}
        request = self.client.stream("POST", TRANSCRIPTIONS, files={"file": ("a.wav", SOUND)}, data=wishes)

        async def events() -> AsyncIterator[Any]:
            async with request as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert answer.headers["x-cesar-job"]
                async for line in answer.aiter_lines():
                    assert line == "" or line.startswith(("data: ", ": "))
                    if line.startswith("data: "):
                        text = line.removeprefix("data: ")
                        yield text if text == "[DONE]" else json.loads(text)

        yield events()

    async def stream_all(self, *texts: str, language: str = "en", **fields: str) -> list[Any]:
        """Ask for a stream of what is then recognised so."""

        async def collect() -> list[Any]:
            async with self.open_stream(**fields) as events:
                return [event async for event in events]

        collecting = asyncio.create_task(collect())
        job = await self.next_job()
        await self.recognise(job, *texts)
        await self.end(job, language=language)
        return await collecting

    async def next_job(self) -> Job:
        async def waits() -> bool:
            return bool(await self.repository.list_all())

        await eventually(waits)
        return await self.claim()


class TestStream(StreamCase):
    async def test_each_segment_is_streamed_as_soon_as_it_is_stored(self):
        async with self.open_stream() as events:
            first = asyncio.ensure_future(anext(events))
            job = await self.next_job()
            await self.recognise(job, "One.")
            assert await first == {"type": "transcript.text.delta", "delta": "One."}
            await self.recognise(job, "Two.", begin=1)
            assert (await anext(events))["delta"] == " Two."
            await self.end(job)
            assert (await anext(events))["text"] == "One. Two."

    @pytest.mark.slow
    async def test_a_stream_ends_with_the_whole_text_and_its_usage(self):
        texts = [f"Sentence {number}." for number in range(25)]
        *deltas, done, last = await self.stream_all(*texts)
        assert {event["type"] for event in deltas} == {"transcript.text.delta"}
        assert len(deltas) == len(texts)
        assert "".join(event["delta"] for event in deltas) == done["text"] == " ".join(texts)
        assert done["type"] == DONE
        assert done["usage"]["type"] == "tokens"
        assert last == "[DONE]"
        assert (await self.post(("model", "gpt-4o-transcribe"))).json()["text"] == done["text"]

    @pytest.mark.slow
    async def test_the_stream_of_a_finished_job_is_the_same(self):
        before = await self.stream_all("One.", "Two.")
        async with self.open_stream() as events:
            assert [event async for event in events] == before

    async def test_the_stream_of_silence_has_only_its_end(self):
        done, _ = await self.stream_all()
        assert (done["type"], done["text"]) == (DONE, "")

    @pytest.mark.slow
    async def test_a_stream_escapes_characters_that_some_take_for_line_ends(self):
        delta, done, _ = await self.stream_all("one\u2028two\x85three")
        assert delta["delta"] == done["text"] == "one\u2028two\x85three"

    @pytest.mark.slow
    async def test_a_stream_puts_no_spaces_into_unspaced_languages(self):
        *_, done, _ = await self.stream_all("東京は雨です。", "外は寒い。", language="ja")
        assert done["text"] == "東京は雨です。外は寒い。"
        assert (await self.post(("model", "gpt-4o-transcribe"))).json()["text"] == done["text"]


class TestFailedStream(StreamCase):
    @pytest.mark.slow
    async def test_a_stream_ends_with_the_jobs_error(self):
        async with self.open_stream() as events:
            first = asyncio.ensure_future(anext(events))
            job = await self.next_job()
            await self.recognise(job, "One.")
            await first
            await self.end(job, JobStatus.ERROR, error_code="bad_audio", error_message="the track is broken")
            [failure] = [event async for event in events]
        assert set(failure) == {"error"}
        assert failure["error"]["code"] == "bad_audio"
        assert set(failure["error"]) == {"message", "type", "param", "code"}

    async def test_a_stream_that_fails_before_its_first_event_has_the_errors_status(self):
        request, _ = await self.asked(("model", "gpt-4o-transcribe"), ("stream", "true"))
        job = await self.claim()
        await self.end(job, JobStatus.ERROR, error_code="bad_audio", error_message="the track is broken")
        require_envelope(await request, 400, "bad_audio")

    async def test_a_stream_ends_with_an_error_if_the_job_is_restarted(self):
        async with self.open_stream() as events:
            first = asyncio.ensure_future(anext(events))
            job = await self.next_job()
            await self.repository.resume(job, "one model")
            await self.recognise(job, "One.")
            await first
            await self.repository.resume(job, "another model")
            await self.recognise(job, "Eins.")
            [failure] = [event async for event in events]
        assert failure["error"]["code"] == "stale_job"


def test_the_separator_follows_the_language_if_given():
    assert separator_for(TranscribeOptions(language="ja"), "ABC") == ""
    assert separator_for(TranscribeOptions(language="en"), "東京") == " "
    assert separator_for(TranscribeOptions(language="ja", task="translate"), "東京") == " "
    assert separator_for(TranscribeOptions(), "123") == " "
    assert separator_for(TranscribeOptions(), "สวัสดี") == ""
