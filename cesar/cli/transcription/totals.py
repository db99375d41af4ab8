"""How a run over several recordings stands as a whole: what came of each, and how much of all is done."""

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
    """What came of a run's recordings."""

    total: int
    done: int
    failures: Mapping[str, CesarError]
    skipped: int = 0
    """Left out, for their texts were there already."""
    audio_s: float = 0.0
    """Length of what was transcribed."""
    elapsed_s: float = 0.0

    @property
    def untried(self) -> int:
        """How many were not come to."""
        return self.total - self.done - len(self.failures) - self.skipped

    @property
    def line(self) -> str:
        """The whole in a line.

        >>> Tally(12, 9, {}, skipped=3, audio_s=5400.0, elapsed_s=600.0).line
        '9 of 12 done, 3 skipped (there already): 1.5 hours of sound in 0:10:00 (9.0x)'
        """
        parts = [f"{self.done} of {self.total} done"]
        parts += [f"{len(self.failures)} failed"] if self.failures else []
        parts += [f"{self.skipped} skipped (there already)"] if self.skipped else []
        parts += [f"{self.untried} not tried"] if self.untried else []
        return f"{', '.join(parts)}{self._speed()}"

    def _speed(self) -> str:
        if not self.audio_s or not self.elapsed_s:
            return ""
        took = timedelta(seconds=round(self.elapsed_s))
        return f": {format_duration(self.audio_s)} of sound in {took} ({self.audio_s / self.elapsed_s:.1f}x)"


def format_duration(seconds: float) -> str:
    """Write a length of sound as people count it.

    >>> format_duration(42.0), format_duration(1500.0), format_duration(9000.0)
    ('42 s', '25.0 minutes', '2.5 hours')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} minutes" if seconds < 3600 else f"{seconds / 3600:.1f} hours"


@dataclass(slots=True)
class OverallProgress:
    """How much of all recordings is done, by their lengths where they are known and by their sizes elsewhere."""

    sizes: Mapping[str, int]
    """Bytes of each recording that is to be transcribed, by its name."""
    _lengths: dict[str, float] = field(default_factory=dict)
    _done: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, paths: Iterable[tuple[str, Path]]) -> OverallProgress:
        """Look at the sizes of these recordings; what can't be looked at counts for nothing."""
        return cls({name: _size(path) for name, path in paths})

    def opened(self, name: str, length_s: float) -> None:
        """Note how long a recording is, in seconds."""
        self._lengths[name] = length_s

    def ended(self, name: str) -> None:
        """Note that there is nothing left to do for a recording."""
        self._done.add(name)

    def progress(self, name: str, position_s: float) -> tuple[float, float] | None:
        """Return what is done and what there is, in seconds, while a recording is at this position.

        None while no length is known.
        """
        if not self._lengths:
            return None
        lengths = {each: self._length(each) for each in self.sizes}
        done = sum(length for each, length in lengths.items() if each in self._done and each != name)
        return done + min(position_s, lengths.get(name, position_s)), sum(lengths.values())

    def _length(self, name: str) -> float:
        """The length, or a guess by that of others: of the same kind, if there is one."""
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
