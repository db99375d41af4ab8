"""Several tracks of a file side by side: as if they were the channels of one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from cesar.pipeline.audio.timeline import Timeline
from cesar.pipeline.channels.phase import Signs
from cesar.pipeline.media.frames import Decoded
from cesar.pipeline.samples import SAMPLE_RATE, Channels, Samples

_WINDOW = SAMPLE_RATE // 2
_LONGEST_LAG = 30 * SAMPLE_RATE
"""A track that is this much behind the others has nothing to say for now; its sound is not waited for."""


def side_by_side(frames: Iterable[Decoded], lines: Mapping[int, Timeline]) -> Iterator[Channels]:
    """Yield mix and channels of one track, or the mean of several and each of them, all at their time."""
    if len(lines) == 1:
        for index, frame, position in frames:
            yield from lines[index].feed(frame, position)
        for line in lines.values():
            yield from line.flush()
        return
    mix = _Mix(lines)
    for index, frame, position in frames:
        for sound in lines[index].feed(frame, position):
            mix.add(index, sound[0])
        for late in mix.late():
            for sound in lines[late].release():
                mix.add(late, sound[0])
        yield from mix.ready()
    for index, line in lines.items():
        for sound in line.flush():
            mix.add(index, sound[0])
    yield from mix.rest()


class _Mix:
    def __init__(self, tracks: Iterable[int]) -> None:
        self._waiting: dict[int, deque[Samples]] = {index: deque() for index in tracks}
        self._counts = dict.fromkeys(self._waiting, 0)
        self._padded = dict.fromkeys(self._waiting, 0)
        """Samples of silence that stand for sound of a track that was not waited for."""
        self._signs = Signs()

    def add(self, index: int, sound: Samples) -> None:
        """Queue the sound of a track; silence that stands in the mix already is left out."""
        zeros = _leading_zeros(sound)
        repeated = min(self._padded[index], zeros)
        self._padded[index] -= repeated
        kept = sound[repeated:] if zeros < len(sound) else _silence(zeros - repeated)
        self._waiting[index].append(kept)
        self._counts[index] += len(kept)

    def late(self) -> list[int]:
        """Return the tracks that are not waited for any more."""
        if max(self._counts.values()) < _LONGEST_LAG + _WINDOW:
            return []
        return [index for index, count in self._counts.items() if count < _WINDOW]

    def ready(self) -> Iterator[Channels]:
        """Yield windows that all tracks have reached, or that those behind are not waited for."""
        furthest = max(self._counts.values())
        while min(self._counts.values()) >= _WINDOW or furthest >= _LONGEST_LAG + _WINDOW:
            yield self._window(_WINDOW)
            furthest -= _WINDOW

    def rest(self) -> Iterator[Channels]:
        """Yield what is left, when nothing more will come."""
        while (left := max(self._counts.values())) > 0:
            yield self._window(min(_WINDOW, left))

    def _window(self, size: int) -> Channels:
        sound = np.stack([self._taken(index, size) for index in self._waiting])
        for index in self._signs.opposite(sound, SAMPLE_RATE):
            sound[index] *= -1
        return np.concatenate([sound.mean(axis=0, dtype=np.float32, keepdims=True), sound])

    def _taken(self, index: int, size: int) -> Samples:
        """Take so many samples of a track, silence where it has none."""
        pieces, taken = self._waiting[index], np.zeros(size, np.float32)
        at = 0
        while pieces and at < size:
            piece = pieces.popleft()
            part = piece[: size - at]
            taken[at : at + len(part)] = part
            at += len(part)
            if len(part) < len(piece):
                pieces.appendleft(piece[len(part) :])
        self._counts[index] -= at
        self._padded[index] += size - at
        return taken


def _leading_zeros(sound: Samples) -> int:
    heard = np.flatnonzero(sound)
    return int(heard[0]) if len(heard) else len(sound)


def _silence(samples: int) -> Samples:
    """Silence that takes no memory: where all tracks pause, hours of it are queued at once."""
    return np.broadcast_to(np.zeros(1, np.float32), samples)
