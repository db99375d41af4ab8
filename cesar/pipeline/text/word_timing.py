"""Sixth stage: words get times that agree with what the detector heard.

Cross-attention tells where a word begins better than where it ends, and puts words into pauses: so starts are moved
out of silence, and ends come from the next word or from the end of the speech.
"""

from __future__ import annotations

from collections.abc import Sequence

from cesar.engines.base import TimedWord
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.vad import Region
from cesar.transcript import Word

_SHORTEST_S = 0.02
_LEAST_BEFORE_PAUSE_S = 0.1
"""No word starts in the last moment before a pause."""
_HANGOVER_S = 0.1
"""A word may go on this long after the detector heard the last of it."""


def place(words: Sequence[TimedWord], regions: Sequence[Region], *, start: float, end: float) -> list[Word]:
    """Return the words between start and end, in order, never overlapping, each at least 20 ms long.

    Words that share a moment share the time there is.
    """
    starts = _rising([_out_of_silence(word.start, regions) for word in words], start, end)
    placed: list[Word] = []
    for index, (word, begin) in enumerate(zip(words, starts, strict=True)):
        following = starts[index + 1] if index + 1 < len(starts) else end
        finish = min(following, max(_end_of_speech(begin, regions) + _HANGOVER_S, begin + _SHORTEST_S))
        placed.append(Word(round(begin, 3), round(finish, 3), word.text, round(word.probability, 4)))
    return placed


def _rising(times: Sequence[float], start: float, end: float) -> list[float]:
    """Clamp to start…end and leave each word its shortest length before the next begins."""
    room = max(0.0, end - start)
    step = min(_SHORTEST_S, room / (len(times) + 1))
    risen: list[float] = []
    for index, time in enumerate(times):
        earliest = risen[-1] + step if risen else start
        latest = end - step * (len(times) - index)
        risen.append(min(max(time, earliest), latest))
    return risen


def _out_of_silence(time: float, regions: Sequence[Region]) -> float:
    """Move a time that lies in a pause, or too close before one for a word, to where speech goes on."""
    for region in regions:
        if time < region.end / SAMPLE_RATE - _LEAST_BEFORE_PAUSE_S:
            return max(time, region.start / SAMPLE_RATE)
    return time


def _end_of_speech(time: float, regions: Sequence[Region]) -> float:
    """The end of the region that the time lies in."""
    for region in regions:
        if region.start / SAMPLE_RATE <= time < region.end / SAMPLE_RATE:
            return region.end / SAMPLE_RATE
    return time
