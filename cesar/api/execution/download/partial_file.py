"""`PartialFile`: the part of a download that has arrived, and a sidecar that says how to request the rest.

A partial file outlives its worker. Bytes not recorded in the sidecar are discarded: after a power cut, a file may have
its length without its contents. Everything here blocks, so call it from a thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Self

from cesar.api.storage.recordings import SIDECAR_SUFFIX
from cesar.errors import Interrupted
from cesar.files.private import opener

_BLOCK_BYTES = 1024**2
_SYNC_EVERY_BYTES = 16 * 1024**2
_SYNC_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Source:
    """Where a partial file comes from."""

    place: str
    """The URL, without what varies between requests."""
    validator: str | None
    """The value for `If-Range`: a strong ETag or a date. None: the rest can't be requested."""
    total: int | None
    """Total size in bytes, once it is known."""


class PartialFile:
    """A partial download, open for writing. Only one is open at a time for each path, across processes.

    source: where it comes from; None: nothing has arrived. size: number of bytes that have arrived.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.source: Source | None = None
        self.size = 0
        self._file = file
        self._hash = hashlib.sha256()
        self._synced_bytes = 0
        self._synced_at = time.monotonic()

    @classmethod
    def open(cls, path: Path, should_stop: Callable[[], bool]) -> Self:
        """Open or create a partial file. Raises `Interrupted` when stopped, and OSError."""
        partial = cls(path, _open_exclusively(path))
        try:
            partial._load_existing(should_stop)
        except BaseException:
            partial._file.close()
            raise
        return partial

    @property
    def is_complete(self) -> bool:
        """Whether the recording is complete."""
        return self.source is not None and self.size == self.source.total

    @property
    def can_resume(self) -> bool:
        """Whether the rest can be requested."""
        return self.size > 0 and self.source is not None and self.source.validator is not None

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes that have arrived, hexadecimal."""
        return self._hash.hexdigest()

    def restart(self, source: Source | None) -> None:
        """Start over, with another source."""
        self._file.truncate(0)
        self.source, self.size, self._hash = source, 0, hashlib.sha256()
        self.sync()

    def write(self, block: bytes) -> None:
        """Append a block; flush to the disk from time to time."""
        rest = memoryview(block)
        while rest:
            written = self._file.write(rest)
            rest = rest[written:]
        self._hash.update(block)
        self.size += len(block)
        is_large = self.size - self._synced_bytes >= _SYNC_EVERY_BYTES
        if is_large or time.monotonic() - self._synced_at >= _SYNC_EVERY_S:
            self.sync()

    def finish(self) -> None:
        """Mark the recording as complete."""
        assert self.source is not None
        self.source = Source(self.source.place, self.source.validator, self.size)
        self.sync()

    def sync(self) -> None:
        """Flush everything to the disk, and record it in the sidecar."""
        os.fsync(self._file.fileno())
        self._synced_bytes, self._synced_at = self.size, time.monotonic()
        if self.source is not None and self._is_ours():
            sidecar = {**asdict(self.source), "bytes": self.size, "file": self._inode()}
            with open(self._sidecar, "w", encoding="utf-8", opener=opener) as file:
                json.dump(sidecar, file)

    def discard(self) -> None:
        """Delete the file and its sidecar."""
        if self._is_ours():
            self._sidecar.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file, and keep it for the next attempt."""
        with suppress(OSError):  # then fewer bytes count
            self.sync()
        self._file.close()

    def _load_existing(self, should_stop: Callable[[], bool]) -> None:
        """Load what an earlier worker has left, as far as the sidecar records it and it can be resumed."""
        self.source, existing_bytes = self._read_sidecar()
        if self.source is None or (self.source.validator is None and existing_bytes != self.source.total):
            self.source, existing_bytes = None, 0
        self._file.truncate(existing_bytes)
        self._file.seek(0)
        while self.size < existing_bytes:
            if should_stop():
                raise Interrupted("the work was stopped")
            block = self._file.read(min(_BLOCK_BYTES, existing_bytes - self.size))
            self._hash.update(block)
            self.size += len(block)
        self._synced_bytes = self.size

    def _read_sidecar(self) -> tuple[Source | None, int]:
        """Return the recorded source and number of bytes; none if the sidecar is invalid or of another file."""
        try:
            sidecar = json.loads(self._sidecar.read_text(encoding="utf-8"))
            file, size = sidecar.pop("file"), int(sidecar.pop("bytes"))
            source = Source(**sidecar)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None, 0
        is_of_this_file = file == self._inode() and 0 <= size <= os.fstat(self._file.fileno()).st_size
        return (source, size) if is_of_this_file else (None, 0)

    @property
    def _sidecar(self) -> Path:
        return self.path.with_suffix(SIDECAR_SUFFIX)

    def _inode(self) -> int:
        return os.fstat(self._file.fileno()).st_ino

    def _is_ours(self) -> bool:
        """Whether our file is still at its path; a worker that takes over from a hanging one replaces it."""
        return _is_at(self.path, self._file)


def _open_exclusively(path: Path) -> BinaryIO:
    """Open a file exclusively; replace it if another worker, which can't hold the claim any more, has it open."""
    while True:
        file = open(path, "a+b", buffering=0, opener=opener)  # noqa: SIM115 - `Path.open` has no opener
        if _lock(file) and _is_at(path, file):
            return file
        if _is_at(path, file):
            path.unlink()  # the other goes on writing to an unlinked file
        file.close()


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


if sys.platform == "win32":

    def _lock(_file: BinaryIO) -> bool:
        return True  # on Windows, an open file is exclusive anyway
else:
    import fcntl

    def _lock(file: BinaryIO) -> bool:
        """Lock an open file until it is closed or its process dies; return False if another process has the lock."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
