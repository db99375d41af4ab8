"""What is missing from recordings that are frames and nothing else (MPEG audio, ADTS, AC-3, DTS, LOAS).

They have no timestamps: FFmpeg passes over what is no frame, and whatever follows comes too early. How long a hole was
is told by its bytes, where they are still there: overwritten, or never written to a file that had its length already.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from cesar.pipeline.media.structure.frame_chains import FIRST_PAIRS, HEAD_BYTES, SPEECH_FIRSTS, chains, frames_at
from cesar.pipeline.media.structure.signatures import id3_end

KINDS = frozenset(FIRST_PAIRS) - {"ts"}
_CHAIN = 3
"""So many frames in a row are no chance, where frames are expected…"""
_SPEECH_CHAIN = 8
"""…and so many of a speech codec, whose frames one byte in ten looks like."""
_BLOCK = 2**20
_OVERLAP = 2**16
_XING_BYTES = 256
_MIN_BYTES = 4096
_MIN_REST_BYTES = 8
_MAX_REST_FRAMES = 4
_FEW_RESTS = 3
_MAX_RESTS = 0.02
"""Of all frames."""
_TEXT = 0.8
"""Notes of radio stations are letters and zeros to this part; of a frame, two in five bytes look like it."""
_MIN_FRAMES_IN_A_ROW = 20.0
"""Less than half a second, or than the longest notes that radio stations put between frames, is passed over."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Bytes between two frames that belong to none."""

    start: int
    end: int
    frames: float = 0.0
    """How many frames were there, by the usual size; 0: nobody knows."""
    is_partial: bool = False
    """Whether bytes are missing from the file itself, within a frame: what is there is left to FFmpeg."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What is missing from one recording."""

    within: tuple[Loss, ...] = ()
    end: int | None = None
    """Where the last frame ends, if much that is neither frame nor tag follows."""
    frames: int = 0
    """How many there are."""
    usual_bytes: float = 0.0
    """Their mean size."""
    is_cut_off: bool = False
    """Whether the last one is longer than the file."""


def find_losses(file: BinaryIO, kind: str, start: int, end: int, on_step: Callable[[], None]) -> Losses:
    """Look through the recording of that kind between two positions of a file. on_step: called often."""
    frames = _Frames(file, kind, end, on_step)
    while length := _tag_bytes(file, start):
        start += length
    at: int | None = frames.following(start)
    last, count, sound = start, 0, 0
    gaps: list[_Gap] = [] if at is None else [_Gap(start, at)]
    while at is not None and at < end:
        if size := frames.size(at, after=last):
            last, at, count, sound = at, at + size, count + 1, sound + size
            continue
        resumed = frames.following(last + 1)
        if resumed is None:
            break
        gaps.append(_Gap(at, resumed) if resumed >= at else _Gap(last, resumed, is_within=True))
        at = resumed
    usual = sound / max(1, count)
    within = _losses(file, gaps, count, usual, is_speech=kind in SPEECH_FIRSTS)
    rest = at if at is not None and _is_loss(file, at, end, usual) else None
    is_cut_off = at is not None and count > 0 and (at > end or _is_begun(file, last, at, end))
    return Losses(within, rest, count, usual, is_cut_off)


@dataclass(frozen=True, slots=True)
class _Gap:
    start: int
    end: int
    is_within: bool = False
    """Whether the frame that begins there is shorter than it says."""


def _losses(file: BinaryIO, gaps: list[_Gap], count: int, usual: float, *, is_speech: bool) -> tuple[Loss, ...]:
    small = [gap for gap in gaps[1:] if not gap.is_within and _is_rest_of_frame(file, gap, usual, is_speech=is_speech)]
    if len(small) > max(_FEW_RESTS, _MAX_RESTS * count):  # a peculiarity of the encoder
        small = []
    found = []
    for gap in gaps:
        if gap.is_within or gap in small:
            found.append(Loss(gap.start, gap.end, is_partial=True))
        elif _is_loss(file, gap.start, gap.end, usual) or (is_speech and gap.end - gap.start >= usual):
            found.append(Loss(gap.start, gap.end, (gap.end - gap.start) / usual))
    return tuple(found)


def _is_rest_of_frame(file: BinaryIO, gap: _Gap, usual: float, *, is_speech: bool) -> bool:
    """Tell whether the end of a frame lies between two others: its beginning is missing."""
    if is_speech:
        return gap.end - gap.start < usual
    if not _MIN_REST_BYTES <= gap.end - gap.start < _MAX_REST_FRAMES * usual:
        return False
    file.seek(gap.start)
    content = file.read(gap.end - gap.start)
    if content.startswith((b"TAG", b"APE", b"LYR", b"ID3")):
        return False
    return sum(byte == 0 or 0x20 <= byte < 0x7F for byte in content) < _TEXT * len(content)


def _is_begun(file: BinaryIO, last: int, at: int, end: int) -> bool:
    """Tell whether the first bytes of one more frame are there, and nothing else."""
    if not 0 < end - at < HEAD_BYTES:
        return False
    file.seek(last)
    before = file.read(2)[: end - at]
    file.seek(at)
    return file.read(len(before)) == before


def with_stated_total(losses: Losses, stated: float) -> Losses:
    """Tell how many frames are missing in the one place where bytes are, by how many the header says there were."""
    partial = [loss for loss in losses.within if loss.is_partial]
    missing = stated - losses.frames - sum(loss.frames for loss in losses.within)
    if len(partial) != 1 or missing < 1 or losses.end is not None or losses.is_cut_off:
        return losses
    within = (replace(loss, frames=missing) if loss.is_partial else loss for loss in losses.within)
    return replace(losses, within=tuple(within))


def stated_frames(file: BinaryIO, start: int) -> int | None:
    """Return how many frames an MP3 has by its first one (Xing, Info), where it says so."""
    while length := _tag_bytes(file, start):
        start += length
    file.seek(start)
    beginning = file.read(_XING_BYTES)
    at = max(beginning.find(b"Xing"), beginning.find(b"Info"))
    has_count = at >= 0 and beginning[at + 7 : at + 8] and beginning[at + 7] & 1
    return int.from_bytes(beginning[at + 8 : at + 12]) if has_count else None


def _is_loss(file: BinaryIO, begin: int, end: int, usual: float) -> bool:
    """Tell whether bytes are too many to be a note, and are no tags."""
    while length := _tag_bytes(file, begin):
        begin += length
    return end - begin >= max(_MIN_BYTES, _MIN_FRAMES_IN_A_ROW * usual)


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
        self._least = _SPEECH_CHAIN if kind in SPEECH_FIRSTS else _CHAIN
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
        self._chains = (at + chains(self._kind, values, places, self._least)).tolist()

    def _promising(self, values: np.typing.NDArray[np.uint8]) -> np.typing.NDArray[np.int64]:
        count = min(_BLOCK, len(values) - HEAD_BYTES + 1)
        if count <= 0:
            return np.zeros(0, np.int64)
        if self._kind in SPEECH_FIRSTS:
            return np.flatnonzero(np.isin(values[:count], SPEECH_FIRSTS[self._kind])).astype(np.int64)
        firsts = {first for first, _ in FIRST_PAIRS[self._kind]}
        seconds = np.zeros(256, np.bool_)
        seconds[[second for _, second in FIRST_PAIRS[self._kind]]] = True
        found = np.isin(values[:count], list(firsts)) & seconds[values[1 : count + 1]]
        return np.flatnonzero(found).astype(np.int64)
