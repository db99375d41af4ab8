"""Transient failures: a job is retried after growing delays, and then ends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cesar.api.models import Job, JobStatus
from cesar.api.queue.attempts import MAX_RETRIES
from cesar.api.queue.transitions import MAX_DELAY
from tests.api.support import QueueCase

DELAY_S = 15.0


class TestRetriesInMemory(QueueCase):
    async def fail_next(self) -> Job:
        """Claim the next job and have it fail; return it as it is queued."""
        job = await self.claim()
        job.error_code, job.error_message, job.error_hint = "out_of_memory", "It was killed.", "Use less."
        return await self.repository.retry_later(job)

    def wait_of(self, job: Job) -> float:
        assert job.run_after is not None
        return (job.run_after - self.clocks.now).total_seconds()

    async def test_a_failed_job_is_queued_for_later_with_its_error(self) -> None:
        await self.queue()
        job = await self.fail_next()
        assert (job.status, job.failures, job.owner) == (JobStatus.QUEUED, 1, None)
        assert (job.error_code, job.error_message, job.error_hint) == ("out_of_memory", "It was killed.", "Use less.")
        assert await self.read(job) == job

    async def test_a_job_is_not_claimed_before_its_retry_time(self) -> None:
        await self.queue()
        job = await self.fail_next()
        self.clocks.advance(self.wait_of(job) - 0.001)
        assert await self.repository.get_next_queued() is None
        self.clocks.advance(0.001)
        assert (await self.claim()).id == job.id

    async def test_a_retried_job_lets_others_go_first_and_then_has_its_old_position(self) -> None:
        first, second, third = [await self.queue() for _ in range(3)]
        await self.fail_next()
        assert (await self.claim()).id == second.id
        self.clocks.advance(DELAY_S)
        assert [(await self.claim()).id, (await self.claim()).id] == [first.id, third.id]

    async def test_the_delays_grow_until_the_job_ends_with_its_error_code(self) -> None:
        await self.queue()
        waits = []
        for _ in range(MAX_RETRIES):
            job = await self.fail_next()
            waits.append(self.wait_of(job))
            self.clocks.advance(waits[-1])
        for number, wait in enumerate(waits):
            assert DELAY_S * 2**number / 2 <= wait <= DELAY_S * 2**number
        job = await self.fail_next()
        assert (job.status, job.failures, job.owner) == (JobStatus.ERROR, MAX_RETRIES + 1, None)
        assert (job.error_code, job.error_message) == ("out_of_memory", "It was killed.")
        assert job.completed_at == self.clocks.now
        assert (await self.reasons(job))[-1] == "given up"

    async def test_no_delay_is_longer_than_ten_minutes(self) -> None:
        self.repository._retry_delay = timedelta(hours=3)
        await self.queue()
        assert self.wait_of(await self.fail_next()) <= MAX_DELAY.total_seconds()

    @pytest.mark.slow
    async def test_delays_have_jitter(self) -> None:
        for _ in range(10):
            await self.queue()
        assert len({self.wait_of(await self.fail_next()) for _ in range(10)}) > 1

    async def test_a_failure_after_a_cancel_request_cancels_the_job(self) -> None:
        await self.queue()
        job = await self.claim()
        await self.repository.request_cancel(job.id)
        job = await self.repository.retry_later(job)
        assert (job.status, job.completed_at) == (JobStatus.CANCELLED, self.clocks.now)

    async def test_a_clock_set_back_by_a_day_does_not_delay_a_retry(self) -> None:
        await self.queue()
        job = await self.fail_next()
        self.clocks.now -= timedelta(days=1)
        assert (await self.claim()).id == job.id

    async def test_a_clock_set_back_a_little_delays_a_retry_by_as_much(self) -> None:
        await self.queue()
        job = await self.fail_next()
        self.clocks.now -= timedelta(minutes=5)
        assert await self.repository.get_next_queued() is None
        self.clocks.advance(5 * 60 + DELAY_S)
        assert (await self.claim()).id == job.id

    async def test_a_claim_clears_the_retry_time(self) -> None:
        await self.queue()
        job = await self.fail_next()
        self.clocks.advance(DELAY_S)
        assert (await self.claim()).run_after is None
        assert (await self.read(job)).run_after is None

    async def test_a_manual_retry_does_not_wait(self) -> None:
        await self.queue()
        for _ in range(MAX_RETRIES + 1):
            job = await self.fail_next()
            self.clocks.advance(3600)
        job = await self.repository.retry(job.id)
        assert (job.status, job.failures, job.run_after, job.completed_at) == (JobStatus.QUEUED, 0, None, None)
        assert (job.error_code, job.error_message, job.error_hint) == (None, None, None)
        assert (await self.claim()).attempt == MAX_RETRIES + 2, "attempts never start over: they are the fence"


class TestRetriesInFile(TestRetriesInMemory):
    in_memory = False
