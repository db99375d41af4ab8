"""Installs a model in the store: under a lock, in a temporary folder that is renamed when complete.

Therefore a folder with a model's name is always complete, even after a kill or a race.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cesar.errors import DiskFull, OutputNotWritable
from cesar.files.disk import free_bytes, is_disk_full
from cesar.files.private import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_BLOCK_BYTES = 4 * 1024 * 1024


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Translate errors of writing into this folder to `DiskFull` or `OutputNotWritable`."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise _disk_full(folder) from error
        raise OutputNotWritable(
            f"{folder} can't be written to: {error}",
            hint="Check its permissions, or choose another folder (for models: CESAR_DATA_DIR).",
        ) from error


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise `DiskFull` if that many bytes don't fit."""
    if free_bytes(folder) < needed_bytes:
        raise _disk_full(folder, needed_bytes)


def _disk_full(folder: Path, needed_bytes: int = 0) -> DiskFull:
    needed = f": {needed_bytes / 1e6:,.0f} MB are needed" if needed_bytes else ""
    return DiskFull(
        f"no space is left in {folder}{needed}",
        hint="Free some space, or choose another folder (for models: CESAR_DATA_DIR).",
    )


@contextmanager
def locked(store: Path, name: str) -> Iterator[None]:
    """Lock one model in the store, waiting for another process or thread that holds the lock.

    Raises `DiskFull` or `OutputNotWritable` for any error of the store inside the block.
    """
    from filelock import FileLock

    with writing_into(store):
        make_folder(store.parent)
        store.mkdir(exist_ok=True)  # models are not secret
        with FileLock(store / f".{name}.lock"):
            yield


@contextmanager
def staged(store: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder that becomes the store's folder of that name if the block succeeds.

    Otherwise the folder is removed. Use it under `locked`: leftovers of an earlier attempt then belong to a dead
    process, and are removed.
    """
    folder = store / f".{name}.new"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        put_in_place(folder, store / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(folder: Path, target: Path) -> None:
    """Rename a complete folder to its target, replacing an existing one. Call it under `locked`."""
    for file in folder.iterdir():
        with file.open("rb+") as stream:  # a power failure after the rename must not leave empty files
            os.fsync(stream.fileno())
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    folder.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def join(parts: Iterable[Path], target: Path) -> None:
    """Concatenate files into one, holding no more than a block in memory."""
    with target.open("wb") as whole:
        for part in parts:
            with part.open("rb") as stream:
                shutil.copyfileobj(stream, whole, _BLOCK_BYTES)
