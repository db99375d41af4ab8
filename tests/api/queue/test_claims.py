"""The fence: a worker's writes are accepted only while its claim is valid. And the effects of such writes."""

from __future__ import annotations

import pytest

from cesar.api.models import TRANSITIONS, Claim, Job, JobStatus
from cesar.errors import ClaimLost, InvalidTransition, StaleJob
from tests.api.support import QueueCase, chunk


class TestClaimsInMemory(QueueCase):
    async def lose(self, job: Job) -> Job:
        """Let another owner have the job; return it as its new owner has it."""
        await self.repository.release(job.model_copy())
        return await self.claim()

    async def test_an_outcome_under_a_lost_claim_is_refused_and_changes_nothing(self) -> None:
        await self.queue()
        zombie = await self.claim()
        rightful = await self.lose(zombie)
        zombie.status, zombie.result_text = JobStatus.COMPLETED, "From the grave."
        with pytest.raises(ClaimLost, match="attempt 1"):
            await self.repository.update(zombie)
        stored = await self.read(zombie)
        assert (stored.status, stored.attempt, stored.result_text) == (JobStatus.PROCESSING, 2, None)
        rightful.status = JobStatus.COMPLETED
        await self.repository.update(rightful)

    async def test_every_write_of_a_worker_is_fenced(self) -> None:
        await self.queue()
        zombie = await self.claim()
        await self.lose(zombie)
        before = await self.read(zombie), await self.repository.events()
        for write in (
            lambda: self.repository.heartbeat(zombie),
            lambda: self.repository.is_cancel_requested(zombie),
            lambda: self.repository.checkpoint(zombie, chunk(0, 5)),
            lambda: self.repository.resume(zombie, "print"),
            lambda: self.repository.release(zombie),
            lambda: self.repository.retry_later(zombie),
        ):
            with pytest.raises(ClaimLost):
                await write()
        assert (await self.read(zombie), await self.repository.events()) == before
        assert await self.repository.chunks(zombie.id) == []

    async def test_a_claim_of_the_same_attempt_by_another_owner_is_invalid(self) -> None:
        await self.queue()
        job = await self.claim()
        job.claim = Claim(owner="somebody else", attempt=job.attempt)
        with pytest.raises(ClaimLost):
            await self.repository.heartbeat(job)

    async def test_a_worker_cannot_write_an_unclaimed_job(self) -> None:
        await self.queue()
        await self.claim()
        (read,) = await self.repository.list_all()
        with pytest.raises(ClaimLost, match="not claimed"):
            await self.repository.heartbeat(read)

    async def test_an_edit_of_a_job_that_has_changed_since_it_was_read_is_refused(self) -> None:
        job = await self.queue()
        stale = await self.read(job)
        await self.repository.request_cancel(job.id)
        stale.priority = 9
        with pytest.raises(StaleJob):
            await self.repository.update(stale)
        assert (await self.read(job)).priority == 0

    async def test_an_edit_of_an_unchanged_job_is_written(self) -> None:
        first, second = await self.queue(), await self.queue()
        second.priority = 9
        await self.repository.update(second)
        assert (await self.claim()).id == second.id
        assert (await self.read(first)).priority == 0

    async def test_a_job_set_processing_by_update_started_when_it_was_claimed(self) -> None:
        job = await self.queue()
        job.status = JobStatus.PROCESSING
        await self.repository.update(job)
        assert job.started_at == self.clocks.now
        await self.repository.release(job)
        self.clocks.advance(60)
        again = await self.read(job)
        again.status = JobStatus.PROCESSING
        await self.repository.update(again)
        assert again.started_at == self.clocks.now, "not when the first attempt started"

    async def test_update_writes_neither_owner_nor_attempt_nor_request(self) -> None:
        job = await self.queue()
        kept = job.model_copy()
        job.owner, job.attempt, job.failures, job.lost, job.seq = "me", 7, 7, 7, 7
        job.audio_path, job.name, job.position, job.model_size = "/other.wav", "Other", 7.0, "tiny"
        await self.repository.update(job)
        assert await self.read(kept) == kept.model_copy(update={"version": 1})

    async def test_update_allows_only_valid_transitions(self) -> None:
        for before in JobStatus:
            for after in JobStatus:
                job = await self.queue_as(before)
                job.status = after
                if after in TRANSITIONS[before] or after is before:
                    await self.repository.update(job)
                else:
                    with pytest.raises(InvalidTransition, match=f"is {before} and can't become {after}"):
                        await self.repository.update(job)

    async def test_an_outcome_whose_commit_went_unnoticed_may_be_written_again(self) -> None:
        for outcome in (JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED):
            job = await self.queue()
            job = await self.claim()
            job.status, job.result_text = outcome, "Once."
            repeated = job.model_copy()
            await self.repository.update(job)
            await self.repository.update(repeated)
            events = await self.repository.events(job.id)
            assert [event.after for event in events].count(outcome) == 1

    async def test_an_outcome_written_by_another_worker_may_not_be_written_again(self) -> None:
        await self.queue()
        zombie = await self.claim()
        rightful = await self.lose(zombie)
        rightful.status = zombie.status = JobStatus.COMPLETED
        await self.repository.update(rightful)
        with pytest.raises(ClaimLost):
            await self.repository.update(zombie)

    async def test_a_heartbeat_records_progress_and_returns_whether_to_cancel(self) -> None:
        await self.queue()
        job = await self.claim()
        job.phase, job.position, job.duration = "recognising", 12.5, 50.0
        self.clocks.advance(10)
        assert await self.repository.heartbeat(job) is False
        stored = await self.read(job)
        assert (stored.phase, stored.position, stored.duration) == ("recognising", 12.5, 50.0)
        assert (stored.progress, stored.heartbeat_at) == (0.25, self.clocks.now)
        assert stored.version == job.version, "a heartbeat is no change that makes a read job stale"
        await self.repository.request_cancel(job.id)
        assert await self.repository.heartbeat(job) is True
        assert await self.repository.is_cancel_requested(job) is True

    async def test_a_released_job_keeps_its_position_and_has_not_failed(self) -> None:
        first, _second = await self.queue(), await self.queue()
        job = await self.claim()
        await self.repository.checkpoint(job, chunk(0, 5))
        released = await self.repository.release(job)
        assert (released.status, released.owner, released.failures, released.lost) == (JobStatus.QUEUED, None, 0, 0)
        again = await self.claim()
        assert (again.id, again.attempt) == (first.id, 2)
        assert await self.repository.chunks(first.id) == [chunk(0, 5)]

    async def test_a_job_released_after_a_cancel_request_is_cancelled(self) -> None:
        await self.queue()
        job = await self.claim()
        await self.repository.request_cancel(job.id)
        released = await self.repository.release(job)
        assert (released.status, released.completed_at) == (JobStatus.CANCELLED, self.clocks.now)


class TestClaimsInFile(TestClaimsInMemory):
    in_memory = False
