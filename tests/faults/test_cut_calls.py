"""Clients of OpenAI's endpoints whose connections break again and again, and who retry until they get a response."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

import pytest

from tests.api.http.openai.support import TRANSCRIPTIONS, OpenAICase, form
from tests.faults.conftest import IS_LONG, SEED
from tests.support.media import silence, write_wav

pytestmark = pytest.mark.slow
CALLERS, CUTS = (100, 20) if IS_LONG else (8, 4)
AT_ONCE = 40
"""Clients with a connection at a time."""


class TestCutCalls(OpenAICase):
    overrides: ClassVar = {"requests_per_minute": 10**9}
    note: Callable[..., None]

    @pytest.fixture(autouse=True)
    def _take_note(self, note: Callable[..., None]) -> None:
        self.note = note

    async def test_interrupted_calls_create_one_job_per_recording_and_return_the_right_one(self):
        await self.work()
        lengths_s = [0.2 + number / 100 for number in range(CALLERS)]
        room = asyncio.Semaphore(AT_ONCE)
        answers = await asyncio.gather(*[self.call(length_s, room) for length_s in lengths_s])
        jobs = await self.repository.list_all()
        assert len(jobs) == len({job.audio_digest for job in jobs}) == len(self.kept_files()) == CALLERS
        assert sorted(job.id for job in jobs) == sorted(job_id for job_id, _ in answers)
        assert [duration for _, duration in answers] == pytest.approx(lengths_s, abs=0.001)
        self.note("calls that were cut", CALLERS * CUTS, jobs=len(jobs), answers=len(answers))

    async def call(self, length_s: float, room: asyncio.Semaphore) -> tuple[str, float]:
        """Send a request and disconnect several times; then send it again. Return the job and its reported length."""
        rng = random.Random(f"{SEED} {length_s}")
        content = write_wav(self.folder / f"{length_s}.wav", silence(length_s)).read_bytes()
        for _ in range(CUTS):
            async with room:
                await self.break_off(content, rng)
        async with room:
            answer = await self.post(("response_format", "verbose_json"), content=content)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-cesar-job"], answer.json()["duration"]

    async def break_off(self, content: bytes, rng: random.Random) -> None:
        """Send some of a request, or all of it and read some of the response, and disconnect."""
        body = form(("model", "whisper-1"), ("response_format", "verbose_json"), content=content)
        host, port = self.url.removeprefix("http://").split(":")
        head = f"POST {TRANSCRIPTIONS} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        request = f"{head}Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode() + body
        reader, writer = await asyncio.open_connection(host, int(port))
        with suppress(ConnectionError):
            is_sent = rng.random() < 0.6
            writer.write(request if is_sent else request[: rng.randrange(len(request))])
            await writer.drain()
            if is_sent and rng.random() < 0.5:
                await reader.read(rng.randrange(1, 200))
        writer.transport.abort()
