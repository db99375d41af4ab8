"""Files and folders that only the user running Cesar may read, whatever the umask.

A folder that an administrator has set up for a group (setgid, writable by the group) is left as it is.
"""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_GROUP_FILE_MODE = 0o660
_GROUP_FOLDER_MODE = 0o770
_GROUP_FOLDER = stat.S_ISGID | stat.S_IWGRP
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_log = logging.getLogger("cesar.api.private")  # the service shows the logs of its own modules


def opener(path: str, flags: int) -> int:
    """Open a file; create a new one readable by its owner only. For `open(..., opener=opener)`."""
    return os.open(path, flags, FILE_MODE)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, private to the owner. Raises OSError."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(FOLDER_MODE, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(folder))


def is_for_group(folder: Path) -> bool:
    """Return whether the folder is set up for a group."""
    try:
        return folder.stat().st_mode & _GROUP_FOLDER == _GROUP_FOLDER
    except OSError:
        return False


def file_mode_in(folder: Path) -> int:
    """Return the mode for a new file there that several programs share."""
    return _GROUP_FILE_MODE if is_for_group(folder) else FILE_MODE


def folder_mode_in(folder: Path) -> int:
    """Return the mode for a new folder there that several programs share."""
    return _GROUP_FOLDER_MODE if is_for_group(folder) else FOLDER_MODE


def tighten(path: Path) -> bool:
    """Make a file or folder private to its owner; return whether that changed anything.

    Files of other users and symbolic links stay as they are.
    """
    with suppress(OSError):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & _FOR_OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~_FOR_OTHERS)
            return True
    return False


def tighten_data_folder(folder: Path, is_ours: tuple[str, ...]) -> None:
    """Make a folder private if it contains only Cesar's files; others may be shared on purpose.

    is_ours: the prefixes of Cesar's own files and folders.
    """
    with suppress(OSError):
        if not is_for_group(folder) and all(path.name.startswith(is_ours) for path in folder.iterdir()):
            was = stat.S_IMODE(folder.stat().st_mode)
            if tighten(folder):
                _log.warning("%s is private now (it had mode %o)", folder, was)
