"""The owners of claims, and whether they are still alive.

An owner is an open `JobRepository`. While it is alive it locks a file of its own; the kernel releases the lock when the
process dies, however it dies. If an owner is alive but stuck (stopped, or hanging), its jobs' heartbeats stop, which
`LeaseMonitor` notices by this process's monotonic clock. No wall clock is involved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from cesar.files.private import file_mode_in, folder_mode_in

_WORKER_SUFFIX = ".works"
"""Suffix of the file that an owner that takes jobs keeps beside its lock."""


def monotonic_clock() -> float:
    """Return seconds on a clock that never jumps and, on Linux, includes the time the machine is suspended."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class LeaseOwner:
    """A holder of claims: a name, and the lock that shows it is alive."""

    def __init__(self, folder: Path | None) -> None:
        self.name = uuid4().hex
        self._folder = folder
        """None: the database is in memory, so no other process can hold claims in it."""
        self._lock: FileLock | None = None

    def ensure_lock(self) -> None:
        """Ensure that we hold our lock, before a claim is made or renewed: its file may have been deleted.

        Call it in a transaction, when no other owner can be about to acquire its lock.
        """
        if self._folder is None:
            return
        if self._lock is not None and not Path(self._lock.lock_file).exists():
            self.release()
        if self._lock is None:
            self._folder.mkdir(folder_mode_in(self._folder.parent), exist_ok=True)
            for left in self._folder.iterdir():
                self.is_dead(left.stem)  # deletes the file of a dead one
            lock = FileLock(self._file(self.name), thread_local=False, mode=file_mode_in(self._folder.parent))
            lock.acquire(timeout=0)
            self._lock = lock

    def release(self) -> None:
        """Release the lock, which gives up all claims."""
        if self._lock is not None:
            self._remove_worker_mark(self.name)
            self._remove_lock(self._lock)
            self._lock = None

    def is_dead(self, name: str) -> bool:
        """Whether the owner of that name is certainly dead."""
        if name == self.name or self._folder is None:
            return False
        lock = FileLock(self._file(name), thread_local=False)
        if Path(lock.lock_file).exists():
            try:
                lock.acquire(timeout=0)
            except (Timeout, OSError):
                return False
            self._remove_lock(lock)
        self._remove_worker_mark(name)
        return True

    def mark_as_worker(self) -> None:
        """Show that we are alive and take jobs; a service without a worker is an owner, too."""
        self.ensure_lock()
        if self._folder is not None:
            self._file(self.name).with_suffix(_WORKER_SUFFIX).touch(file_mode_in(self._folder.parent))

    def sees_other_worker(self) -> bool:
        """Whether another owner that takes jobs is alive. Call it in a transaction, like `ensure_lock`."""
        if self._folder is None or not self._folder.is_dir():
            return False
        workers = {mark.stem for mark in self._folder.glob(f"*{_WORKER_SUFFIX}")} - {self.name}
        return any(not self.is_dead(name) for name in workers)

    def _file(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{name}.lock"

    def _remove_worker_mark(self, name: str) -> None:
        with suppress(OSError):
            self._file(name).with_suffix(_WORKER_SUFFIX).unlink()

    @staticmethod
    def _remove_lock(lock: FileLock) -> None:
        with suppress(OSError):  # it may be gone, and on Windows an open file can't be deleted
            Path(lock.lock_file).unlink()
        lock.release()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Evidence that a claim is alive: `count` must change before the lease expires."""

    job_seq: int
    owner: str
    attempt: int
    count: int


@dataclass
class LeaseMonitor:
    """Remembers when each heartbeat last changed (the protocol of the DynamoDB lock client).

    Its time advances only while this process is running: if the whole machine slept, so did the owners.
    """

    ttl_s: float
    _since: dict[Heartbeat, float] = field(default_factory=dict)
    _time: float = 0.0
    _ticked_at: float = math.inf

    def tick(self, now: float) -> None:
        """Record that this process is running; `now` is on the monotonic clock."""
        self._time += min(max(0.0, now - self._ticked_at), self.ttl_s / 4)
        self._ticked_at = now

    def expired(self, heartbeats: Iterable[Heartbeat], now: float) -> set[Heartbeat]:
        """Return the heartbeats that have not changed for longer than the lease."""
        self.tick(now)
        self._since = {heartbeat: self._since.get(heartbeat, self._time) for heartbeat in heartbeats}
        return {heartbeat for heartbeat, since in self._since.items() if self._time - since > self.ttl_s}
