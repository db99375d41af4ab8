"""`AudioTranscriber`, the entry point of the library: a recording in, a transcript out.

The heavy work happens in a child process (`cesar.runner`); this process imports neither numpy nor a model library.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cesar
from cesar import language_summary
from cesar.argument_checks import optional_callable, optional_instance, path_of
from cesar.errors import OutputNotWritable, UsageError
from cesar.files.readable import require_readable
from cesar.ledger import dropped_s, dropped_warning, whole_ledger
from cesar.models.catalog import script_of
from cesar.options import TranscribeOptions
from cesar.pipeline.request import Request
from cesar.runner import pool
from cesar.runner.messages import EngineSpec, Event, Finished, Loaded, Opened, Skipped, Worked
from cesar.settings.config import Settings, load
from cesar.transcript import Chunk, Origin, Phase, Progress, Segment, Transcript

if TYPE_CHECKING:
    from cesar.formats.subtitles.cues import SubtitleOptions

OnProgress = Callable[[Progress], None]
OnChunk = Callable[[Chunk], None]
OnBegin = Callable[[], None]
ShouldStop = Callable[[], bool]


class AudioTranscriber:
    """Transcribes recordings with one model.

    `model_size` is a name from `cesar models list`, the folder of a CTranslate2 Whisper model, or `scripted:FILE`
    (see `cesar.engines.scripted`). Without `settings`, they are read from the environment and the settings file.
    Transcribers of the same model and device share one child process, which starts on first use.

    >>> transcript = AudioTranscriber("base").transcribe("interview.mp3")  # doctest: +SKIP
    >>> print(transcript.text)  # doctest: +SKIP
    """

    def __init__(self, model_size: str = "base", *, settings: Settings | None = None) -> None:
        self.model_size = model_size if isinstance(model_size, str) else str(path_of(model_size, "model_size"))
        self.settings = (
            optional_instance(settings, Settings, "settings", made_by="cesar.settings.config.load({})") or load()
        )
        self._spec: EngineSpec | None = None

    def transcribe(  # noqa: PLR0913 - one callback for each kind of event
        self,
        path: str | PathLike[str],
        options: TranscribeOptions | None = None,
        *,
        on_progress: OnProgress | None = None,
        on_chunk: OnChunk | None = None,
        on_begin: OnBegin | None = None,
        should_stop: ShouldStop | None = None,
        done: Sequence[Chunk] = (),
    ) -> Transcript:
        """Transcribe one recording.

        `on_chunk` receives each chunk as soon as it is finished, in order. `done` takes chunks from an earlier run of
        the same recording, model and options and skips their recognition; the transcript is the same either way.
        `on_begin` is called whenever a child has loaded its model and is about to receive the recording.
        All callbacks run in the calling thread. Raises `Interrupted` soon after `should_stop` returns true, and
        other kinds of `CesarError` on failure.
        """
        recording = path_of(path, "path")
        options = optional_instance(options, TranscribeOptions, "options") or TranscribeOptions()
        _require_callables(on_progress=on_progress, on_chunk=on_chunk, on_begin=on_begin, should_stop=should_stop)
        _require_chunks(done)
        require_readable(recording)
        started = time.perf_counter()
        run = _Run(on_progress, on_chunk, on_begin, done)
        loaded, outcome = pool.run(
            self._engine(),
            Request(recording.absolute(), options, tuple(run.earlier), self.settings.max_duration_s),
            limits=self._limits(),
            on_event=run.on_event,
            should_stop=should_stop or _never_stop,
        )
        run.end(outcome.duration)
        guess = language_summary.RecordingLanguage(outcome.language, outcome.language_probability)
        found = language_summary.recording_language(run.chunks, guess)
        ledger = whole_ledger(run.chunks, outcome.duration, start=options.start, end=options.end)
        segments = tuple(segment for chunk in run.chunks for segment in chunk.segments)
        return Transcript(
            segments=segments,
            language=found.language,
            language_probability=found.probability,
            duration=outcome.duration,
            model=loaded.model,
            settings=options.to_dict(),
            timings={**outcome.timings, "total": round(time.perf_counter() - started, 3)},
            warnings=(
                *loaded.warnings,
                *outcome.warnings,
                *language_summary.warnings(run.chunks, found, options),
                *dropped_warning(ledger, has_text=bool(segments)),
            ),
            ledger=ledger,
            origin=origin_of(recording, outcome.recorded_at),
        )

    def stream(
        self,
        path: str | PathLike[str],
        options: TranscribeOptions | None = None,
        *,
        on_progress: OnProgress | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Iterator[Segment]:
        """Yield each segment as soon as it is finished. Leaving the loop stops the transcription.

        `on_progress` runs in a different thread from the loop.
        """
        segments: queue.SimpleQueue[Segment | BaseException | None] = queue.SimpleQueue()
        abandoned = threading.Event()

        def enqueue_segments(chunk: Chunk) -> None:
            for segment in chunk.segments:
                segments.put(segment)

        def work() -> None:
            try:
                self.transcribe(
                    path,
                    options,
                    on_progress=on_progress,
                    on_chunk=enqueue_segments,
                    should_stop=lambda: abandoned.is_set() or (should_stop is not None and should_stop()),
                )
                segments.put(None)
            except BaseException as error:  # noqa: BLE001 (raised again in the loop)
                segments.put(error)

        worker = threading.Thread(target=work, name="cesar-stream", daemon=True)
        worker.start()
        try:
            while (item := segments.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            abandoned.set()
            if not sys.is_finalizing():  # daemon threads no longer run at exit
                worker.join()

    def transcribe_file(  # noqa: PLR0913 - the parameters of transcribe, and the output's
        self,
        input_path: str | PathLike[str],
        output_path: str | PathLike[str],
        options: TranscribeOptions | None = None,
        *,
        output_format: str | None = None,
        subtitles: SubtitleOptions | None = None,
        on_progress: OnProgress | None = None,
        on_chunk: OnChunk | None = None,
        on_begin: OnBegin | None = None,
        should_stop: ShouldStop | None = None,
        done: Sequence[Chunk] = (),
    ) -> dict[str, Any]:
        """Transcribe a recording into a file, which is written completely or not at all.

        The format is `output_format`, else that of the output's extension, else plain text; `subtitles` has the limits
        for srt and vtt; the other parameters are those of `transcribe`.
        Returns `language`, `language_probability`, `audio_duration` and `processing_time` (seconds), `speed_ratio`
        (seconds of the recording per second of work), `segment_count`, `output_path`, `model` (the fields of
        `ModelIdentity`), `timings` (seconds per stage), `warnings` and `dropped_s` (seconds of detected speech that
        produced no text) and `origin` (the fields of `Origin`).
        Raises what `transcribe` raises, `OutputError` and, for an output that is the recording itself, `UsageError`.
        """
        from cesar.files.atomic import write_whole
        from cesar.formats import format_for_path, parse_formats, render
        from cesar.formats.subtitles.cues import SubtitleOptions

        output = path_of(output_path, "output_path")
        name = parse_formats(output_format)[0] if output_format else format_for_path(output) or "txt"
        subtitles = optional_instance(subtitles, SubtitleOptions, "subtitles")
        _require_writable(output, path_of(input_path, "input_path"))
        transcript = self.transcribe(
            input_path,
            options,
            on_progress=on_progress,
            on_chunk=on_chunk,
            on_begin=on_begin,
            should_stop=should_stop,
            done=done,
        )
        write_whole(output, render(transcript, name, subtitles))
        seconds = transcript.timings["total"]
        return {
            "language": transcript.language,
            "language_probability": transcript.language_probability,
            "audio_duration": transcript.duration,
            "processing_time": seconds,
            "speed_ratio": round(transcript.duration_asked_for / seconds, 2) if seconds else 0.0,
            "segment_count": len(transcript.segments),
            "output_path": str(output),
            "model": asdict(transcript.model),
            "timings": dict(transcript.timings),
            "warnings": list(transcript.warnings),
            "dropped_s": dropped_s(transcript.ledger),
            "origin": asdict(transcript.origin),
        }

    def _limits(self) -> pool.Limits:
        settings = self.settings
        return pool.Limits(settings.stall_timeout_s, settings.idle_timeout_s, settings.open_timeout_s)

    def _engine(self) -> EngineSpec:
        """Return the engine to run, found on the first call."""
        if self._spec is None:
            self._spec = find_engine(self.model_size, self.settings)
        return self._spec


class _Run:
    """The parent's state of one run: its finished chunks, in order, and its progress."""

    def __init__(
        self,
        on_progress: OnProgress | None,
        on_chunk: OnChunk | None,
        on_begin: OnBegin | None,
        done: Sequence[Chunk],
    ) -> None:
        self._on_progress = on_progress
        self._on_begin = on_begin
        self._on_chunk = on_chunk
        self._duration: float | None = None
        self._worked = 0.0
        self.earlier = {(chunk.start, chunk.end): chunk for chunk in done}
        self.chunks: list[Chunk] = []
        self._report("loading")

    def on_event(self, event: Event) -> None:
        """Handle an event."""
        match event:
            case Loaded():
                if self._on_begin:
                    self._on_begin()
            case Opened(duration=duration):
                self._duration = duration
                self._report("recognising")
            case Worked(reached=reached):
                self._worked = max(self._worked, reached)
                self._report("recognising")
            case Finished(chunk=chunk):
                self.earlier[chunk.start, chunk.end] = chunk
                self._add(chunk)
                if self._on_chunk:
                    self._on_chunk(chunk)
            case Skipped(start=start, end=end):
                self._add(self.earlier[start, end])

    def end(self, duration: float) -> None:
        """Mark the end of the recording: the rest is silence."""
        self._duration = duration
        self._report("recognising", position=duration)

    def _add(self, chunk: Chunk) -> None:
        if self.chunks and chunk.start < self.chunks[-1].end:
            return  # a second attempt passes the chunks that the first one finished
        self.chunks.append(chunk)
        self._report("recognising")

    def _report(self, phase: Phase, position: float | None = None) -> None:
        if self._on_progress:
            reached = self.chunks[-1].end if self.chunks else 0.0
            position = reached if position is None else position
            self._worked = max(self._worked, position)
            self._on_progress(Progress(phase, position, self._duration, self._worked))


