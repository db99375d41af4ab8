"""A transcript as subtitle cues: short enough to be read in two lines, and on screen while they are spoken.

The measures are those of the Netflix Timed Text Style Guide (42 characters, two lines, 5/6 to 7 seconds, at
most 20 characters a second). Where a text can be cut is layout.py's business; into how many cues it is, and
when each is shown, is decided here.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from cesar.errors import UsageError
from cesar.formats.layout import Copy, divide, prepare
from cesar.formats.timecode import milliseconds
from cesar.formats.typography import columns, flatten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cesar.transcript import Segment, Transcript

MIN_DURATION_S = 5 / 6
"""Shorter cues flash by: they stay this long, if no other follows."""
READING_SPEED = 20
"""Columns a second; full-width characters count two."""
FLICKER_S = 0.2
"""A gap between two cues shorter than this is closed."""

CUE_COST = 0.75
"""More than half the raggedness of a full cue: two where one will do never pay, but in a long text one more
may, for the sake of better breaks."""
BREAK_FACTOR = 1.5
"""A break between cues disturbs more than one between lines."""
OVERTIME_COST = 5.0
"""For each time that a cue goes over the longest duration: more than another cue costs, so that it is cut."""
WORTH_CUTTING = 20
"""Columns. Slow speech with less text than this stays one cue: nobody needs "Thank" and then "you"."""
_EDGE_S = 1e-6
LONGEST_PAUSE_S = 1.0
PAUSE_GAIN = 0.2
"""What a pause of that length takes off the cost of a break in it."""


@dataclass(frozen=True, slots=True)
class Cue:
    """What is on screen from start to end (seconds, in whole milliseconds)."""

    start: float
    end: float
    lines: tuple[str, ...]
    """Neither the tuple nor a line in it is empty."""


@dataclass(frozen=True, slots=True)
class _Limits:
    line_length: int
    lines: int
    duration_s: float


def cues(
    transcript: Transcript, *, max_line_length: int = 42, max_lines: int = 2, max_duration_s: float = 7.0
) -> list[Cue]:
    """Cut the segments into cues that follow one another and never overlap; none is empty or takes no time.

    `max_line_length` is in columns: full-width characters count two, so a line holds 21 of them. A cue lies
    within its segment; only its end may move past it, into silence, where there would be no time to read it.

    Raises `UsageError` for limits that no text can keep.
    """
    if max_line_length < 2 or max_lines < 1 or max_duration_s <= 0:
        raise UsageError("subtitles need at least one line of two columns, and some time")
    limits = _Limits(max_line_length, max_lines, max_duration_s)
    speech = [(span.start, span.end) for span in transcript.ledger if span.kind == "speech"]
    drafts = [
        cue
        for segment in transcript.segments
        for cue in _cut(segment, transcript.text_language, limits, _spoken(segment, speech))
    ]
    end = max([transcript.duration, *(segment.end for segment in transcript.segments)])
    return _settle(drafts, end, limits)


def character_times(
    text: str, segment: Segment, speech: Sequence[tuple[float, float]] = ()
) -> list[tuple[float, float]]:
    """Give the start and end of each character of the segment's flattened text.

    Words are looked up in their order. The characters of a word share its time evenly, and so do those of the
    text between the words found. Without words, all characters share the time of the speech (start and end of
    each stretch, within the segment), and the silence between goes to none.
    """
    if not segment.words:
        return _spread(text, speech or [(segment.start, max(segment.start, segment.end))])
    times: list[tuple[float, float]] = []
    clock, end = segment.start, max(segment.start, segment.end)
    for word in segment.words:
        wording = flatten(word.text)
        at = text.find(wording, len(times))
        if wording and at >= 0:
            word_start = min(max(clock, word.start), end)
            word_end = min(max(word_start, word.end), end)
            times += _spread(text[len(times) : at], [(clock, word_start)])
            times += _spread(wording, [(word_start, word_end)])
            clock = word_end
    return times + _spread(text[len(times) :], [(clock, end)])


def _spoken(segment: Segment, speech: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The stretches of speech inside a segment, the first and the last stretched to its ends."""
    first = max(0, bisect_right(speech, (segment.start, segment.start)) - 1)
    inside: list[tuple[float, float]] = []
    for start, end in speech[first:]:
        if start >= segment.end:
            break
        if end > segment.start:
            inside.append((start, end))
    if inside:
        inside[0] = (segment.start, inside[0][1])
        inside[-1] = (inside[-1][0], segment.end)
    return inside


