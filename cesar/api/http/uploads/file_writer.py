"""`UploadWriter`: writes and hashes an upload in threads, block by block.

The event loop never waits for the disk, and at most one block of the recording is in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from cesar.api.storage.recordings import NO_ROOM_HINT, translate_os_errors, try_lock
from cesar.errors import DiskFull
from cesar.files.disk import free_bytes
from cesar.files.private import opener

T = TypeVar("T")
BLOCK_BYTES = 1 << 17
"""How much of each upload may be in memory."""


def require_free_space(folder: Path, size_bytes: int, min_free_bytes: int) -> None:
    """Raise `DiskFull` unless the folder's disk has room for this size and `min_free_bytes` beyond it.

    The folder need not exist yet.
    """
    if free_bytes(folder) - size_bytes < min_free_bytes:
        raise DiskFull("no space is left for the recording", hint=NO_ROOM_HINT)


class UploadWriter:
    """A file being written. Await `finish` once everything has arrived, and `discard` at the end in any case.

    Every method raises `DiskFull`, or `RecordingsNotWritable` if the file can't be written for another reason.
    """

    def __init__(self, path: Path, threads: Executor, min_free_bytes: int) -> None:
        self.path = path
        self.size_bytes = 0
        """Bytes received, including those still in memory."""
        self._threads = threads
        self._min_free_bytes = min_free_bytes
        self._block = bytearray()
        self._digest = hashlib.sha256()
        self._lock = threading.Lock()  # `discard` may run while a cancelled write is still in its thread
        self._is_closed = False
        with translate_os_errors():
            self._file = open(path, "wb", buffering=0, opener=opener)  # noqa: SIM115 - `Path.open` has no opener
            try_lock(self._file)  # so that no other process takes it for abandoned

    async def add(self, content: bytes) -> None:
        """Append bytes."""
        self.size_bytes += len(content)
        self._block += content
        if len(self._block) >= BLOCK_BYTES:
            await self._in_thread(self._write)

    async def finish(self) -> str:
        """Flush the file to the disk; return its SHA-256."""
        await self._in_thread(self._sync)
        return self._digest.hexdigest()

    async def discard(self) -> None:
        """Close the file, and delete it unless it has been moved."""
        await self._in_thread(self._remove)

    async def _in_thread(self, call: Callable[[], None]) -> None:
        def locked_call() -> None:
            with self._lock:
                call()

        with translate_os_errors():
            await asyncio.get_running_loop().run_in_executor(self._threads, locked_call)

    def _write(self) -> None:
        block, self._block = self._block, bytearray()
        if self._is_closed:
            return
        require_free_space(self.path.parent, len(block), self._min_free_bytes)
        self._digest.update(block)
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]

    def _sync(self) -> None:
        self._write()
        os.fsync(self._file.fileno())

    def _remove(self) -> None:
        self._is_closed = True
        with suppress(OSError):
            self._file.close()
        self.path.unlink(missing_ok=True)
