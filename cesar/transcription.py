"""The parent process's state of one transcription: callbacks, finished chunks, and the resulting transcript."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from cesar import language_summary
from cesar.argument_checks import optional_callable
from cesar.ledger import dropped_warning, improbable_warning, whole_ledger
from cesar.pipeline.request import Outcome, Request
from cesar.runner.messages import Event, Finished, Loaded, Opened, Skipped, Worked
from cesar.transcript import Chunk, Origin, Phase, Progress, Transcript

OnProgress = Callable[[Progress], None]
OnChunk = Callable[[Chunk], None]
OnBegin = Callable[[], None]
ShouldStop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The caller's callbacks, called in its own thread. Raises `UsageError` for one that is not callable."""

    on_progress: OnProgress | None = None
    on_chunk: OnChunk | None = None
    on_begin: OnBegin | None = None
    should_stop: ShouldStop | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            optional_callable(getattr(self, field.name), field.name)


class Transcription:
    """The state of one transcription in the parent process: its finished chunks, in order, and its progress.

    done: chunks of an earlier run; the attribute `done` has them by start and end.
    """

    def __init__(self, callbacks: Callbacks, done: Sequence[Chunk]) -> None:
        self.done = {(chunk.start, chunk.end): chunk for chunk in done}
        self._callbacks = callbacks
        self._chunks: list[Chunk] = []
        self._duration: float | None = None
        self._worked = 0.0
        self._started = time.perf_counter()
        self._report("loading")

    def on_event(self, event: Event) -> None:
        """Handle an event."""
        match event:
            case Loaded():
                if self._callbacks.on_begin:
                    self._callbacks.on_begin()
            case Opened(duration=duration):
                self._duration = duration
                self._report("recognising")
            case Worked(reached=reached):
                self._worked = max(self._worked, reached)
                self._report("recognising")
            case Finished(chunk=chunk):
                self.done[chunk.start, chunk.end] = chunk
                self._add(chunk)
                if self._callbacks.on_chunk:
                    self._callbacks.on_chunk(chunk)
            case Skipped(start=start, end=end):
                self._add(self.done[start, end])

    def transcript(self, request: Request, loaded: Loaded, outcome: Outcome, origin: Origin) -> Transcript:
        """Return the transcript once all chunks are finished; the rest is reported as silence."""
        self._duration = outcome.duration
        self._report("recognising", position=outcome.duration)
        chunks, options = self._chunks, request.options
        detected = language_summary.RecordingLanguage(outcome.language, outcome.language_probability)
        found = language_summary.recording_language(chunks, detected)
        ledger = whole_ledger(chunks, outcome.duration, start=options.start, end=options.end)
        segments = tuple(segment for chunk in chunks for segment in chunk.segments)
        return Transcript(
            segments=segments,
            language=found.language,
            language_probability=found.probability,
            duration=outcome.duration,
            model=loaded.model,
            settings=options.to_dict(),
            timings={**outcome.timings, "total": round(time.perf_counter() - self._started, 3)},
            warnings=(
                *loaded.warnings,
                *outcome.warnings,
                *language_summary.warnings(chunks, found, options),
                *dropped_warning(ledger, has_text=bool(segments)),
                *improbable_warning(segments),
            ),
            ledger=ledger,
            origin=origin,
        )

    def _add(self, chunk: Chunk) -> None:
        if self._chunks and chunk.start < self._chunks[-1].end:
            return  # a second attempt passes the chunks that the first one finished
        self._chunks.append(chunk)
        self._report("recognising")

    def _report(self, phase: Phase, position: float | None = None) -> None:
        if self._callbacks.on_progress:
            reached = self._chunks[-1].end if self._chunks else 0.0
            position = reached if position is None else position
            self._worked = max(self._worked, position)
            self._callbacks.on_progress(Progress(phase, position, self._duration, self._worked))
