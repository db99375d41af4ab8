"""`RunContext`: what the thread of a run gets beside the recording's path and the model, and what it reports."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cesar.api.execution.job_run import JobRun
from cesar.api.execution.outcomes import details_of
from cesar.api.execution.recording import SourceFile
from cesar.api.models import Job
from cesar.api.queue.fingerprint import fingerprint
from cesar.api.repository import JobRepository
from cesar.errors import CesarError, Interrupted
from cesar.settings.config import Settings, load
from cesar.transcriber import find_engine
from cesar.transcript import Chunk, Progress

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a thread that transcribes works with. It changes none of this: reports go to the event loop, as values."""

    job: Job
    """The job as it was when the thread began."""
    recording: SourceFile
    settings: Settings | None
    """None: what `cesar.settings.config.load` returns."""
    repository: JobRepository
    run: JobRun

    def transcribe_arguments(self) -> dict[str, Any]:
        """Return the arguments of `AudioTranscriber.transcribe_file` beyond the two paths."""
        arguments: dict[str, Any] = {
            "options": self.job.options,
            "on_progress": self._on_progress,
            "should_stop": self.run.should_stop,
        }
        if self.job.claim is None:  # no checkpoint could be written, nor read
            return arguments
        kept = {"on_begin": self._on_begin, "on_chunk": self._on_chunk, "done": self._completed_chunks()}
        return arguments | kept

    def finish(self, result: Mapping[str, Any]) -> None:
        """Report what is known about the finished transcript. Raises `RecordingChanged`."""
        self.recording.require_unchanged(self.job.name)
        self.run.post(self.run.finish, details_of(result))

    def _completed_chunks(self) -> list[Chunk]:
        """Return the chunks that earlier attempts finished."""
        settings = load() if self.settings is None else self.settings
        if not os.path.isfile(self.recording.path):  # noqa: PTH113 - unlike Path.is_file it never raises
            return []
        try:
            engine = find_engine(self.job.model_size, settings)
            work = fingerprint(self.recording.path, engine, self.job.options, self.run.should_stop)
        except Interrupted:
            raise
        except (CesarError, OSError):
            return []  # the transcription will hit the same error, and report it better
        chunks = self.run.call(lambda job: self.repository.resume(job, work))
        position = chunks[-1].end if chunks else 0.0
        self.run.post(self.run.resume_at, position)
        if chunks:
            _log.info("job %s resumes at %.0f s", self.job.id, position)
        return chunks

    def _on_begin(self) -> None:
        self.run.call(self.repository.mark_begun)

    def _on_progress(self, progress: Progress) -> None:
        self.run.post(self.run.report, progress)

    def _on_chunk(self, chunk: Chunk) -> None:
        self.recording.require_unchanged(self.job.name)
        self.run.call(lambda job: self.repository.checkpoint(job, chunk))
