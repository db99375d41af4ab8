"""`Monitor`: samples the queue, the disk and the event loop, for health checks and metrics."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cesar.api.execution.throttled_log import ThrottledErrorLog, ThrottledLog
from cesar.api.http.monitoring.heap import Heap
from cesar.api.http.monitoring.metrics import Metrics
from cesar.api.models import utc_now
from cesar.api.queries import stats
from cesar.api.queries.stats import QueueStats, RunningProgress
from cesar.api.repository import JobRepository
from cesar.errors import DatabaseDamaged, DatabaseError, OutputError
from cesar.files.disk import free_bytes

SAMPLE_TIMEOUT_S = 2.0
"""A database that has not answered by then counts as unavailable."""
_SAMPLE_TTL_S = 0.25
_SAMPLE_INTERVAL_S = 5.0
_TICK_INTERVAL_S = 0.5
_PROBE_INTERVAL_S = 2.0
_TRIM_INTERVAL_S = 5.0
_CHECK_INTERVAL_S = 60.0
_MAX_CHECKED_BYTES = 256 * 2**20
"""Databases up to this size are checked for damage periodically."""
Fault = Literal["database_damaged", "database_not_writable", "recordings_not_writable", "no_threads"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HealthSample:
    """The state of the service at one moment."""

    queue_stats: QueueStats | None = None
    """None: the database does not answer."""
    disk_free_bytes: int | None = None
    """None: unknown."""
    progress_age_s: float = 0.0
    """The longest time for which a running job has made no progress."""
    ignored_s: float = 0.0
    """For how long jobs could have started while none was running."""
    fault: Fault | None = None
    """Why nothing can be written; None: the last test write succeeded."""


class Monitor:
    """Samples on request, and every few seconds by itself, so that it knows how long things have been stalled."""

    def __init__(
        self,
        repository: JobRepository,
        data_dir: Path,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        path = repository.database.location.path
        self._folders = (data_dir,) if path is None else (data_dir, path.parent)
        self._metrics = metrics
        self._clock = clock
        self._sample = HealthSample()
        self._sampled_at = -math.inf
        self._sampling: asyncio.Task[HealthSample] | None = None
        self._sampling_since = -math.inf
        self._last_event: int | None = None
        self._progress_since: dict[RunningProgress, float] = {}
        """Since when each running job has been at its current progress."""
        self._ignored_since: float | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._fault: Fault | None = None
        self._probed_at = self._checked_at = self._trimmed_at = -math.inf
        self._heap = Heap()
        self._failures = ThrottledLog(_log)
        self._bugs = ThrottledErrorLog(_log, "the service could not check its health")
        repository.database.on_write = metrics.database.record_write

    @property
    def is_running(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._watcher is not None

    async def start(self) -> None:
        """Start sampling. The queue must be open."""
        await self.sample()
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End."""
        tasks = [task for task in (self._watcher, self._sampling) if task is not None]
        self._watcher = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def sample(self) -> HealthSample:
        """Return a current sample, within two seconds in any case. Concurrent callers share one."""
        now = self._clock()
        if self._sampling is None or self._sampling.done():
            if now - self._sampled_at < _SAMPLE_TTL_S:
                return self._sample
            self._sampling = asyncio.create_task(self._take_sample())
            self._sampling_since = now
        timeout_s = max(0.0, self._sampling_since + SAMPLE_TIMEOUT_S - now)
        done, _ = await asyncio.wait({self._sampling}, timeout=timeout_s)
        return self._sampling.result() if done else replace(self._sample, queue_stats=None)

    async def _take_sample(self) -> HealthSample:
        try:
            return await self._take_full_sample()
        except RuntimeError as error:  # Python raises it when the system can't start more threads
            self._failures.error("no threads", f"the service can't check its health: {error}")
            self._sample = replace(self._sample, queue_stats=None, fault="no_threads")
            return self._sample

    async def _take_full_sample(self) -> HealthSample:
        free = await asyncio.to_thread(_free_bytes, self._folders)
        database, now = self._repository.database, utc_now()
        found: QueueStats | None = None
        with suppress(DatabaseError):
            if database.is_file_current:
                found = await database.read(lambda connection: stats.queue_stats(connection, now, self._last_event))
        if found is None:
            self._sample = replace(self._sample, queue_stats=None, disk_free_bytes=free)
        else:
            self._sample = replace(self._sample_from(found, free), fault=self._fault)  # until the next probe
            self._metrics.queue.update(found, now)
            self._metrics.database.record_wal_size(_wal_size(database.location.path))
        self._sample = replace(self._sample, fault=await self._find_fault())
        self._sampled_at = self._clock()
        return self._sample

    async def _find_fault(self) -> Fault | None:
        """Return the current fault, by test writes to the database and the recordings, at most every two seconds."""
        if self._repository.database.damage is not None:
            return "database_damaged"
        if self._clock() - self._probed_at >= _PROBE_INTERVAL_S:
            self._fault = await self._probe()
            self._probed_at = self._clock()
        return self._fault

    async def _probe(self) -> Fault | None:
        threading.Thread(target=lambda: None, name="cesar-probe").start()  # raises if the system can't start one
        try:
            if self._repository.audio is not None:
                await asyncio.to_thread(self._repository.audio.probe)
            await self._repository.database.probe()
        except DatabaseDamaged:
            return "database_damaged"
        except DatabaseError as error:
            self._failures.error("database", f"the database can't be written to: {error}")
            return "database_not_writable"
        except OutputError as error:
            self._failures.error("recordings", f"the folder of recordings can't be written to: {error}")
            return "recordings_not_writable"
        return None

    def _sample_from(self, found: QueueStats, free: int | None) -> HealthSample:
        now = self._clock()
        self._last_event = found.last_event
        self._progress_since = {job: self._progress_since.get(job, now) for job in found.running}
        is_ignored = found.waiting_since is not None and not found.running
        self._ignored_since = (self._ignored_since or now) if is_ignored else None
        return HealthSample(
            queue_stats=found,
            disk_free_bytes=free,
            progress_age_s=now - min(self._progress_since.values(), default=now),
            ignored_s=0.0 if self._ignored_since is None else now - self._ignored_since,
        )

    async def _watch(self) -> None:
        while True:
            due_at = self._clock() + _TICK_INTERVAL_S
            await asyncio.sleep(_TICK_INTERVAL_S)
            self._metrics.http.record_lag(self._clock() - due_at)
            if self._clock() - self._sampled_at >= _SAMPLE_INTERVAL_S:
                try:
                    await self.sample()
                except Exception as error:  # noqa: BLE001 - whatever it is, the next sample may succeed
                    self._bugs.report(error)
            await self._check_integrity()
            await self._trim_heap()

    async def _trim_heap(self) -> None:
        if self._clock() - self._trimmed_at >= _TRIM_INTERVAL_S:
            self._trimmed_at = self._clock()
            with suppress(RuntimeError):  # no more threads: the next sample reports it
                await asyncio.to_thread(self._heap.trim)

    async def _check_integrity(self) -> None:
        if self._clock() - self._checked_at >= _CHECK_INTERVAL_S:
            self._checked_at = self._clock()
            with suppress(OSError, RuntimeError):  # the next sample reports them
                await self._repository.database.check_integrity(_MAX_CHECKED_BYTES)


def _free_bytes(folders: tuple[Path, ...]) -> int | None:
    """Return the least free space on the disks of these folders, or of their nearest existing parents."""
    found = []
    for folder in folders:
        with suppress(OSError):
            found.append(free_bytes(folder))
    return min(found, default=None)


def _wal_size(database: Path | None) -> int:
    if database is None:
        return 0
    try:
        return database.with_name(f"{database.name}-wal").stat().st_size
    except OSError:
        return 0
