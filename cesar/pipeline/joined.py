"""Recordings of one kind that were joined byte by byte, by how each of them begins.

Of some formats FFmpeg reads on by itself (MP3, AAC, transport streams, Ogg). Of those here it stops after the first, or
after the second, or takes the headers between for sound.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

_BEGINNINGS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        rb"\x1aE\xdf\xa3.{1,60}?(webm|matroska)",
        rb"FLV\x01[\x01\x04\x05]\0\0\0\x09\0\0\0\0",
        rb"FORM.{4}AIF[FC][ -~]{4}",
        rb"caff\0\x01\0\0desc",
        rb"RF64.{4}WAVEds64",
        rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0",  # Wave64
        rb"fLaC[\0\x80]\0\0\x22",
        rb"TTA1\x01\0",
        rb"Creative Voice File\x1a",
        rb"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel",  # ASF
        rb"#!AMR(-WB)?\n",
    )
)
_MAGIC_BYTES = 4
_HEAD_BYTES = 128
_LARGEST_BYTES = 2**29
"""Larger files are not searched: reading them takes too long before there is any sound."""


def beginnings(file: BinaryIO, size: int, most: int) -> list[int]:
    """Return where recordings of the file's own kind begin, the first at 0; none if the kind needs no search."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    kind = next((pattern for pattern in _BEGINNINGS if pattern.match(head)), None)
    if kind is None or size > _LARGEST_BYTES:
        return []
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return list(islice(_found(content, kind, head[:_MAGIC_BYTES]), most))


def _found(content: mmap.mmap, kind: re.Pattern[bytes], magic: bytes) -> Iterator[int]:
    at = 0
    while at >= 0:
        if kind.match(content[at : at + _HEAD_BYTES]):
            yield at
        at = content.find(magic, at + 1)
