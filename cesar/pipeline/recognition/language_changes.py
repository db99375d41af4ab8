"""Where the language changes within a chunk.

Text in one language for sound in two is improbable, wrong, or lacks the second half. So only chunks with such text are
examined. Their encoding exists already, and a query about a part of it costs one step of the decoder. The answer is
vague, though: clear English may look like a bit of everything beside a German sentence. So a change is where one
language begins or ends, whatever the other is. It is only a proposal: the caller verifies both sides separately.
Pure, except that it queries the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from cesar.pipeline.recognition.decoding_passes import Attempt
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.vad import speech_between

LanguageOfPart = Callable[[float, float], Mapping[str, float]]
"""The probability of each language in a part of a window, in seconds from its start."""


@dataclass(frozen=True, slots=True)
class ChangeSettings:
    """How changes are searched for."""

    min_s: float = 5.0
    """Shorter stretches are not searched."""
    overview_window_s: float = 5.0
    """First a few adjacent windows of this length are queried…"""
    sure: float = 0.9
    """…and if each is in the language of the text with this probability, there is no change."""
    window_s: float = 2.5
    step_s: float = 1.25
    min_speech_s: float = 1.2
    """A window with less speech is not queried."""
    floor: float = 0.02
    """Probabilities are clamped to this: a single window may be certain and wrong."""
    reach_s: float = 5.0
    """How much is compared on either side of a cut: beyond it there may be another change."""
    min_gain: float = 1.5
    """Minimum log-likelihood ratio of a change to no change."""
    min_part_s: float = 1.0
    quietest_s: float = 0.1
    max_cuts: int = 10
    """Maximum number of places compared: pauses, and the quietest moments where there are few."""
    max_results: int = 3


@dataclass(frozen=True, slots=True)
class Change:
    """A place where a language probably begins or ends."""

    at: int
    """In samples from the start of the recording."""
    language: str
    begins: bool
    """Whether the language is spoken from here on; otherwise, up to here."""
    gain: float
    """Log-likelihood ratio of the change."""


@dataclass(frozen=True, slots=True)
class _WindowLanguage:
    middle: float
    probabilities: Mapping[str, float]


def likely_changes(
    attempt: Attempt, language_of: LanguageOfPart, settings: ChangeSettings | None = None
) -> list[Change]:
    """Return the places where the language probably changes, the likeliest first."""
    settings = settings or ChangeSettings()
    if attempt.duration < settings.min_s or _is_monolingual(attempt, language_of, settings):
        return []
    windows = [
        _WindowLanguage((start + end) / 2, language_of(start, end))
        for start, end in _windows(attempt.duration, settings)
        if _speech_s(attempt, start, end) >= settings.min_speech_s
    ]
    languages = sorted({max(one.probabilities, key=lambda code: one.probabilities[code]) for one in windows})
    found = [
        change
        for cut in _places(attempt, settings)
        for language in languages
        if (change := _change(attempt, cut, language, windows, settings)).gain >= settings.min_gain
    ]
    best = _best_by_place(found)[: settings.max_results]
    return _best_by_place([_refined(change, attempt, language_of, settings) for change in best])


def _best_by_place(changes: Sequence[Change]) -> list[Change]:
    """Return the changes, the likeliest first, at most one at each place."""
    ordered = sorted(changes, key=lambda change: (-change.gain, change.at, change.language))
    return [change for at, change in enumerate(ordered) if all(change.at != other.at for other in ordered[:at])]


def _refined(change: Change, attempt: Attempt, language_of: LanguageOfPart, settings: ChangeSettings) -> Change:
    """Add the evidence of the two windows that end and begin at the change."""
    cut = (change.at - attempt.start) / SAMPLE_RATE
    before = _WindowLanguage(cut, language_of(max(0.0, cut - settings.window_s), cut))
    after = _WindowLanguage(cut, language_of(cut, min(cut + settings.window_s, attempt.duration)))
    inside, outside = (after, before) if change.begins else (before, after)
    is_it, is_not = (_evidence([one], change.language, settings) for one in (inside, outside))
    return replace(change, gain=change.gain + is_it[0] + is_not[1])


def _is_monolingual(attempt: Attempt, language_of: LanguageOfPart, settings: ChangeSettings) -> bool:
    length = settings.overview_window_s
    starts = [*np.arange(0, attempt.duration - length, length).tolist(), max(0.0, attempt.duration - length)]
    parts = [(start, min(start + length, attempt.duration)) for start in starts]
    with_speech = [part for part in parts if _speech_s(attempt, *part) >= settings.min_speech_s]
    return all(language_of(*part).get(attempt.language, 0.0) >= settings.sure for part in with_speech)


def _windows(duration: float, settings: ChangeSettings) -> list[tuple[float, float]]:
    last = max(0.0, duration - settings.window_s)
    starts = [*np.arange(0, last - settings.step_s / 2, settings.step_s).tolist(), last]
    return [(start, min(start + settings.window_s, duration)) for start in starts]


def _speech_s(attempt: Attempt, start: float, end: float) -> float:
    first, past = (attempt.start + int(time * SAMPLE_RATE) for time in (start, end))
    return speech_between(attempt.sound.chunk.regions, first, past)


def _change(
    attempt: Attempt, cut: float, language: str, windows: Sequence[_WindowLanguage], settings: ChangeSettings
) -> Change:
    """Compare a begin or end of the language at the cut with its presence on both sides, or on neither."""
    near = [one for one in windows if abs(one.middle - cut) <= settings.reach_s]
    before = _evidence([one for one in near if one.middle < cut], language, settings)
    after = _evidence([one for one in near if one.middle >= cut], language, settings)
    ends, begins = before[0] + after[1], before[1] + after[0]
    stays, is_absent = before[0] + after[0], before[1] + after[1]
    overlap = settings.step_s / settings.window_s  # windows overlap, so each moment counts more than once
    gain = (max(ends, begins) - max(stays, is_absent)) * overlap
    return Change(attempt.start + round(cut * SAMPLE_RATE), language, begins > ends, gain)


def _evidence(windows: Sequence[_WindowLanguage], language: str, settings: ChangeSettings) -> tuple[float, float]:
    """Return the log-probabilities that all windows are in the language, and that none is."""
    likely = [one.probabilities.get(language, 0.0) for one in windows]
    return (
        sum(math.log(max(probability, settings.floor)) for probability in likely),
        sum(math.log(max(1 - probability, settings.floor)) for probability in likely),
    )


def _places(attempt: Attempt, settings: ChangeSettings) -> list[float]:
    """Return the longest pauses, in seconds from the start of the attempt; if there are few, quiet moments too."""
    first, last = settings.min_part_s, attempt.duration - settings.min_part_s
    regions = [r for r in attempt.sound.chunk.regions if r.start < attempt.end and r.end > attempt.start]
    pauses = [
        ((left.end + right.start) / 2 - attempt.start, right.start - left.end) for left, right in pairwise(regions)
    ]
    within = [(at / SAMPLE_RATE, length) for at, length in pauses if first <= at / SAMPLE_RATE <= last]
    longest = sorted(within, key=lambda pause: -pause[1])[: settings.max_cuts]
    places = [at for at, _ in longest]
    for at in _quiet_moments(attempt, first, last, settings):
        if len(places) >= settings.max_cuts:
            break
        if all(abs(at - other) >= settings.min_part_s for other in places):
            places.append(at)
    return sorted(places)


def _quiet_moments(attempt: Attempt, first: float, last: float, settings: ChangeSettings) -> Iterator[float]:
    """Return the middles of short windows, the quietest first."""
    size = round(settings.quietest_s * SAMPLE_RATE)
    begin = int(first * SAMPLE_RATE)
    samples = attempt.samples[begin : int(last * SAMPLE_RATE)]
    count = len(samples) // size
    energies = np.square(samples[: count * size].reshape(count, size)).mean(axis=1)
    return ((begin + (int(index) + 0.5) * size) / SAMPLE_RATE for index in np.argsort(energies, kind="stable"))
