"""The workers' temporary files: in a private folder inside the data folder, swept when a worker starts."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from cesar.files.private import make_folder
from cesar.settings.config import Settings

_KEPT_FOR_S = 3600.0


def folder_of(settings: Settings | None) -> Path | None:
    """Return the folder for temporary files, made if need be; None, without settings, is the system's.

    Raises OSError.
    """
    if settings is None:
        return None
    folder = settings.data_dir.absolute() / "tmp"
    make_folder(folder)
    return folder


def sweep(settings: Settings | None) -> None:
    """Delete what workers left behind that were killed; files of those that run are not harmed.

    An empty file is a result's place: it is replaced when there is one, also if it is gone. Others may be just written.
    """
    if settings is None:
        return
    with suppress(OSError):
        for file in (settings.data_dir / "tmp").iterdir():
            with suppress(OSError):
                status = file.stat()
                is_place = status.st_size == 0 and file.suffix == ".txt"
                if is_place or time.time() - status.st_mtime > _KEPT_FOR_S:
                    file.unlink()
