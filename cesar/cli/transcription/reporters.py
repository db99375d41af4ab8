"""Reports of a run on standard error: `Reporter`, as plain lines or as JSON lines.

The progress bar for terminals is in `progress`. Standard output is for transcripts.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import click

from cesar.cli.exits import describe, one_line, report_error
from cesar.cli.transcription.folders import describe_left_out
from cesar.ledger import dropped_s, has_speech

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cesar.cli.transcription.totals import Tally
    from cesar.errors import CesarError
    from cesar.transcript import Chunk, Progress, Transcript


@dataclass(frozen=True, slots=True)
class FileResult:
    """The result of one recording."""

    transcript: Transcript
    elapsed_s: float
    files: tuple[Path, ...]
    """Empty if the text went to standard output."""


class Reporter(Protocol):
    """Called with the events of a run, one recording after the other."""

    def left_out(self, folder: Path, names: Sequence[str]) -> None:
        """Report what is left out of a folder."""

    def started(self, name: str, number: int, total: int) -> None:
        """Report that work on a recording begins; number counts from 1."""

    def skipped(self, name: str, files: Sequence[Path], number: int, total: int) -> None:
        """Report that a recording is skipped because its texts exist."""

    def uploaded(self, sent_bytes: int, total_bytes: int) -> None:
        """Report how much of the recording has been sent to a service."""

    def progressed(self, name: str, progress: Progress) -> None:
        """Report progress."""

    def recognised(self, name: str, chunk: Chunk) -> None:
        """Report a recognised chunk."""

    def finished(self, name: str, result: FileResult) -> None:
        """Report that the recording's texts are written."""

    def failed(self, name: str, error: CesarError) -> None:
        """Report that the recording gets no text."""

    def ended(self, tally: Tally) -> None:
        """Report the end of the run: every recording was tried, or the others would fail too."""

    def close(self) -> None:
        """Restore the terminal, however the run ended."""


class LineReporter:
    """Prints a short line for each start, result and failure.

    is_quiet: only failures, and recordings whose speech gave no text. is_verbose: also the time spent in each stage,
    and tracebacks of internal errors.
    """

    def __init__(self, *, is_quiet: bool = False, is_verbose: bool = False) -> None:
        self._is_quiet = is_quiet
        self._is_verbose = is_verbose
        self._label = ""

    def left_out(self, folder: Path, names: Sequence[str]) -> None:
        """Print their number, with examples."""
        self._print(f"cesar: {describe_left_out(folder, names)}")

    def started(self, name: str, number: int, total: int) -> None:
        """Print which recording is next, if there are several."""
        label = self.label(name, number, total)
        if total > 1:
            self._print(f"{label} ...")

    def label(self, name: str, number: int, total: int) -> str:
        """Set and return the label of the recording in the lines that follow."""
        self._label = f"[{number}/{total}] {name}" if total > 1 else name
        return self._label

    def skipped(self, name: str, files: Sequence[Path], number: int, total: int) -> None:  # noqa: ARG002 - the protocol's signature
        """Print that the only recording is skipped; of several, the closing line has the number."""
        label = self.label(name, number, total)
        if total == 1 or self._is_verbose:
            self._print(f"{label}: already transcribed")

    def uploaded(self, sent_bytes: int, total_bytes: int) -> None:
        """Print nothing, as for progress."""

    def progressed(self, name: str, progress: Progress) -> None:
        """Print nothing: a log is no place for a bar."""

    def recognised(self, name: str, chunk: Chunk) -> None:
        """Print nothing: the text is printed as a whole."""

    def finished(self, name: str, result: FileResult) -> None:
        """Print the duration of the work and where the text is."""
        files = f" -> {', '.join(str(file) for file in result.files)}" if result.files else ""
        self._print(f"{self._label}: {_summary(result.transcript, result.elapsed_s)}{files}")
        for warning in result.transcript.warnings:
            if not self._is_quiet or lost_all_text(result.transcript):
                write_stderr(f"cesar: {name}: warning: {warning}")
        if self._is_verbose:
            self._print(f"{self._label}: {_describe_run(result.transcript)}")

    def failed(self, name: str, error: CesarError) -> None:  # noqa: ARG002 - the message names it
        """Print what went wrong and what to do."""
        report_error(describe(error), error, as_json=False, with_traceback=self._is_verbose)

    def ended(self, tally: Tally) -> None:
        """Print the totals and the failures if there was more than one recording."""
        if tally.total == 1:
            return
        self._print(tally.line)
        if tally.failures:
            each = ", ".join(f"{name} ({error.code})" for name, error in tally.failures.items())
            rest = f"; {tally.untried} not tried" if tally.untried else ""
            write_stderr(f"cesar: {len(tally.failures)} of {tally.total} failed: {each}{rest}")

    def close(self) -> None:
        """Do nothing: lines need no clean-up."""

    def _print(self, line: str) -> None:
        if not self._is_quiet:
            write_stderr(line)


