"""Slow responses: kept alive, cut off, given up, or refused."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any, ClassVar
from unittest.mock import patch

import httpx
import pytest

from cesar.api.models import Job, JobStatus, utc_now
from tests.api.http.openai.support import TRANSCRIPTIONS, OpenAICase, require_envelope
from tests.api.support import PATIENCE_S, eventually

SOON_S = 0.01


class LongCase(OpenAICase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.service.keep_alive_s = SOON_S

    def stream(self, **fields: str) -> Any:
        """Send a request, and yield the response as it arrives."""
        files, told = {"file": ("talk.wav", b"not really sound")}, {"model": "whisper-1", **fields}
        return self.client.stream("POST", TRANSCRIPTIONS, files=files, data=told)


class TestSlowResponse(LongCase):
    async def test_slow_json_starts_with_spaces(self):
        async with self.stream() as answer:
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
            parts = answer.aiter_raw()
            content = await anext(parts) + await anext(parts)
            assert content.strip() == b""
            job = await self.claim()
            assert answer.headers["x-cesar-job"] == job.id
            await self.recognise(job, "Hello there.")
            await self.end(job)
            content += b"".join([part async for part in parts])
        assert content[:2] == b"  "
        assert json.loads(content)["text"] == "Hello there."

    async def test_slow_subtitles_are_not_padded(self):
        subtitles, _ = await self.asked(("response_format", "srt"))
        async with self.stream() as answer:
            parts = answer.aiter_raw()
            assert await anext(parts) + await anext(parts) == b"  "
            assert not subtitles.done()
            job = await self.claim()
            await self.recognise(job, "Hello there.")
            await self.end(job)
        found = await subtitles
        assert found.text.startswith("1\n00:00:00,000")
        assert found.headers["content-length"] == str(len(found.content))

    async def test_a_padded_response_is_cut_off_if_the_job_fails_and_a_retry_gets_the_error(self):
        async with self.stream() as answer:
            parts = answer.aiter_raw()
            await anext(parts)
            job = await self.claim()
            await self.end(job, JobStatus.ERROR, error_code="bad_audio", error_message="the track is broken")
            with pytest.raises(httpx.RemoteProtocolError):
                [part async for part in parts]
        self.service.keep_alive_s = PATIENCE_S  # else a busy machine's next answer, too, is begun before it is known
        assert "the track is broken" in require_envelope(await self.post(), 400, "bad_audio")["message"]

    async def test_a_stream_is_kept_alive_by_comments(self):
        async with self.stream(model="gpt-4o-transcribe", stream="true") as answer:
            lines = answer.aiter_lines()
            assert [await anext(lines), await anext(lines)] == [": ping", ""]


class TestDisconnectedCaller(LongCase):
    async def test_a_caller_that_disconnects_finds_its_job_again(self):
        async with self.stream() as answer:
            await anext(answer.aiter_raw())
            job_id = answer.headers["x-cesar-job"]
        await eventually(lambda: job_id not in self.service.hub._wakes)
        assert (await self.read(job_id)).status is JobStatus.QUEUED
        job = await self.claim()
        await self.recognise(job, "Hello there.")
        await self.end(job)
        again = await self.post()
        assert (again.json()["text"], again.headers["x-cesar-job"]) == ("Hello there.", job_id)

    async def test_a_disconnect_is_noticed_even_if_nothing_is_sent(self):
        request, job = await self.asked(("response_format", "srt"))
        await eventually(lambda: job.id in self.service.hub._wakes)
        request.cancel()
        await eventually(lambda: job.id not in self.service.hub._wakes)


class TestRevokedKey(OpenAICase):
    overrides: ClassVar = {"require_key": True}

    async def revoke(self) -> None:
        await self.service.keys.revoke("mine")

    async def is_waited_for(self, job: Job) -> None:
        await eventually(lambda: job.id in self.service.hub._wakes)

    async def test_a_revoked_key_gets_no_text_and_its_job_continues(self):
        for wanted in ("json", "srt"):
            with self.subTest(wanted):
                key = await self.key(wanted)
                request, job = await self.asked(("response_format", wanted), headers=key, content=wanted.encode())
                await self.is_waited_for(job)
                await self.service.keys.revoke(wanted)
                answer = await request
                assert "revoked" in require_envelope(answer, 401, "invalid_api_key")["message"]
                assert (await self.read(job.id)).status is JobStatus.QUEUED

    async def test_a_revoked_key_gets_no_text_that_finishes_at_the_same_moment(self):
        request, job = await self.asked(headers=await self.key("mine"))
        await self.is_waited_for(job)
        await self.revoke()
        claimed = await self.claim()
        await self.recognise(claimed, "Hello there.")
        with patch("cesar.api.http.middleware.revocation.CHECK_INTERVAL_S", 0.0):
            await self.end(claimed)
            require_envelope(await request, 401, "invalid_api_key")

    @pytest.mark.slow
    async def test_a_revoked_key_gets_no_more_of_a_stream(self):
        files, fields = {"file": ("talk.wav", b"not really sound")}, {"model": "gpt-4o-transcribe", "stream": "true"}
        key = await self.key("mine")
        async with self.client.stream("POST", TRANSCRIPTIONS, files=files, data=fields, headers=key) as answer:
            reading = asyncio.create_task(answer.aread())
            await eventually(self.repository.list_all)
            claimed = await self.claim()
            await self.recognise(claimed, "One.")
            await self.is_waited_for(claimed)
            await self.revoke()
            content = await reading
        assert b"revoked" in content
        assert b"[DONE]" not in content


class TestShutdown(OpenAICase):
    @pytest.mark.slow
    async def test_shutdown_ends_waiting_calls_and_keeps_their_jobs(self):
        request, job = await self.asked()
        await eventually(lambda: job.id in self.service.hub._wakes)
        await self.service.stop()
        answer = await request
        require_envelope(answer, 503, "service_stopping")
        assert int(answer.headers["retry-after"]) >= 1
        assert "x-should-retry" not in answer.headers
        require_envelope(await self.post(), 503, "service_stopping")
        assert (await self.read(job.id)).status is JobStatus.QUEUED


class TestLongQueue(OpenAICase):
    overrides: ClassVar = {"max_wait_s": 100.0, "max_open_jobs": 4}

    async def know_the_pace(self) -> None:
        """Complete a job that took a minute."""
        await self.queue(b"earlier")
        job = await self.claim()
        job.started_at, job.duration = utc_now() - timedelta(seconds=60), 60.0
        await self.recognise(job, "Hello there.")
        await self.end(job, completed_at=utc_now())

    async def test_a_call_is_refused_with_retry_after_if_the_queue_is_too_long(self):
        await self.know_the_pace()
        mine, _ = await self.asked()
        answer = await self.post(content=b"another")
        error = require_envelope(answer, 429, "too_many_jobs")
        assert error["type"] == "rate_limit_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert len(self.kept_files()) == 2
        again = asyncio.create_task(self.post())  # who is in the line already may stay
        await self.end(await self.claim())
        assert (await mine).status_code == (await again).status_code == 200

    async def test_an_empty_queue_never_refuses_a_call(self):
        self.service.settings = type(self.settings)(**{**self.overrides, "model": self.model, "max_wait_s": 1.0})
        await self.know_the_pace()
        await self.asked()

    @pytest.mark.slow
    async def test_without_a_known_throughput_only_the_number_of_jobs_is_limited(self):
        for number in range(4):
            await self.asked(content=bytes([number]))
        answer = await self.post(content=b"one more")
        require_envelope(answer, 429, "too_many_jobs")
        assert answer.headers["retry-after"] == "30"
