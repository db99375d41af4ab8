"""Which language is spoken in a sound, and in the recording by its beginning.

Whisper guesses the language of any sound. Its guess is good where it is sure, and better in the full window that it
was trained on. So the recording's language comes from full windows of speech, unless the first chunk leaves no doubt.
What becomes of chunks in another one is decided in chunk_language.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from cesar.engines.base import Engine, Window
from cesar.engines.languages import UNKNOWN
from cesar.pipeline.audio.log_mel import FRAMES_PER_SECOND, log_mel
from cesar.pipeline.recognition.decoding_passes import Attempt
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from cesar.pipeline.stopwatch import Stopwatch

Probabilities = Mapping[str, float]
"""By language."""


@dataclass(frozen=True, slots=True)
class LanguageSettings:
    """When a guess is believed. docs/benchmarks.md has the table behind these numbers."""

    window_s: float = 30.0
    """What Whisper was trained on."""
    confident: float = 0.95
    """What a short window says so surely needs no full one…"""
    min_confident_s: float = 5.0
    """…unless there is less sound in it than this."""
    sure: float = 0.8
    """Of the windows so far: no more are asked."""
    max_windows: int = 4
    min_other: float = 0.3
    """A chunk is written in another language as well if that is the likeliest, and at least so likely…"""
    agreed: float = 0.8
    min_rival: float = 0.1
    """…or if the usual one is, but less likely than the former, and the other one at least as likely as the latter…
    Where the usual one is hardly spoken (`min_own`), the second likeliest is compared as well if it is so likely."""
    rival_margin: float = 0.1
    """…then its text has to be surer by this (average log-probability)."""
    min_next: float = 0.1
    """Where no text was believed, the next likely language is tried if it is at least so likely…"""
    min_next_avg_logprob: float = -0.6
    """…and its text is taken if the model is so sure of it."""
    max_tried: int = 3
    sure_avg_logprob: float = -0.45
    """A sound whose text is less likely than this may hold two languages…"""
    sure_utterance_avg_logprob: float = -0.6
    """…and so may one with an utterance less likely than this…"""
    sure_language: float = 0.9
    """…and so may one that is less likely in the language of its text."""
    min_change: float = 0.3
    """A sound is parted where a change is at least so likely by what its two sides say…"""
    clear_change: float = 0.7
    """…and where it is so likely, no other place is looked at…"""
    max_changes: int = 2
    """…of these at most."""
    clear: float = 0.9
    """Another language than that of the text is worth a warning…"""
    min_own: float = 0.1
    """…and so is a text whose own language is less likely than this…"""
    min_reported_s: float = 3.0
    """…but not of a part of a chunk that is shorter than this."""


def among(probabilities: Probabilities, allowed: frozenset[str]) -> dict[str, float]:
    """The probabilities if it must be one of the allowed languages, the likeliest first."""
    total = sum(probabilities.get(language, 0.0) for language in allowed) or 1.0
    kept = {language: probabilities.get(language, 0.0) / total for language in sorted(allowed)}
    return dict(sorted(kept.items(), key=lambda item: -item[1]))


class LanguageDetector:
    """Asks a model of several languages which one is spoken."""

    def __init__(
        self, engine: Engine, *, stopwatch: Stopwatch | None = None, settings: LanguageSettings | None = None
    ) -> None:
        self._engine = engine
        self._settings = settings or LanguageSettings()
        self._stopwatch = stopwatch or Stopwatch()

    def in_full_window(self, samples: Samples, start: int = 0) -> Probabilities:
        """Return the probabilities for a sound of 30 s at most; `start` is its place in the recording."""
        frames = round(self._settings.window_s * FRAMES_PER_SECOND)
        with self._stopwatch.measure("features"):
            spectrogram = log_mel(samples, frames=frames, n_mels=self._engine.n_mels)
        with self._stopwatch.measure("encoder"):
            encoded = self._engine.encode(Window(spectrogram, start / SAMPLE_RATE, len(samples) / SAMPLE_RATE))
        with self._stopwatch.measure("language"):
            return self._engine.language_of(encoded)

    def knows_only(self, allowed: frozenset[str]) -> bool:
        """Whether there is no other language than the allowed ones that the model could name."""
        return self._engine.languages <= allowed

    def is_confident(self, probability: float, attempt: Attempt) -> bool:
        """Whether a language of this probability, in the attempt's own window, needs no look in a full one."""
        return probability >= self._settings.confident and attempt.duration >= self._settings.min_confident_s

    def in_own_window(self, attempt: Attempt) -> Probabilities:
        """Return the probabilities for an attempt whose window is encoded."""
        assert attempt.encoded
        with self._stopwatch.measure("language"):
            return self._engine.language_of(attempt.encoded)

    def in_part(self, attempt: Attempt, start: float, end: float) -> Probabilities:
        """Return the probabilities for a part of an attempt whose window is encoded, in seconds from its start."""
        assert attempt.encoded
        with self._stopwatch.measure("language"):
            return self._engine.language_of(attempt.encoded, (start, end))

    def of_recording(
        self, attempts: Iterator[Attempt], allowed: frozenset[str], encode: Callable[[Attempt], Attempt]
    ) -> tuple[str, float, list[Attempt]]:
        """Return the language, its probability, and the attempts that were taken to find out, the first one encoded.

        Windows count by the sound in them. Without any sound the language is "unknown", with probability 0.
        """
        first = next(attempts, None)
        if first is None:
            return UNKNOWN, 0.0, []
        taken = [encode(first)]
        language, probability = next(iter(among(self.in_own_window(taken[0]), allowed).items()))
        if not self.is_confident(probability, taken[0]):
            language, probability = self._vote(taken, attempts, allowed)
        return language, round(probability, 4), taken

    def _vote(self, taken: list[Attempt], remaining: Iterator[Attempt], allowed: frozenset[str]) -> tuple[str, float]:
        votes: defaultdict[str, float] = defaultdict(float)
        asked = 0
        for window in self._windows(taken, remaining):
            asked += len(window)
            for language, probability in among(self.in_full_window(window), allowed).items():
                votes[language] += probability * len(window)
            if max(votes.values()) >= self._settings.sure * asked:
                break
        language = max(votes, key=lambda code: votes[code])
        return language, votes[language] / asked

    def _windows(self, taken: list[Attempt], remaining: Iterator[Attempt]) -> Iterator[Samples]:
        """Full windows of the sounds one after the other; what is taken of them is put down."""
        room = round(self._settings.window_s * SAMPLE_RATE)
        waiting = [taken[0].samples]
        for _ in range(self._settings.max_windows):
            while sum(map(len, waiting)) < room and (attempt := next(remaining, None)):
                taken.append(attempt)
                waiting.append(attempt.samples)
            if not waiting:
                return
            joined = np.concatenate(waiting)
            waiting = [joined[room:]] if len(joined) > room + SAMPLE_RATE else []
            yield joined[:room]
