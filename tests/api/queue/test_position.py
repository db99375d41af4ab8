"""The position of each waiting job, and the work ahead of it, as the database computes them."""

from __future__ import annotations

from cesar.api.queue.eta import QueuePosition, Throughput
from cesar.options import TranscribeOptions
from tests.api.support import QueueCase

THROUGHPUTS = {
    "base": Throughput(speed=10.0, mean_duration_s=60.0),
    "small": Throughput(speed=2.0, mean_duration_s=30.0),
}


class TestLine(QueueCase):
    async def test_jobs_of_higher_priority_and_older_jobs_are_ahead(self) -> None:
        first, urgent, last = await self.queue(), await self.queue(priority=5), await self.queue()
        assert await self.repository.positions([last.id, first.id, urgent.id], THROUGHPUTS) == {
            urgent.id: QueuePosition(0, 0.0, 6.0, None),
            first.id: QueuePosition(1, 6.0, 6.0, None),
            last.id: QueuePosition(2, 12.0, 6.0, None),
        }

    async def test_each_model_has_its_own_throughput_and_mean_length(self) -> None:
        await self.queue(model_size="small")
        job = await self.queue()
        assert (await self.repository.positions([job.id], THROUGHPUTS))[job.id] == QueuePosition(1, 15.0, 6.0, None)

    async def test_the_known_length_and_the_requested_span_count(self) -> None:
        wanted = [TranscribeOptions(), TranscribeOptions(start=20, end=50), TranscribeOptions(start=90, end=900)]
        jobs = [await self.queue(duration=100.0, options=options) for options in wanted]
        found = await self.repository.positions([job.id for job in jobs], THROUGHPUTS)
        assert [found[job.id].own_work_s for job in jobs] == [10.0, 3.0, 1.0]

    async def test_finished_chunks_do_not_count(self) -> None:
        job = await self.queue(duration=100.0, position=80.0)
        assert (await self.repository.positions([job.id], THROUGHPUTS))[job.id].own_work_s == 2.0

    async def test_the_work_ahead_is_unknown_behind_a_job_of_unknown_throughput(self) -> None:
        before, unknown, after = await self.queue(), await self.queue(model_size="tiny"), await self.queue()
        found = await self.repository.positions([before.id, unknown.id, after.id], THROUGHPUTS)
        assert found == {
            before.id: QueuePosition(0, 0.0, 6.0, None),
            unknown.id: QueuePosition(1, 6.0, None, None),
            after.id: QueuePosition(2, None, 6.0, None),
        }

    async def test_positions_are_known_without_any_throughput(self) -> None:
        first, second = await self.queue(), await self.queue()
        found = await self.repository.positions([first.id, second.id], {})
        assert found == {first.id: QueuePosition(0, 0.0, None, None), second.id: QueuePosition(1, None, None, None)}

    async def test_a_job_that_is_not_waiting_has_no_position(self) -> None:
        job = await self.queue()
        await self.claim()
        assert await self.repository.positions([job.id, "none"], THROUGHPUTS) == {}

    async def test_the_snapshot_has_running_jobs_and_the_models_of_unfinished_ones(self) -> None:
        job = await self.queue(options=TranscribeOptions(start=3, end=9))
        await self.queue(model_size="small")
        claimed = await self.claim()
        snapshot = await self.repository.queue_snapshot()
        assert snapshot.models == {"base", "small"}
        [found] = snapshot.running
        assert (found.id, found.start, found.end, found.attempt) == (job.id, 3.0, 9.0, 1)
        assert found.started_at == claimed.started_at
