"""Writing of a run's transcripts, and the checks before the work begins."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cesar.cli.exits import one_line
from cesar.cli.transcription.outputs import STDOUT
from cesar.errors import DiskFull, OutputError, OutputNotWritable
from cesar.files.atomic import write_whole
from cesar.files.disk import is_disk_full
from cesar.formats import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cesar.cli.transcription.outputs import Destination, FileTask
    from cesar.formats.subtitles.cues import SubtitleOptions
    from cesar.transcript import Transcript

DEVICES = Path("/dev")
PROBE_BYTES = 4096
"""Space that must be free before the work begins: a block of most file systems, or a short transcript."""


def prepare_outputs(tasks: Sequence[FileTask], destination: Destination) -> None:
    """Check that the texts can be written before the work begins; creates a missing output folder.

    Raises `OutputNotWritable`.
    """
    if destination.is_stdout:
        if sys.stdout is None:
            raise OutputNotWritable("standard output is closed", hint="Use --output or --output-dir.")
        return
    if destination.folder:
        _make_folder(destination.folder)
    files = [target.path for task in tasks for target in task.targets]
    folders = {folder for file in files if (folder := _folder_to_write_to(file))}
    for folder in sorted(folders | ({destination.folder} if destination.folder else set())):
        check_folder(folder)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:
        raise OutputNotWritable(f"there is no folder {folder.parent} to create {folder.name} in") from None
    except FileExistsError:
        raise OutputNotWritable(f"{folder} is not a folder") from None
    except OSError as error:
        raise OutputNotWritable(f"the folder {folder} can't be created: {error.strerror}") from error


def _folder_to_write_to(path: Path) -> Path | None:
    """Check an output file; return the folder that it is created in, or None if it is written in place."""
    try:
        real = path.resolve()
        exists = real.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long; a link to itself
        raise OutputNotWritable(f"{path} can't be written: {error}") from error
    if real.is_dir():
        raise OutputNotWritable(f"{path} is a folder", hint="Give a file's name, or use --output-dir.")
    if exists and not os.access(real, os.W_OK):
        raise OutputNotWritable(f"{path} is not writable")
    is_in_place = DEVICES in path.absolute().parents or (exists and not real.is_file())
    return None if is_in_place else real.parent


def check_folder(folder: Path) -> None:
    """Check that a folder is writable and has space, by writing a small unnamed temporary file.

    Raises `OutputNotWritable` or `DiskFull`.
    """
    if not folder.is_dir():
        raise OutputNotWritable(f"there is no folder {folder}")
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(PROBE_BYTES))
    except OSError as error:
        if is_disk_full(error):
            raise DiskFull(f"no space is left in {folder}") from error
        reason = (error.strerror or str(error)).lower()
        raise OutputNotWritable(f"the folder {folder} can't be written to: {reason}") from error


def write_outputs(
    task: FileTask, transcript: Transcript, *, with_heading: bool, subtitles: SubtitleOptions | None = None
) -> None:
    """Write a transcript to all its targets: every file whole, or not at all.

    with_heading: print a line with the recording's name before each text on standard output, except JSON, where
    one document follows the other.
    Raises `OutputError`, or BrokenPipeError if the reader of standard output has left.
    """
    texts = [(target, render(transcript, target.format, subtitles)) for target in task.targets]
    for target, text in texts:
        if target.path != STDOUT:
            _write_or_salvage(target.path, text)
        elif with_heading and target.format != "json":
            write_stdout(f"== {one_line(task.source.name)} ==\n{text}\n")
        else:
            write_stdout(text)


def _write_or_salvage(path: Path, text: str) -> None:
    """Write the file; if that fails, save the text in the system's temporary folder instead."""
    try:
        write_whole(path, text)
    except OutputError as error:
        if kept := _write_to_temp(path, text):
            raise type(error)(error.message, hint=f"The text was saved in {kept}. {error.hint}") from error
        raise


def _write_to_temp(path: Path, text: str) -> Path | None:
    try:
        folder = Path(tempfile.mkdtemp(prefix="cesar-"))
    except OSError:
        return None
    kept = folder / path.name
    try:
        write_whole(kept, text)
    except OutputError:
        folder.rmdir()
        return None
    return kept


def write_stdout(text: str) -> None:
    """Write to standard output in UTF-8, whatever the locale.

    Raises `DiskFull`, `OutputNotWritable`, or BrokenPipeError if the reader has left.
    """
    try:
        click.echo(text.encode("utf-8", "backslashreplace"), nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        if is_disk_full(error):
            hint = "Free some space, or choose another location with --output or --output-dir."
            raise DiskFull("no space is left for standard output", hint=hint) from error
        raise OutputNotWritable(f"standard output can't be written to: {error.strerror}") from error
