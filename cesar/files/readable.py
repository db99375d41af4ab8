"""Checks that a path can be a recording, without decoding it."""

from __future__ import annotations

import os
from pathlib import Path

from cesar.errors import EmptyRecording, NotMedia, RecordingNotFound, RecordingNotReadable


def require_readable(path: Path) -> None:
    """Raise a subclass of `InputError` unless the path is a readable, non-empty file."""
    try:
        if path.is_dir():
            raise NotMedia(f"{path} is a folder", hint="Name a file.")
        size = path.stat().st_size
        if not path.is_file():
            raise NotMedia(f"{path} is not a regular file", hint="Name a file, or use `cesar transcribe -` for a pipe.")
        if size == 0:
            raise EmptyRecording(f"{path} is empty (0 bytes)")
        readable = os.access(path, os.R_OK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecordingNotFound(f"{path} was not found") from error
    except PermissionError as error:
        raise RecordingNotReadable(f"{path} is not readable") from error
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte
        raise RecordingNotFound(f"{path} can't be a file: {error}") from error
    if not readable:
        raise RecordingNotReadable(f"{path} is not readable")
