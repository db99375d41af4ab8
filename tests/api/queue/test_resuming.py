"""Checkpoints in the queue: what is kept for a job, and when it is dropped."""

from __future__ import annotations

from cesar.api.models import JobStatus
from cesar.transcript import Chunk, Segment, Span, Word
from tests.api.support import QueueCase, chunk

RICH = Chunk(
    start=5.02,
    end=11.125,
    segments=(
        Segment(5.1, 7.3, "Größe, 東京!", (Word(5.1, 5.9, "Größe,", 0.1 + 0.2),), -0.25, 1.5, 0.01, 0.2),
        Segment(7.3, 11.0, ""),
    ),
    ledger=(Span(5.02, 11.0, "speech"), Span(11.0, 11.125, "dropped", "repeats itself", "la la la")),
    warnings=("it was loud",),
)


class TestResumingInMemory(QueueCase):
    async def test_finished_chunks_are_returned_exactly_and_in_order(self) -> None:
        await self.queue()
        job = await self.claim()
        await self.repository.resume(job, "print")
        for finished in (RICH, chunk(0, 5.02), chunk(11.125, 20)):
            await self.repository.checkpoint(job, finished)
        await self.repository.release(job)
        done = await self.repository.resume(await self.claim(), "print")
        assert done == [chunk(0, 5.02), RICH, chunk(11.125, 20)]
        assert await self.repository.chunks(job.id) == done

    async def test_the_first_attempt_finds_nothing(self) -> None:
        await self.queue()
        assert await self.repository.resume(await self.claim(), "print") == []

    async def test_changed_work_drops_finished_chunks(self) -> None:
        await self.queue()
        job = await self.claim()
        await self.repository.resume(job, "print")
        job.position = 5.0
        await self.repository.checkpoint(job, chunk(0, 5))
        await self.repository.release(job)
        job = await self.claim()
        assert await self.repository.resume(job, "another print") == []
        assert await self.repository.chunks(job.id) == []
        assert (await self.read(job)).position == 0
        await self.repository.checkpoint(job, chunk(0, 6))
        await self.repository.release(job)
        assert await self.repository.resume(await self.claim(), "another print") == [chunk(0, 6)]

    async def test_a_chunk_finished_twice_replaces_the_first(self) -> None:
        await self.queue()
        job = await self.claim()
        await self.repository.checkpoint(job, chunk(0, 5, "once"))
        await self.repository.checkpoint(job, chunk(0, 5, "again"))
        assert await self.repository.chunks(job.id) == [chunk(0, 5, "again")]

    async def test_a_checkpoint_records_progress(self) -> None:
        await self.queue()
        job = await self.claim()
        job.position, job.duration = 5.0, 20.0
        self.clocks.advance(7)
        await self.repository.checkpoint(job, chunk(0, 5))
        stored = await self.read(job)
        assert (stored.progress, stored.heartbeat_at) == (0.25, self.clocks.now)

    async def test_jobs_do_not_see_each_others_checkpoints(self) -> None:
        await self.queue()
        await self.queue()
        one, two = await self.claim(), await self.claim()
        await self.repository.checkpoint(one, chunk(0, 5, "one"))
        await self.repository.checkpoint(two, chunk(0, 5, "two"))
        await self.repository.resume(one, "print")
        assert await self.repository.chunks(one.id) == []
        assert await self.repository.chunks(two.id) == [chunk(0, 5, "two")]

    async def test_checkpoints_survive_failure_cancellation_and_a_manual_retry(self) -> None:
        for outcome in (JobStatus.ERROR, JobStatus.CANCELLED):
            await self.queue()
            job = await self.claim()
            await self.repository.resume(job, "print")
            await self.repository.checkpoint(job, RICH)
            job.status = outcome
            await self.repository.update(job)
            await self.repository.retry(job.id)
            again = await self.claim()
            assert again.id == job.id
            assert await self.repository.resume(again, "print") == [RICH]


class TestResumingFromFile(TestResumingInMemory):
    in_memory = False

    async def test_checkpoints_survive_the_process(self) -> None:
        await self.queue()
        job = await self.claim()
        await self.repository.resume(job, "print")
        await self.repository.checkpoint(job, RICH)
        await self.repository.close()
        self.repository = await self.open()
        assert await self.repository.resume(await self.claim(), "print") == [RICH]
