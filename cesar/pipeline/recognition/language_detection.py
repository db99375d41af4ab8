"""Language detection, for a sound and for the recording by its beginning.

Whisper names a language for any sound. It is reliable where the probability is high, and more so in the full window
that it was trained on. So the recording's language comes from full windows of speech, unless the first chunk is
already certain. `chunk_language.py` decides what happens to chunks in another language.
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
    """When a detected language is trusted. docs/benchmarks.md has the table behind these numbers."""

    window_s: float = 30.0
    """The window that Whisper was trained on."""
    confident: float = 0.95
    """With this probability, a short window needs no full one…"""
    min_confident_s: float = 5.0
    """…unless it has less sound than this."""
    sure: float = 0.8
    """No more windows are queried once their vote reaches this probability."""
    max_windows: int = 4
    min_other: float = 0.3
    """A chunk is decoded in another language too if that is the likeliest, and at least this likely…"""
    agreed: float = 0.8
    min_rival: float = 0.1
    """…or if the default language is the likeliest, but less likely than `agreed`, and the other at least this likely.
    If the default one is unlikely (`min_own`), the second likeliest is compared too if it is at least this likely."""
    rival_margin: float = 0.1
    """Its text must then be likelier by this much (average log-probability)."""
    min_next: float = 0.1
    """If all text was rejected, the next likely language is tried if it is at least this likely…"""
    min_next_avg_logprob: float = -0.6
    """…and its text is accepted if it is at least this likely."""
    max_tried: int = 3
    sure_avg_logprob: float = -0.45
    """A chunk may hold two languages if its text is less likely than this…"""
    sure_utterance_avg_logprob: float = -0.6
    """…or one of its utterances less likely than this…"""
    sure_language: float = 0.9
    """…or the language of its text less likely than this."""
    min_change: float = 0.3
    """A chunk is split at a change whose sides make it at least this likely…"""
    clear_change: float = 0.7
    """…and the first change with this likelihood ends the search…"""
    max_changes: int = 2
    """…among at most this many places."""
    clear: float = 0.9
    """Another language than the text's with this probability is reported…"""
    min_own: float = 0.1
    """…and so is a text whose own language is less likely than this…"""
    min_reported_s: float = 3.0
    """…except in a part of a chunk shorter than this."""


def among(probabilities: Probabilities, allowed: frozenset[str]) -> dict[str, float]:
    """Return the probabilities restricted to the allowed languages, the likeliest first."""
    total = sum(probabilities.get(language, 0.0) for language in allowed) or 1.0
    kept = {language: probabilities.get(language, 0.0) / total for language in sorted(allowed)}
    return dict(sorted(kept.items(), key=lambda item: -item[1]))


class LanguageDetector:
    """Queries a multilingual model for the spoken language."""

    def __init__(
        self, engine: Engine, *, stopwatch: Stopwatch | None = None, settings: LanguageSettings | None = None
    ) -> None:
        self._engine = engine
        self._settings = settings or LanguageSettings()
        self._stopwatch = stopwatch or Stopwatch()

    def in_full_window(self, samples: Samples, start: int = 0) -> Probabilities:
        """Return the probabilities for a sound of at most 30 s that begins at sample `start` of the recording."""
        frames = round(self._settings.window_s * FRAMES_PER_SECOND)
        with self._stopwatch.measure("features"):
            spectrogram = log_mel(samples, frames=frames, n_mels=self._engine.n_mels)
        with self._stopwatch.measure("encoder"):
            encoded = self._engine.encode(Window(spectrogram, start / SAMPLE_RATE, len(samples) / SAMPLE_RATE))
        with self._stopwatch.measure("language"):
            return self._engine.language_probabilities(encoded)

    def knows_only(self, allowed: frozenset[str]) -> bool:
        """Whether the model knows no language but the allowed ones."""
        return self._engine.languages <= allowed

    def is_confident(self, probability: float, attempt: Attempt) -> bool:
        """Whether this probability, from the attempt's own window, makes a full window unnecessary."""
        return probability >= self._settings.confident and attempt.duration >= self._settings.min_confident_s

    def in_own_window(self, attempt: Attempt) -> Probabilities:
        """Return the probabilities for an attempt whose window is encoded."""
        assert attempt.encoded
        with self._stopwatch.measure("language"):
            return self._engine.language_probabilities(attempt.encoded)

    def in_part(self, attempt: Attempt, start: float, end: float) -> Probabilities:
        """Return the probabilities for a part of an attempt whose window is encoded, in seconds from its start."""
        assert attempt.encoded
        with self._stopwatch.measure("language"):
            return self._engine.language_probabilities(attempt.encoded, (start, end))

    def of_recording(
        self, attempts: Iterator[Attempt], allowed: frozenset[str], encode: Callable[[Attempt], Attempt]
    ) -> tuple[str, float, list[Attempt]]:
        """Return the language, its probability, and the attempts used to detect it, the first one encoded.

        Windows are weighted by their length. Without any sound the language is "unknown", with probability 0.
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
        """Yield full windows of consecutive chunks; the attempts used are appended to `taken`."""
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
