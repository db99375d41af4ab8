"""Timestamps against sound: where a frame belongs, when a hole is believed, and what is said of a broken clock.

The sound is what counts. A hole in the timestamps is filled with silence only where a recorder can have left it: it
was muted, or packets were lost. A clock that jumps by years, or that belongs to another recording, is followed no more.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

_GAP_S = 0.25
"""A hole longer than this is filled with silence, so that later times stay true."""
_LONGEST_HOLE_S = 6 * 3600.0
"""The longest time that somebody leaves a recorder muted."""
_MAX_FILLED_S = 24 * 3600.0
"""The most silence that is put into a recording: a few kilobytes of holes must not keep anybody busy for days."""
_LONGEST_SPLICE_S = 60.0
"""The longest hole in a broadcast stream that nothing else fills: there, a jump mostly means a joint of two."""
_SPLICED = frozenset({"mpegts", "mpegtsraw", "mpeg"})
_WITHOUT_HOLES = frozenset({"flac"})
"""Formats that count their frames: who records leaves no hole, so that one is a loss."""
_REPORTED_HOLE_S = 0.6
"""Shorter holes are not worth a warning. Codecs that send no silence leave up to 0.4 s between packets."""
_FILLED = 0.3
"""A hole of a broadcast stream is real if other sorts of packets fill it with this part of the usual bytes."""
_HELD_BACK_S = 2.0
"""Writers hold the last packet before a hole back until the next one: bytes are counted from this long before."""
_SLOWEST_CLOCK = 0.9
"""A clock that runs slower than this is broken; above, sound is squeezed to follow it."""
_MIN_REPORTED_S = 1.0
_MAX_REPORTED = 3


@dataclass(frozen=True, slots=True)
class Stamp:
    """A frame's time in seconds by the file's clock, its length, and where its packet lies in the file."""

    time: float
    length: float
    position: int | None = None


class Clock:
    """Says of each frame how much silence belongs before it (in seconds), or by how much the sound is too long."""

    def __init__(self, origin: float, kind: str, end: float | None, holes: Sequence[tuple[int, float]] = ()) -> None:
        """origin: where the recording begins by the file's clock. end: where it ends, if a header states it.

        holes: where in the file frames are missing without a trace in the timestamps, and how many they were.
        """
        self._holes = deque(holes)
        self._missing = 0.0
        """Seconds of frames that were missing so far."""
        self._origin = origin
        self._is_spliced = kind in _SPLICED
        self._end = end
        self._previous: Stamp | None = None
        self._anchor = 0.0, 0.0
        self._filled = 0.0
        self._places: deque[tuple[float, int]] = deque()
        """Seconds of sound and where they lie in the file, of the last moments."""
        self.shift = 0.0
        """What the file's clock is off by, after its jumps."""
        self._jumps: list[str] = []
        self._has_no_holes = kind in _WITHOUT_HOLES
        self._lost: list[str] = []

    def lead(self, stamp: Stamp, following: list[float], given: float) -> float:
        """Return by how many seconds the frame stands after the sound so far; negative: the sound is too long.

        following: times of the next frames. given: seconds of sound so far. What can't be true is not returned.
        """
        if not math.isfinite(stamp.time):
            return 0.0
        self._count_missing(stamp, given)
        stamp = replace(stamp, time=stamp.time + self._missing)
        following = [time + self._missing for time in following]
        previous, self._previous = self._previous, stamp
        self._remember(stamp, given)
        lead = stamp.time - self._origin + self.shift - given
        if abs(lead) <= _GAP_S:
            return 0.0
        step = stamp.time - (previous.time + previous.length) if previous else lead
        if lead > 0:
            if self._is_hole(lead, stamp, following, given):
                self._filled += lead
                if given:
                    self._note_hole(lead, given)
                self._anchor = given + lead, given + lead
                return lead
        elif step > -_GAP_S and self._runs(given, lead) >= _SLOWEST_CLOCK:
            return lead
        self._follow_no_more(lead, given)
        return 0.0

    def warnings(self) -> list[str]:
        """Return a warning for each jump of the clock that was not followed."""
        said = self._jumps[:_MAX_REPORTED]
        if more := len(self._jumps) - len(said):
            said.append(f"the timestamps jump {more} times more")
        lost = self._lost[:_MAX_REPORTED]
        if more := len(self._lost) - len(lost):
            lost.append(f"there is no sound at {more} places more, {self._filled:.1f} s in all")
        return [*said, *lost]

    @property
    def has_losses(self) -> bool:
        """Whether `warnings` tells of a hole."""
        return bool(self._lost)

    def _note_hole(self, lead: float, given: float) -> None:
        if self._has_no_holes:
            self._lost.append(f"{lead:.1f} s of sound are missing from the file at {given:.1f} s")
        elif lead >= _REPORTED_HOLE_S:
            self._lost.append(
                f"the file holds no sound from {given:.1f} s to {given + lead:.1f} s: "
                "the recording was interrupted, or that part of it is lost"
            )

    def _is_hole(self, lead: float, stamp: Stamp, following: list[float], given: float) -> bool:
        if self._end is not None and lead > self._end - self._origin + self.shift - given:
            return False
        if self._filled + lead > _MAX_FILLED_S:
            return False
        if lead <= _LONGEST_SPLICE_S:
            return True
        if lead > _LONGEST_HOLE_S or any(time < stamp.time - lead / 2 for time in following):
            return False
        return not self._is_spliced or self._is_filled(lead, stamp)

    def _count_missing(self, stamp: Stamp, given: float) -> None:
        while self._holes and stamp.position is not None and stamp.position >= self._holes[0][0]:
            seconds = self._holes.popleft()[1] * (self._previous or stamp).length
            if self._end is not None:  # how many frames there were is a guess
                seconds = min(seconds, max(0.0, self._end - self._origin + self.shift - given))
            self._missing += seconds

    def _remember(self, stamp: Stamp, given: float) -> None:
        if stamp.position is not None:
            self._places.append((given, stamp.position))
            while len(self._places) > 1 and self._places[1][0] < given - _HELD_BACK_S:
                self._places.popleft()

    def _is_filled(self, lead: float, stamp: Stamp) -> bool:
        given, position = self._places[0] if self._places else (0.0, 0)
        if stamp.position is None or given <= 0:
            return False
        return stamp.position - position >= _FILLED * lead * position / given

    def _runs(self, given: float, lead: float) -> float:
        """How fast the clock runs against the sound since both agreed."""
        sound, clock = given - self._anchor[0], given + lead - self._anchor[1]
        return clock / sound if sound > 0 else 0.0

    def _follow_no_more(self, lead: float, given: float) -> None:
        self.shift -= lead
        self._anchor = given, given
        if abs(lead) > _MIN_REPORTED_S:
            way = "on" if lead > 0 else "back"
            self._jumps.append(
                f"the timestamps jump {way} by {_spoken(abs(lead))} at {given:.1f} s: "
                "times count the sound itself from there"
            )


def _spoken(seconds: float) -> str:
    for name, size in (("years", 365.25 * 86_400), ("days", 86_400), ("hours", 3600)):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"
