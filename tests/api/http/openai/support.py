"""A live service whose OpenAI endpoints are asked; the test itself does the work of the queue, so that it says when."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from cesar.api.models import Job, JobStatus
from tests.api.http.live_support import LiveCase
from tests.api.support import chunk, eventually

TRANSCRIPTIONS = "/v1/audio/transcriptions"
SOUND = b"not really sound"
ENVELOPE = {"message", "type", "param", "code"}


def form(*fields: tuple[str, str], content: bytes = SOUND, name: str = "talk.wav") -> bytes:
    """Write a form as it goes over the wire, with `b` for its boundary; the recording comes first."""
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    parts = [head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + content + b"\r\n"]
    parts += [f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{text}\r\n'.encode() for key, text in fields]
    return b"".join([*parts, b"--b--\r\n"])


class OpenAICase(LiveCase):
    """Each test has a server, and does by hand what a worker does."""

    async def post(
        self,
        *fields: tuple[str, str],
        path: str = TRANSCRIPTIONS,
        content: bytes = SOUND,
        name: str = "talk.wav",
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Ask for a transcript, of whisper-1 unless a model is named."""
        named = fields if any(key == "model" for key, _ in fields) else (("model", "whisper-1"), *fields)
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        return await self.client.post(
            path, content=form(*named, content=content, name=name), headers=kind | (headers or {})
        )

    async def asked(self, *fields: tuple[str, str], **more: Any) -> tuple[asyncio.Task[httpx.Response], Job]:
        """Ask, and give the request on its way with the job that it is at."""
        before = {job.id for job in await self.repository.list_all()}
        request = asyncio.create_task(self.post(*fields, **more))
        self.addCleanup(request.cancel)

        async def found() -> list[Job]:
            return [job for job in await self.repository.list_all() if job.id not in before]

        await eventually(found)
        [job] = await found()
        return request, job

    async def claim(self) -> Job:
        """Claim the next job, as a worker does."""
        job = await self.repository.get_next_queued()
        assert job is not None
        return job

    async def recognise(self, job: Job, *texts: str, begin: int = 0) -> None:
        """Store a chunk for each text: 10 s of the recording."""
        for number, text in enumerate(texts, begin):
            await self.repository.checkpoint(job, chunk(number * 10.0, number * 10.0 + 10.0, text))

    async def end(self, job: Job, status: JobStatus = JobStatus.COMPLETED, **outcome: Any) -> None:
        """Bring a claimed job to its end."""
        job.status = status
        if status is JobStatus.COMPLETED:
            job.result_text, job.detected_language = "", outcome.pop("language", "en")
            job.outcome = {"duration": outcome.pop("duration", 8.47)}
        for name, value in outcome.items():
            setattr(job, name, value)
        await self.repository.update(job)

    async def transcribe(
        self, *fields: tuple[str, str], texts: tuple[str, ...] = ("Hello there.",), **more: Any
    ) -> Any:
        """Send a request whose job is then completed with these texts; return the response."""
        request, _ = await self.asked(*fields, **more)
        job = await self.claim()
        await self.recognise(job, *texts)
        await self.end(job)
        return await request


def require_envelope(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is an error in OpenAI's format; return the envelope's content."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    assert answer.headers["x-request-id"].startswith("req_")
    content = answer.json()
    assert set(content) == {"error"}
    error: dict[str, Any] = content["error"]
    assert set(error) == ENVELOPE
    assert error["code"] == code, error
    assert error["message"]
    return error
