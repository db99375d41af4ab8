"""AIFF, CAF, RF64 and Wave64 whose chunk of samples goes on after the length that is stated for it.

Recorders write the length when they stop. One that crashed leaves what it wrote at the start, or at its last save.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

_LEAST_REST_BYTES = 4096
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")


@dataclass(frozen=True, slots=True)
class StaleLength:
    """What the header says of the samples, what there is, and the bytes that would be right."""

    stated_bytes: int
    actual_bytes: int
    patches: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class _Chunk:
    kind: bytes
    at: int
    start: int
    """Of the content."""
    length: int
    """Of the content, as it is stated; negative: not known."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How a format writes its chunks."""

    first: int
    """Where the first one begins."""
    header: struct.Struct
    """Kind and length."""
    counted: int
    """Bytes of the chunk's header that its length counts."""
    aligned: int


_AIFF = _Form(12, struct.Struct(">4sI"), 0, 2)
_CAF = _Form(8, struct.Struct(">4sq"), 0, 1)
_RF64 = _Form(12, struct.Struct("<4sI"), 0, 2)
_W64 = _Form(40, struct.Struct("<16sq"), 24, 8)


def find_stale_length(file: BinaryIO, size: int, head: bytes) -> StaleLength | None:
    """Return what is wrong with the length of an AIFF, CAF or Wave64 file, by its first 12 bytes; None: nothing."""
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _stale_aiff(file, size)
    if head[:4] == b"caff":
        return _stale(file, size, _CAF, b"data", lambda _: struct.pack(">q", -1))
    if head[:4] == b"RF64":
        return _stale_rf64(file, size)
    if head[:4] == b"riff":
        return _stale(file, size, _W64, b"data" + _W64_TAIL, lambda actual: struct.pack("<q", actual + 24))
    return None


def _stale_rf64(file: BinaryIO, size: int) -> StaleLength | None:
    """Its length stands in the first chunk: that of the samples' own chunk says that."""
    file.seek(_RF64.first)
    ds64 = file.read(_RF64.header.size + 16)
    samples = next((chunk for chunk in _chunks(file, size, _RF64) if chunk.kind == b"data"), None)
    if samples is None or not ds64.startswith(b"ds64") or len(ds64) < _RF64.header.size + 16:
        return None
    (stated,) = struct.unpack("<Q", ds64[-8:])
    end, actual = samples.start + stated, size - samples.start
    if actual - stated < _LEAST_REST_BYTES or (stated and _is_followed_by_chunks(file, size, _RF64, end)):
        return None
    at = _RF64.first + _RF64.header.size + 8
    return StaleLength(stated, actual, ((at, struct.pack("<Q", actual)),))


def _stale_aiff(file: BinaryIO, size: int) -> StaleLength | None:
    stale = _stale(file, size, _AIFF, b"SSND", lambda actual: struct.pack(">I", min(actual, 0xFFFF_FFFE)))
    common = next((chunk for chunk in _chunks(file, size, _AIFF) if chunk.kind == b"COMM"), None)
    if stale is None or common is None:
        return None
    file.seek(common.start)
    channels, _, bits = struct.unpack(">HIH", file.read(8).ljust(8, b"\0"))
    frame_bytes = max(1, channels * -(-bits // 8))
    frames = struct.pack(">I", min((stale.actual_bytes - 8) // frame_bytes, 0xFFFF_FFFF))
    return StaleLength(stale.stated_bytes, stale.actual_bytes, (*stale.patches, (common.start + 2, frames)))


def _stale(file: BinaryIO, size: int, form: _Form, kind: bytes, right: Callable[[int], bytes]) -> StaleLength | None:
    samples = next((chunk for chunk in _chunks(file, size, form) if chunk.kind == kind), None)
    if samples is None or samples.length < 0:
        return None
    end = samples.start + samples.length
    if size - end < _LEAST_REST_BYTES or _is_followed_by_chunks(file, size, form, end):
        return None
    actual = size - samples.start
    patch = right(actual)
    return StaleLength(samples.length, actual, ((samples.start - len(patch), patch),))


def _chunks(file: BinaryIO, size: int, form: _Form, at: int | None = None) -> Iterator[_Chunk]:
    at = form.first if at is None else at
    while at + form.header.size <= size:
        file.seek(at)
        kind, length = form.header.unpack(file.read(form.header.size))
        chunk = _Chunk(kind, at, at + form.header.size, length - form.counted)
        yield chunk
        if chunk.length < 0:
            return
        at = chunk.start + -(-chunk.length // form.aligned) * form.aligned


def _is_followed_by_chunks(file: BinaryIO, size: int, form: _Form, end: int) -> bool:
    """Tell whether chunks fill the file to its end, or all of it but a little."""
    at = -(-end // form.aligned) * form.aligned
    for chunk in _chunks(file, size, form, at):
        is_named = chunk.kind[4:] in (b"", _W64_TAIL) and all(0x20 <= letter < 0x7F for letter in chunk.kind[:4])
        if not is_named or chunk.length < 0 or chunk.start + chunk.length > size + form.aligned:
            return False
        at = chunk.start + chunk.length
    return size - at < _LEAST_REST_BYTES
