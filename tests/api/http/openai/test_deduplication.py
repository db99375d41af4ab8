"""Repeated calls with the same bytes and options share one job, and nobody gets another caller's."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from cesar.api.http.openai.deduplication import is_retryable
from cesar.api.models import Job, JobStatus
from cesar.errors import BY_CODE
from tests.api.http.openai.support import OpenAICase, require_envelope
from tests.api.http.support import require_problem
from tests.api.support import eventually

JOB = "X-Cesar-Job"


class TestRepeatedCalls(OpenAICase):
    async def jobs(self) -> list[Job]:
        return await self.repository.list_all()

    async def test_a_repeated_call_gets_the_stored_text_at_once_under_any_name(self):
        first = await self.transcribe()
        for name in ("talk.wav", "other.mp3", ""):
            again = await self.post(name=name)
            assert (again.json(), again.headers[JOB]) == (first.json(), first.headers[JOB])
        assert len(await self.jobs()) == 1

    @pytest.mark.slow
    async def test_a_call_with_other_options_is_another_job(self):
        await self.transcribe()
        others: list[dict[str, Any]] = [{"content": b"other sound"}, {"path": "/v1/audio/translations"}]
        fields = [("prompt", "Names."), ("language", "en"), ("model", "small"), ("temperature", "0.5")]
        others += [{"fields": [field]} for field in fields]
        for number, other in enumerate(others, 2):
            await self.asked(*other.pop("fields", ()), **other)
            assert len(await self.jobs()) == number

    async def test_a_call_with_another_format_shares_the_job(self):
        first = await self.transcribe()
        answer = await self.post(("response_format", "srt"))
        assert answer.headers[JOB] == first.headers[JOB]
        assert "Hello there." in answer.text

    async def test_a_repeated_call_joins_the_queued_or_running_job(self):
        one, job = await self.asked()
        two = asyncio.create_task(self.post())
        claimed = await self.claim()
        three = asyncio.create_task(self.post())
        await self.recognise(claimed, "Hello there.")
        await self.end(claimed)
        answers = await asyncio.gather(one, two, three)
        assert {answer.headers[JOB] for answer in answers} == {job.id}
        assert {answer.json()["text"] for answer in answers} == {"Hello there."}

    @pytest.mark.slow
    async def test_twenty_concurrent_calls_share_one_job_and_one_file(self):
        asked = [asyncio.create_task(self.post(name=f"{number}.wav")) for number in range(20)]
        await eventually(self.jobs)
        job = await self.claim()
        await self.end(job)
        assert {answer.headers[JOB] for answer in await asyncio.gather(*asked)} == {job.id}
        assert len(self.kept_files()) == 1

    async def test_a_repeated_call_retries_a_job_after_a_transient_failure(self):
        request, job = await self.asked()
        failure = {"error_code": "native_crash", "error_message": "the recogniser crashed"}
        await self.end(await self.claim(), JobStatus.ERROR, **failure)
        failed = await request
        require_envelope(failed, 500, "native_crash")
        assert (failed.headers[JOB], failed.headers["x-should-retry"]) == (job.id, "false")
        assert (await self.retry_result(job)).json()["text"] == "Hello there."

    async def retry_result(self, job: Job) -> Any:
        """Ask again for what has failed; two do so at once."""
        requests = [asyncio.create_task(self.post()) for _ in range(2)]

        async def waits() -> bool:
            return (await self.read(job.id)).status is JobStatus.QUEUED

        await eventually(waits)
        claimed = await self.claim()
        assert claimed.id == job.id
        await self.recognise(claimed, "Hello there.")
        await self.end(claimed)
        first, second = await asyncio.gather(*requests)
        assert first.headers[JOB] == second.headers[JOB] == job.id
        return first

    @pytest.mark.slow
    async def test_a_repeated_call_gets_the_same_error_after_a_failure_of_the_recording(self):
        request, job = await self.asked()
        await self.end(await self.claim(), JobStatus.ERROR, error_code="not_media", error_message="it is no media")
        for answer in (await request, await self.post(), await self.post()):
            assert "it is no media" in require_envelope(answer, 400, "not_media")["message"]
            assert answer.headers[JOB] == job.id
        assert (await self.read(job.id)).attempt == 1

    @pytest.mark.slow
    async def test_a_repeated_call_resumes_a_cancelled_job(self):
        request, job = await self.asked()
        await self.repository.request_cancel(job.id)
        cancelled = await request
        require_envelope(cancelled, 409, "interrupted")
        assert cancelled.headers["x-should-retry"] == "false"
        await self.retry_result(job)

    async def test_a_repeated_call_waits_for_a_cancellation_and_resumes_the_job(self):
        _, job = await self.asked()
        claimed = await self.claim()
        await self.repository.request_cancel(job.id)
        again = asyncio.create_task(self.post())
        await eventually(lambda: len(self.service.hub._wakes[job.id]) == 2)
        await self.end(claimed, JobStatus.CANCELLED)

        async def waits() -> bool:
            return (await self.read(job.id)).status is JobStatus.QUEUED

        await eventually(waits)
        claimed = await self.claim()
        await self.end(claimed)
        assert (await again).headers[JOB] == job.id

    async def test_a_repeated_call_creates_a_new_job_after_deletion(self):
        request, job = await self.asked()
        await self.repository.delete(job.id)
        deleted = await request
        require_envelope(deleted, 409, "job_not_found")
        assert "x-should-retry" not in deleted.headers
        assert (await self.transcribe()).headers[JOB] != job.id

    async def test_a_derived_key_already_used_for_other_work_is_refused(self):
        """Such keys are nobody's but ours, but a caller may send any."""
        first = await self.transcribe()
        key = (await self.read(first.headers[JOB])).idempotency_key
        await self.repository.delete(first.headers[JOB])
        await self.submit(b"other sound", headers={"Idempotency-Key": str(key)})
        require_envelope(await self.post(), 409, "idempotency_conflict")


class TestCallers(OpenAICase):
    overrides: ClassVar = {"require_key": True}

    async def test_callers_never_share_jobs_for_the_same_recording(self):
        anna, bert = await self.key("anna"), await self.key("bert")
        hers = await self.transcribe(headers=anna)
        request, his = await self.asked(headers=bert)
        assert his.id != hers.headers[JOB]
        assert not request.done()
        assert (await self.post(headers=anna)).headers[JOB] == hers.headers[JOB]
        require_problem(await self.client.get(f"/jobs/{his.id}", headers=anna), 404, "job_not_found")

    @pytest.mark.slow
    async def test_callers_without_a_valid_key_get_401(self):
        for headers in ({}, {"Authorization": "Bearer sk-nonsense"}):
            answer = await self.post(headers=headers)
            error = require_envelope(answer, 401, "invalid_api_key")
            assert error["type"] == "invalid_request_error"


def test_only_transient_failures_are_retryable():
    def is_tried(code: str) -> bool:
        job = Job(audio_path="/a", status=JobStatus.ERROR, error_code=code)
        return is_retryable(job)

    assert not any(map(is_tried, ("not_media", "no_audio_track", "bad_audio", "empty_recording", "unknown_language")))
    assert all(map(is_tried, ("native_crash", "out_of_memory", "model_not_installed", "disk_full", "internal", "gone")))
    assert all(isinstance(is_tried(code), bool) for code in BY_CODE)
