"""The pipeline from a media file to finished chunks: the table of contents of this package.

    decode ─ samples ─▶ vad ─ regions ─▶ chunk ─ plan ─▶ recognize ─ utterances ─▶ segments ─▶ Chunk
                 └─────── ring buffer: the last minute of sound ─────┘

The front end (`frontend.py`: decode to plan) runs in the caller's thread and stays just ahead of the recognition, which
runs in `plan.workers` threads (`scheduler.py` says who does what). Nothing here grows with the recording's length.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import Protocol

from cesar.engines.base import DecodeSettings, Engine
from cesar.engines.hardware import Plan
from cesar.errors import UnknownLanguage, UsageError
from cesar.options import TranscribeOptions
from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.audio.tracks import Part
from cesar.pipeline.frontend import FrontEnd
from cesar.pipeline.recognition.chunk_language import Choice, LanguageCheck
from cesar.pipeline.recognition.decoding_passes import Attempt
from cesar.pipeline.recognition.language_detection import LanguageDetector
from cesar.pipeline.recognition.recognizer import Recognizer
from cesar.pipeline.request import Outcome, Request
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.scheduler import Scheduler
from cesar.pipeline.speech.chunking import PlannedChunk
from cesar.pipeline.stopwatch import Stopwatch
from cesar.pipeline.text.segments import finish
from cesar.transcript import Chunk


class Listener(Protocol):
    """Receives the events of a run."""

    def opened(self, duration: float | None) -> None:
        """The recording is open; its length in seconds, if the header states it."""

    def alive(self) -> None:
        """A step is done, in any thread: a block decoded, a window encoded, a batch recognised."""

    def progressed(self, position_s: float) -> None:
        """Progress, in seconds of the recording, from any thread: see `Progress.worked`."""

    def finished(self, chunk: Chunk) -> None:
        """A chunk was recognised. Chunks come in order."""

    def skipped(self, start: float, end: float) -> None:
        """A chunk that the caller has already was skipped; called in order."""


def transcribe(request: Request, engine: Engine, plan: Plan, listener: Listener) -> Outcome:
    """Transcribe one recording, passing each finished chunk to the listener.

    Raises a subclass of `InputError` if the recording can't be read, `UsageError` if the options don't fit it or
    the model.
    """
    _require_supported(request.options, engine)
    stopwatch = Stopwatch(on_lap=listener.alive)
    with closing(_open(request, listener)) as recording:
        listener.opened(recording.header_duration)
        front_end = FrontEnd(recording, request.options, stopwatch)
        sounds = front_end.sounds()
        decode = _decode_settings(request.options)
        allowed = _candidate_languages(request.options, engine)
        detector = LanguageDetector(engine, stopwatch=stopwatch)
        language, probability, attempts_used = next(iter(allowed)), 1.0, list[Attempt]()
        if len(allowed) > 1:
            undetected = Recognizer(engine, decode, stopwatch=stopwatch)
            first = map(undetected.attempt, sounds)
            language, probability, attempts_used = detector.of_recording(first, allowed, undetected.encode)
        decode = replace(decode, language=language)
        recognizer = Recognizer(
            engine,
            decode,
            with_words=request.options.word_timestamps,
            stopwatch=stopwatch,
            languages=LanguageCheck(detector, Choice(language, allowed)) if len(engine.languages) > 1 else None,
        )
        attempts = chain((replace(one, language=language) for one in attempts_used), map(recognizer.attempt, sounds))
        for done in Scheduler(recognizer, plan, listener.progressed).run(_skip_done(attempts, frozenset(request.done))):
            if isinstance(done, PlannedChunk):
                listener.skipped(*_span(done))
            else:
                listener.finished(finish(done, is_translated=decode.task == "translate"))
        return Outcome(
            language=language,
            language_probability=probability,
            duration=front_end.duration,
            timings=stopwatch.seconds(),
            warnings=tuple(front_end.warnings),
            recorded_at=recording.recorded_at,
        )


def _decode_settings(options: TranscribeOptions) -> DecodeSettings:
    return DecodeSettings(
        language=options.language or "",
        task=options.task,
        prompt=options.prompt,
        hotwords=options.hotwords,
        beam_size=options.beam_size,
        temperature=options.temperature,
        token_logprobs=options.token_logprobs,
    )


def _open(request: Request, listener: Listener) -> Recording:
    options = request.options
    part = Part(options.start, math.inf if options.end is None else options.end)
    return Recording(
        request.path,
        track=options.track,
        part=part,
        max_duration_s=request.max_duration_s,
        on_step=listener.alive,
    )


def _require_supported(options: TranscribeOptions, engine: Engine) -> None:
    wanted = (*options.languages, *([options.language] if options.language else []))
    for language in wanted:
        if language in engine.languages:
            continue
        if engine.languages == {"en"}:
            raise UnknownLanguage(
                f"the model {engine.identity.name} knows English only, not {language}",
                hint="Use a multilingual model, such as base.",
            )
        raise UnknownLanguage(f"the model {engine.identity.name} does not know the language {language}")
    if options.task == "translate" and len(engine.languages) == 1:
        raise UsageError(
            f"the model {engine.identity.name} can't translate",
            hint="Use a multilingual model, such as base.",
        )


def _candidate_languages(options: TranscribeOptions, engine: Engine) -> frozenset[str]:
    """Return the languages that a text may be in."""
    return frozenset({options.language} if options.language else options.languages or engine.languages)


def _skip_done(attempts: Iterable[Attempt], done: Collection[tuple[float, float]]) -> Iterator[Attempt | PlannedChunk]:
    """Replace chunks that are done by their plan."""
    for attempt in attempts:
        yield attempt.sound.chunk if _span(attempt.sound.chunk) in done else attempt


def _span(chunk: PlannedChunk) -> tuple[float, float]:
    return round(chunk.start / SAMPLE_RATE, 3), round(chunk.end / SAMPLE_RATE, 3)
