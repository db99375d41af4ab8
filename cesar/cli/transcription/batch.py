"""A run over several recordings, one after the other. A bad one never stops the others."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from cesar.cli.exits import exit_code
from cesar.cli.transcription.inputs import local_file
from cesar.cli.transcription.outputs import STDOUT
from cesar.cli.transcription.reporters import FileResult
from cesar.cli.transcription.totals import Tally
from cesar.cli.transcription.writing import write_outputs
from cesar.errors import (
    CesarError,
    Interrupted,
    ModelError,
    NotPermitted,
    OutputError,
    ServiceUnreachable,
    Unauthorised,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cesar.cli.transcription.outputs import FileTask
    from cesar.cli.transcription.reporters import Reporter
    from cesar.formats.subtitles.cues import SubtitleOptions
    from cesar.options import TranscribeOptions
    from cesar.transcript import Transcript
    from cesar.transcription import OnChunk, OnProgress


class Transcriber(Protocol):
    """An `AudioTranscriber`, or a service."""

    def transcribe(
        self,
        path: Path,
        options: TranscribeOptions,
        *,
        on_progress: OnProgress,
        on_chunk: OnChunk,
    ) -> Transcript: ...


@dataclass(slots=True)
class Batch:
    """The state of a run: its tasks and their results so far."""

    tasks: Sequence[FileTask]
    transcriber: Transcriber
    options: TranscribeOptions
    reporter: Reporter
    skip_existing: bool = False
    subtitles: SubtitleOptions | None = None
    finished: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    audio_s: float = 0.0
    failures: dict[str, CesarError] = field(default_factory=dict)

    def run(self) -> int:
        """Process every task and return the exit code: 0, or that of the first failure.

        Raises `Interrupted`, which names what was finished, and BrokenPipeError if nobody reads standard output.
        """
        started_at = time.monotonic()
        try:
            for number, task in enumerate(self.tasks, start=1):
                error = self._attempt(task, number)
                if error and _affects_all(error, task):
                    break
        except KeyboardInterrupt as stop:
            raise self._interrupted() from stop
        finally:
            self.reporter.close()
        self.reporter.ended(self._tally(time.monotonic() - started_at))
        return next((exit_code(error) for error in self.failures.values()), 0)

    def _attempt(self, task: FileTask, number: int) -> CesarError | None:
        name = task.source.name
        if self.skip_existing and task.is_done:
            self.skipped.append(name)
            self.reporter.skipped(name, _output_files(task), number, len(self.tasks))
            return None
        self.reporter.started(name, number, len(self.tasks))
        try:
            self._process(task)
        except CesarError as error:
            self.failures[name] = error
            self.reporter.failed(name, error)
            return error
        return None

    def _process(self, task: FileTask) -> None:
        if task.problem:
            raise task.problem
        name = task.source.name
        started_at = time.monotonic()
        transcript = self._transcribe(task)
        self.reporter.close()  # the bar and the text must not share a line of the terminal
        write_outputs(task, transcript, with_heading=len(self.tasks) > 1, subtitles=self.subtitles)
        self.finished.append(name)
        self.audio_s += transcript.duration_asked_for
        self.reporter.finished(name, FileResult(transcript, time.monotonic() - started_at, _output_files(task)))

    def _transcribe(self, task: FileTask) -> Transcript:
        name = task.source.name
        with local_file(task.source) as path:
            try:
                transcript = self.transcriber.transcribe(
                    path,
                    self.options,
                    on_progress=lambda progress: self.reporter.progressed(name, progress),
                    on_chunk=lambda chunk: self.reporter.recognised(name, chunk),
                )
                return transcript if path == task.source.path else _renamed(transcript, name)
            except CesarError as error:
                if path == task.source.path:
                    raise
                message = error.message.replace(str(path), name)  # the user does not know the temporary file
                raise type(error)(message, hint=error.hint) from error
            except Exception as error:
                message = f"internal error with {name}: {type(error).__name__}: {error}"
                raise CesarError(message) from error

    def _tally(self, elapsed_s: float) -> Tally:
        counts = {"done": len(self.finished), "skipped": len(self.skipped)}
        return Tally(len(self.tasks), failures=self.failures, audio_s=self.audio_s, elapsed_s=elapsed_s, **counts)

    def _interrupted(self) -> Interrupted:
        present = self.finished + self.skipped
        done = f"{len(present)} of {len(self.tasks)} finished"
        names = f" ({', '.join(present)})" if present else ""
        can_resume = not any(_uses_stdout(task) for task in self.tasks)
        hint = "Run the same command with --skip-existing to do the rest." if can_resume and names else None
        return Interrupted(f"interrupted: {done}{names}", hint=hint)


def _renamed(transcript: Transcript, name: str) -> Transcript:
    """Replace the name of the temporary copy with that of the recording, and drop the copy's modification time."""
    origin = replace(transcript.origin, recording=name)
    if origin.recorded_at_source == "file":
        origin = replace(origin, recorded_at=None, recorded_at_source=None)
    return replace(transcript, origin=origin)


def _output_files(task: FileTask) -> tuple[Path, ...]:
    return tuple(target.path for target in task.targets if target.path != STDOUT)


def _affects_all(error: CesarError, task: FileTask) -> bool:
    """Whether the other recordings would fail for the same reason."""
    fatal = (ModelError, ServiceUnreachable, Unauthorised, NotPermitted)
    return isinstance(error, fatal) or (isinstance(error, OutputError) and _uses_stdout(task))


def _uses_stdout(task: FileTask) -> bool:
    return any(target.path == STDOUT for target in task.targets)
