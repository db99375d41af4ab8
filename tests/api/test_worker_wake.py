"""How soon a waiting worker notices a job, and that it polls without notifications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from unittest.mock import patch

import pytest

from cesar.api.models import Job, JobStatus
from tests.api.support import Gate, WorkerCase, eventually

RARELY_S = 600.0
"""Polling so rare that it can't be what finds the job."""


class TestWaking(WorkerCase):
    in_memory = False

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.gate.open()

    async def hears_of(self, submit: Callable[[], Awaitable[object]]) -> None:
        """Test that a waiting worker is woken by each job; otherwise it would start after the test's timeout."""
        worker = self.start_worker_with(self.gate, poll_interval=RARELY_S)
        for number in range(1, 6):
            await self.wait_until_subscribed()
            await submit()
            await eventually(lambda: len(self.gate.begun) == number)  # noqa: B023 - awaited here
            await eventually(lambda: not worker.is_processing)

    async def test_a_job_queued_in_the_same_process_wakes_the_worker_without_polling(self) -> None:
        with patch("cesar.api.queue.notifications._POLL_INTERVAL_S", RARELY_S):
            await self.hears_of(self.queue)

    @pytest.mark.slow
    async def test_a_job_queued_by_another_process_is_noticed(self) -> None:
        other = await self.open()
        await self.hears_of(lambda: other.create(Job(audio_path="/talk.wav")))

    async def test_a_job_that_is_queued_again_wakes_the_worker(self) -> None:
        job = await self.queue_as(JobStatus.ERROR)
        self.start_worker_with(self.gate, poll_interval=RARELY_S)
        await self.wait_until_subscribed()
        await self.repository.retry(job.id)
        await self.wait_until_finished(job)

    @pytest.mark.slow
    async def test_a_job_released_by_one_worker_wakes_another(self) -> None:
        job = await self.queue()
        holds_it = Gate()
        first = self.start_worker_with(holds_it)
        await eventually(lambda: holds_it.begun)
        self.start_worker_with(self.gate, poll_interval=RARELY_S)
        await self.wait_until_subscribed()
        await first.shutdown(now=True)
        await self.wait_until_finished(job)
        holds_it.open()
        assert self.gate.begun == [job.audio_path]

    async def test_an_edit_that_queues_a_job_wakes_the_worker(self) -> None:
        job = await self.queue_as(JobStatus.CANCELLED)
        self.start_worker_with(self.gate, poll_interval=RARELY_S)
        await self.wait_until_subscribed()
        job.status = JobStatus.QUEUED
        await self.repository.update(job)
        await self.wait_until_finished(job)

    async def test_a_worker_polls_even_if_nothing_wakes_it(self) -> None:
        self.start_worker_with(self.gate, poll_interval=0.02)
        await self.wait_until_subscribed()
        self.repository._notifier.on_new_job.clear()
        await self.wait_until_finished(await self.queue())

    async def test_a_job_queued_by_another_process_just_before_polling_starts_is_noticed(self) -> None:
        other, job = await self.open(), Job(audio_path="/talk.wav")
        counter = self.repository.database.change_counter

        async def count_late() -> int:
            if not job.seq:
                await other.create(job)
            return await counter()

        self.repository.database.change_counter = count_late  # type: ignore[method-assign]
        self.start_worker_with(self.gate, poll_interval=RARELY_S)
        await eventually(lambda: self.gate.begun)

    async def test_an_error_while_polling_does_not_end_the_poller(self) -> None:
        other = await self.open()
        counter, troubles = self.repository.database.change_counter, [OSError("away"), OSError("still away")]

        async def fail_twice() -> int:
            if troubles:
                raise troubles.pop()
            return await counter()

        self.repository.database.change_counter = fail_twice  # type: ignore[method-assign]
        self.start_worker_with(self.gate, poll_interval=RARELY_S)
        await eventually(lambda: not troubles)

        async def has_begun() -> bool:
            await other.create(Job(audio_path="/talk.wav"))
            return len(self.gate.begun) > 0

        await eventually(has_begun)


class TestWakingInMemory(WorkerCase):
    async def test_a_job_in_memory_starts_at_once(self) -> None:
        self.gate.open()
        self.start_worker_with(self.gate, poll_interval=RARELY_S)
        await eventually(lambda: self.repository._notifier.on_new_job)
        await self.wait_until_finished(await self.queue())
        assert self.repository._notifier.poller is None, "no other process can see it"
