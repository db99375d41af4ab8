"""Which recordings a run is about: files, folders and standard input, expanded in the order given."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cesar.cli.transcription.folders import look_into
from cesar.errors import (
    DiskFull,
    EmptyRecording,
    InputError,
    NoMediaInFolder,
    RecordingNotFound,
    RecordingNotReadable,
    UsageError,
)
from cesar.files.readable import require_readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STDIN = Path("-")
STDIN_NAME = "stdin"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording to transcribe, or what keeps it from being one."""

    path: Path
    """`STDIN` for standard input."""
    problem: InputError | None = None
    """Known before anything is decoded: the file is missing, empty, or no file."""
    given: str = ""
    """What the user wrote where no path is the same: an address."""

    @property
    def name(self) -> str:
        """How the recording is called in messages: as the user wrote it."""
        return STDIN_NAME if self.path == STDIN else self.given or str(self.path)


def expand(given: Sequence[str]) -> list[Recording]:
    """Give the recordings that the arguments name, each once, in order.

    A folder stands for the media files directly in it, sorted by name, hidden ones left out.
    Raises `UsageError` when standard input is a terminal, for then nobody would send a recording.
    """
    if str(STDIN) in given and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("standard input is a terminal", hint="Pipe a recording into it: `... | cesar transcribe -`.")
    found: dict[Path, Recording] = {}
    for argument in given:
        for recording in _recordings_of(argument):
            found.setdefault(_identity(recording.path), recording)
    return list(found.values())


def _identity(path: Path) -> Path:
    return path if path == STDIN else Path(os.path.realpath(path))


def _recordings_of(argument: str) -> list[Recording]:
    if argument == str(STDIN):
        return [Recording(STDIN)]
    if not argument:
        raise UsageError("the name of a recording is empty")
    if _ADDRESS.match(argument) and not os.path.exists(argument):  # noqa: PTH110 - unlike Path.exists it never raises
        return [Recording(Path(argument), _address(argument), given=argument)]
    path = Path(argument)
    if path == STDIN:
        path = path.absolute()  # a file of that name, written ./-
    try:
        status = path.stat()
    except OSError as error:
        return [Recording(path, _unreachable(path, error, is_folder=argument.endswith(os.sep)))]
    if stat.S_ISDIR(status.st_mode):
        return _recordings_in(path)
    return [Recording(path, _problem_of(path, status))]


def _recordings_in(folder: Path) -> list[Recording]:
    try:
        media = look_into(folder).media
    except OSError as error:
        return [Recording(folder, _unreachable(folder, error))]
    if not media:
        return [Recording(folder, NoMediaInFolder(f"the folder {folder} has no audio or video files"))]
    return [recording for path in media for recording in _recordings_of(str(path))]


def left_out(given: Sequence[str]) -> dict[Path, tuple[str, ...]]:
    """Return what `expand` leaves out of each folder among the arguments, as far as it is worth telling."""
    found: dict[Path, tuple[str, ...]] = {}
    for argument in given:
        with suppress(OSError):  # told as the folder's own problem
            if argument and os.path.isdir(argument) and (names := look_into(Path(argument)).left_out):  # noqa: PTH112
                found[Path(argument)] = names
    return found


def _unreachable(path: Path, error: OSError, *, is_folder: bool = False) -> InputError:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return RecordingNotReadable(f"{path} can't be read: {error.strerror}")
    if path.is_symlink():
        return RecordingNotFound(f"{path} is a link to {path.readlink()}, which is not there")
    parent = next((parent for parent in reversed(path.parents) if not os.path.exists(parent)), None)  # noqa: PTH110
    if parent is not None:
        return RecordingNotFound(f"there is no folder {parent}, and so no {path}")
    if is_folder:
        return RecordingNotFound(f"there is no folder {path}")
    return RecordingNotFound(f"there is no file or folder {path}")


def _address(text: str) -> InputError:
    if text.lower().startswith("file:"):
        return RecordingNotFound(f"{text} is an address, not a file", hint="Give the path alone, without file://.")
    hint = (
        "A service fetches recordings: start `cesar serve`, then run `cesar jobs submit ADDRESS --server "
        "http://127.0.0.1:5000`; or download it and name the file."
    )
    return RecordingNotFound(f"{text} is an address, not a file", hint=hint)


def _problem_of(path: Path, status: os.stat_result) -> InputError | None:
    if stat.S_ISFIFO(status.st_mode):
        return None  # as a shell's <(...) gives it
    if not stat.S_ISREG(status.st_mode):
        return RecordingNotReadable(f"{path} is not a file", hint="Name a file or a folder, or - for standard input.")
    try:
        require_readable(path)
    except InputError as problem:
        return problem
    return None


@contextmanager
def local_file(recording: Recording) -> Iterator[Path]:
    """Give the path of a recording's bytes; a stream is spooled to a temporary file, removed afterwards.

    Raises the recording's problem if it has one, `EmptyRecording` for an empty stream, and `DiskFull` when
    the temporary folder has no room for it.
    """
    if recording.problem:
        raise recording.problem
    if recording.path == STDIN:
        if sys.stdin is None:
            raise RecordingNotReadable("standard input is closed", hint="Pipe a recording into it.")
        with _spooled(sys.stdin.buffer, STDIN_NAME) as path:
            yield path
    elif recording.path.is_fifo():
        with recording.path.open("rb") as stream, _spooled(stream, recording.name) as path:
            yield path
    else:
        yield recording.path


@contextmanager
def _spooled(stream: BinaryIO, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cesar-") as folder:
        path = Path(folder) / Path(name).name  # messages name the file, so it has the recording's name
        try:
            with path.open("wb") as spool:
                shutil.copyfileobj(stream, spool, length=1 << 20)
        except OSError as error:
            if error.errno == ENOSPC:
                hint = "Free some space, or let TMPDIR name a folder with more."
                raise DiskFull(f"no room for {name} in {tempfile.gettempdir()}", hint=hint) from error
            raise RecordingNotReadable(f"{name} can't be read: {error.strerror}") from error
        if path.stat().st_size == 0:
            raise EmptyRecording(f"{name} is empty", hint="The program before the pipe sent nothing.")
        yield path
