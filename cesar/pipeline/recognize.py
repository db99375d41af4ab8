"""Fifth stage: chunks become utterances. Windows are encoded one by one, decoded in batches, and judged.

What goes wrong with Whisper, and what is done about it, chunk by chunk and without looking at any other chunk:
it stops early (the speech it left uncovered is heard again), it runs in circles or is unsure (another attempt, under
other conditions), it invents text where nobody speaks (dropped, with the text kept in the ledger).
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cesar.engines.base import DecodeSettings, Engine, Heard, Hypothesis, TimedWord, Window
from cesar.pipeline.chunk import PlannedChunk
from cesar.pipeline.decode import SAMPLE_RATE, Samples
from cesar.pipeline.features import FRAMES_PER_SECOND, log_mel
from cesar.pipeline.invented import is_invented
from cesar.pipeline.timing import Stopwatch
from cesar.pipeline.vad import Region


@dataclass(frozen=True, slots=True)
class RecognizeSettings:
    """When a text is believed."""

    window_step_s: float = 2.5
    """Windows have one of a few lengths, so that they can share a batch."""
    shortest_window_s: float = 20.0
    full_window_s: float = 30.0
    """What Whisper was trained on: slower, but surer."""
    silence_after_s: float = 5.0
    """Silence after the sound in a short window; with less, the model runs in circles or drops the last words."""
    max_compression_ratio: float = 2.4
    """Above this a text repeats itself (openai/whisper)."""
    max_tokens_per_s: float = 8.0
    """More than this is no speech but a loop."""
    min_avg_logprob: float = -1.0
    """A text less likely than this is not believed if the model also says that nobody speaks."""
    sure_avg_logprob: float = -0.5
    """A text from a short window that is less sure than this is tried again in a full one."""
    max_no_speech_prob: float = 0.6
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


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One try at a part of a sound: `start` and `end` in samples from the start of the recording."""

    sound: int
    start: int
    end: int
    number: int = 0
    heard: Heard | None = None
    before: _Decoded | None = None
    """The attempt at the same part before this one."""

    @property
    def duration(self) -> float:
        return (self.end - self.start) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class _Decoded:
    """An attempt with what came of it."""

    attempt: _Attempt
    hypothesis: Hypothesis

    @property
    def is_empty(self) -> bool:
        return not self.hypothesis.text


