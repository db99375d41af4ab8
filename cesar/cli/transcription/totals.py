"""The totals of a run over several recordings: their results, and the overall progress."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cesar.errors import CesarError


@dataclass(frozen=True, slots=True)
class Tally:
    """The results of a run in numbers."""

    total: int
    done: int
    failures: Mapping[str, CesarError]
    skipped: int = 0
    """Recordings whose texts existed already."""
    audio_s: float = 0.0
    """Duration of the transcribed audio."""
    elapsed_s: float = 0.0

    @property
    def untried(self) -> int:
        """Number of recordings that were not tried."""
        return self.total - self.done - len(self.failures) - self.skipped

    @property
    def line(self) -> str:
        """The totals as one line.

        >>> Tally(12, 9, {}, skipped=3, audio_s=5400.0, elapsed_s=600.0).line
        '9 of 12 done, 3 skipped (already transcribed): 1.5 hours of audio in 0:10:00 (9.0x)'
        """
        parts = [f"{self.done} of {self.total} done"]
        parts += [f"{len(self.failures)} failed"] if self.failures else []
        parts += [f"{self.skipped} skipped (already transcribed)"] if self.skipped else []
        parts += [f"{self.untried} not tried"] if self.untried else []
        return f"{', '.join(parts)}{self._speed()}"

    def _speed(self) -> str:
        if not self.audio_s or not self.elapsed_s:
            return ""
        took = timedelta(seconds=round(self.elapsed_s))
        return f": {format_duration(self.audio_s)} of audio in {took} ({self.audio_s / self.elapsed_s:.1f}x)"


def format_duration(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours.

    >>> format_duration(42.0), format_duration(1500.0), format_duration(9000.0)
    ('42 s', '25.0 minutes', '2.5 hours')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:.1f} hours"


@dataclass(slots=True)
class OverallProgress:
    """Progress over all recordings, by their durations where known and by their sizes elsewhere."""

    sizes: Mapping[str, int]
    """Size in bytes of each recording to transcribe, by name."""
    _lengths: dict[str, float] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, paths: Iterable[tuple[str, Path]]) -> OverallProgress:
        """Create it from the sizes of these files; one that can't be accessed counts as empty."""
        return cls({name: _size(path) for name, path in paths})

    def opened(self, name: str, length_s: float) -> None:
        """Record the duration of a recording, in seconds."""
        self._lengths[name] = length_s

    def ended(self, name: str) -> None:
        """Record that a recording needs no more work."""
        self._done.add(name)

    def progress(self, name: str, position_s: float) -> tuple[float, float] | None:
        """Return the seconds done and their total, with the given recording at this position.

        None while no duration is known.
        """
        if not self._lengths:
            return None
        lengths = {each: self._length(each) for each in self.sizes}
        done = sum(length for each, length in lengths.items() if each in self._done and each != name)
        return done + min(position_s, lengths.get(name, position_s)), sum(lengths.values())

    def _length(self, name: str) -> float:
        """The duration, or an estimate from others, preferably with the same extension."""
        if name in self._lengths:
            return self._lengths[name]
        kind = Path(name).suffix.lower()
        comparable = [each for each in self._lengths if Path(each).suffix.lower() == kind] or list(self._lengths)
        size = sum(self.sizes.get(each, 0) for each in comparable)
        return self.sizes[name] * sum(self._lengths[each] for each in comparable) / size if size else 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0
