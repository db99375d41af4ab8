"""Space kept free for deletions: on a full disk, even a deletion needs some, for the write-ahead log."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from cesar.api.storage.location import DatabaseLocation
from cesar.files.disk import free_bytes
from cesar.files.private import FILE_MODE

RESERVE_BYTES = 1024**2
_MIN_FREE_BYTES = 2 * RESERVE_BYTES
"""On a disk with less space, nothing is reserved."""


class DiskReserve:
    """A file beside the database whose only use is to be deleted."""

    def __init__(self, location: DatabaseLocation) -> None:
        path = location.path
        self._path: Path | None = None if path is None else path.with_name(f"{path.name}-reserve")

        self._is_kept = False

    def keep(self) -> None:
        """Reserve the space, and from now on keep it reserved."""
        self._is_kept = True
        self.fill()

    def fill(self) -> None:
        """Reserve the space again, if it is to be kept and the disk has enough of it."""
        if self._path is None or not self._is_kept:
            return
        with suppress(OSError):
            if self._size() < RESERVE_BYTES and free_bytes(self._path.parent) >= _MIN_FREE_BYTES:
                self._write(self._path)

    def release(self) -> None:
        """Free the space."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()

    def _size(self) -> int:
        return self._path.stat().st_size if self._path is not None and self._path.exists() else 0

    def _write(self, path: Path) -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, FILE_MODE)
        try:
            written = os.write(descriptor, os.urandom(RESERVE_BYTES))  # zeros might take no space
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if written < RESERVE_BYTES:
            path.unlink()
