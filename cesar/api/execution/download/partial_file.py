"""`Part`: what has arrived of a recording that is being fetched, and a note of what the rest is to be asked for by.

A part outlives its worker. What the note does not tell to be on the disk does not count: a machine that lost its power
may have kept a file's length and not its bytes. Everything here blocks: it is for a thread.
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

from cesar.api.storage.recordings import NOTE_SUFFIX
from cesar.errors import Interrupted
from cesar.files.private import opener

_BLOCK_BYTES = 1024**2
_SYNC_EVERY_BYTES = 16 * 1024**2
_SYNC_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Origin:
    """What a part is a part of."""

    place: str
    """The address that gave it, without what varies from one request to the next."""
    validator: str | None
    """What `If-Range` takes: a strong ETag or a date. None: the rest can't be asked for."""
    total: int | None
    """Its size in bytes, once it is known."""


class Part:
    """A part of a recording, open for more of it. Only one is open at a time for each path, whoever opens it.

    origin: what it is a part of; None: there is nothing yet. size: how many bytes there are.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.origin: Origin | None = None
        self.size = 0
        self._file = file
        self._hash = hashlib.sha256()
        self._synced_bytes = 0
        self._synced_at = time.monotonic()

    @classmethod
    def open(cls, path: Path, should_stop: Callable[[], bool]) -> Self:
        """Open a part, or begin one. Raises `Interrupted` when stopped, OSError."""
        part = cls(path, _open_alone(path))
        try:
            part._read_what_is_there(should_stop)
        except BaseException:
            part._file.close()
            raise
        return part

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there."""
        return self.origin is not None and self.size == self.origin.total

    @property
    def can_go_on(self) -> bool:
        """Whether the rest can be asked for."""
        return self.size > 0 and self.origin is not None and self.origin.validator is not None

    @property
    def digest(self) -> str:
        """SHA-256 of what is there, hexadecimal."""
        return self._hash.hexdigest()

    def restart(self, origin: Origin | None) -> None:
        """Begin anew, with another origin."""
        self._file.truncate(0)
        self.origin, self.size, self._hash = origin, 0, hashlib.sha256()
        self.sync()

    def write(self, block: bytes) -> None:
        """Add what has arrived; from time to time see to it that it is on the disk."""
        rest = memoryview(block)
        while rest:
            written = self._file.write(rest)
            rest = rest[written:]
        self._hash.update(block)
        self.size += len(block)
        is_much = self.size - self._synced_bytes >= _SYNC_EVERY_BYTES
        if is_much or time.monotonic() - self._synced_at >= _SYNC_EVERY_S:
            self.sync()

    def finish(self) -> None:
        """That was all."""
        assert self.origin is not None
        self.origin = Origin(self.origin.place, self.origin.validator, self.size)
        self.sync()

    def sync(self) -> None:
        """Return when everything is on the disk, and the note tells so."""
        os.fsync(self._file.fileno())
        self._synced_bytes, self._synced_at = self.size, time.monotonic()
        if self.origin is not None and self._is_ours():
            note = {**asdict(self.origin), "bytes": self.size, "file": self._number()}
            with open(self._note, "w", encoding="utf-8", opener=opener) as file:
                json.dump(note, file)

    def discard(self) -> None:
        """Let nothing be left of it."""
        if self._is_ours():
            self._note.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Keep it as it is, for whoever opens it next."""
        with suppress(OSError):  # then less of it counts
            self.sync()
        self._file.close()

    def _read_what_is_there(self, should_stop: Callable[[], bool]) -> None:
        """Take up what an earlier worker has left, as far as it counts and is of use."""
        self.origin, there = self._read_note()
        if self.origin is None or (self.origin.validator is None and there != self.origin.total):
            self.origin, there = None, 0
        self._file.truncate(there)
        self._file.seek(0)
        while self.size < there:
            if should_stop():
                raise Interrupted("the work was stopped")
            block = self._file.read(min(_BLOCK_BYTES, there - self.size))
            self._hash.update(block)
            self.size += len(block)
        self._synced_bytes = self.size

    def _read_note(self) -> tuple[Origin | None, int]:
        """Give what the note says, and how many bytes count; nothing if it is not of this file, or was cut off."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            file, size = note.pop("file"), int(note.pop("bytes"))
            origin = Origin(**note)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None, 0
        is_of_this = file == self._number() and 0 <= size <= os.fstat(self._file.fileno()).st_size
        return (origin, size) if is_of_this else (None, 0)

    @property
    def _note(self) -> Path:
        return self.path.with_suffix(NOTE_SUFFIX)

    def _number(self) -> int:
        return os.fstat(self._file.fileno()).st_ino

    def _is_ours(self) -> bool:
        """Whether nobody has put another file in our file's place, as who takes over from a worker that hangs does."""
        return _is_at(self.path, self._file)


def _open_alone(path: Path) -> BinaryIO:
    """Open a file that nobody else has open; if somebody has, who can't have a claim any more, a new one."""
    while True:
        file = open(path, "a+b", buffering=0, opener=opener)  # noqa: SIM115 - `Path.open` has no opener
        if _lock(file) and _is_at(path, file):
            return file
        if _is_at(path, file):
            path.unlink()  # the other goes on writing to what has no name any more
        file.close()


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


if sys.platform == "win32":

    def _lock(_file: BinaryIO) -> bool:
        return True  # there, a file that is open is nobody else's anyway
else:
    import fcntl

    def _lock(file: BinaryIO) -> bool:
        """Lock an open file, which lasts until it is closed or its process dies; False if another has done so."""
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
