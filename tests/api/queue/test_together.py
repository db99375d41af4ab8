"""Many tasks using one repository, and tasks that are cancelled while they wait for it."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
import sqlalchemy as sa

from cesar.api.models import Job, JobStatus
from cesar.api.queries import lookups
from cesar.errors import DatabaseNotWritable
from tests.api.support import QueueCase, eventually


class TestTogetherInMemory(QueueCase):
    async def test_a_cancelled_caller_does_not_interrupt_the_transaction(self) -> None:
        go_on = self.hold_writes()
        job = Job(audio_path="/talk.wav")
        waiting = asyncio.create_task(self.repository.create(job))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        go_on()
        await eventually(lambda: self.repository.get(job.id))
        assert [event.reason for event in await self.repository.events(job.id)] == ["submitted"]

    @pytest.mark.slow
    async def test_a_transaction_that_fails_without_callers_is_harmless(self) -> None:
        job = await self.queue()
        go_on = self.hold_writes()
        waiting = asyncio.create_task(self.repository.retry(job.id))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        del waiting
        with self.assertNoLogs("asyncio", logging.ERROR):
            go_on()
            assert (await self.queue()).seq == job.seq + 1
            gc.collect()

    async def test_a_transaction_that_fails_leaves_nothing_behind(self) -> None:
        job = await self.queue()

        def fail_in_the_middle(connection: sa.Connection) -> None:
            connection.execute(sa.text("UPDATE jobs SET priority = 7"))
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await self.repository.database.write("test", fail_in_the_middle)
        assert await self.read(job) == job
        assert (await self.queue()).seq == job.seq + 1

    async def test_a_commit_that_fails_leaves_the_database_usable(self) -> None:
        job = await self.queue()

        def orphan_the_event(connection: sa.Connection) -> None:
            connection.execute(sa.text("PRAGMA defer_foreign_keys = ON"))
            connection.execute(sa.text("UPDATE job_events SET job_seq = 999"))

        with pytest.raises(sa.exc.IntegrityError):
            await self.repository.database.write("test", orphan_the_event)
        assert await self.reasons(job) == ["submitted"]
        assert (await self.queue()).seq == job.seq + 1

    async def test_readers_cannot_write(self) -> None:
        if self.in_memory:
            return  # one connection for both
        with pytest.raises(DatabaseNotWritable, match="is not writable"):
            await self.repository.database.read(lambda c: c.execute(sa.text("UPDATE jobs SET priority = 7")))
        assert await self.repository.database.read(lookups.counts)

    @pytest.mark.slow
    async def test_concurrent_writes_lose_and_duplicate_nothing(self) -> None:
        async def submit(number: int) -> None:
            await self.repository.create(Job(audio_path=f"/{number}.wav"))

        async def work() -> list[Job]:
            done: list[Job] = []
            while len(done) < 40 and (job := await self.repository.get_next_queued()) is not None:
                await self.repository.heartbeat(job)
                job.status, job.result_text = JobStatus.COMPLETED, job.audio_path
                done.append(await self.repository.update(job))
            return done

        await asyncio.gather(*map(submit, range(40)))
        done = [job for jobs in await asyncio.gather(*(work() for _ in range(8))) for job in jobs]
        assert sorted(job.seq for job in done) == list(range(1, 41))
        assert all(job.result_text == job.audio_path for job in await self.repository.list_all())
        events = await self.repository.events()
        assert len([event for event in events if event.after is JobStatus.COMPLETED]) == 40

    async def test_the_event_loop_is_free_while_the_database_is_busy(self) -> None:
        go_on = self.hold_writes()
        waiting = asyncio.create_task(self.queue())
        turns = 0
        while turns < 100:
            await asyncio.sleep(0)
            turns += 1
        assert not waiting.done()
        go_on()
        assert (await waiting).seq == 1


class TestTogetherInFile(TestTogetherInMemory):
    in_memory = False

    async def test_readers_do_not_wait_for_a_writer(self) -> None:
        job = await self.queue()
        go_on = self.hold_writes()
        assert await self.repository.get(job.id) == job
        go_on()

    async def test_two_repositories_share_the_queue(self) -> None:
        other = await self.open()
        for number in range(20):
            await (other if number % 2 else self.repository).create(Job(audio_path=f"/{number}.wav"))
        claimed = await asyncio.gather(*(self.claim(other if n % 2 else self.repository) for n in range(20)))
        assert sorted(job.seq for job in claimed) == list(range(1, 21))
        assert len({job.owner for job in claimed}) == 2
