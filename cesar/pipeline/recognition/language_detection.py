"""Which language is spoken: first in the recording, then in each chunk, from its own sound alone.

Whisper guesses the language of any sound. Its guess is good where it is sure, and better in the full window that it
was trained on. So the recording's language comes from full windows of speech, unless the first chunk leaves no doubt.
A chunk that seems to be in another one is written in both, and the text that the model finds likelier is taken.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from cesar.engines.base import Engine, Window
from cesar.engines.languages import UNKNOWN
from cesar.pipeline.audio.log_mel import FRAMES_PER_SECOND, log_mel
from cesar.pipeline.recognition.decoding_passes import Attempt, Decoded, Rival, Spoken
from cesar.pipeline.recognition.language_changes import Change, likely_changes
from cesar.pipeline.recognition.quality import Judge
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from cesar.pipeline.stopwatch import Stopwatch

Probabilities = Mapping[str, float]
"""By language."""


@dataclass(frozen=True, slots=True)
class LanguageSettings:
    """When a guess is believed. docs/benchmarks.md has the table behind these numbers."""

    window_s: float = 30.0
    """What Whisper was trained on."""
    no_doubt: float = 0.95
    """What a short window says so surely needs no full one…"""
    no_doubt_s: float = 5.0
    """…unless there is less sound in it than this."""
    sure: float = 0.8
    """Of the windows so far: no more are asked."""
    most_windows: int = 4
    least_other: float = 0.3
    """A chunk is written in another language as well if that is the likeliest, and at least so likely…"""
    agreed: float = 0.8
    least_rival: float = 0.1
    """…or if the usual one is, but less likely than the former, and the other one at least as likely as the latter…"""
    rival_margin: float = 0.1
    """…then its text has to be surer by this (average log-probability)."""
    least_next: float = 0.1
    """Where no text was believed, the next likely language is tried if it is at least so likely…"""
    least_next_avg_logprob: float = -0.6
    """…and its text is taken if the model is so sure of it."""
    most_tried: int = 3
    sure_avg_logprob: float = -0.45
    """A sound whose text is less likely than this may hold two languages…"""
    sure_utterance_avg_logprob: float = -0.6
    """…and so may one with an utterance less likely than this…"""
    sure_language: float = 0.9
    """…and so may one that is less likely in the language of its text."""
    least_change: float = 0.3
    """A sound is parted where a change is at least so likely by what its two sides say…"""
    clear_change: float = 0.7
    """…and where it is so likely, no other place is looked at…"""
    most_changes: int = 2
    """…of these at most."""
    clear: float = 0.9
    """Another language than that of the text is worth a warning…"""
    least_own: float = 0.1
    """…and so is a text whose own language is less likely than this…"""
    least_told_s: float = 3.0
    """…but not of a part of a chunk that is shorter than this."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The language that a text is usually looked for in, and those that it may be in instead."""

    usual: str
    allowed: frozenset[str]
    """Only the usual one: it was named, or the model knows no other."""

    @property
    def is_fixed(self) -> bool:
        return len(self.allowed) == 1


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
            heard = self._engine.hear(Window(spectrogram, start / SAMPLE_RATE, len(samples) / SAMPLE_RATE))
        with self._stopwatch.measure("language"):
            return self._engine.language_of(heard)

    def leaves_no_doubt(self, probability: float, attempt: Attempt) -> bool:
        """Whether a language of this probability, in the attempt's own window, needs no look in a full one."""
        return probability >= self._settings.no_doubt and attempt.duration >= self._settings.no_doubt_s

    def in_own_window(self, attempt: Attempt) -> Probabilities:
        """Return the probabilities for an attempt whose window is encoded."""
        assert attempt.heard
        with self._stopwatch.measure("language"):
            return self._engine.language_of(attempt.heard)

    def in_part(self, attempt: Attempt, start: float, end: float) -> Probabilities:
        """Give the probabilities for a part of an attempt whose window is encoded, in seconds from its start."""
        assert attempt.heard
        with self._stopwatch.measure("language"):
            return self._engine.language_of(attempt.heard, (start, end))

    def of_recording(
        self, attempts: Iterator[Attempt], allowed: frozenset[str], hear: Callable[[Attempt], Attempt]
    ) -> tuple[str, float, list[Attempt]]:
        """Return the language, its probability, and the attempts that were taken to find out, the first one encoded.

        Windows count by the sound in them. Without any sound the language is "unknown", with probability 0.
        """
        first = next(attempts, None)
        if first is None:
            return UNKNOWN, 0.0, []
        taken = [hear(first)]
        language, probability = next(iter(among(self.in_own_window(taken[0]), allowed).items()))
        if not self.leaves_no_doubt(probability, taken[0]):
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
        for _ in range(self._settings.most_windows):
            while sum(map(len, waiting)) < room and (attempt := next(remaining, None)):
                taken.append(attempt)
                waiting.append(attempt.samples)
            if not waiting:
                return
            joined = np.concatenate(waiting)
            waiting = [joined[room:]] if len(joined) > room + SAMPLE_RATE else []
            yield joined[:room]


