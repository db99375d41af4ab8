"""The workers' temporary files, in a private folder inside the data folder; swept when a worker starts."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from cesar.files.private import make_folder
from cesar.settings.config import Settings

_KEPT_FOR_S = 3600.0


def folder_of(settings: Settings | None) -> Path | None:
    """Return the folder for temporary files, created if missing; None, without settings, is the system's.

    Raises OSError.
    """
    if settings is None:
        return None
    folder = settings.data_dir.absolute() / "tmp"
    make_folder(folder)
    return folder


def sweep(settings: Settings | None) -> None:
    """Delete files left behind by killed workers; those of running workers are safe.

    An empty file is the placeholder of a result, which replaces it even if it is gone. Others may still be written.
    """
    if settings is None:
        return
    with suppress(OSError):
        for file in (settings.data_dir / "tmp").iterdir():
            with suppress(OSError):
                status = file.stat()
                is_placeholder = status.st_size == 0 and file.suffix == ".txt"
                if is_placeholder or time.time() - status.st_mtime > _KEPT_FOR_S:
                    file.unlink()
