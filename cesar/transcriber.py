"""`AudioTranscriber`, the entry point of the library: a recording in, a transcript out.

The heavy work happens in a child process (`cesar.runner`); this process imports neither numpy nor a model library.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cesar
from cesar.argument_checks import optional_instance, path_of
from cesar.errors import OutputNotWritable, UsageError
from cesar.files.readable import require_readable
from cesar.ledger import dropped_s
from cesar.models.catalog import script_of
from cesar.options import TranscribeOptions
from cesar.pipeline.request import Request
from cesar.runner import pool
from cesar.runner.messages import EngineSpec
from cesar.settings.config import Settings, load
from cesar.transcript import Chunk, Origin, Segment, Transcript
from cesar.transcription import Callbacks, OnBegin, OnChunk, OnProgress, ShouldStop, Transcription

if TYPE_CHECKING:
    from cesar.formats.subtitles.cues import SubtitleOptions


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
        return self._transcribe(path, options, Callbacks(on_progress, on_chunk, on_begin, should_stop), done)

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
        callbacks = Callbacks(on_progress, on_chunk, on_begin, should_stop)
        transcript = self._transcribe(input_path, options, callbacks, done)
        write_whole(output, render(transcript, name, subtitles))
        return _summary(transcript, output)

    def _transcribe(
        self,
        path: str | PathLike[str],
        options: TranscribeOptions | None,
        callbacks: Callbacks,
        done: Sequence[Chunk],
    ) -> Transcript:
        recording = path_of(path, "path")
        options = optional_instance(options, TranscribeOptions, "options") or TranscribeOptions()
        _require_chunks(done)
        require_readable(recording)
        transcription = Transcription(callbacks, done)
        request = Request(recording.absolute(), options, tuple(transcription.done), self.settings.max_duration_s)
        loaded, outcome = pool.run(
            self._engine(),
            request,
            limits=self._limits(),
            on_event=transcription.on_event,
            should_stop=callbacks.should_stop or _never_stop,
        )
        return transcription.transcript(request, loaded, outcome, origin_of(recording, outcome.recorded_at))

    def _limits(self) -> pool.Limits:
        settings = self.settings
        return pool.Limits(settings.stall_timeout_s, settings.idle_timeout_s, settings.open_timeout_s)

    def _engine(self) -> EngineSpec:
        """Return the engine to run, found on the first call."""
        if self._spec is None:
            self._spec = find_engine(self.model_size, self.settings)
        return self._spec


def _summary(transcript: Transcript, output: Path) -> dict[str, Any]:
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