def lost_all_text(transcript: Transcript) -> bool:
    """Whether all text of a recording was dropped, which must not look like silence."""
    return not transcript.segments and has_speech(transcript.ledger)


def _summary(transcript: Transcript, elapsed_s: float) -> str:
    seconds = transcript.duration_asked_for
    speed = f" ({seconds / elapsed_s:.1f}x)" if elapsed_s > 0 else ""
    result = transcript.language if transcript.segments else "no text" if lost_all_text(transcript) else "no speech"
    return f"{seconds:.1f} s in {elapsed_s:.1f} s{speed}, {result}"


def _describe_run(transcript: Transcript) -> str:
    model = transcript.model
    timings = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in transcript.timings.items())
    return f"{model.name} on {model.device} in {model.compute_type}; {timings}"


class JsonReporter:
    """Writes every event as one line of JSON in ASCII: {"event": ..., "file": ..., ...}; times are in seconds."""

    def __init__(self) -> None:
        self._name = ""

    def left_out(self, folder: Path, names: Sequence[str]) -> None:
        """Write `left_out`, with every name."""
        self._emit("left_out", str(folder), names=list(names))

    def started(self, name: str, number: int, total: int) -> None:
        """Write `file_started`."""
        self._name = name
        self._emit("file_started", name, number=number, total=total)

    def skipped(self, name: str, files: Sequence[Path], number: int, total: int) -> None:
        """Write `file_started`, and `file_finished` with `skipped`."""
        self.started(name, number, total)
        self._emit("file_finished", name, skipped=True, elapsed=0.0, outputs=[str(file) for file in files])

    def uploaded(self, sent_bytes: int, total_bytes: int) -> None:
        """Write `upload`."""
        self._emit("upload", self._name, sent_bytes=sent_bytes, total_bytes=total_bytes)

    def progressed(self, name: str, progress: Progress) -> None:
        """Write `progress`; fraction and duration are null while the length is unknown."""
        self._emit("progress", name, **asdict(progress), fraction=progress.fraction)

    def recognised(self, name: str, chunk: Chunk) -> None:
        """Write a `segment` event for each segment."""
        for segment in chunk.segments:
            self._emit("segment", name, **asdict(segment))

    def finished(self, name: str, result: FileResult) -> None:
        """Write `file_finished`."""
        files = [str(file) for file in result.files]
        fields = _result_fields(result.transcript)
        self._emit("file_finished", name, skipped=False, elapsed=result.elapsed_s, outputs=files, **fields)

    def failed(self, name: str, error: CesarError) -> None:
        """Write `file_failed`."""
        self._emit("file_failed", name, **describe(error).fields)

    def ended(self, tally: Tally) -> None:
        """Write nothing: each failure has been reported."""

    def close(self) -> None:
        """Do nothing: lines need no clean-up."""

    def _emit(self, event: str, name: str, **fields: Any) -> None:
        write_stderr(json.dumps({"event": event, "file": name, **fields}))


def _result_fields(transcript: Transcript) -> dict[str, Any]:
    return {
        "duration": transcript.duration,
        "language": transcript.language,
        "warnings": list(transcript.warnings),
        "dropped_s": dropped_s(transcript.ledger),
    }


def write_stderr(line: str) -> None:
    """Write one line to standard error; a closed standard error is ignored."""
    with suppress(OSError):
        click.echo(one_line(line), err=True)