def find_engine(model_size: str, settings: Settings) -> EngineSpec:
    """Return the weights that a model name refers to and how to run them; download them if necessary and allowed.

    Raises `ModelError`.
    """
    if script := script_of(model_size):
        return EngineSpec(str(script), "scripted", "unknown", "", scripted=True, niceness=settings.niceness)
    from cesar.models.store import locate

    model = locate(model_size, store=settings.models_dir, allow_network=not settings.offline)
    return EngineSpec(
        directory=str(model.directory),
        name=model.name,
        revision=model.revision,
        digest=model.digest,
        device=settings.device,
        compute_type=settings.compute_type,
        workers=settings.workers,
        niceness=settings.niceness,
    )


def origin_of(recording: Path, recorded_at: str | None) -> Origin:
    """Return the origin of a transcript that was made just now.

    recorded_at: when the recording was made, according to its tags; None uses the file's modification time.
    """
    source: Literal["media", "file"] | None = "media"
    if recorded_at is None:
        recorded_at, source = changed_at(recording), "file"
    now = datetime.now(UTC)
    return Origin(
        version=cesar.__version__,
        transcribed_at=_iso(now),
        recording=recording.name,
        recorded_at=recorded_at,
        recorded_at_source=source if recorded_at else None,
    )


def changed_at(recording: Path) -> str | None:
    """Return a file's modification time in the form of `Origin`."""
    try:
        return _iso(datetime.fromtimestamp(recording.stat().st_mtime, UTC))
    except (OSError, ValueError, OverflowError):
        return None


def _iso(time: datetime) -> str:
    return time.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _require_callables(**callbacks: object) -> None:
    for what, callback in callbacks.items():
        optional_callable(callback, what)


def _require_chunks(done: Sequence[object]) -> None:
    for chunk in done:
        if not isinstance(chunk, Chunk):
            raise UsageError("done contains something other than chunks", hint="Pass chunks from on_chunk.")


def _require_writable(output: Path, recording: Path) -> None:
    """Raise an error now, not after the work, if the output can't be written."""
    require_readable(recording)
    try:
        has_folder = output.parent.is_dir()
        is_recording = output.exists() and output.samefile(recording)
    except OSError as error:  # a name that is too long
        raise OutputNotWritable(f"{output} can't be written: {error}") from error
    if not has_folder:
        raise OutputNotWritable(f"{output} can't be written: there is no folder {output.parent}")
    if is_recording:
        raise UsageError(f"{output} is the recording and would be overwritten", hint="Choose another output name.")


def _never_stop() -> bool:
    return False
