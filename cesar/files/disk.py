"""Disk operations: detecting a full disk, free space, and flushing a folder."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a write when the disk or the user's quota is full."""


def is_disk_full(error: BaseException) -> bool:
    """Return whether a write failed for lack of space."""
    return isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS


def existing_parent(folder: Path) -> Path:
    """Return the folder, or the nearest of its parents that exists."""
    absolute = folder.absolute()
    exists = os.path.exists  # unlike Path.exists it never raises, even without permission
    return next(parent for parent in (absolute, *absolute.parents) if exists(parent))


def free_bytes(folder: Path) -> int:
    """Return the free space on the disk of a folder, which need not exist yet. Raises OSError."""
    import shutil  # every command imports this module, and few ask

    return shutil.disk_usage(existing_parent(folder)).free


def sync_folder(folder: Path) -> None:
    """Flush a folder, so that the names of its files are on disk as well as their contents."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def put_in_place(complete: Path, target: Path) -> None:
    """Rename a complete file to its place, replacing what was there; both are on the disk once this returns."""
    with complete.open("rb") as file:  # a power cut after the rename must not leave an empty file
        os.fsync(file.fileno())
    complete.replace(target)
    sync_folder(target.parent)
