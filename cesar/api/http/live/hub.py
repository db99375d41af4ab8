"""`Hub`: looks at the queue once for all who follow it, and wakes those whose jobs have changed.

Who follows holds a place in the history and nothing else, so that a slow client costs no memory. What came after a
place is read from the database, once for all who are there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

from cesar.api.execution.backoff import backoff
from cesar.api.execution.throttled_log import ThrottledErrorLog
from cesar.api.repository import JobRepository

T = TypeVar("T")
_REST_S = 0.01
"""So long at least between two looks: what happens meanwhile is seen at once."""
_REST_FOR_EACH_S = 0.001
"""And so long for each who was woken, a second at most: what happens meanwhile is told in one go."""
_LONGEST_REST_S = 1.0
_LOOK_EVERY_S = 5.0
"""So often it looks in any case: to be told of changes is only a hint."""
_STANDING_EVERY_S = 1.0
"""So often at most it looks where the waiting jobs stand."""
_MOST_SHARED = 32
_log = logging.getLogger(__name__)


class Hub:
    """Wakes those who follow jobs. Of a database that is away it makes nothing: it looks again later."""

    def __init__(self, repository: JobRepository) -> None:
        self.last_event = 0
        """Every event up to this one was there when those who follow everything were woken last."""
        self._repository = repository
        self._wakes: defaultdict[str | None, set[asyncio.Event]] = defaultdict(set)
        self._numbers: dict[str | None, int] = {}
        self._newest_number = 0
        self._woken = 0
        """How many the last look has woken."""
        self._positions: dict[str, int] = {}
        self._shared: OrderedDict[Hashable, asyncio.Task[Any]] = OrderedDict()
        self._changed = asyncio.Event()
        self._is_behind = True
        self._standing_is_due = False
        self._standing_seen_at = 0.0
        self._complaints = ThrottledErrorLog(_log, "events may come late")
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        await self._repository.subscribe(self._changed, to_changes=True)
        self._looking = asyncio.create_task(self._look_on())

    async def stop(self) -> None:
        """End, with all that is being read."""
        await self._repository.unsubscribe(self._changed)
        tasks = [task for task in (self._looking, *self._shared.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def watching(self, job_id: str | None) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the job (None: any job) may have changed, for the length of a block."""
        wake = asyncio.Event()
        if not self._wakes[job_id]:
            self._count(job_id)
        self._wakes[job_id].add(wake)
        self._changed.set()
        try:
            yield wake
        finally:
            self._wakes[job_id].discard(wake)
            if not self._wakes[job_id]:
                del self._wakes[job_id], self._numbers[job_id]
                self._positions.pop(job_id or "", None)

    def number_of(self, job_id: str | None) -> int:
        """Give a number that grows whenever the job (None: any job) that is watched may have changed."""
        return self._numbers[job_id]

    def position_of(self, job_id: str) -> int | None:
        """Say how many jobs go before a watched one; None if it does not wait, or it is not known yet."""
        return self._positions.get(job_id)

    async def shared(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """Read something once for all who ask for it by this key; whoever gives up disturbs no other.

        What was read is kept for a while, so that the key must tell of what state it is: see `number_of`.
        """
        task = self._shared.get(key)
        if task is None:
            task = asyncio.ensure_future(_awaited(read))
            task.add_done_callback(lambda done: self._forget_failure(key, done))
            self._shared[key] = task
            if len(self._shared) > _MOST_SHARED:
                self._shared.popitem(last=False)
        return cast("T", await asyncio.shield(task))

    def wake_all(self) -> None:
        """Wake everybody, so that they see whether the service goes on."""
        for wakes in self._wakes.values():
            for wake in wakes:
                wake.set()

    async def _look_on(self) -> None:
        delays = backoff()
        while True:
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - whatever it is, those who follow still wait to be woken
                self._complaints.report(error)
                await asyncio.sleep(next(delays))
                continue
            delays = backoff()
            await asyncio.sleep(min(max(_REST_S, self._woken * _REST_FOR_EACH_S), _LONGEST_REST_S))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_s()):
                    await self._changed.wait()

    async def _look(self) -> None:
        """Ask once what has changed, and wake who is concerned. While nobody follows, nothing is asked."""
        self._woken = 0
        if self._changed.is_set():
            self._standing_is_due = True
        self._changed.clear()
        if not self._wakes:
            self._is_behind = True
            self._shared.clear()
        elif self._is_behind:
            self.last_event = await self._repository.last_event()
            self._is_behind = False
            self._tell([*self._wakes])
        else:
            changes = await self._repository.changes(self.last_event)
            self.last_event = changes.last_event
            self._tell([*changes.job_ids, None] if changes.job_ids else [])
        if self._wakes and self._standing_is_due and self._standing_in_s() <= 0:
            await self._look_where_they_stand()

    async def _look_where_they_stand(self) -> None:
        """Find out which of the watched jobs are gone, and how many go before those that wait."""
        self._standing_is_due, self._standing_seen_at = False, time.monotonic()
        job_ids = [job_id for job_id in self._wakes if job_id is not None]
        found = await self._repository.jobs_ahead(job_ids) if job_ids else {}
        self._tell(job_id for job_id in job_ids if job_id not in found)
        for job_id, position in found.items():
            if position == self._positions.get(job_id) or job_id not in self._wakes:
                continue
            if position is None:
                del self._positions[job_id]
                continue
            self._positions[job_id] = position
            for wake in self._wakes[job_id]:
                wake.set()

    def _tell(self, job_ids: Iterable[str | None]) -> None:
        for job_id in job_ids:
            if job_id in self._wakes:
                self._count(job_id)
                self._woken += len(self._wakes[job_id])
                for wake in self._wakes[job_id]:
                    wake.set()

    def _count(self, job_id: str | None) -> None:
        self._newest_number += 1
        self._numbers[job_id] = self._newest_number

    def _standing_in_s(self) -> float:
        return self._standing_seen_at + _STANDING_EVERY_S - time.monotonic()

    def _patience_s(self) -> float:
        is_wanted = self._standing_is_due and self._wakes
        return max(0.0, self._standing_in_s()) if is_wanted else _LOOK_EVERY_S

    def _forget_failure(self, key: Hashable, done: asyncio.Task[Any]) -> None:
        """Keep no error: who asks again, asks the database."""
        if (done.cancelled() or done.exception() is not None) and self._shared.get(key) is done:
            del self._shared[key]


async def _awaited(read: Callable[[], Awaitable[T]]) -> T:
    return await read()
