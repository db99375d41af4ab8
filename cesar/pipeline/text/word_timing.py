"""Sixth stage: word times that agree with the detected speech.

Cross-attention locates the start of a word better than its end, and places words in pauses. So starts are moved out of
silence, and ends come from the next word or the end of the speech.
"""

from __future__ import annotations

from collections.abc import Sequence

from cesar.engines.base import TimedWord
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.vad import Region
from cesar.transcript import Word

_MIN_DURATION_S = 0.02
_MIN_BEFORE_PAUSE_S = 0.1
"""No word starts this close before a pause."""
_HANGOVER_S = 0.1
"""A word may last this long after the end of the detected speech."""


def place(words: Sequence[TimedWord], regions: Sequence[Region], *, start: float, end: float) -> list[Word]:
    """Return the words between start and end, in order, never overlapping, each at least 20 ms long.

    Words at the same time share the available time.
    """
    starts = _rising([_out_of_silence(word.start, regions) for word in words], start, end)
    placed: list[Word] = []
    for index, (word, begin) in enumerate(zip(words, starts, strict=True)):
        following = starts[index + 1] if index + 1 < len(starts) else end
        finish = min(following, max(_end_of_speech(begin, regions) + _HANGOVER_S, begin + _MIN_DURATION_S))
        placed.append(Word(round(begin, 3), round(finish, 3), word.text, round(word.probability, 4)))
    return placed


def _rising(times: Sequence[float], start: float, end: float) -> list[float]:
    """Clamp to start…end, leaving each word its minimum length before the next begins."""
    room = max(0.0, end - start)
    step = min(_MIN_DURATION_S, room / (len(times) + 1))
    risen: list[float] = []
    for index, time in enumerate(times):
        earliest = risen[-1] + step if risen else start
        latest = end - step * (len(times) - index)
        risen.append(min(max(time, earliest), latest))
    return risen


def _out_of_silence(time: float, regions: Sequence[Region]) -> float:
    """Move a time in a pause, or too close before one, to where speech continues."""
    for region in regions:
        if time < region.end / SAMPLE_RATE - _MIN_BEFORE_PAUSE_S:
            return max(time, region.start / SAMPLE_RATE)
    return time


def _end_of_speech(time: float, regions: Sequence[Region]) -> float:
    """Return the end of the region around the time; the time itself if there is none."""
    for region in regions:
        if region.start / SAMPLE_RATE <= time < region.end / SAMPLE_RATE:
            return region.end / SAMPLE_RATE
    return time
