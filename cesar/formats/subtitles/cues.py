"""A transcript as subtitle cues: short enough to be read in two lines, and on screen while they are spoken.

The limits are those of the Netflix Timed Text Style Guide (42 characters, two lines, 5/6 to 7 seconds, at most 20
characters per second). layout.py finds where a text can be split; this module decides how many cues it is split into,
and when each is shown.

A sentence has its own cues, unless there is no time to read them: then it is merged with an adjacent one. Speech too
fast to read, without a pause, stays too fast: no word is omitted.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from cesar.errors import UsageError
from cesar.formats.sentence_joins import spoken_segments
from cesar.formats.subtitles.layout import BreakableText, divide, prepare
from cesar.formats.timecode import milliseconds
from cesar.formats.typography import columns, flatten, join_texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cesar.transcript import Segment, Transcript

MIN_DURATION_S = 5 / 6
"""Shorter cues are shown this long, if no other follows."""
MIN_VISIBLE_S = 0.7
"""A cue shown for less than this is merged with its neighbour."""
READING_SPEED = 20
"""Columns per second; full-width characters count as two, and the end of a line as one."""
MAX_CLOSED_GAP_S = 0.2
"""A gap between two cues shorter than this is closed."""

CUE_COST = 0.75
"""More than half the raggedness of a full cue: two cues are never better where one is enough, but in a long text an
additional one may be, for better breaks."""
BREAK_FACTOR = 1.5
"""A break between cues is more disturbing than one between lines."""
OVERTIME_COST = 5.0
"""For each multiple of the maximum duration that a cue exceeds: more than another cue costs, so that it is split."""
MIN_SPLIT_COLUMNS = 20
"""Columns. Slow speech with less text than this stays one cue: "Thank" and "you" should not be separate cues."""
_EDGE_S = 1e-6
LONGEST_PAUSE_S = 1.0
"""Segments separated by more than this never share a cue."""
PAUSE_GAIN = 0.2
"""The reduction of a break's cost by a pause of that length."""
MERGING_COST = 2.0
"""For each border between two segments within a cue."""
TOO_SHORT_COST = 2.5
"""For a cue that is not shown long enough to be read ..."""
TOO_SHORT_COST_PER_S = 6.0
"""... and for each second that is missing."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit on subtitles, with its default and range, for the command line, the service and the library."""

    default: float
    minimum: int
    maximum: int
    what: str
    help: str

    def check(self, value: object, kinds: type | tuple[type, ...]) -> None:
        """Raise `UsageError` unless the value is of one of these types and within the range."""
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        if not is_number or not self.minimum <= value <= self.maximum:  # type: ignore[operator]
            raise UsageError(
                f"subtitles can't have {value!r} {self.what}", hint=f"Use {self.minimum} to {self.maximum}."
            )


LINE_LENGTH = Limit(42, 10, 250, "characters in a line", "columns in a line; full-width characters take two")
LINES = Limit(2, 1, 10, "lines in a cue", "lines in a cue")
CUE_DURATION = Limit(7.0, 1, 60, "seconds for a cue", "seconds a cue is on screen")


@dataclass(frozen=True, slots=True)
class SubtitleOptions:
    """Limits on subtitles. Raises `UsageError` for invalid values."""

    max_line_length: int = int(LINE_LENGTH.default)
    """Columns per line, 10 to 250; full-width characters take two."""
    max_lines: int = int(LINES.default)
    """Lines per cue, 1 to 10."""
    max_cue_duration_s: float = CUE_DURATION.default
    """Maximum seconds that a cue is shown, 1 to 60."""

    def __post_init__(self) -> None:
        LINE_LENGTH.check(self.max_line_length, int)
        LINES.check(self.max_lines, int)
        CUE_DURATION.check(self.max_cue_duration_s, (int, float))


@dataclass(frozen=True, slots=True)
class Cue:
    """The lines on screen from start to end (in seconds, rounded to milliseconds)."""

    start: float
    end: float
    lines: tuple[str, ...]
    """Neither the tuple nor a line in it is empty."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Consecutive segments without a long pause between them, ready to be split into cues."""

    breakable: BreakableText
    times: Sequence[tuple[float, float]]
    """Start and end of each character of the text."""
    seams: Sequence[int]
    """Where the second and further segments begin in the text."""
    free_until: float
    """When the next block begins, or the recording ends."""


def cues(transcript: Transcript, options: SubtitleOptions | None = None) -> list[Cue]:
    """Split the segments into cues, in order, that never overlap and are never empty.

    A cue begins with its first word. It ends with its last one, or later, in the silence after it, to allow time for
    reading. If there is no silence, it is merged with the preceding or following segment.
    """
    options = options or SubtitleOptions()
    end = max([transcript.duration, *(segment.end for segment in transcript.segments)])
    drafts = [
        Cue(block.times[start][0], block.times[block.breakable.end_of(stop) - 1][1], block.breakable.lines(start, stop))
        for block in _blocks(transcript, options, end)
        for start, stop in _divide(block, options)
    ]
    return _finish(drafts, end, options)


