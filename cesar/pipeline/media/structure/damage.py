"""Damage in the middle of pages, fragments, tags and packets: where a format goes on after it.

FFmpeg gives up where it finds nothing of its format for 64 kB. What is damaged is cut out, so that it reads on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from cesar.pipeline.media.structure.frame_chains import chains

_CHAIN = 16
_BLOCK = 2**20
_OVERLAP = 2**16
_GOES_ON = {
    "ogg": re.compile(rb"OggS\0[\0-\x07]", re.DOTALL),
    "mp4": re.compile(rb"\0[\0-\x0f].{2}moof\0\0\0\x10mfhd", re.DOTALL),
    "wv": re.compile(rb"wvpk.{4}[\x02-\x10]\x04", re.DOTALL),
    "matroska": re.compile(rb"\x1fC\xb6u[\x01\x08-\xff]", re.DOTALL),
}


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a recording that are nothing of its format."""

    start: int
    end: int
    padding: int = 0
    """How many bytes of padding belong in their place, so that positions that the file tells stay true."""


_TRACK_HEADER = re.compile(rb"tfhd\0(.{3}).{4}(.{8})", re.DOTALL)
_MAX_PADDING = 2**40


def padding_for(file: BinaryIO, start: int, end: int) -> int:
    """Return how long a box must be that stands for damage before a fragment of MP4.

    The fragment may tell where in the file its samples lie: bytes are missing if it lies elsewhere.
    """
    file.seek(end)
    header = _TRACK_HEADER.search(file.read(256))
    missing = 0
    if header and header[1][2] & 1:
        missing = int.from_bytes(header[2]) - end
    padding = end - start + missing
    return padding if 8 <= padding < _MAX_PADDING else max(8, end - start)


def resumes_at(file: BinaryIO, kind: str, start: int, end: int) -> int | None:
    """Return where the next page, fragment, block or packet of that format begins; None: nowhere before the end."""
    for begin in range(start, end, _BLOCK):
        file.seek(begin)
        block = file.read(min(_BLOCK + _OVERLAP, end - begin))
        found = _in_block(kind, block)
        if found is not None and found < _BLOCK:
            return begin + found
    return None


def _in_block(kind: str, block: bytes) -> int | None:
    if kind == "ts":
        values = np.frombuffer(block, np.uint8)
        found = chains("ts", values, np.flatnonzero(values == 0x47), _CHAIN)
        return int(found[0]) if len(found) else None
    if kind == "flv":
        return next((match.start() for match in _FLV_TAG.finditer(block) if _is_flv_tag(block, match.start())), None)
    match = _GOES_ON[kind].search(block) if kind in _GOES_ON else None
    return match.start() if match else None


_FLV_TAG = re.compile(rb"[\x08\x09](?=.{7}\0\0\0)", re.DOTALL)


def _is_flv_tag(block: bytes, at: int) -> bool:
    """Each tag is followed by its length."""
    length = int.from_bytes(block[at + 1 : at + 4])
    return length > 0 and int.from_bytes(block[at + 11 + length : at + 15 + length]) == 11 + length
