"""A recording on its way to the service: read piece by piece as it is sent, and never more than was announced."""

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
    """A file that says how much of it has been read. What is written to it after it was opened is left out."""

    def __init__(self, path: Path, file: BinaryIO, on_sent: OnSent | None) -> None:
        self._path = path
        self._file = file
        self._on_sent = on_sent
        self._size = os.fstat(file.fileno()).st_size
        self._position = 0

    def read(self, max_bytes: int) -> bytes:
        block = self._file.read(min(max_bytes, self._size - self._position))
        if not block and self._position < self._size:
            raise RecordingChanged(f"{self._path} became shorter while it was sent", hint="Send it when it is whole.")
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
    """Give a recording's name and its bytes, as httpx sends them.

    Raises `InputError` if it can't be read, or shrinks while it is sent.
    """
    require_readable(path)
    try:
        with path.open("rb", buffering=0) as file:
            yield path.name.encode("utf-8", "replace").decode(), _UploadFile(path, file, on_sent)
    except OSError as error:
        raise RecordingNotReadable(f"{path} can't be read: {error.strerror}") from error
