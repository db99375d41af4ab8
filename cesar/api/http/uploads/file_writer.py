"""`Arrival`: a recording on its way to the disk, written and hashed in threads, block by block.

The event loop never waits for the disk, and no more than a block of the recording is in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from cesar.api.storage.recordings import NO_ROOM_HINT, translate_os_errors, try_lock
from cesar.errors import DiskFull
from cesar.files.private import opener

T = TypeVar("T")
BLOCK_BYTES = 1 << 17
"""As much of every upload that is under way may be in memory."""


def require_room(folder: Path, size_bytes: int, min_free_bytes: int) -> None:
    """Raise `DiskFull` unless the folder's disk takes so much and still has `min_free_bytes` left.

    The folder need not be there yet.
    """
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if shutil.disk_usage(there).free - size_bytes < min_free_bytes:
        raise DiskFull("no room is left for the recording", hint=NO_ROOM_HINT)


class Arrival:
    """A file in the making. Await `finish` when all has come, and `discard` in the end, whatever has happened.

    Everything raises `DiskFull`, or `OutputError` if the file can't be written for another reason.
    """

    def __init__(self, path: Path, threads: Executor, min_free_bytes: int) -> None:
        self.path = path
        self.size_bytes = 0
        """How much has come, what is still in memory included."""
        self._threads = threads
        self._min_free_bytes = min_free_bytes
        self._block = bytearray()
        self._digest = hashlib.sha256()
        self._lock = threading.Lock()  # who is cancelled while a thread writes goes on to `discard`
        self._is_over = False
        with translate_os_errors():
            self._file = open(path, "wb", buffering=0, opener=opener)  # noqa: SIM115 - `Path.open` has no opener
            try_lock(self._file)  # so that no other program takes it for a dead one's

    async def add(self, content: bytes) -> None:
        """Take what comes next."""
        self.size_bytes += len(content)
        self._block += content
        if len(self._block) >= BLOCK_BYTES:
            await self._in_thread(self._write)

    async def finish(self) -> str:
        """See to it that all is on the disk; give its SHA-256."""
        await self._in_thread(self._sync)
        return self._digest.hexdigest()

    async def discard(self) -> None:
        """Close the file, and delete it unless somebody has moved it away."""
        await self._in_thread(self._remove)

    async def _in_thread(self, call: Callable[[], None]) -> None:
        def guarded() -> None:
            with self._lock:
                call()

        with translate_os_errors():
            await asyncio.get_running_loop().run_in_executor(self._threads, guarded)

    def _write(self) -> None:
        block, self._block = self._block, bytearray()
        if self._is_over:
            return
        require_room(self.path.parent, len(block), self._min_free_bytes)
        self._digest.update(block)
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _sync(self) -> None:
        self._write()
        os.fsync(self._file.fileno())

    def _remove(self) -> None:
        self._is_over = True
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)