def _blocks(transcript: Transcript, options: SubtitleOptions, end: float) -> Iterator[_Block]:
    speech = [(span.start, span.end) for span in transcript.ledger if span.kind == "speech"]
    groups: list[list[Segment]] = []
    for segment in spoken_segments(transcript):
        before = groups[-1][-1] if groups else None
        is_near = before is not None and segment.start - before.end <= LONGEST_PAUSE_S
        if is_near and before is not None and before.language == segment.language:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    starts = [*(group[0].start for group in groups), end]
    for group, free_until in zip(groups, starts[1:], strict=True):
        yield _block(group, transcript.language_of(group[0]), options, speech, free_until)


def _block(
    segments: Sequence[Segment],
    language: str,
    options: SubtitleOptions,
    speech: Sequence[tuple[float, float]],
    free_until: float,
) -> _Block:
    text, seams, times = "", list[int](), list[tuple[float, float]]()
    for segment in segments:
        own = flatten(segment.text)
        joined = join_texts([text, own])
        begin = len(joined) - len(own)
        if text:
            seams.append(begin)
            times += [(times[-1][1], segment.start)] * (begin - len(text))
        text = joined
        times += character_times(own, segment, _spoken(segment, speech))
    return _Block(prepare(text, language, options.max_line_length, seams), times, seams, free_until)


def character_times(
    text: str, segment: Segment, speech: Sequence[tuple[float, float]] = ()
) -> list[tuple[float, float]]:
    """Return the start and end of each character of the segment's flattened text.

    Words are looked up in order. The time of a word is distributed evenly over its characters, and likewise the time
    between words. Without words, the time of the speech (start and end of each stretch, within the segment) is
    distributed over all characters; silence is not.
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
    """Return the stretches of speech within a segment, the first and last extended to its ends."""
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
    """Distribute the time of the stretches evenly over the characters; spaces get none."""
    share = sum(end - start for start, end in stretches) / max(1, len(text) - text.count(" "))
    edges = [share * count for count in accumulate((char != " " for char in text), initial=0)]
    return [(_time_at(a, stretches, at_end=False), _time_at(b, stretches, at_end=True)) for a, b in pairwise(edges)]


def _time_at(seconds: float, stretches: Sequence[tuple[float, float]], *, at_end: bool) -> float:
    """Return the time after so many seconds of the stretches; at an edge, the end of one or the start of the next."""
    for start, end in stretches:
        length = end - start
        if seconds < length - _EDGE_S or (at_end and seconds <= length + _EDGE_S):
            return min(start + max(0.0, seconds), end)
        seconds -= length
    return stretches[-1][1]


def _divide(block: _Block, options: SubtitleOptions) -> list[tuple[int, int]]:
    breakable, times = block.breakable, block.times
    capacity = options.max_line_length * options.max_lines
    text_end = breakable.stops[-1]

    def cost(start: int, stop: int) -> float:
        if not breakable.fits(start, stop, options.max_lines):
            return math.inf
        width = breakable.width(start, stop)
        start_s, end_s = times[start][0], times[breakable.end_of(stop) - 1][1]
        next_s = times[stop][0] if stop < text_end else block.free_until
        pause_s = next_s - end_s if stop < text_end else 0.0
        borders = bisect_left(block.seams, stop) - bisect_right(block.seams, start)
        overtime = math.ceil(round(end_s - start_s, 3) / options.max_cue_duration_s) - 1
        return (
            CUE_COST
            + OVERTIME_COST * max(0, min(overtime, max(borders, width // MIN_SPLIT_COLUMNS)))
            + (width / capacity) ** 2
            + BREAK_FACTOR * breakable.costs[stop]
            - PAUSE_GAIN * min(pause_s / LONGEST_PAUSE_S, 1.0)
            + MERGING_COST * borders
            + _too_short_cost(width, min(next_s - start_s, options.max_cue_duration_s))
        )

    return divide(breakable.stops, cost)


def _too_short_cost(width: int, shown_s: float) -> float:
    missing_s = max(MIN_VISIBLE_S, width / READING_SPEED) - shown_s
    return TOO_SHORT_COST + TOO_SHORT_COST_PER_S * missing_s if missing_s > _EDGE_S else 0.0


def _finish(drafts: list[Cue], end_of_recording: float, options: SubtitleOptions) -> list[Cue]:
    """Round the times to milliseconds without overlap; keep short cues on screen while nothing follows."""
    finished: list[Cue] = []
    clock, end_ms = 0, milliseconds(end_of_recording)
    starts = [*(milliseconds(draft.start) for draft in drafts), end_ms]
    for index, draft in enumerate(drafts):
        latest_end = end_ms - (len(drafts) - 1 - index)  # leaves a millisecond for each remaining cue
        start = max(clock, min(starts[index], latest_end - 1))
        longest = start + milliseconds(options.max_cue_duration_s)
        end = min(_display_end(start, draft, starts[index + 1]), starts[index + 1], longest, latest_end)
        clock = max(start + 1, end)
        finished.append(Cue(start / 1000, clock / 1000, draft.lines))
    return finished


def _display_end(start_ms: int, draft: Cue, next_start_ms: int) -> int:
    width = sum(columns(line)[-1] for line in draft.lines) + len(draft.lines) - 1
    reading_ms = max(milliseconds(MIN_DURATION_S), math.ceil(1000 * width / READING_SPEED))
    wanted = max(milliseconds(draft.end), start_ms + reading_ms)
    return next_start_ms if next_start_ms - wanted < milliseconds(MAX_CLOSED_GAP_S) else wanted
