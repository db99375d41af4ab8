"""The hub: what many follow is asked for once, and what nobody follows not at all."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from contextlib import ExitStack, aclosing
from typing import Any
from unittest.mock import patch

import pytest
import sqlalchemy as sa

from cesar.api.http.live.hub import Hub
from cesar.api.http.live.streams import JobEventSource, stream_events
from cesar.api.models import Job
from cesar.api.queries.cursor import Cursor
from tests.api.support import PATIENCE_S, QueueCase, chunk, eventually


class HubCase(QueueCase):
    in_memory = False

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.hub = Hub(self.repository)
        await self.hub.start()
        self.addAsyncCleanup(self.hub.stop)
        self.asked: list[str] = []
        sa.event.listen(self.reader, "before_cursor_execute", self._note)
        self.wakes = self.enterContext(ExitStack())

    @property
    def reader(self) -> sa.Engine:
        engine = self.repository.database._reader
        assert engine is not None
        return engine

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.asked.append(statement)

    def watch(self, job: Job) -> asyncio.Event:
        return self.wakes.enter_context(self.hub.subscribe(job.id))

    async def is_quiet(self) -> None:
        """Wait until the hub is up to date, queue positions included."""
        await eventually(
            lambda: (
                not (self.hub._is_behind or self.hub._changed.is_set() or self.hub._positions_are_due)
                and self.hub._positions_updated_at > 0
            )
        )
        for _ in range(3):  # what it has asked last is answered before this, as there is one thread that reads
            await self.repository.counts()

    async def refuse(self, *, is_refused: bool) -> None:
        """Have every query fail from now on, or succeed again."""

        def set_authorizer() -> None:
            connection = self.reader.raw_connection()
            driver: Any = connection.driver_connection
            driver.set_authorizer((lambda *_: sqlite3.SQLITE_DENY) if is_refused else None)
            connection.close()

        await asyncio.wrap_future(self.repository.database._reading.submit(set_authorizer))

    def questions(self, what: str) -> int:
        return sum(what in statement for statement in self.asked)


class TestHub(HubCase):
    async def test_only_subscribers_of_changed_jobs_are_woken(self):
        at_work, waiting = await self.queue(), await self.queue()
        await self.claim()
        of_work, of_waiting = self.watch(at_work), self.watch(waiting)
        await self.is_quiet()
        of_work.clear()
        of_waiting.clear()
        number = self.hub.version(waiting.id)
        job = await self.read(at_work)
        await self.repository.request_cancel(job.id)
        await asyncio.wait_for(of_work.wait(), PATIENCE_S)
        assert not of_waiting.is_set()
        assert self.hub.version(waiting.id) == number

    async def test_nothing_is_read_without_subscribers(self):
        await eventually(lambda: not self.hub._changed.is_set())
        self.asked.clear()
        for _ in range(5):
            await self.queue()
        await eventually(lambda: not self.hub._changed.is_set())
        assert self.asked == []

    @pytest.mark.slow
    async def test_many_queued_jobs_cost_one_query_a_second_while_others_run(self):
        running = await self.queue()
        waiting = [await self.queue(name=str(n)) for n in range(100)]
        claimed = await self.claim()
        assert claimed.id == running.id
        wakes = [self.watch(job) for job in waiting]
        await eventually(lambda: self.hub.queue_position(waiting[-1].id) == 99)
        await self.is_quiet()
        for wake in wakes:
            wake.clear()
        self.asked.clear()
        begun = time.monotonic()
        for number in range(30):
            await self.repository.checkpoint(claimed, chunk(number, number + 1))
        await self.is_quiet()
        seconds = 1 + math.ceil(time.monotonic() - begun)
        assert not any(wake.is_set() for wake in wakes)
        assert self.questions("job_chunks") == 0
        most = 31 + 4 * seconds  # looks: one a change, two a second for other programs' changes, one where they stand
        assert len(self.asked) <= 3 * most, "a look is two statements at most and their BEGIN"

    @pytest.mark.slow
    async def test_many_subscribers_of_a_job_cost_one_query_per_change(self):
        await self.queue()
        job = await self.claim()
        stopping = asyncio.Event()

        async def follow() -> bytes:
            follower = JobEventSource(self.hub, self.repository, job.id, Cursor())
            async with aclosing(stream_events(follower, self.hub, stopping)) as events:
                return b"".join([written async for written in events if b"segment" in written])

        following = [asyncio.create_task(follow()) for _ in range(200)]
        await eventually(lambda: len(self.hub._wakes.get(job.id, ())) == 200)
        await self.is_quiet()
        self.asked.clear()
        for number in range(5):
            await self.repository.checkpoint(job, chunk(number, number + 1, f"Sentence {number}."))
        await self.is_quiet()
        await eventually(lambda: self.questions("job_chunks") > 0)
        stopping.set()
        self.hub.wake_all()
        answers = set(await asyncio.gather(*following))
        assert len(answers) == 1
        assert answers.pop().count(b"event: segment") == 5
        assert self.questions("job_chunks") <= 2 * 5, "not 200 times as many"

    async def test_changes_without_a_notification_are_found_by_polling(self):
        with patch("cesar.api.http.live.hub._MAX_INTERVAL_S", 0.05):
            job = await self.queue()
            wake = self.watch(job)
            await self.is_quiet()
            await self.repository.unsubscribe(self.hub._changed)
            wake.clear()
            await self.repository.request_cancel(job.id)
            await asyncio.wait_for(wake.wait(), PATIENCE_S)

    async def test_changes_by_another_process_are_found(self):
        job = await self.queue()
        wake = self.watch(job)
        await self.is_quiet()
        wake.clear()
        other = await self.open()
        await other.request_cancel(job.id)
        await asyncio.wait_for(wake.wait(), PATIENCE_S)

    async def test_an_unavailable_database_is_retried_with_backoff(self):
        job = await self.queue()
        wake = self.watch(job)
        await self.is_quiet()
        await self.refuse(is_refused=True)
        self.asked.clear()
        with self.assertLogs("cesar.api.http.live.hub", "WARNING") as logs:
            await self.repository.request_cancel(job.id)
            await eventually(lambda: len(self.asked) >= 2)
        assert len(logs.records) == 1, "it is told once a minute"
        assert len(self.asked) < 20
        wake.clear()
        await self.refuse(is_refused=False)
        await asyncio.wait_for(wake.wait(), PATIENCE_S)

    async def test_subscribers_catch_up_once_the_database_is_available(self):
        await self.queue()
        job = await self.claim()

        follower = JobEventSource(self.hub, self.repository, job.id, Cursor())
        async with aclosing(stream_events(follower, self.hub, asyncio.Event())) as events:
            while b"progress" not in await anext(events):
                pass
            await self.refuse(is_refused=True)
            await self.repository.checkpoint(job, chunk(0, 1, "A sentence."))
            reading = asyncio.ensure_future(anext(events))
            self.hub._bump(job.id)
            self.hub.wake_all()
            self.asked.clear()
            await eventually(lambda: len(self.asked) >= 4)
            assert not reading.done()
            await self.refuse(is_refused=False)
            assert b"A sentence." in await asyncio.wait_for(reading, PATIENCE_S)

    async def test_a_cancelled_reader_disturbs_no_others(self):
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def read() -> str:
            begun.set()
            await may_end.wait()
            return "what was read"

        first = asyncio.create_task(self.hub.coalesce("key", read))
        second = asyncio.create_task(self.hub.coalesce("key", read))
        await begun.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        may_end.set()
        assert await second == "what was read"

    async def test_a_failed_read_is_not_cached(self):
        async def fail() -> str:
            raise OSError("no")

        async def succeed() -> str:
            return "yes"

        with pytest.raises(OSError, match="no"):
            await self.hub.coalesce("key", fail)
        assert await self.hub.coalesce("key", succeed) == "yes"

    @pytest.mark.slow
    async def test_cached_reads_are_bounded(self):
        async def read() -> bytes:
            return bytes(10)

        for number in range(1000):
            await self.hub.coalesce(number, read)
        assert len(self.hub._reads) <= 32
