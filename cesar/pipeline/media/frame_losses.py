"""What is missing from recordings that are frames and nothing else (MPEG audio, ADTS, AC-3, DTS, LOAS).

They have no timestamps: FFmpeg passes over what is no frame, and whatever follows comes too early. How long a hole was
is told by its bytes, where they are still there: overwritten, or never written to a file that had its length already.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from cesar.pipeline.media.frame_chains import FIRST_PAIRS, HEAD_BYTES, chains, frames_at
from cesar.pipeline.media.signatures import id3_end

KINDS = frozenset(FIRST_PAIRS) - {"ts"}
_CHAIN = 3
"""So many frames in a row are no chance, where frames are expected."""
_BLOCK = 2**20
_OVERLAP = 2**16
_LEAST_BYTES = 4096
_LEAST_FRAMES = 20.0
"""Less than half a second, or than the longest notes that radio stations put between frames, is passed over."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Bytes between two frames that belong to none."""

    start: int
    end: int
    frames: float = 0.0
    """How many frames were there, by the usual size; 0: bytes of a frame are missing, nobody knows how many more."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What is missing from one recording."""

    within: tuple[Loss, ...] = ()
    end: int | None = None
    """Where the last frame ends, if much that is neither frame nor tag follows."""


def find_losses(file: BinaryIO, kind: str, start: int, end: int, on_step: Callable[[], None]) -> Losses:
    """Look through the recording of that kind between two positions of a file. on_step: called often."""
    frames = _Frames(file, kind, end, on_step)
    while length := _tag_bytes(file, start):
        start += length
    at: int | None = frames.following(start)
    last, count, sound = start, 0, 0
    gaps: list[tuple[int, int]] = []
    partial: set[int] = set()
    while at is not None and at < end:
        if size := frames.size(at, after=last):
            last, at, count, sound = at, at + size, count + 1, sound + size
            continue
        resumed = frames.following(last + 1)
        if resumed is None:
            break
        begin = at if resumed >= at else last
        if begin == last:
            partial.add(begin)
        gaps.append((begin, resumed))
        at = resumed
    usual = sound / max(1, count)
    within = [loss for gap in gaps if (loss := _loss(file, *gap, usual, is_partial=gap[0] in partial))]
    return Losses(tuple(within), at if at is not None and _is_loss(file, at, end, usual) else None)


def _loss(file: BinaryIO, begin: int, end: int, usual: float, *, is_partial: bool) -> Loss | None:
    if is_partial:
        return Loss(begin, end)
    return Loss(begin, end, (end - begin) / usual) if _is_loss(file, begin, end, usual) else None


def _is_loss(file: BinaryIO, begin: int, end: int, usual: float) -> bool:
    """Tell whether bytes are too many to be a note, and are no tags."""
    while length := _tag_bytes(file, begin):
        begin += length
    return end - begin >= max(_LEAST_BYTES, _LEAST_FRAMES * usual)


def _tag_bytes(file: BinaryIO, at: int) -> int:
    """Return the length of the tag that begins there: ID3 of either version, or APE."""
    file.seek(at)
    head = file.read(32)
    if head[:8] == b"APETAGEX" and len(head) == 32:
        return 32 + (int.from_bytes(head[12:16], "little") if head[23] & 0x20 else 0)
    return 128 if head[:3] == b"TAG" else id3_end(head)


class _Frames:
    """Where frames begin in a file, block by block."""

    def __init__(self, file: BinaryIO, kind: str, end: int, on_step: Callable[[], None]) -> None:
        self._file, self._kind, self._end, self._on_step = file, kind, end, on_step
        self._start, self._stop = 0, 0
        """What the block at hand answers for."""
        self._frames: dict[int, tuple[int, int]] = {}
        self._chains: list[int] = []
        self._last = -1, 0
        """The frame that was asked for last, and what its recording has in common."""

    def size(self, at: int, after: int) -> int:
        """Return the length of the frame that begins there after another; 0: none does.

        One that is unlike the other is a frame if more of its like follow: by chance, other bytes look like one.
        """
        self._require(at)
        size, key = self._frames.get(at, (0, 0))
        if self._last == (after, key) or self._is_chain(at):
            self._last = at, key
            return size
        return 0

    def _is_chain(self, at: int) -> bool:
        index = bisect_left(self._chains, at)
        return index < len(self._chains) and self._chains[index] == at

    def following(self, at: int) -> int | None:
        """Return where the next frames in a row begin."""
        while at < self._end:
            self._require(at)
            index = bisect_left(self._chains, at)
            if index < len(self._chains):
                return self._chains[index]
            at = self._stop
        return None

    def _require(self, at: int) -> None:
        if self._start <= at < self._stop:
            return
        self._on_step()
        self._file.seek(at)
        block = self._file.read(min(_BLOCK + _OVERLAP, self._end - at))
        self._start, self._stop = at, at + _BLOCK
        values = np.frombuffer(block, np.uint8)
        places = self._promising(values)
        sizes, keys = frames_at(self._kind, values, places)
        found = zip((at + places).tolist(), sizes.tolist(), keys.tolist(), strict=True)
        self._frames = {place: (size, key) for place, size, key in found if size}
        self._chains = (at + chains(self._kind, values, places, _CHAIN)).tolist()

    def _promising(self, values: np.typing.NDArray[np.uint8]) -> np.typing.NDArray[np.int64]:
        firsts = {first for first, _ in FIRST_PAIRS[self._kind]}
        seconds = np.zeros(256, np.bool_)
        seconds[[second for _, second in FIRST_PAIRS[self._kind]]] = True
        count = min(_BLOCK, len(values) - HEAD_BYTES + 1)
        if count <= 0:
            return np.zeros(0, np.int64)
        found = np.isin(values[:count], list(firsts)) & seconds[values[1 : count + 1]]
        return np.flatnonzero(found).astype(np.int64)
