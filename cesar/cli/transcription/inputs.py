"""The recordings of a run: files, folders and standard input, expanded in the order given."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cesar.cli.transcription.folders import scan_folder
from cesar.errors import (
    DiskFull,
    EmptyRecording,
    InputError,
    NoMediaInFolder,
    RecordingNotFound,
    RecordingNotReadable,
    UsageError,
)
from cesar.files.disk import is_disk_full
from cesar.files.readable import require_readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STDIN = Path("-")
STDIN_NAME = "stdin"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One recording to transcribe, or the reason why it can't be."""

    path: Path
    """`STDIN` for standard input."""
    problem: InputError | None = None
    """Found before decoding: the file is missing, empty, or not a file."""
    address: str = ""
    """The URL that the user gave, where a path would not preserve it."""

    @property
    def name(self) -> str:
        """The recording's name in messages, as the user wrote it."""
        return STDIN_NAME if self.path == STDIN else self.address or str(self.path)


def expand(arguments: Sequence[str]) -> list[SourceFile]:
    """Return the recordings that the arguments name, in order, without duplicates.

    A folder stands for the media files directly in it, sorted by name, without hidden ones.
    Raises `UsageError` if standard input is a terminal.
    """
    if str(STDIN) in arguments and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError("standard input is a terminal", hint="Pipe a recording into it: `... | cesar transcribe -`.")
    found: dict[Path, SourceFile] = {}
    for argument in arguments:
        for recording in _expand_argument(argument):
            found.setdefault(_identity(recording.path), recording)
    return list(found.values())


def _identity(path: Path) -> Path:
    return path if path == STDIN else Path(os.path.realpath(path))


def _expand_argument(argument: str) -> list[SourceFile]:
    if argument == str(STDIN):
        return [SourceFile(STDIN)]
    if not argument:
        raise UsageError("the name of a recording is empty")
    if _URL.match(argument) and not os.path.exists(argument):  # noqa: PTH110 - unlike Path.exists it never raises
        return [SourceFile(Path(argument), _address_problem(argument), address=argument)]
    path = Path(argument)
    if path == STDIN:
        path = path.absolute()  # a file of that name, given as ./-
    try:
        status = path.stat()
    except OSError as error:
        return [SourceFile(path, _access_problem(path, error, is_folder=argument.endswith(os.sep)))]
    if stat.S_ISDIR(status.st_mode):
        return _expand_folder(path)
    return [SourceFile(path, _file_problem(path, status))]


def _expand_folder(folder: Path) -> list[SourceFile]:
    try:
        media = scan_folder(folder).media
    except OSError as error:
        return [SourceFile(folder, _access_problem(folder, error))]
    if not media:
        return [SourceFile(folder, NoMediaInFolder(f"the folder {folder} has no audio or video files"))]
    return [recording for path in media for recording in _expand_argument(str(path))]


def left_out(arguments: Sequence[str]) -> dict[Path, tuple[str, ...]]:
    """Return what `expand` leaves out of each folder among the arguments, if worth reporting."""
    found: dict[Path, tuple[str, ...]] = {}
    for argument in arguments:
        with suppress(OSError):  # reported as the problem of the folder itself
            if argument and os.path.isdir(argument) and (names := scan_folder(Path(argument)).left_out):  # noqa: PTH112
                found[Path(argument)] = names
    return found


def _access_problem(path: Path, error: OSError, *, is_folder: bool = False) -> InputError:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        return RecordingNotReadable(f"{path} can't be read: {error.strerror}")
    if path.is_symlink():
        return RecordingNotFound(f"{path} is a link to {path.readlink()}, which does not exist")
    parent = next((parent for parent in reversed(path.parents) if not os.path.exists(parent)), None)  # noqa: PTH110
    if parent is not None:
        return RecordingNotFound(f"there is no folder {parent}, and so no {path}")
    if is_folder:
        return RecordingNotFound(f"there is no folder {path}")
    return RecordingNotFound(f"there is no file or folder {path}")


def _address_problem(text: str) -> InputError:
    if text.lower().startswith("file:"):
        return RecordingNotFound(f"{text} is a URL, not a file", hint="Give the path alone, without file://.")
    hint = (
        "A service can fetch it: start `cesar serve`, then run `cesar jobs submit URL --server "
        "http://127.0.0.1:5000`. Or download it and name the file."
    )
    return RecordingNotFound(f"{text} is a URL, not a file", hint=hint)


def _file_problem(path: Path, status: os.stat_result) -> InputError | None:
    if stat.S_ISFIFO(status.st_mode):
        return None  # as from a shell's <(...)
    if not stat.S_ISREG(status.st_mode):
        return RecordingNotReadable(f"{path} is not a file", hint="Name a file or a folder, or - for standard input.")
    try:
        require_readable(path)
    except InputError as problem:
        return problem
    return None


@contextmanager
def local_file(recording: SourceFile) -> Iterator[Path]:
    """Yield the path of a file with the recording; a stream is spooled to a temporary file.

    Raises the recording's problem if it has one, `EmptyRecording` for an empty stream, and `DiskFull` if the
    temporary folder has no space for it.
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
        path = Path(folder) / Path(name).name  # messages contain the file's name, so it is the recording's
        try:
            with path.open("wb") as spool:
                shutil.copyfileobj(stream, spool, length=1 << 20)
        except OSError as error:
            if is_disk_full(error):
                hint = "Free some space, or set TMPDIR to a folder with more."
                raise DiskFull(f"no space for {name} in {tempfile.gettempdir()}", hint=hint) from error
            raise RecordingNotReadable(f"{name} can't be read: {error.strerror}") from error
        if path.stat().st_size == 0:
            raise EmptyRecording(f"{name} is empty", hint="The program before the pipe sent nothing.")
        yield path
