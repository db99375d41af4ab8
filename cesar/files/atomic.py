"""Atomic writes: a file appears complete or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from cesar.errors import DiskFull, OutputError, OutputNotWritable
from cesar.files.disk import is_disk_full

_STANDARD_STREAMS = (Path("/dev/stdout"), Path("/dev/stderr"))


def write_whole(path: Path, text: str) -> None:
    """Write text to a file atomically, as UTF-8 with plain newlines.

    The text goes to a hidden file in the same folder, which then replaces the target; after an error the target
    is unchanged and nothing else is left behind. The file keeps the permissions of the one it replaces, or gets those
    of a new file. A symbolic link is kept: its target is replaced. Devices, pipes and standard output are
    written to directly.

    Raises `DiskFull` or `OutputNotWritable`.
    """
    # The text may contain a file name that is not UTF-8: a transcript must not be lost because of that.
    content = text.encode("utf-8", "backslashreplace")
    try:
        if _is_stream(path):
            with path.open("ab") as stream:
                stream.write(content)
        else:
            _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        raise _explain(path, error) from error


def _is_stream(path: Path) -> bool:
    # Standard output may be a regular file that the shell has also opened for other programs: never replace it.
    if path in _STANDARD_STREAMS or path.parent == Path("/dev/fd"):
        return True
    return path.exists() and not path.is_file()  # true for a folder too: opening it gives the right error


def _replace(target: Path, content: bytes) -> None:
    mode = _mode_to_keep(target)
    # Not named after the target, whose name may already have the maximum length.
    temporary = target.parent / f".cesar-{secrets.token_hex(8)}.part"
    try:
        # Created with its final mode, so that private data is always private. (Not by tempfile: the umask must apply.)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _mode_to_keep(target: Path) -> int | None:
    if not target.exists():
        return None
    with target.open("ab") as file:  # a read-only file must not be replaced either
        return stat.S_IMODE(os.fstat(file.fileno()).st_mode)


def _explain(path: Path, error: OSError) -> OutputError:
    if is_disk_full(error):
        return DiskFull(f"no space is left to write {path}")
    match error.errno:
        case errno.EISDIR:
            return OutputNotWritable(
                f"{path} is a folder, not a file", hint="Specify a file name, or use --output-dir."
            )
        case errno.ENOENT:
            folder = Path(os.path.realpath(path)).parent  # of the target, if it is a link
            return OutputNotWritable(
                f"{path} can't be written: there is no folder {folder}",
                hint="Create the folder, or choose another with --output or --output-dir.",
            )
        case _:
            reason = (error.strerror or str(error)).lower()
            return OutputNotWritable(f"{path} can't be written: {reason}")
