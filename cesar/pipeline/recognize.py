"""Fifth stage: chunks become utterances. Windows are encoded one by one, decoded in batches, and judged.

What goes wrong with Whisper, and what is done about it, chunk by chunk and without looking at any other chunk:
it stops early (the speech it left uncovered is heard again), it runs in circles or is unsure (another attempt, under
other conditions), it invents text where nobody speaks (dropped, with the text kept in the ledger).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cesar.engines.base import DecodeSettings, Engine, Heard, Hypothesis, TimedWord, Utterance, Window
from cesar.pipeline.chunk import PlannedChunk
from cesar.pipeline.features import FRAMES_PER_SECOND, log_mel
from cesar.pipeline.judge import AFTER_THE_END, LAST_ATTEMPT, Attempt, Decoded, Judge, compression_ratio
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from cesar.pipeline.timing import Stopwatch
from cesar.pipeline.vad import Region


@dataclass(frozen=True, slots=True)
class RecognizeSettings:
    """Which windows are heard, and what of them is heard again."""

    window_step_s: float = 2.5
    """Windows have one of a few lengths, so that they can share a batch."""
    shortest_window_s: float = 20.0
    full_window_s: float = 30.0
    """What Whisper was trained on: slower, but surer."""
    silence_after_s: float = 5.0
    """Silence after the sound in a short window; with less, the model runs in circles or drops the last words."""
    uncovered_speech_s: float = 1.0
    """Speech after the last time stamp that is longer than this is heard again…"""
    skipped_speech_s: float = 2.0
    """…and so is speech before or between the time stamps."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A chunk of the plan with its samples."""

    chunk: PlannedChunk
    samples: Samples
    """From `chunk.start` to `chunk.end`."""


@dataclass(frozen=True, slots=True)
class Said:
    """An utterance placed in the recording (seconds from its start), with what is known of its decoding."""

    start: float
    end: float
    text: str
    words: tuple[TimedWord, ...]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float = 0.0
    seek: int = 0
    """Where the window of its decoding begins in the recording, in frames."""
    tokens: tuple[int, ...] = ()
    token_ends: tuple[int, ...] = ()
    """Where each token ends in the text, in bytes of UTF-8."""
    token_logprobs: tuple[float, ...] = ()
    token_bytes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Doubt:
    """A stretch whose text was not believed, or that gave none."""

    start: float
    end: float
    reason: str
    text: str


@dataclass
class Recognized:
    """What became of one chunk."""

    chunk: PlannedChunk
    said: list[Said] = field(default_factory=list)
    doubts: list[Doubt] = field(default_factory=list)


_LEAST_PROGRESS = SAMPLE_RATE // 2
"""A stretch is heard again only if it is shorter by this than the one it is a part of, so that there is an end."""