def _spread(text: str, stretches: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Share out the time of the stretches to the characters evenly; blanks take none."""
    share = sum(end - start for start, end in stretches) / max(1, len(text) - text.count(" "))
    edges = [share * count for count in accumulate((char != " " for char in text), initial=0)]
    return [(_moment(a, stretches, at_end=False), _moment(b, stretches, at_end=True)) for a, b in pairwise(edges)]


def _moment(seconds: float, stretches: Sequence[tuple[float, float]], *, at_end: bool) -> float:
    """When so many seconds of the stretches are over; at an edge, the end of the one or the start of the next."""
    for start, end in stretches:
        length = end - start
        if seconds < length - _EDGE_S or (at_end and seconds <= length + _EDGE_S):
            return min(start + max(0.0, seconds), end)
        seconds -= length
    return stretches[-1][1]


def _cut(segment: Segment, language: str, limits: _Limits, speech: Sequence[tuple[float, float]]) -> list[Cue]:
    """Cut one segment into cues with its own times, not yet rounded."""
    text = flatten(segment.text)
    if not text:
        return []
    copy = prepare(text, language, limits.line_length)
    times = character_times(text, segment, speech)
    return [
        Cue(times[start][0], times[copy.end_of(stop) - 1][1], copy.lines(start, stop))
        for start, stop in _divide(copy, times, limits)
    ]


def _divide(copy: Copy, times: list[tuple[float, float]], limits: _Limits) -> list[tuple[int, int]]:
    capacity = limits.line_length * limits.lines
    text_end = copy.stops[-1]

    def cost(start: int, stop: int) -> float:
        if not copy.fits(start, stop, limits.lines):
            return math.inf
        width = copy.width(start, stop)
        start_s, end_s = times[start][0], times[copy.end_of(stop) - 1][1]
        pause_s = times[stop][0] - end_s if stop < text_end else 0.0
        overtime = math.ceil(round(end_s - start_s, 3) / limits.duration_s) - 1
        return (
            CUE_COST
            + OVERTIME_COST * max(0, min(overtime, width // WORTH_CUTTING))
            + (width / capacity) ** 2
            + BREAK_FACTOR * copy.costs[stop]
            - PAUSE_GAIN * min(pause_s / LONGEST_PAUSE_S, 1.0)
        )

    return divide(copy.stops, cost)


def _settle(drafts: list[Cue], end_of_recording: float, limits: _Limits) -> list[Cue]:
    """Round the times to milliseconds without overlap; keep short cues on screen while nothing follows."""
    settled: list[Cue] = []
    clock, end_ms = 0, milliseconds(end_of_recording)
    starts = [*(milliseconds(draft.start) for draft in drafts), end_ms]
    for index, draft in enumerate(drafts):
        latest_end = end_ms - (len(drafts) - 1 - index)  # a millisecond is kept for each cue still to come
        start = max(clock, min(starts[index], latest_end - 1))
        longest = start + milliseconds(limits.duration_s)
        end = min(_wanted_end(start, draft, starts[index + 1]), starts[index + 1], longest, latest_end)
        clock = max(start + 1, end)
        settled.append(Cue(start / 1000, clock / 1000, draft.lines))
    return settled


def _wanted_end(start_ms: int, draft: Cue, next_start_ms: int) -> int:
    reading_s = sum(columns(line)[-1] for line in draft.lines) / READING_SPEED
    wanted = max(milliseconds(draft.end), start_ms + milliseconds(max(MIN_DURATION_S, reading_s)))
    return next_start_ms if next_start_ms - wanted < milliseconds(FLICKER_S) else wanted
