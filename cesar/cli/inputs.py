"""Which recordings a run is about: files, folders and standard input, expanded in the order given."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cesar.errors import (
    DiskFull,
    EmptyRecording,
    InputError,
    NoMediaInFolder,
    RecordingNotFound,
    RecordingNotReadable,
    UsageError,
)
from cesar.recording import require_readable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STDIN = Path("-")
STDIN_NAME = "stdin"
_MEDIA_ENDINGS = """
    3g2 3gp aac ac3 aif aifc aiff amr ape au avi caf dts eac3 flac flv gsm m2ts m4a m4b m4v mka mkv mov mp2
    mp3 mp4 mpeg mpg mpga mts oga ogg ogv opus qt rf64 snd spx ts tta vob w64 wav weba webm wma wmv wv
"""
MEDIA_SUFFIXES = frozenset(f".{ending}" for ending in _MEDIA_ENDINGS.split())
"""What counts as media in a folder; a file that is named itself may have any ending."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording to transcribe, or what keeps it from being one."""

    path: Path
    """`STDIN` for standard input."""
    problem: InputError | None = None
    """Known before anything is decoded: the file is missing, empty, or no file."""

    @property
    def name(self) -> str:
        """How the recording is called in messages: as the user wrote it."""
        return STDIN_NAME if self.path == STDIN else str(self.path)


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
    path = Path(argument)
    if path == STDIN:
        path = path.absolute()  # a file of that name, written ./-
    try:
        status = path.stat()
    except OSError as error:
        return [Recording(path, _unreachable(path, error))]
    if stat.S_ISDIR(status.st_mode):
        return _recordings_in(path)
    return [Recording(path, _problem_of(path, status))]


def _recordings_in(folder: Path) -> list[Recording]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - names are what is sorted and filtered
    except OSError as error:
        return [Recording(folder, _unreachable(folder, error))]
    media = [
        folder / name
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in MEDIA_SUFFIXES and (folder / name).is_file()
    ]
    if not media:
        return [Recording(folder, NoMediaInFolder(f"the folder {folder} has no audio or video files"))]
    return [recording for path in media for recording in _recordings_of(str(path))]


def _unreachable(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return RecordingNotFound(f"there is no file {path}")
    return RecordingNotReadable(f"{path} can't be read: {error.strerror}")


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
