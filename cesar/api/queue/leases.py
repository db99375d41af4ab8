"""Who holds claims, and whether they are still alive.

An owner is one `JobRepository` that is open. While it lives it keeps a lock on a file of its own, which the kernel
lets go of when the process dies, however it dies. Where an owner is alive but does not work (stopped, or wedged), its
jobs' beats stand still: `LeaseMonitor` notices that, by our own steady clock. No wall clock takes part.
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
"""Ends the name of the file that an owner who takes jobs has beside its lock."""
LEASE_TTL_S = 60.0
"""A claim is lost when nobody has kept it for so long, in seconds. Its worker beats six times in that time."""


def monotonic_clock() -> float:
    """Seconds that never jump, and go on while the machine sleeps where the system tells (Linux)."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class LeaseOwner:
    """One that may hold claims: a name, and the lock that shows it is alive."""

    def __init__(self, folder: Path | None) -> None:
        self.name = uuid4().hex
        self._folder = folder
        """None: the database is in memory, so no other process can have claims in it."""
        self._lock: FileLock | None = None

    def ensure_lock(self) -> None:
        """See to it that we have our lock: before a claim is made or kept. Somebody may have tidied its file away.

        Call it in a transaction, when no other owner can be about to take its lock.
        """
        if self._folder is None:
            return
        if self._lock is not None and not Path(self._lock.lock_file).exists():
            self.release()
        if self._lock is None:
            self._folder.mkdir(folder_mode_in(self._folder.parent), exist_ok=True)
            for left in self._folder.iterdir():
                self.is_dead(left.stem)  # and if so, its file goes
            lock = FileLock(self._file(self.name), thread_local=False, mode=file_mode_in(self._folder.parent))
            lock.acquire(timeout=0)
            self._lock = lock

    def release(self) -> None:
        """Let go of the lock: whatever is still claimed is anybody's."""
        if self._lock is not None:
            self._remove_worker_mark(self.name)
            self._remove_lock(self._lock)
            self._lock = None

    def is_dead(self, name: str) -> bool:
        """Whether the owner of that name is certain not to live any more."""
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
        """Show that we are alive, and that we take jobs: a service that only answers is an owner, too."""
        self.ensure_lock()
        if self._folder is not None:
            self._file(self.name).with_suffix(_WORKER_SUFFIX).touch(file_mode_in(self._folder.parent))

    def sees_other_worker(self) -> bool:
        """Whether another owner lives that takes jobs. Call it in a transaction, as `ensure_lock`."""
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
        with suppress(OSError):  # it may be gone, and on Windows it can't go while it is open
            Path(lock.lock_file).unlink()
        lock.release()


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What shows that a claim is being kept: it must change within the lease's time."""

    job_seq: int
    owner: str
    attempt: int
    count: int


@dataclass
class LeaseMonitor:
    """Remembers since when each beat has stood still (the protocol of the DynamoDB lock client).

    Its time goes on only while we are seen to be awake: they may have slept when we did, as a whole machine does.
    """

    ttl_s: float
    _since: dict[Heartbeat, float] = field(default_factory=dict)
    _time: float = 0.0
    _ticked_at: float = math.inf

    def tick(self, now: float) -> None:
        """Note that we are awake; `now` by the steady clock."""
        self._time += min(max(0.0, now - self._ticked_at), self.ttl_s / 4)
        self._ticked_at = now

    def expired(self, beats: Iterable[Heartbeat], now: float) -> set[Heartbeat]:
        """Give those beats that were seen unchanged for longer than the lease lasts."""
        self.tick(now)
        self._since = {beat: self._since.get(beat, self._time) for beat in beats}
        return {beat for beat, since in self._since.items() if self._time - since > self.ttl_s}
