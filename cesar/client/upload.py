"""Uploads of recordings: read block by block as they are sent, and never beyond the announced size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cesar.errors import RecordingChanged, RecordingNotReadable
from cesar.files.readable import require_readable

OnSent = Callable[[int, int], None]


class _UploadFile:
    """A file that reports how much of it has been read, up to its size when it was opened."""

    def __init__(self, path: Path, file: BinaryIO, on_sent: OnSent | None) -> None:
        self._path = path
        self._file = file
        self._on_sent = on_sent
        self._size = os.fstat(file.fileno()).st_size
        self._position = 0

    def read(self, max_bytes: int) -> bytes:
        block = self._file.read(min(max_bytes, self._size - self._position))
        if not block and self._position < self._size:
            raise RecordingChanged(
                f"{self._path} became shorter while it was sent", hint="Send it when it is complete."
            )
        self._position += len(block)
        if self._on_sent is not None and block:
            self._on_sent(self._position, self._size)
        return block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = self._file.seek(base + offset)
        return self._position

    def tell(self) -> int:
        return self._position


@contextmanager
def open_upload(path: Path, on_sent: OnSent | None) -> Iterator[tuple[str, _UploadFile]]:
    """Yield a recording's name and contents in the form that httpx takes.

    Raises `InputError` if it can't be read, or shrinks while it is sent.
    """
    require_readable(path)
    try:
        with path.open("rb", buffering=0) as file:
            yield path.name.encode("utf-8", "replace").decode(), _UploadFile(path, file, on_sent)
    except OSError as error:
        raise RecordingNotReadable(f"{path} can't be read: {error.strerror}") from error
