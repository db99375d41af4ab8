"""Files that hold more than their header says: stale lengths of WAV, and recordings joined byte by byte.

FFmpeg stops where the first header says that the sound ends, and says nothing of the rest.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from cesar.errors import BadAudio
from cesar.pipeline.joined import beginnings
from cesar.pipeline.mp4_index import top_level_boxes
from cesar.pipeline.stale_lengths import StaleLength, find_stale_length

_NOT_KNOWN = b"\xff" * 4
_UNKNOWN = (0, 0xFFFF_FFFF)
"""Lengths that say "not known yet": FFmpeg reads to the end by itself."""
_PLACEHOLDER = 0x7FFF_0000
"""From here on, a length is what programs write that don't know it yet, each another."""
_CUT_OFF_S = 1.0
_LEAST_REST_S = 0.5
"""Shorter remains are padding, or tags that no list of chunks announces."""
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LIST", b"id3 ", b"bext", b"iXML", b"cue ", b"fact", b"JUNK", b"PAD ", b"axml")
"""What a file's end may begin with that is no sound, even if it was cut off."""
_BIG_TAG_BYTES = 2**20
_MOST_PIECES = 100_000
"""A day in pieces of a second. Opening one takes a millisecond, however little sound is in it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file that is a recording by itself."""

    start: int = 0
    end: int | None = None
    """None: the end of the file."""
    patches: tuple[tuple[int, bytes], ...] = ()
    """Positions in the file, and what should be there: lengths that are wrong, since the sound goes on after them."""

    @property
    def is_whole(self) -> bool:
        """Whether the piece is the whole file."""
        return self == Piece()


def find_pieces(path: Path) -> tuple[list[Piece], list[str]]:
    """Return the recordings that follow each other in a file, in order, and what is to be said about them."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            return _wav_pieces(file, size)
        if head[4:8] == b"ftyp":
            boxes = (start for kind, start, _ in top_level_boxes(file, size) if kind == b"ftyp")
            return _split(list(islice(boxes, _MOST_PIECES + 1)), size)
        if len(starts := beginnings(file, size, _MOST_PIECES + 1)) > 1:
            return _split(starts, size)
        if stale := find_stale_length(file, size, head):
            return [Piece(patches=stale.patches)], [_said_of(stale)]
    if head[:3] == b"ID3":
        from cesar.pipeline.containers import id3_end

        end = id3_end(path)
        if _BIG_TAG_BYTES < end < size:  # full of pictures, or of a million notes: nothing in it is sound
            return [Piece(end)], []
    return [Piece()], []


def _said_of(stale: StaleLength) -> str:
    stated, actual = (f"{size / 1e6:.1f} MB" for size in (stale.stated_bytes, stale.actual_bytes))
    return f"the header says {stated} of sound, but the file holds {actual}: all of it was transcribed"


def _split(starts: list[int], size: int) -> tuple[list[Piece], list[str]]:
    if len(starts) < 2:
        return [Piece()], []
    if len(starts) > _MOST_PIECES:
        raise BadAudio(f"the file is more than {_MOST_PIECES} recordings joined")
    ends = [*starts[1:], size]
    pieces = [Piece(start, end) for start, end in zip(starts, ends, strict=True)]
    return pieces, [f"{len(pieces)} recordings are joined in this file: they were transcribed one after the other"]


def _wav_pieces(file: BinaryIO, size: int) -> tuple[list[Piece], list[str]]:
    starts, at = [0], 0
    while True:
        data = _wav_data(file, at, size)
        if data is None or data.stated in _UNKNOWN:
            return _split(starts, size)
        rest = _after_chunks(file, data.start + data.stated, size)
        if rest is None:
            pieces, said = _split(starts, size)
            return pieces, [*said, *_cut_off(data, size)]
        file.seek(rest)
        if file.read(4) == b"RIFF" and len(starts) <= _MOST_PIECES:
            starts.append(rest)
            at = rest
            continue
        left_s = (size - rest) / data.bytes_a_second
        if left_s < _LEAST_REST_S:
            return _split(starts, size)
        pieces, said = _split(starts, size)
        pieces[-1] = Piece(pieces[-1].start, pieces[-1].end, ((data.start - 4, _NOT_KNOWN),))
        stated_s, whole_s = data.stated / data.bytes_a_second, (size - data.start) / data.bytes_a_second
        said.append(
            f"the header says {stated_s:.1f} s of sound, but the file holds {whole_s:.1f} s: all of it was transcribed"
        )
        return pieces, said


def _cut_off(data: _WavData, size: int) -> list[str]:
    """Say that a file is too short for the length in its header; FFmpeg takes what there is for the whole."""
    stated_s, actual_s = data.stated / data.bytes_a_second, (size - data.start) / data.bytes_a_second
    if data.stated >= _PLACEHOLDER or stated_s - actual_s < max(_CUT_OFF_S, 0.02 * stated_s):
        return []
    return [f"the sound ends at {actual_s:.1f} s, but the header says {stated_s:.1f} s: the file may be cut off"]


@dataclass(frozen=True, slots=True)
class _WavData:
    start: int
    stated: int
    bytes_a_second: int


def _wav_data(file: BinaryIO, riff: int, size: int) -> _WavData | None:
    """Find the chunk of samples in the WAV that begins there."""
    at, bytes_a_second = riff + 12, 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(24)
        kind, length = struct.unpack("<4sI", head[:8])
        if kind == b"fmt " and len(head) >= 20:
            bytes_a_second = struct.unpack("<I", head[16:20])[0]
        if kind == b"data":
            return _WavData(at + 8, length, bytes_a_second) if bytes_a_second else None
        at += 8 + length + length % 2
    return None


def _after_chunks(file: BinaryIO, at: int, size: int) -> int | None:
    """Return where something begins that is no chunk: more sound, or another WAV. None: there is no such thing."""
    first = at
    while at < size:
        file.seek(at)
        head = file.read(12)
        if not _is_chunk(head) and at % 2 and _is_chunk(head[1:]):  # chunks begin at even bytes
            at, head = at + 1, head[1:]
        if head[:4] == b"RIFF":
            return at
        length = struct.unpack("<I", head[4:8])[0] if _is_chunk(head) else size
        if at + 8 + length > size + 1:
            return None if head.startswith(_TAGS) else first
        at += 8 + length + length % 2
    return None


def _is_chunk(head: bytes) -> bool:
    return len(head) >= 8 and all(0x20 <= letter < 0x7F for letter in head[:4]) and head[:4].strip() != b""
