"""`Monitor`: looks at the queue, the disk and the event loop now and then, for whoever asks how the service is."""

from __future__ import annotations

import asyncio
import logging
import math
import shutil
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
from cesar.api.queue import stats
from cesar.api.queue.stats import QueueStats, RunningProgress
from cesar.api.repository import JobRepository
from cesar.errors import DatabaseDamaged, DatabaseError, OutputError

PATIENCE_S = 2.0
"""A database that has not answered by then is away."""
_FRESH_S = 0.25
_LOOK_EVERY_S = 5.0
_TICK_S = 0.5
_PROBE_EVERY_S = 2.0
_GIVE_BACK_EVERY_S = 5.0
_CHECK_EVERY_S = 60.0
_CHECKED_BYTES = 256 * 2**20
"""A database of up to this size is read for damage now and then."""
Trouble = Literal["database_damaged", "database_not_writable", "recordings_not_writable", "no_threads"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sight:
    """How things were when they were looked at."""

    vitals: QueueStats | None = None
    """None: the database does not answer."""
    disk_free_bytes: int | None = None
    """None: it can't be told."""
    progress_age_s: float = 0.0
    """For how long some job at work has not come any further."""
    ignored_s: float = 0.0
    """For how long jobs could have begun while nothing was at work."""
    trouble: Trouble | None = None
    """Why nothing can be written; None: it could be, when it was last tried."""


class Monitor:
    """Looks when asked, and every few seconds by itself, so that it knows since when things stand still."""

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
        self._sight = Sight()
        self._seen_at = -math.inf
        self._looking: asyncio.Task[Sight] | None = None
        self._looking_since = -math.inf
        self._last_event: int | None = None
        self._moved: dict[RunningProgress, float] = {}
        """Since when each job at work has been just so far."""
        self._ignored_since: float | None = None
        self._watching: asyncio.Task[None] | None = None
        self._trouble: Trouble | None = None
        self._probed_at = self._checked_at = self._gave_back_at = -math.inf
        self._heap = Heap()
        self._failures = ThrottledLog(_log)
        self._bugs = ThrottledErrorLog(_log, "the service could not look how it is")
        repository.database.on_write = metrics.note_write

    @property
    def is_watching(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._watching is not None

    async def start(self) -> None:
        """Begin to look. The queue must be open."""
        await self.look()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End."""
        tasks = [task for task in (self._watching, self._looking) if task is not None]
        self._watching = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> Sight:
        """Say how things are now; within two seconds in any case. Many who ask at once cause one look."""
        now = self._clock()
        if self._looking is None or self._looking.done():
            if now - self._seen_at < _FRESH_S:
                return self._sight
            self._looking = asyncio.create_task(self._look())
            self._looking_since = now
        patience_s = max(0.0, self._looking_since + PATIENCE_S - now)
        done, _ = await asyncio.wait({self._looking}, timeout=patience_s)
        return self._looking.result() if done else replace(self._sight, vitals=None)

    async def _look(self) -> Sight:
        try:
            return await self._look_at_all()
        except RuntimeError as error:  # as Python says it when the system gives no more threads
            self._failures.error("no threads", f"the service can't look how it is: {error}")
            self._sight = replace(self._sight, vitals=None, trouble="no_threads")
            return self._sight

    async def _look_at_all(self) -> Sight:
        free = await asyncio.to_thread(_free_bytes, self._folders)
        database, now = self._repository.database, utc_now()
        found: QueueStats | None = None
        with suppress(DatabaseError):
            if database.is_file_current:
                found = await database.read(lambda connection: stats.queue_stats(connection, now, self._last_event))
        if found is None:
            self._sight = replace(self._sight, vitals=None, disk_free_bytes=free)
        else:
            self._sight = replace(self._note(found, free), trouble=self._trouble)  # until the next probe has answered
            self._metrics.show(found, now)
            self._metrics.note_log_size(_log_size(database.location.path))
        self._sight = replace(self._sight, trouble=await self._find_trouble())
        self._seen_at = self._clock()
        return self._sight

    async def _find_trouble(self) -> Trouble | None:
        """Write something to the database and to the folder of recordings, unless that was done just now."""
        if self._repository.database.damage is not None:
            return "database_damaged"
        if self._clock() - self._probed_at >= _PROBE_EVERY_S:
            self._trouble = await self._probe()
            self._probed_at = self._clock()
        return self._trouble

    async def _probe(self) -> Trouble | None:
        threading.Thread(target=lambda: None, name="cesar-probe").start()  # whether the system gives one
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

    def _note(self, found: QueueStats, free: int | None) -> Sight:
        now = self._clock()
        self._last_event = found.last_event
        self._moved = {job: self._moved.get(job, now) for job in found.running}
        is_ignored = found.waiting_since is not None and not found.running
        self._ignored_since = (self._ignored_since or now) if is_ignored else None
        return Sight(
            vitals=found,
            disk_free_bytes=free,
            progress_age_s=now - min(self._moved.values(), default=now),
            ignored_s=0.0 if self._ignored_since is None else now - self._ignored_since,
        )

    async def _watch(self) -> None:
        while True:
            due_at = self._clock() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self._metrics.note_lag(self._clock() - due_at)
            if self._clock() - self._seen_at >= _LOOK_EVERY_S:
                try:
                    await self.look()
                except Exception as error:  # noqa: BLE001 - whatever it is, the next look may go well
                    self._bugs.report(error)
            await self._look_for_damage()
            await self._give_memory_back()

    async def _give_memory_back(self) -> None:
        if self._clock() - self._gave_back_at >= _GIVE_BACK_EVERY_S:
            self._gave_back_at = self._clock()
            with suppress(RuntimeError):  # no thread is to be had: the next look tells of it
                await asyncio.to_thread(self._heap.give_back)

    async def _look_for_damage(self) -> None:
        if self._clock() - self._checked_at >= _CHECK_EVERY_S:
            self._checked_at = self._clock()
            with suppress(OSError, RuntimeError):  # the next look tells of them
                await self._repository.database.check_integrity(_CHECKED_BYTES)


def _free_bytes(folders: tuple[Path, ...]) -> int | None:
    """Say how much room is left on the disks of these folders, or of those that they will be made in."""
    found = []
    for folder in folders:
        there = next((place for place in (folder, *folder.parents) if place.is_dir()), folder)
        with suppress(OSError):
            found.append(shutil.disk_usage(there).free)
    return min(found, default=None)


def _log_size(database: Path | None) -> int:
    if database is None:
        return 0
    try:
        return database.with_name(f"{database.name}-wal").stat().st_size
    except OSError:
        return 0
