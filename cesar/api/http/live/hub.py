"""`Hub`: polls the queue once for all subscribers, and wakes those whose jobs have changed.

A subscriber holds a cursor into the history and nothing else, so a slow client costs no memory. The events after a
cursor are read from the database, once for all subscribers at that cursor.
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
_MIN_INTERVAL_S = 0.01
"""Minimum time between two polls; the next one sees all changes since the last."""
_INTERVAL_PER_WAKE_S = 0.001
"""Extra time for each subscriber woken, a second at most, so that changes are sent together."""
_MAX_WAKE_INTERVAL_S = 1.0
_MAX_INTERVAL_S = 5.0
"""Maximum time between two polls: change notifications are only a hint."""
_POSITIONS_INTERVAL_S = 1.0
"""Minimum time between two updates of the queue positions."""
_MAX_CACHED_READS = 32
_log = logging.getLogger(__name__)


class Hub:
    """Wakes the subscribers of jobs. Survives an unavailable database, and polls again later."""

    def __init__(self, repository: JobRepository) -> None:
        self.last_event = 0
        """Every event up to this one existed when the subscribers of all jobs were last woken."""
        self._repository = repository
        self._wakes: defaultdict[str | None, set[asyncio.Event]] = defaultdict(set)
        self._versions: dict[str | None, int] = {}
        self._latest_version = 0
        self._woken = 0
        """Number of subscribers woken by the last poll."""
        self._positions: dict[str, int] = {}
        self._reads: OrderedDict[Hashable, asyncio.Task[Any]] = OrderedDict()
        self._changed = asyncio.Event()
        self._is_behind = True
        self._positions_are_due = False
        self._positions_updated_at = 0.0
        self._errors = ThrottledErrorLog(_log, "events may come late")
        self._poller: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start polling."""
        await self._repository.subscribe(self._changed, to_changes=True)
        self._poller = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop polling, and cancel all reads."""
        await self._repository.unsubscribe(self._changed)
        tasks = [task for task in (self._poller, *self._reads.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def subscribe(self, job_id: str | None) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever the job (None: any job) may have changed."""
        wake = asyncio.Event()
        if not self._wakes[job_id]:
            self._bump(job_id)
        self._wakes[job_id].add(wake)
        self._changed.set()
        try:
            yield wake
        finally:
            self._wakes[job_id].discard(wake)
            if not self._wakes[job_id]:
                del self._wakes[job_id], self._versions[job_id]
                self._positions.pop(job_id or "", None)

    def version(self, job_id: str | None) -> int:
        """Return a number that grows whenever a subscribed job (None: any job) may have changed."""
        return self._versions[job_id]

    def queue_position(self, job_id: str) -> int | None:
        """Return the number of jobs ahead of a subscribed one; None if it isn't waiting, or that is not known yet."""
        return self._positions.get(job_id)

    async def coalesce(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> T:
        """Coalesce reads: concurrent callers with the same key share one; a cancelled caller disturbs no other.

        Results are cached for a while, so the key must identify the state that was read: see `version`.
        """
        task = self._reads.get(key)
        if task is None:
            task = asyncio.ensure_future(_awaited(read))
            task.add_done_callback(lambda done: self._forget_failure(key, done))
            self._reads[key] = task
            if len(self._reads) > _MAX_CACHED_READS:
                self._reads.popitem(last=False)
        return cast("T", await asyncio.shield(task))

    def wake_all(self) -> None:
        """Wake all subscribers, so that they notice a shutdown."""
        for wakes in self._wakes.values():
            for wake in wakes:
                wake.set()

    async def _run(self) -> None:
        delays = backoff()
        while True:
            try:
                await self._poll()
            except Exception as error:  # noqa: BLE001 - whatever it is, subscribers still wait to be woken
                self._errors.report(error)
                await asyncio.sleep(next(delays))
                continue
            delays = backoff()
            await asyncio.sleep(min(max(_MIN_INTERVAL_S, self._woken * _INTERVAL_PER_WAKE_S), _MAX_WAKE_INTERVAL_S))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout_s()):
                    await self._changed.wait()

    async def _poll(self) -> None:
        """Poll once for changes, and wake the subscribers concerned. Without subscribers nothing is read."""
        self._woken = 0
        if self._changed.is_set():
            self._positions_are_due = True
        self._changed.clear()
        if not self._wakes:
            self._is_behind = True
            self._reads.clear()
        elif self._is_behind:
            self.last_event = await self._repository.last_event()
            self._is_behind = False
            self._wake([*self._wakes])
        else:
            changes = await self._repository.changes(self.last_event)
            self.last_event = changes.last_event
            self._wake([*changes.job_ids, None] if changes.job_ids else [])
        if self._wakes and self._positions_are_due and self._positions_due_in_s() <= 0:
            await self._update_positions()

    async def _update_positions(self) -> None:
        """Update the queue positions of the subscribed jobs, and wake the subscribers of deleted ones."""
        self._positions_are_due, self._positions_updated_at = False, time.monotonic()
        job_ids = [job_id for job_id in self._wakes if job_id is not None]
        found = await self._repository.jobs_ahead(job_ids) if job_ids else {}
        self._wake(job_id for job_id in job_ids if job_id not in found)
        for job_id, position in found.items():
            if position == self._positions.get(job_id) or job_id not in self._wakes:
                continue
            if position is None:
                del self._positions[job_id]
                continue
            self._positions[job_id] = position
            for wake in self._wakes[job_id]:
                wake.set()

    def _wake(self, job_ids: Iterable[str | None]) -> None:
        for job_id in job_ids:
            if job_id in self._wakes:
                self._bump(job_id)
                self._woken += len(self._wakes[job_id])
                for wake in self._wakes[job_id]:
                    wake.set()

    def _bump(self, job_id: str | None) -> None:
        self._latest_version += 1
        self._versions[job_id] = self._latest_version

    def _positions_due_in_s(self) -> float:
        return self._positions_updated_at + _POSITIONS_INTERVAL_S - time.monotonic()

    def _timeout_s(self) -> float:
        has_positions_due = self._positions_are_due and self._wakes
        return max(0.0, self._positions_due_in_s()) if has_positions_due else _MAX_INTERVAL_S

    def _forget_failure(self, key: Hashable, done: asyncio.Task[Any]) -> None:
        """Remove a failed read, so that the next caller reads again."""
        if (done.cancelled() or done.exception() is not None) and self._reads.get(key) is done:
            del self._reads[key]


async def _awaited(read: Callable[[], Awaitable[T]]) -> T:
    return await read()
