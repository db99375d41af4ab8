"""Splits text into parts and lines, minimising the total cost of breaks and raggedness.

The method is that of Knuth and Plass, "Breaking Paragraphs into Lines" (1981), with costs for subtitles. This module
knows no times.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cesar.formats.subtitles.line_breaks import BETWEEN_WORDS, break_costs
from cesar.formats.typography import columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

LINE_COST = 1000.0
"""More than any choice of breaks can save: the fewest lines always win."""
TOP_LINE_FACTOR = 1.1
"""Makes upper lines a little shorter than the bottom one, which hides less of the picture."""


@dataclass(frozen=True, slots=True)
class BreakableText:
    """A flattened text that is ready to be split. Positions are indices into `text`."""

    text: str
    line_length: int
    """In columns; see `typography.columns`."""
    widths: Sequence[int]
    """The width of text[:i] for each i."""
    costs: dict[int, float]
    """The cost of a break at each allowed position."""
    stops: Sequence[int]
    """0 and all allowed positions, in order; the last is the end of the text."""
    reach: dict[int, int]
    """For each stop, the last one that fits on a line that starts there."""

    def end_of(self, stop: int) -> int:
        """Return the index after the last character before a stop, without the space that a break replaces."""
        return stop - 1 if self.text[stop - 1] == " " else stop

    def width(self, start: int, stop: int) -> int:
        """Return the width of the text from one stop to another, in columns."""
        return self.widths[self.end_of(stop)] - self.widths[start]

    def fits(self, start: int, stop: int, max_lines: int) -> bool:
        """Return whether the text between two stops fits in that many lines."""
        for _ in range(max_lines):
            start = self.reach[start]
            if start >= stop:
                return True
        return False

    def lines(self, start: int, stop: int) -> tuple[str, ...]:
        """Split the text between two stops into as few lines as possible, balanced, with the best breaks."""

        def cost(begin: int, end: int) -> float:
            width = self.width(begin, end)
            if width > self.line_length:
                return math.inf
            raggedness = (width / self.line_length) ** 2
            return LINE_COST + raggedness * (1 if end == stop else TOP_LINE_FACTOR) + self.costs[end]

        stops = self.stops[bisect_left(self.stops, start) : bisect_right(self.stops, stop)]
        return tuple(self.text[begin : self.end_of(end)] for begin, end in divide(stops, cost))


def prepare(text: str, language: str, line_length: int, seams: Iterable[int] = ()) -> BreakableText:
    """Measure flattened text and find where it may be broken; a break at a seam is always allowed."""
    widths = columns(text)
    costs = dict.fromkeys(seams, BETWEEN_WORDS) | break_costs(text, language, line_length)
    stops = [0, *sorted(costs)]
    # The width of the text up to each stop, without the space that a break there replaces.
    ends = [widths[stop - 1] if text[stop - 1] == " " else widths[stop] for stop in stops]
    reach = {start: stops[bisect_right(ends, widths[start] + line_length) - 1] for start in stops}
    return BreakableText(text, line_length, widths, costs, stops, reach)


def divide(stops: Sequence[int], cost: Callable[[int, int], float]) -> list[tuple[int, int]]:
    """Return the steps from the first stop to the last with the lowest total cost.

    An infinite cost forbids a step and every longer one with the same end. Steps from one stop to the next
    must be allowed.
    """
    cheapest = {stops[0]: 0.0}
    came_from: dict[int, int] = {}
    for position, end in enumerate(stops[1:], start=1):
        cheapest[end] = math.inf
        for earlier in range(position - 1, -1, -1):
            start = stops[earlier]
            step = cost(start, end)
            if step == math.inf:
                break
            if cheapest[start] + step < cheapest[end]:
                cheapest[end], came_from[end] = cheapest[start] + step, start
    steps = [(came_from[stops[-1]], stops[-1])]
    while steps[-1][0] != stops[0]:
        start = steps[-1][0]
        steps.append((came_from[start], start))
    return steps[::-1]
