"""Progress bars and tables for terminals. The only module that imports rich."""

from __future__ import annotations

import io
import math
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table
from rich.text import Text

from cesar.cli.exits import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from cesar.cli.transcription.reporters import FileResult, LineReporter
    from cesar.cli.transcription.totals import OverallProgress, Tally
    from cesar.errors import CesarError
    from cesar.options import TranscribeOptions
    from cesar.transcript import Chunk
    from cesar.transcript import Progress as Position


_MIN_AUDIO_S = 1.0
"""Less audio than this gives no reliable speed."""


def speed_and_eta(done_s: float, total_s: float | None, elapsed_s: float) -> tuple[str, str]:
    """Return the speed and the remaining time as text; empty while hardly anything is done.

    >>> speed_and_eta(600.0, 3600.0, 50.0)
    ('12.0x', '0:04:10')
    """
    if done_s < _MIN_AUDIO_S or elapsed_s <= 0:
        return "", ""
    speed = done_s / elapsed_s
    left = "" if total_s is None else str(timedelta(seconds=round(max(0.0, total_s - done_s) / speed)))
    return f"{speed:.1f}x", left


class BarReporter:
    """Shows a bar for the current recording and one for the whole run, below the lines of a `LineReporter`."""

    def __init__(self, lines: LineReporter, options: TranscribeOptions, overall: OverallProgress | None = None) -> None:
        self._lines = lines
        self._options = options
        self._overall = overall
        self._run_started_at = time.monotonic()
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._overall_task: TaskID | None = None
        self._started_at: float | None = None

    def left_out(self, folder: Path, names: Sequence[str]) -> None:
        """Print what is left out of a folder."""
        self._lines.left_out(folder, names)

    def skipped(self, name: str, files: Sequence[Path], number: int, total: int) -> None:
        """Print that a recording is skipped."""
        self._lines.skipped(name, files, number, total)

    def started(self, name: str, number: int, total: int) -> None:
        """Show an indeterminate bar while the model is loaded and the recording opened."""
        label = self._lines.label(name, number, total)
        self._started_at = None
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", max_width=34)),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}", style="progress.data.speed"),
            TextColumn("{task.fields[left]}", style="progress.remaining"),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # transcripts are not for the bar's console
        )
        self._task = self._progress.add_task(escape(one_line(label)), total=None, speed="", left="")
        self._overall_task = None
        if self._overall is not None and total > 1:
            self._overall_task = self._progress.add_task(f"all {total}", total=None, speed="", left="")
            self._show_overall(name, 0.0)
        self._progress.start()

    def uploaded(self, sent_bytes: int, total_bytes: int) -> None:
        """Show the progress of the upload in the same bar."""
        if self._progress is not None:
            self._progress.update(self._task, total=total_bytes, completed=sent_bytes, speed="sending", left="")

    def progressed(self, name: str, progress: Position) -> None:
        """Advance the bar; it stays indeterminate while the length is unknown."""
        if self._progress is None:
            return
        if progress.phase != "recognising":
            self._progress.update(self._task, total=None, completed=0, speed="", left="")
            return
        now = time.monotonic()
        self._started_at = self._started_at or now
        done = max(0.0, max(progress.position, progress.worked) - self._options.start)
        length = self._options.requested_s(math.inf if progress.duration is None else progress.duration)
        total = length if math.isfinite(length) else None
        speed, left = speed_and_eta(done, total, now - self._started_at)
        self._progress.update(self._task, total=total, completed=done, speed=speed, left=left)
        if self._overall is not None and total is not None:
            self._overall.opened(name, total)
        self._show_overall(name, done)

    def _show_overall(self, name: str, done_s: float) -> None:
        """Advance the bar of the whole run, once any length is known."""
        if self._progress is None or self._overall_task is None or self._overall is None:
            return
        if totals := self._overall.progress(name, done_s):
            done, total = totals
            speed, left = speed_and_eta(done, total, time.monotonic() - self._run_started_at)
            self._progress.update(self._overall_task, total=total, completed=done, speed=speed, left=left)

    def recognised(self, name: str, chunk: Chunk) -> None:
        """Show nothing: the text is printed as a whole."""

    def finished(self, name: str, result: FileResult) -> None:
        """Remove the bar and print the result."""
        self._end(name)
        self._lines.finished(name, result)

    def failed(self, name: str, error: CesarError) -> None:
        """Remove the bar and print the error."""
        self._end(name)
        self._lines.failed(name, error)

    def ended(self, tally: Tally) -> None:
        """Print how the run ended."""
        self._lines.ended(tally)

    def _end(self, name: str) -> None:
        self.close()
        if self._overall is not None:
            self._overall.ended(name)

    def close(self) -> None:
        """Restore the terminal."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


@contextmanager
def download_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback that takes the bytes transferred and their total, and shows a bar on standard error."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
    task = progress.add_task(escape(one_line(name)), total=None)

    def show(arrived: int, total: int) -> None:
        progress.start()  # only now: usually the model is installed already
        progress.update(task, completed=arrived, total=total or None)

    try:
        yield show
    finally:
        progress.stop()


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table to standard output, as wide as the terminal, or as needed without one."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    # Render first and print with click, so that a closed pipe and a full disk are handled as everywhere else.
    buffer = io.StringIO()
    Console(file=buffer, force_terminal=is_terminal, width=None if is_terminal else 1000).print(table)
    click.echo("\n".join(line.rstrip() for line in buffer.getvalue().splitlines()))
