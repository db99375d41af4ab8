"""Lengths in the headers of WAV, RF64, Wave64, AIFF and CAF, and what to write over those that are wrong.

Recorders write the length when they stop. One that crashed leaves what it wrote at the start, or at its last save.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from cesar.pipeline.media.structure.chunked import Chunks

_LARGEST = 0xFFFF_FFFF
Patches = tuple[tuple[int, bytes], ...]
"""Positions in the file, and the bytes that would be right there."""


def length_patches(file: BinaryIO, kind: str, start: int, chunks: Chunks, length: int) -> Patches:
    """Return what makes the header of the recording that begins at `start` state so many bytes of samples."""
    samples = chunks.sounds[0].start
    match kind:
        case "wav":
            return ((samples - 4, struct.pack("<I", min(length, _LARGEST))),)
        case "rf64":
            return ((start + 28, struct.pack("<Q", length)),)  # in the first chunk; that of the samples refers to it
        case "w64":
            return ((samples - 8, struct.pack("<q", length + 24)),)
        case "caf":
            return ((samples - 8, struct.pack(">q", length)),)
        case _:
            size = samples - 4, struct.pack(">I", min(length, _LARGEST - 1))
            return size, *_aiff_frames(file, chunks, length)


def _aiff_frames(file: BinaryIO, chunks: Chunks, length: int) -> Patches:
    if chunks.header is None:
        return ()
    file.seek(chunks.header.start)
    channels, _, bits = struct.unpack(">HIH", file.read(8).ljust(8, b"\0"))
    frame_bytes = max(1, channels * -(-bits // 8))
    return ((chunks.header.start + 2, struct.pack(">I", min((length - 8) // frame_bytes, _LARGEST))),)
