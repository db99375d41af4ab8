"""One run over several recordings: one after the other, and a bad one never stops the rest."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from cesar.cli.exits import exit_code
from cesar.cli.transcription.inputs import local_file
from cesar.cli.transcription.outputs import STDOUT
from cesar.cli.transcription.reporters import Finished
from cesar.cli.transcription.totals import Tally
from cesar.cli.transcription.writing import deliver
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

    from cesar.cli.transcription.outputs import Job
    from cesar.cli.transcription.reporters import Reporter
    from cesar.formats.subtitles.cues import SubtitleOptions
    from cesar.options import TranscribeOptions
    from cesar.transcriber import OnChunk, OnProgress
    from cesar.transcript import Transcript


class Transcriber(Protocol):
    """Who does the work: an `AudioTranscriber`, or a service."""

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
    """A run: what it is to do, and what has become of it so far."""

    jobs: Sequence[Job]
    transcriber: Transcriber
    options: TranscribeOptions
    reporter: Reporter
    skips_existing: bool = False
    subtitles: SubtitleOptions | None = None
    finished: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    audio_s: float = 0.0
    failures: dict[str, CesarError] = field(default_factory=dict)

    def run(self) -> int:
        """Do every job and give the exit code: 0, or that of the first failure.

        Raises `Interrupted`, saying what was finished, and BrokenPipeError when nobody reads standard output.
        """
        begun = time.monotonic()
        try:
            for number, job in enumerate(self.jobs, start=1):
                error = self._attempt(job, number)
                if error and _concerns_all(error, job):
                    break
        except KeyboardInterrupt as stop:
            raise self._interrupted() from stop
        finally:
            self.reporter.close()
        self.reporter.ended(self._tally(time.monotonic() - begun))
        return next((exit_code(error) for error in self.failures.values()), 0)

    def _attempt(self, job: Job, number: int) -> CesarError | None:
        name = job.recording.name
        if self.skips_existing and job.is_done:
            self.skipped.append(name)
            self.reporter.skipped(name, _files_of(job), number, len(self.jobs))
            return None
        self.reporter.started(name, number, len(self.jobs))
        try:
            self._do(job)
        except CesarError as error:
            self.failures[name] = error
            self.reporter.failed(name, error)
            return error
        return None

    def _do(self, job: Job) -> None:
        if job.problem:
            raise job.problem
        name = job.recording.name
        begun = time.monotonic()
        transcript = self._transcribe(job)
        self.reporter.close()  # a bar and the text must not share a line of the terminal
        deliver(job, transcript, with_heading=len(self.jobs) > 1, subtitles=self.subtitles)
        self.finished.append(name)
        self.audio_s += transcript.duration_asked_for
        self.reporter.finished(name, Finished(transcript, time.monotonic() - begun, _files_of(job)))

    def _transcribe(self, job: Job) -> Transcript:
        name = job.recording.name
        with local_file(job.recording) as path:
            try:
                transcript = self.transcriber.transcribe(
                    path,
                    self.options,
                    on_progress=lambda progress: self.reporter.progressed(name, progress),
                    on_chunk=lambda chunk: self.reporter.recognised(name, chunk),
                )
                return transcript if path == job.recording.path else _renamed(transcript, name)
            except CesarError as error:
                if path == job.recording.path:
                    raise
                message = error.message.replace(str(path), name)  # nobody knows the temporary file
                raise type(error)(message, hint=error.hint) from error
            except Exception as error:
                message = f"internal error with {name}: {type(error).__name__}: {error}"
                raise CesarError(message) from error

    def _tally(self, elapsed_s: float) -> Tally:
        counts = {"done": len(self.finished), "skipped": len(self.skipped)}
        return Tally(len(self.jobs), failures=self.failures, audio_s=self.audio_s, elapsed_s=elapsed_s, **counts)

    def _interrupted(self) -> Interrupted:
        there = self.finished + self.skipped
        done = f"{len(there)} of {len(self.jobs)} finished"
        names = f" ({', '.join(there)})" if there else ""
        can_resume = not any(_uses_stdout(job) for job in self.jobs)
        hint = "Run the same command with --skip-existing to do the rest." if can_resume and names else None
        return Interrupted(f"interrupted: {done}{names}", hint=hint)


def _renamed(transcript: Transcript, name: str) -> Transcript:
    """Name the recording of which a temporary file held a copy; when that was written says nothing."""
    origin = replace(transcript.origin, recording=name)
    if origin.recorded_at_source == "file":
        origin = replace(origin, recorded_at=None, recorded_at_source=None)
    return replace(transcript, origin=origin)


def _files_of(job: Job) -> tuple[Path, ...]:
    return tuple(target.path for target in job.targets if target.path != STDOUT)


def _concerns_all(error: CesarError, job: Job) -> bool:
    """Tell whether the other recordings would fail for the same reason."""
    of_all = (ModelError, ServiceUnreachable, Unauthorised, NotPermitted)
    return isinstance(error, of_all) or (isinstance(error, OutputError) and _uses_stdout(job))


def _uses_stdout(job: Job) -> bool:
    return any(target.path == STDOUT for target in job.targets)