class Recognizer:
    """Recognises batches of sounds with one engine. May be used from several threads at once."""

    def __init__(
        self,
        engine: Engine,
        decode: DecodeSettings,
        *,
        with_words: bool = False,
        settings: RecognizeSettings | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self._engine = engine
        self._decode = decode
        self._with_words = with_words
        self._settings = settings or RecognizeSettings()
        self._judge = Judge()
        self._stopwatch = stopwatch or Stopwatch()

    def hear(self, sound: Sound) -> Heard:
        """Encode a whole sound, in the window that its first attempt would have."""
        return self._hear(sound, Attempt(0, sound.chunk.start, sound.chunk.end))

    def recognize(self, sounds: Sequence[Sound]) -> list[Recognized]:
        """Give each sound's utterances. The result for a sound doesn't depend on the others in the batch."""
        results = [Recognized(sound.chunk) for sound in sounds]
        attempts = [Attempt(i, sound.chunk.start, sound.chunk.end) for i, sound in enumerate(sounds)]
        while attempts:
            following: list[Attempt] = []
            for decoded in self._decoded(sounds, attempts):
                following += self._weigh(results[decoded.attempt.sound], decoded)
            attempts = following
        for result in results:
            result.said.sort(key=lambda said: (said.start, said.end))
        return results

    def _decoded(self, sounds: Sequence[Sound], attempts: Iterable[Attempt]) -> Iterable[Decoded]:
        """Encode every attempt by itself, then decode those together that are alike; draw each by itself."""
        alike: dict[tuple[int, int, int], list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            heard = self._hear(sounds[attempt.sound], attempt)
            drawn = attempt.sound if self._decode_settings(attempt.number).temperature > 0 else -1
            alike[attempt.number, heard.window.log_mel.shape[1], drawn].append(replace(attempt, heard=heard))
        for (number, _, _), group in alike.items():
            with self._stopwatch.measure("decoder"):
                heard_group = [attempt.heard for attempt in group if attempt.heard]
                hypotheses = self._engine.decode(heard_group, self._decode_settings(number))
            yield from map(Decoded, group, hypotheses)

    def _hear(self, sound: Sound, attempt: Attempt) -> Heard:
        offset = sound.chunk.start
        samples = sound.samples[attempt.start - offset : attempt.end - offset]
        frames = round(self._window_s(attempt) * FRAMES_PER_SECOND)
        with self._stopwatch.measure("features"):
            spectrogram = log_mel(samples, frames=frames, n_mels=self._engine.n_mels)
        with self._stopwatch.measure("encoder"):
            return self._engine.hear(Window(spectrogram, attempt.start / SAMPLE_RATE, attempt.duration))

    def _window_s(self, attempt: Attempt) -> float:
        settings = self._settings
        if attempt.number > 0:
            return settings.full_window_s
        steps = np.ceil((attempt.duration + settings.silence_after_s) / settings.window_step_s)
        return float(np.clip(steps * settings.window_step_s, settings.shortest_window_s, settings.full_window_s))

    def _decode_settings(self, number: int) -> DecodeSettings:
        if number == 0:
            return self._decode
        return replace(
            self._decode,
            beam_size=max(5, self._decode.beam_size),
            temperature=0.0,
            avoid_repetition=number == LAST_ATTEMPT,
        )

    def _weigh(self, result: Recognized, decoded: Decoded) -> list[Attempt]:
        """Take the text, or say what is to be tried next."""
        best = self._judge.better(decoded)
        if self._judge.wants_another(decoded):
            return [replace(decoded.attempt, number=decoded.attempt.number + 1, heard=None, before=best)]
        return self._take(result, best)

    def _take(self, result: Recognized, decoded: Decoded) -> list[Attempt]:
        """Put the text in its place; give back the rest of the speech, if the model stopped before it."""
        attempt, hypothesis = decoded.attempt, _complete(decoded.hypothesis)
        if reason := self._judge.disbelief(decoded, result.chunk):
            start, end = attempt.start / SAMPLE_RATE, attempt.end / SAMPLE_RATE
            result.doubts.append(Doubt(start, end, reason, hypothesis.text))
            return []
        result.said += self._placed(attempt, hypothesis)
        if beyond := "".join(u.text for u in hypothesis.utterances if u.start >= attempt.duration).strip():
            end = attempt.end / SAMPLE_RATE
            result.doubts.append(Doubt(max(attempt.start / SAMPLE_RATE, end - 0.02), end, AFTER_THE_END, beyond))
        return self._rest(result, attempt, hypothesis)

    def _placed(self, attempt: Attempt, hypothesis: Hypothesis) -> list[Said]:
        offset = attempt.start / SAMPLE_RATE
        words = self._words(attempt, hypothesis)
        ratio = compression_ratio(hypothesis.text)
        return [
            Said(
                start=offset + utterance.start,
                end=offset + min(utterance.end, attempt.duration),
                text=utterance.text.strip(),
                words=tuple(replace(word, start=offset + word.start, end=offset + word.end) for word in its_words),
                avg_logprob=hypothesis.avg_logprob,
                no_speech_prob=hypothesis.no_speech_prob,
                compression_ratio=ratio,
                temperature=hypothesis.temperature,
                seek=attempt.start * FRAMES_PER_SECOND // SAMPLE_RATE,
                tokens=utterance.tokens,
                token_ends=_ends_in_bare(utterance),
                token_logprobs=utterance.token_logprobs,
                token_bytes=utterance.token_bytes,
            )
            for utterance, its_words in zip(hypothesis.utterances, words, strict=True)
            if utterance.text.strip() and utterance.start < attempt.duration
        ]

    def _words(self, attempt: Attempt, hypothesis: Hypothesis) -> list[list[TimedWord]]:
        if not self._with_words or attempt.heard is None:
            return [[] for _ in hypothesis.utterances]
        with self._stopwatch.measure("words"):
            return self._engine.align(attempt.heard, hypothesis.utterances, self._decode)

    def _rest(self, result: Recognized, attempt: Attempt, hypothesis: Hypothesis) -> list[Attempt]:
        """The stretches with speech that no utterance covers, to be heard again by themselves."""
        rest: list[Attempt] = []
        for start, end, least_s in self._uncovered(attempt, hypothesis):
            if speech_between(result.chunk.regions, start, end) < least_s:
                continue
            if end - start > attempt.end - attempt.start - _LEAST_PROGRESS:
                doubt = Doubt(start / SAMPLE_RATE, end / SAMPLE_RATE, "no words heard", "")
                result.doubts.append(doubt)
            else:
                rest.append(Attempt(attempt.sound, start, end))
        return rest

    def _uncovered(self, attempt: Attempt, hypothesis: Hypothesis) -> Iterable[tuple[int, int, float]]:
        """Start and end of each gap in samples, and how many seconds of speech in it are too many to leave."""
        reached = attempt.start
        for utterance in (u for u in hypothesis.utterances if u.start < attempt.duration):
            start = attempt.start + int(utterance.start * SAMPLE_RATE)
            yield reached, min(start, attempt.end), self._settings.skipped_speech_s
            reached = max(reached, attempt.start + int(utterance.end * SAMPLE_RATE))
        yield reached, attempt.end, self._settings.uncovered_speech_s


def _complete(hypothesis: Hypothesis) -> Hypothesis:
    """Leave out the utterance in which the model ran out of room: its sound is heard again."""
    *complete, last = hypothesis.utterances or (None,)
    if last is None or not (hypothesis.is_cut_off and last.is_open and complete):
        return hypothesis
    return replace(hypothesis, utterances=tuple(complete))


def _ends_in_bare(utterance: Utterance) -> tuple[int, ...]:
    """Where the tokens end in the text without the blanks before it."""
    blanks = len(utterance.text.encode()) - len(utterance.text.lstrip().encode())
    return tuple(max(0, end - blanks) for end in utterance.token_ends)


def speech_between(regions: Iterable[Region], start: int, end: int) -> float:
    """Seconds of speech in a stretch given in samples."""
    samples = sum(max(0, min(region.end, end) - max(region.start, start)) for region in regions)
    return samples / SAMPLE_RATE
