"""Whether an MP4's index can be true. FFmpeg believes it: three kilobytes can make it reserve gigabytes.

ISO/IEC 14496-12: boxes of size and kind; `stsz`, `stts`, `stsc` and `stco` make the index, `trun` that of fragments.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cesar.errors import BadAudio

_KINDS_AT_START = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof"})
_FOLDERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})
_SAMPLES_IN_ANY_FILE = 2_000_000
_MAX_SAMPLES = 40_000_000
"""Eleven days of AAC. Each takes FFmpeg 24 bytes and more."""
_MAX_BOXES = 4_000_000
_MIN_SAMPLE_BYTES = 4
"""In a file, a sample takes this much at least, be it only its size in the index."""
_PCM_SAMPLES_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    start: int
    """Of the content."""
    end: int


def require_honest_index(path: Path, start: int = 0, end: int | None = None) -> None:
    """Raise `BadAudio` for an MP4 or QuickTime file whose index states more samples than the file can hold.

    start, end: of the recording within the file, where several are joined. Each is looked at by itself: else the time
    grows with the square of their number.
    """
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size if end is None else end
        size = end - start
        file.seek(start)
        if file.read(8)[4:8] not in _KINDS_AT_START:
            return
        most = min(_MAX_SAMPLES, max(_SAMPLES_IN_ANY_FILE, size // _MIN_SAMPLE_BYTES))
        samples = boxes = 0
        track: dict[bytes, _Box] = {}
        for box in _all_boxes(file, start, end):
            boxes += 1
            if box.kind in (b"trak", b"moof"):
                samples += _indexed(file, track)
                track = {}
            elif box.kind == b"trun":
                samples += _fragment_samples(file, box)
            else:
                track[box.kind] = box
            if samples > most or boxes > _MAX_BOXES:
                break
        samples += _indexed(file, track)
    if samples > most or boxes > _MAX_BOXES:
        raise BadAudio(f"{path.name} says it holds {samples} samples or more, which {size} bytes can't")


def _all_boxes(file: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    """Yield boxes and those in them, outer ones first."""
    ends = [end]
    at = start
    while ends:
        if at + 8 > ends[-1] or (box := _box_at(file, at, ends[-1])) is None:
            at = ends.pop()
            continue
        yield box
        if box.kind in _FOLDERS:
            ends.append(box.end)
            at = box.start
        else:
            at = box.end


def _box_at(file: BinaryIO, at: int, limit: int) -> _Box | None:
    file.seek(at)
    head = file.read(16)
    if len(head) < 8:
        return None
    size, kind = struct.unpack(">I4s", head[:8])
    header = 8
    if size == 1 and len(head) == 16:
        size, header = struct.unpack(">Q", head[8:])[0], 16
    elif size == 0:
        size = limit - at
    return _Box(kind, at + header, min(at + size, limit)) if size >= header else None


def _indexed(file: BinaryIO, track: dict[bytes, _Box]) -> int:
    """Entries that FFmpeg makes of a track's index: one a sample, but for PCM one for up to 1024 of them."""
    if b"stsz" not in track:
        return 0
    samples = _numbers(file, track[b"stsz"], 3)[2]
    times = _numbers(file, track.get(b"stts"), 4)
    if times[1] != 1 or times[3] != 1:  # several entries, or samples that last longer than one tick: no PCM
        return samples
    chunks = _numbers(file, track.get(b"stco") or track.get(b"co64"), 2)[1]
    return max(chunks, _pcm_portions(file, track.get(b"stsc"), chunks))


def _pcm_portions(file: BinaryIO, box: _Box | None, chunks: int) -> int:
    """How many portions of PCM the chunks are read in, by the table of samples a chunk."""
    count = min(_numbers(file, box, 2)[1], (box.end - box.start - 8) // 12 if box else 0, _SAMPLES_IN_ANY_FILE)
    table = _numbers(file, box, 2 + 3 * count)[2:]
    firsts = [*table[0::3], chunks + 1]
    portions = 0
    for index, samples in enumerate(table[1::3]):
        portions += max(0, firsts[index + 1] - firsts[index]) * -(-samples // _PCM_SAMPLES_AT_ONCE)
    return portions


def _fragment_samples(file: BinaryIO, box: _Box) -> int:
    return _numbers(file, box, 2)[1]


def _numbers(file: BinaryIO, box: _Box | None, count: int) -> tuple[int, ...]:
    """Read 32-bit numbers from the start of a box; zeros stand for what is not there."""
    if box is None:
        return (0,) * count
    file.seek(box.start)
    found = file.read(min(4 * count, box.end - box.start))
    return struct.unpack(f">{count}I", found.ljust(4 * count, b"\0"))