AFTER_THE_END = "after the sound's end"
_LAST_ATTEMPT = 2
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
        self._stopwatch = stopwatch or Stopwatch()

    def hear(self, sound: Sound) -> Heard:
        """Encode a whole sound, in the window that its first attempt would have."""
        return self._hear(sound, _Attempt(0, sound.chunk.start, sound.chunk.end))

    def recognize(self, sounds: Sequence[Sound]) -> list[Recognized]:
        """Give each sound's utterances. The result for a sound doesn't depend on the others in the batch."""
        results = [Recognized(sound.chunk) for sound in sounds]
        attempts = [_Attempt(i, sound.chunk.start, sound.chunk.end) for i, sound in enumerate(sounds)]
        while attempts:
            following: list[_Attempt] = []
            for decoded in self._decoded(sounds, attempts):
                following += self._judge(results[decoded.attempt.sound], decoded)
            attempts = following
        for result in results:
            result.said.sort(key=lambda said: (said.start, said.end))
        return results

    def _decoded(self, sounds: Sequence[Sound], attempts: Iterable[_Attempt]) -> Iterable[_Decoded]:
        """Encode every attempt by itself, then decode those together that are alike."""
        alike: dict[tuple[int, int], list[_Attempt]] = defaultdict(list)
        for attempt in attempts:
            heard = self._hear(sounds[attempt.sound], attempt)
            alike[attempt.number, heard.window.log_mel.shape[1]].append(replace(attempt, heard=heard))
        for (number, _), group in alike.items():
            with self._stopwatch.measure("decoder"):
                heard_group = [attempt.heard for attempt in group if attempt.heard]
                hypotheses = self._engine.decode(heard_group, self._decode_settings(number))
            yield from map(_Decoded, group, hypotheses)

    def _hear(self, sound: Sound, attempt: _Attempt) -> Heard:
        offset = sound.chunk.start
        samples = sound.samples[attempt.start - offset : attempt.end - offset]
        frames = round(self._window_s(attempt) * FRAMES_PER_SECOND)
        with self._stopwatch.measure("features"):
            spectrogram = log_mel(samples, frames=frames, n_mels=self._engine.n_mels)
        with self._stopwatch.measure("encoder"):
            return self._engine.hear(Window(spectrogram, attempt.start / SAMPLE_RATE, attempt.duration))

    def _window_s(self, attempt: _Attempt) -> float:
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
            avoid_repetition=number == _LAST_ATTEMPT,
        )

    def _judge(self, result: Recognized, decoded: _Decoded) -> list[_Attempt]:
        """Take the text, or say what is to be tried next."""
        attempt = decoded.attempt
        if self._wants_another(decoded):
            return [
                _Attempt(attempt.sound, attempt.start, attempt.end, attempt.number + 1, before=self._better(decoded))
            ]
        return self._take(result, self._better(decoded))

    def _wants_another(self, decoded: _Decoded) -> bool:
        match decoded.attempt.number:
            case 0:
                return decoded.is_empty or self._is_unsure(decoded) or self._is_loop(decoded)
            case 1:
                return self._is_loop(decoded)
            case _:
                return False

    def _better(self, decoded: _Decoded) -> _Decoded:
        """The attempt to take, this one or the best before it: one with a text, no loop, the surer one."""
        before = decoded.attempt.before
        if before is None or before.is_empty:
            return decoded
        if decoded.is_empty or (self._is_loop(decoded) and not self._is_loop(before)):
            return before
        is_surer = before.hypothesis.avg_logprob > decoded.hypothesis.avg_logprob
        return before if is_surer and not self._is_loop(before) else decoded

    def _is_unsure(self, decoded: _Decoded) -> bool:
        return decoded.hypothesis.avg_logprob < self._settings.sure_avg_logprob

    def _is_loop(self, decoded: _Decoded) -> bool:
        """Whether the text repeats itself, and not because the speaker does.

        Real repetition (a refrain, a litany) is no faster than speech, and comes out the same from another window.
        """
        attempt, hypothesis = decoded.attempt, decoded.hypothesis
        if compression_ratio(hypothesis.text) <= self._settings.max_compression_ratio:
            return False
        is_speech_like = hypothesis.token_count <= self._settings.max_tokens_per_s * attempt.duration
        is_confirmed = attempt.before is not None and attempt.before.hypothesis.text == hypothesis.text
        return not (is_speech_like and is_confirmed)

    def _take(self, result: Recognized, decoded: _Decoded) -> list[_Attempt]:
        """Put the text in its place; give back the rest of the speech, if the model stopped before it."""
        attempt, hypothesis = decoded.attempt, _complete(decoded.hypothesis)
        if reason := self._disbelief(result.chunk, decoded):
            start, end = attempt.start / SAMPLE_RATE, attempt.end / SAMPLE_RATE
            result.doubts.append(Doubt(start, end, reason, hypothesis.text))
            return []
        result.said += self._placed(attempt, hypothesis)
        if beyond := "".join(u.text for u in hypothesis.utterances if u.start >= attempt.duration).strip():
            end = attempt.end / SAMPLE_RATE
            result.doubts.append(Doubt(max(attempt.start / SAMPLE_RATE, end - 0.02), end, AFTER_THE_END, beyond))
        return self._rest(result, attempt, hypothesis)

    def _disbelief(self, chunk: PlannedChunk, decoded: _Decoded) -> str | None:
        """Why the text is not taken; None if it is."""
        settings, attempt, hypothesis = self._settings, decoded.attempt, decoded.hypothesis
        if decoded.is_empty:
            return "no words heard"
        if all(utterance.start >= attempt.duration for utterance in hypothesis.utterances):
            return AFTER_THE_END
        if self._is_loop(decoded):
            return "the text repeated itself"
        is_silent = hypothesis.no_speech_prob > settings.max_no_speech_prob
        if is_silent and hypothesis.avg_logprob < settings.min_avg_logprob:
            return "no speech"
        regions = (r.confidence for r in chunk.regions if r.start < attempt.end and r.end > attempt.start)
        if is_invented(hypothesis.text, max(regions, default=0.0)):
            return "probably invented"
        return None

    def _placed(self, attempt: _Attempt, hypothesis: Hypothesis) -> list[Said]:
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
            )
            for utterance, its_words in zip(hypothesis.utterances, words, strict=True)
            if utterance.text.strip() and utterance.start < attempt.duration
        ]

    def _words(self, attempt: _Attempt, hypothesis: Hypothesis) -> list[list[TimedWord]]:
        if not self._with_words or attempt.heard is None:
            return [[] for _ in hypothesis.utterances]
        with self._stopwatch.measure("words"):
            return self._engine.align(attempt.heard, hypothesis.utterances, self._decode)

    def _rest(self, result: Recognized, attempt: _Attempt, hypothesis: Hypothesis) -> list[_Attempt]:
        """The stretches with speech that no utterance covers, to be heard again by themselves."""
        rest: list[_Attempt] = []
        for start, end, least_s in self._uncovered(attempt, hypothesis):
            if speech_between(result.chunk.regions, start, end) < least_s:
                continue
            if end - start > attempt.end - attempt.start - _LEAST_PROGRESS:
                doubt = Doubt(start / SAMPLE_RATE, end / SAMPLE_RATE, "no words heard", "")
                result.doubts.append(doubt)
            else:
                rest.append(_Attempt(attempt.sound, start, end))
        return rest

    def _uncovered(self, attempt: _Attempt, hypothesis: Hypothesis) -> Iterable[tuple[int, int, float]]:
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


def compression_ratio(text: str) -> float:
    """How much shorter zlib makes the text; above about 2.4 it says the same over and over (openai/whisper)."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def speech_between(regions: Iterable[Region], start: int, end: int) -> float:
    """Seconds of speech in a stretch given in samples."""
    samples = sum(max(0, min(region.end, end) - max(region.start, start)) for region in regions)
    return samples / SAMPLE_RATE
