"""Where the language changes within a chunk: a few seconds at a time are asked about, and the chunk is cut there.

One text for a chunk in two languages is wrong in at least one of them, and the model is unsure of it. So only chunks
with such a text are looked into. The encoding is there already, so that asking about a part of it costs one step of
the decoder. Pure but for asking the model, and about nothing but the chunk's own sound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cesar.pipeline.attempts import Attempt
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.vad import speech_between

LanguageOfPart = Callable[[float, float], Mapping[str, float]]
"""The probability of each language in a part of a window, in seconds from its start."""


@dataclass(frozen=True, slots=True)
class ChangeSettings:
    """How a change is looked for."""

    least_s: float = 6.0
    """Shorter sounds are not looked into."""
    window_s: float = 5.0
    step_s: float = 2.5
    least_speech_s: float = 1.5
    """With less speech in it a window tells nothing."""
    sure: float = 0.8
    """A window less sure than this tells nothing."""
    beside_s: float = 2.5
    """On both sides of a cut, so much is compared."""
    least_part_s: float = 1.0
    quietest_s: float = 0.1
    most_cuts: int = 8
    """Places that are compared: pauses, and where there are none, the quietest moments."""


@dataclass(frozen=True, slots=True)
class _Told:
    start: float
    end: float
    language: str


def find_change(attempt: Attempt, language_of: LanguageOfPart, settings: ChangeSettings | None = None) -> int | None:
    """Return where the first change of language is, in samples from the recording's start; None: there is none."""
    settings = settings or ChangeSettings()
    if attempt.duration < settings.least_s:
        return None
    told = list(_told(attempt, language_of, settings))
    for before, after in pairwise(told):
        if before.language != after.language:
            return _cut_between(attempt, before, after, language_of, settings)
    return None


def _told(attempt: Attempt, language_of: LanguageOfPart, settings: ChangeSettings) -> Iterator[_Told]:
    """The windows that leave little doubt."""
    for start, end in _windows(attempt.duration, settings):
        first, past = (attempt.start + int(time * SAMPLE_RATE) for time in (start, end))
        if speech_between(attempt.sound.chunk.regions, first, past) < settings.least_speech_s:
            continue
        language, probability = max(language_of(start, end).items(), key=lambda item: item[1])
        if probability >= settings.sure:
            yield _Told(start, end, language)


def _windows(duration: float, settings: ChangeSettings) -> list[tuple[float, float]]:
    """In order; with a shorter one at both ends, where a few words in another language are one side of a change."""
    whole = settings.window_s
    starts = [*np.arange(0, duration - whole, settings.step_s).tolist(), max(0.0, duration - whole)]
    inner = [(start, min(start + whole, duration)) for start in starts]
    return [(0.0, settings.beside_s), *inner, (duration - settings.beside_s, duration)]


def _cut_between(
    attempt: Attempt, before: _Told, after: _Told, language_of: LanguageOfPart, settings: ChangeSettings
) -> int | None:
    """The place at which what comes before is most clearly in one language, and what follows in the other."""

    def clearness(cut: float) -> float:
        earlier = language_of(max(0.0, cut - settings.beside_s), cut).get(before.language, 0.0)
        later = language_of(cut, min(cut + settings.beside_s, attempt.duration)).get(after.language, 0.0)
        return earlier * later

    first = max(before.start + settings.least_part_s, settings.least_part_s)
    last = min(after.end - settings.least_part_s, attempt.duration - settings.least_part_s)
    cuts = _places(attempt, first, last, settings)
    if not cuts:
        return None
    return attempt.start + round(max(cuts, key=clearness) * SAMPLE_RATE)


def _places(attempt: Attempt, first: float, last: float, settings: ChangeSettings) -> list[float]:
    """The longest pauses of the speech in that stretch; where there are few, its quietest moments too."""
    regions = attempt.sound.chunk.regions
    pauses = [
        ((left.end + right.start) / 2 - attempt.start, right.start - left.end) for left, right in pairwise(regions)
    ]
    within = [(at / SAMPLE_RATE, length) for at, length in pauses if first <= at / SAMPLE_RATE <= last]
    longest = sorted(within, key=lambda pause: -pause[1])[: settings.most_cuts]
    places = [at for at, _ in longest]
    for at in _quiet_moments(attempt, first, last, settings):
        if len(places) >= settings.most_cuts:
            break
        if all(abs(at - other) >= settings.least_part_s / 2 for other in places):
            places.append(at)
    return sorted(places)


def _quiet_moments(attempt: Attempt, first: float, last: float, settings: ChangeSettings) -> list[float]:
    """The middles of short windows, the quietest first."""
    size = round(settings.quietest_s * SAMPLE_RATE)
    begin = int(first * SAMPLE_RATE)
    samples = attempt.samples[begin : int(last * SAMPLE_RATE)]
    count = len(samples) // size
    energies = np.square(samples[: count * size].reshape(count, size)).mean(axis=1)
    return [(begin + (int(index) + 0.5) * size) / SAMPLE_RATE for index in np.argsort(energies, kind="stable")]
