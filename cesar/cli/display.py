"""What needs a terminal's arts: the progress bars and tables. The only module that knows rich."""

from __future__ import annotations

import io
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from cesar.cli.exits import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cesar.cli.events import Finished, Lines
    from cesar.errors import CesarError
    from cesar.options import TranscribeOptions
    from cesar.transcript import Chunk
    from cesar.transcript import Progress as Position


class SpeedColumn(ProgressColumn):
    """Seconds of the recording per second of work."""

    def render(self, task: Task) -> Text:
        """Give the speed as `12.3x`, or nothing before it is known."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}x" if speed else "", style="progress.data.speed")


class Bar:
    """A bar for the recording at work; what begins, ends and fails is told by lines, above it."""

    def __init__(self, lines: Lines, options: TranscribeOptions) -> None:
        self._lines = lines
        self._options = options
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def started(self, name: str, number: int, total: int) -> None:
        """Show an empty bar."""
        label = self._lines.label(name, number, total)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            SpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # what goes there is a transcript, and not for the bar's console
        )
        self._task = self._progress.add_task(escape(one_line(label)), total=None)
        self._progress.start()

    def progressed(self, name: str, progress: Position) -> None:  # noqa: ARG002 - one bar at a time
        """Move the bar; while the length is unknown it only shows that something goes on."""
        if self._progress is None or progress.phase == "loading":
            return
        start = self._options.start
        end = min(self._options.end or float("inf"), progress.duration or float("inf"))
        total = end - start if end != float("inf") else None
        self._progress.update(self._task, total=total, completed=max(0.0, progress.position - start))

    def recognised(self, name: str, chunk: Chunk) -> None:
        """Show nothing: the text comes whole."""

    def finished(self, name: str, result: Finished) -> None:
        """Take the bar away and say what came of it."""
        self.close()
        self._lines.finished(name, result)

    def failed(self, name: str, error: CesarError) -> None:
        """Take the bar away and say what went wrong."""
        self.close()
        self._lines.failed(name, error)

    def ended(self, failures: dict[str, CesarError], finished: int, total: int) -> None:
        """Say how the run ended."""
        self._lines.ended(failures, finished, total)

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


@contextmanager
def download_bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show a download on standard error; what it gives is called with the bytes arrived and their total."""
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
        progress.start()  # only now: most often the model is here already
        progress.update(task, completed=arrived, total=total or None)

    try:
        yield show
    finally:
        progress.stop()


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str | None = None) -> None:
    """Print a table to standard output, as wide as the terminal, or as it needs where there is none."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    # Drawn first and printed by click, so that a closed pipe and a full disk end as everywhere else.
    paper = io.StringIO()
    Console(file=paper, force_terminal=is_terminal, width=None if is_terminal else 1000).print(table)
    click.echo("\n".join(line.rstrip() for line in paper.getvalue().splitlines()))