class LanguageCheck:
    """Says of each stretch in which language its text is to be. Pure but for asking the model."""

    def __init__(
        self,
        detector: LanguageDetector,
        choice: Choice,
        settings: LanguageSettings | None = None,
    ) -> None:
        self._detector = detector
        self._choice = choice
        self._judge = Judge()
        self._settings = settings or LanguageSettings()

    def settle(self, decoded: Decoded) -> tuple[Decoded, Spoken | None, Attempt | None]:
        """Return the text to go on with and what is known of its language, or an attempt in another one to compare."""
        attempt = decoded.attempt
        if attempt.rival:
            return self._compared(decoded, attempt.rival)
        if attempt.tried:
            return decoded, None, None
        heard = decoded.hypothesis.languages or self._detector.in_own_window(attempt)
        likeliest = _likeliest(heard)
        if likeliest != attempt.language and not self._detector.leaves_no_doubt(heard[likeliest], attempt):
            heard = self._detector.in_full_window(attempt.samples, attempt.start)
        if rival := self._rival(attempt.language, heard):
            return decoded, None, _in(rival, decoded, heard)
        return self._settled(decoded, heard)

    def _rival(self, language: str, heard: Probabilities) -> str | None:
        """The language that has to be compared with this one, if one has to."""
        settings = self._settings
        likely = among(heard, self._choice.allowed)
        if self._choice.is_fixed:
            return None
        first, second, *_ = likely
        if first != language:
            return first if likely[first] >= settings.least_other else None
        is_close = likely[first] < settings.agreed and likely[second] >= settings.least_rival
        return second if is_close else None

    def change_in(self, decoded: Decoded) -> int | None:
        """Return where the language changes within an attempt, in samples; None where nothing points to a change."""
        attempt, allowed = decoded.attempt, self._choice.allowed
        if self._choice.is_fixed or attempt.rival or attempt.tried or self._is_sure_of(decoded):
            return None
        changes = likely_changes(attempt, lambda *part: among(self._detector.in_part(attempt, *part), allowed))
        taken: list[tuple[float, int]] = []
        for change in changes[: self._settings.most_changes]:
            if clear := self._clear(change, attempt):
                taken.append((change.gain + math.log(clear), change.at))
            if clear >= self._settings.clear_change:
                break
        return max(taken)[1] if taken else None

    def _clear(self, change: Change, attempt: Attempt) -> float:
        """How clearly the two sides of a change, each by itself in a full window, are in different languages; or 0."""
        sides = ((attempt.start, change.at), (change.at, attempt.end))
        inside, outside = reversed(sides) if change.begins else sides
        other, probability = next(iter(self._of_stretch(attempt, *outside).items()))
        if other == change.language or probability < self._settings.least_change:
            return 0.0
        clear = probability * self._of_stretch(attempt, *inside)[change.language]
        return clear if clear >= self._settings.least_change else 0.0

    def _of_stretch(self, attempt: Attempt, start: int, end: int) -> dict[str, float]:
        samples = attempt.samples[start - attempt.start : end - attempt.start]
        return among(self._detector.in_full_window(samples, start), self._choice.allowed)

    def next_likely(self, decoded: Decoded) -> Attempt | None:
        """Return an attempt in the next likely language, after the text in this one was not believed."""
        attempt = decoded.attempt
        if self._choice.is_fixed or attempt.heard is None or not 1 <= len(attempt.tried) < self._settings.most_tried:
            return None
        heard = self._detector.in_own_window(attempt)
        for language, probability in among(heard, self._choice.allowed).items():
            if language not in attempt.tried:
                return _in(language, decoded, heard) if probability >= self._settings.least_next else None
        return None

    def _compared(self, decoded: Decoded, rival: Rival) -> tuple[Decoded, Spoken | None, Attempt | None]:
        tried = decoded.attempt.tried
        taken = decoded if self._is_better(decoded, rival) else rival.decoded
        attempt = replace(taken.attempt, rival=None, tried=tried)
        return self._settled(replace(taken, attempt=attempt), rival.heard)

    def _is_better(self, decoded: Decoded, rival: Rival) -> bool:
        if self._judge.disbelief(decoded) or decoded.hypothesis.is_cut_off:  # out of room: it ran in circles
            return False
        logprob = decoded.hypothesis.avg_logprob
        if self._judge.disbelief(rival.decoded):
            return logprob >= self._settings.least_next_avg_logprob
        was_likelier = _likeliest(rival.heard) == rival.decoded.attempt.language
        margin = self._settings.rival_margin if was_likelier else 0.0
        return logprob > rival.decoded.hypothesis.avg_logprob + margin

    def _is_sure_of(self, decoded: Decoded) -> bool:
        """Whether both text and language leave no doubt that there is nothing else in the sound."""
        language = decoded.hypothesis.languages.get(decoded.attempt.language, 1.0)
        hypothesis, settings = decoded.hypothesis, self._settings
        weakest = hypothesis.avg_logprob if hypothesis.weakest_avg_logprob is None else hypothesis.weakest_avg_logprob
        is_likely = (
            hypothesis.avg_logprob >= settings.sure_avg_logprob and weakest >= settings.sure_utterance_avg_logprob
        )
        return is_likely and language >= self._settings.sure_language

    def of_all_of(self, decoded: Decoded) -> Spoken:
        """Return what is known of the language of a stretch that is going to be heard in parts."""
        attempt = decoded.attempt
        heard = decoded.hypothesis.languages or self._detector.in_own_window(attempt)
        probability = among(heard, self._choice.allowed)[attempt.language]
        return Spoken(attempt.language, round(probability, 4), start=attempt.start, is_whole=attempt.is_whole)

    def _settled(self, decoded: Decoded, heard: Probabilities) -> tuple[Decoded, Spoken | None, Attempt | None]:
        attempt = decoded.attempt
        probability = among(heard, self._choice.allowed | {attempt.language})[attempt.language]
        tells = attempt.is_whole or attempt.duration >= self._settings.least_told_s
        other = self._other(attempt.language, heard) if tells else ""
        spoken = Spoken(attempt.language, round(probability, 4), other, attempt.start, attempt.is_whole)
        settled = replace(attempt, tried=attempt.tried or (attempt.language,))
        return replace(decoded, attempt=settled), spoken, None

    def _other(self, language: str, heard: Probabilities) -> str:
        """What is spoken instead of the language of the text, if it is clearly not that; else nothing."""
        other = _likeliest(heard)
        if other != language and heard[other] >= self._settings.clear:
            return other
        is_unlikely = heard.get(language, 0.0) < self._settings.least_own
        return UNKNOWN if is_unlikely and not self._choice.is_fixed else ""


def _in(language: str, decoded: Decoded, heard: Probabilities) -> Attempt:
    """An attempt at the same in another language."""
    attempt = decoded.attempt
    return replace(
        attempt,
        before=None,
        language=language,
        rival=Rival(decoded, heard),
        tried=(*(attempt.tried or (attempt.language,)), language),
    )


def _likeliest(probabilities: Probabilities) -> str:
    return max(probabilities, key=lambda language: probabilities[language])
