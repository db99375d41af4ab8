"""What users may do with a job: cancel, retry, delete, prune; and the event that each transition records."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cesar.api.models import JobStatus
from cesar.errors import InvalidTransition, JobNotFound
from tests.api.support import QueueCase, chunk


class TestChangesInMemory(QueueCase):
    async def test_a_waiting_job_is_cancelled_at_once(self) -> None:
        job = await self.queue()
        cancelled = await self.repository.request_cancel(job.id)
        assert (cancelled.status, cancelled.completed_at) == (JobStatus.CANCELLED, self.clocks.now)
        assert await self.read(job) == cancelled
        assert await self.repository.get_next_queued() is None

    async def test_cancelling_a_running_job_asks_its_worker(self) -> None:
        await self.queue()
        job = await self.claim()
        asked = await self.repository.request_cancel(job.id)
        assert (asked.status, asked.cancel_requested_at) == (JobStatus.PROCESSING, self.clocks.now)
        self.clocks.advance(5)
        again = await self.repository.request_cancel(job.id)
        assert again == asked, "asking twice changes nothing"
        job.status, job.completed_at = JobStatus.CANCELLED, self.clocks.now
        await self.repository.update(job)
        assert (await self.read(job)).status is JobStatus.CANCELLED

    async def test_a_running_job_that_finishes_despite_a_cancel_is_completed(self) -> None:
        await self.queue()
        job = await self.claim()
        await self.repository.request_cancel(job.id)
        job.status, job.result_text = JobStatus.COMPLETED, "Done."
        await self.repository.update(job)
        assert (await self.repository.request_cancel(job.id)).status is JobStatus.COMPLETED

    async def test_cancelling_a_finished_job_changes_nothing(self) -> None:
        for status in (JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED):
            before = await self.queue_as(status)
            assert await self.repository.request_cancel(before.id) == before
            assert (await self.repository.events(before.id))[-1].after is status

    async def test_only_failed_and_cancelled_jobs_can_be_retried(self) -> None:
        for status in JobStatus:
            job = await self.queue_as(status)
            if status in (JobStatus.ERROR, JobStatus.CANCELLED):
                retried = await self.repository.retry(job.id)
                assert (retried.status, retried.seq) == (JobStatus.QUEUED, job.seq)
            else:
                with pytest.raises(InvalidTransition, match=job.id):
                    await self.repository.retry(job.id)

    async def test_a_retried_job_is_no_longer_cancelled(self) -> None:
        job = await self.queue()
        await self.repository.request_cancel(job.id)
        await self.repository.retry(job.id)
        claimed = await self.claim()
        assert await self.repository.heartbeat(claimed) is False
        assert (claimed.completed_at, claimed.cancel_requested_at) == (None, None)

    async def test_a_job_queued_again_by_an_edit_is_no_longer_cancelled(self) -> None:
        job = await self.queue()
        job = await self.repository.request_cancel(job.id)
        job.status = JobStatus.QUEUED
        await self.repository.update(job)
        assert await self.repository.heartbeat(await self.claim()) is False

    async def test_deleting_a_job_deletes_everything_that_belongs_to_it(self) -> None:
        kept, job = await self.queue(), await self.queue(priority=1)
        claimed = await self.claim()
        await self.repository.checkpoint(claimed, chunk(0, 5))
        claimed.status = JobStatus.COMPLETED
        await self.repository.update(claimed)
        await self.repository.delete(job.id)
        assert await self.repository.list_all() == [kept]
        assert await self.repository.events(job.id) == []
        assert [event.job_id for event in await self.repository.events()] == [kept.id]
        assert await self.repository.chunks(job.id) == []

    async def test_a_job_can_be_deleted_unless_it_is_being_processed(self) -> None:
        for status in JobStatus:
            job = await self.queue_as(status)
            if status is JobStatus.PROCESSING:
                with pytest.raises(InvalidTransition, match="being processed"):
                    await self.repository.delete(job.id)
            else:
                await self.repository.delete(job.id)
            assert (await self.repository.get(job.id) is None) == (status is not JobStatus.PROCESSING)

    async def test_an_unknown_job_cannot_be_changed(self) -> None:
        for change in (self.repository.request_cancel, self.repository.retry, self.repository.delete):
            with pytest.raises(JobNotFound, match="nobody"):
                await change("nobody")

    async def test_pruning_deletes_only_jobs_that_finished_long_ago(self) -> None:
        ended = self.clocks.now
        over = (JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED)
        old = [await self.queue_as(status, completed_at=ended) for status in over]
        fresh = await self.queue_as(JobStatus.COMPLETED, completed_at=ended + timedelta(seconds=2))
        running = await self.queue_as(JobStatus.PROCESSING)
        waiting = await self.queue()
        self.clocks.advance(timedelta(days=30).total_seconds() + 1)
        assert await self.repository.prune(timedelta(days=30)) == len(old)
        left = [job.id for job in await self.repository.list_all()]
        assert left == [waiting.id, running.id, fresh.id]
        assert await self.repository.prune(timedelta(days=30)) == 0
        assert {event.job_id for event in await self.repository.events()} == set(left)

    async def test_pruning_starts_with_the_oldest_and_respects_the_limit(self) -> None:
        jobs = [await self.queue_as(JobStatus.COMPLETED, completed_at=self.clocks.now) for _ in range(5)]
        self.clocks.advance(60)
        assert await self.repository.prune(timedelta(0), limit=3) == 3
        assert [job.id for job in await self.repository.list_all()] == [jobs[4].id, jobs[3].id]

    async def test_every_transition_records_an_event(self) -> None:
        job = await self.queue()
        first = await self.claim()
        await self.repository.release(first)
        second = await self.claim()
        await self.repository.retry_later(second)
        self.clocks.advance(60)
        third = await self.claim()
        third.status, third.error_code = JobStatus.ERROR, "not_media"
        await self.repository.update(third)
        await self.repository.retry(job.id)
        await self.repository.request_cancel(job.id)
        events = await self.repository.events(job.id)
        told = [(event.before, event.after, event.attempt, event.owner is not None, event.reason) for event in events]
        assert told == [
            (None, "queued", 0, False, "submitted"),
            ("queued", "processing", 1, True, "claimed"),
            ("processing", "queued", 1, True, "released"),
            ("queued", "processing", 2, True, "claimed"),
            ("processing", "queued", 2, True, "to be retried"),
            ("queued", "processing", 3, True, "claimed"),
            ("processing", "error", 3, True, "not_media"),
            ("error", "queued", 3, False, "retried by hand"),
            ("queued", "cancelled", 3, False, "cancelled"),
        ]
        assert {event.owner for event in events if event.owner} == {first.owner}

    async def test_a_refused_transition_records_no_event(self) -> None:
        job = await self.queue_as(JobStatus.COMPLETED)
        before = await self.repository.events()
        with pytest.raises(InvalidTransition):
            await self.repository.retry(job.id)
        assert await self.repository.events() == before

    async def test_events_can_be_followed(self) -> None:
        jobs = [await self.queue() for _ in range(4)]
        first = await self.repository.events(limit=3)
        assert [event.job_id for event in first] == [job.id for job in jobs[:3]]
        rest = await self.repository.events(after=first[-1].id)
        assert [event.job_id for event in rest] == [jobs[3].id]
        assert await self.repository.events(jobs[0].id, after=rest[-1].id) == []


class TestChangesInFile(TestChangesInMemory):
    in_memory = False
