"""The position of each waiting job, and the work ahead of it, as the database computes them."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from dataclasses import astuple
from typing import Any

import pytest

from cesar.api.models import Job, JobFilter, JobStatus
from cesar.api.queries.eta import QueuePosition, Throughput
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

    async def test_a_requested_end_counts_while_the_length_is_unknown(self) -> None:
        job = await self.queue(options=TranscribeOptions(start=20, end=50))
        assert (await self.repository.positions([job.id], THROUGHPUTS))[job.id].own_work_s == 3.0

    async def test_the_snapshot_has_running_jobs_and_the_models_of_unfinished_ones(self) -> None:
        job = await self.queue(options=TranscribeOptions(start=3, end=9))
        await self.queue(model_size="small")
        claimed = await self.claim()
        snapshot = await self.repository.queue_snapshot()
        assert snapshot.models == {"base", "small"}
        [found] = snapshot.running
        assert (found.id, found.options, found.attempt) == (job.id, job.options, 1)
        assert found.started_at == claimed.started_at


class TestLongQueue(QueueCase):
    """More jobs than a block has, of several models, priorities and lengths, before and after changes of all kinds."""

    in_memory = False

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.random = random.Random(1)
        first = await self.queue()
        columns = "status, priority, name, audio_path, created_at, version, attempt, beat, failures, lost, position"
        self.sql(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) "
            f"INSERT INTO jobs (id, model_size, options, {columns}) SELECT 'job-' || i, model_size, options, {columns} "
            f"FROM n, jobs WHERE id = ?",
            first.id,
        )
        choices: list[tuple[Any, ...]] = [
            (0, 0, 0, -3, 7),
            ("base", "small", "small.en"),
            (None, 90.0),
            (None, 30.0, 300.0),
        ]
        with closing(sqlite3.connect(self.file)) as connection, connection:
            connection.executemany(
                "UPDATE jobs SET priority = ?, model_size = ?, duration = ?, position = 5, "
                "options = json_set(options, '$.end', ?, '$.start', 10) WHERE id = ?",
                [(*map(self.random.choice, choices), f"job-{number}") for number in range(1, 1201)],
            )

    async def test_positions_are_those_of_counting_every_job(self) -> None:
        await self.compare()

    async def test_positions_stay_true_when_jobs_leave_and_return(self) -> None:
        for _ in range(20):
            claimed = await self.claim()
            await self.repository.release(claimed)
            last = await self.claim()
            last.status = JobStatus.COMPLETED
            await self.repository.update(last)
        for number in self.random.sample(range(1, 1201), 60):
            job = await self.read(f"job-{number}")
            match number % 4:
                case 0 if job.status is JobStatus.QUEUED:
                    job.priority = 7
                    await self.repository.update(job)
                case 1:
                    await self.repository.request_cancel(job.id)
                    if number % 8 == 1 and not job.status.is_final:
                        await self.repository.retry(job.id)
                case _:
                    await self.repository.delete(job.id)
        await self.compare()

    async def test_nothing_is_left_of_a_queue_that_is_empty(self) -> None:
        self.sql("DELETE FROM jobs")
        assert self.sql("SELECT count(*) FROM queue_blocks") == [(0,)]
        assert await self.repository.next_position("base", THROUGHPUTS) == QueuePosition(0, 0.0, 6.0, None)

    async def compare(self) -> None:
        """Compare all positions with those found by counting jobs one by one."""
        throughputs = THROUGHPUTS | {"small.en": Throughput(speed=3.0, mean_duration_s=45.0)}
        waiting = list(
            (await self.repository.list_page(JobFilter(status=frozenset({JobStatus.QUEUED})), limit=2000)).jobs
        )
        waiting.sort(key=lambda job: (-job.priority, job.seq or 0))
        expected, ahead_s = {}, 0.0
        for number, job in enumerate(waiting):
            own_s = work_s(job, throughputs[job.model_size])
            expected[job.id] = (number, pytest.approx(ahead_s), pytest.approx(own_s), None)
            ahead_s += own_s
        for count in (1, 7, len(waiting)):
            ids = [job.id for job in self.random.sample(waiting, count)]
            found = await self.repository.positions(ids, throughputs)
            assert {job_id: astuple(position) for job_id, position in found.items()} == {i: expected[i] for i in ids}
        next_one = await self.repository.next_position("base", throughputs)
        before = [job for job in waiting if job.priority >= 0]
        work_ahead_s = sum(work_s(job, throughputs[job.model_size]) for job in before)
        assert astuple(next_one) == (len(before), pytest.approx(work_ahead_s), 6.0, None)


def work_s(job: Job, throughput: Throughput) -> float:
    ends = [end for end in (job.options.end, job.duration) if end is not None]
    length_s = min(ends) - max(job.options.start, job.position) if ends else throughput.mean_duration_s
    return max(0.0, length_s) / throughput.speed
