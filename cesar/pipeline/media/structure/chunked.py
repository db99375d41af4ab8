"""WAV and its relatives (RF64, Wave64, AIFF, CAF): their chunks, those with sound, and what follows the last one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from cesar.pipeline.media.structure.signatures import kind_at


@dataclass(frozen=True, slots=True)
class Form:
    """How a format writes its chunks."""

    first: int
    """Where the first one begins."""
    header: struct.Struct
    """Kind and length."""
    counted: int
    """Bytes of the chunk's header that its length counts."""
    aligned: int
    sound: bytes
    """The kind of chunk that holds samples."""
    skipped: int = 0
    """Bytes at its beginning that are no samples."""


_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
FORMS = {
    "wav": Form(12, struct.Struct("<4sI"), 0, 2, b"data"),
    "rf64": Form(12, struct.Struct("<4sI"), 0, 2, b"data"),
    "aiff": Form(12, struct.Struct(">4sI"), 0, 2, b"SSND", 8),
    "caf": Form(8, struct.Struct(">4sq"), 0, 1, b"data", 4),
    "w64": Form(40, struct.Struct("<16sq"), 24, 8, b"data" + _W64_TAIL),
}
_UNKNOWN = (0, 0xFFFF_FFFF)
"""Lengths of a WAV's samples that say "not known yet": FFmpeg reads to the end by itself."""
TAGS = (
    b"TAG",
    b"ID3",
    b"APETAGEX",
    b"LIST",
    b"id3 ",
    b"bext",
    b"iXML",
    b"cue ",
    b"fact",
    b"JUNK",
    b"PAD ",
    b"axml",
    b"LYRICS",
)
"""What a file's end may begin with that is no sound, even if it was cut off."""
_HEADERS = (b"fmt ", b"COMM", b"desc")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk by its kind and place."""

    kind: bytes
    at: int
    start: int
    """Of the content."""
    length: int | None
    """Of the content, as it is stated; None: not known."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """What the chunks of a recording say."""

    sounds: tuple[Chunk, ...]
    """Those that hold samples."""
    header: Chunk | None
    """The one that describes the samples: `fmt `, `COMM` or `desc`."""
    end: int
    """Where the last chunk ends, and something else begins; the end of the file, where nothing does."""
    is_clear: bool
    """Whether chunks, or another recording, are all there is up to the limit."""

    def is_cut_off(self, limit: int) -> bool:
        """Whether the last samples end after the limit."""
        last = self.sounds[-1] if self.sounds else None
        return last is not None and last.length is not None and last.start + last.length > limit


def read_chunks(file: BinaryIO, kind: str, start: int, limit: int) -> Chunks:
    """Read the chunks of the recording of that kind that begins there, up to a limit."""
    form, sounds, header = FORMS[kind], list[Chunk](), None
    end = start + form.first
    for found in _walk(file, kind, start, limit):
        end = limit if found.length is None else min(found.start + found.length, limit)
        if found.kind == form.sound:
            sounds.append(found)
        elif found.kind.startswith(_HEADERS):
            header = header or found
        if found.length is None or (found.kind == form.sound and found.start + found.length > limit + 1):
            return Chunks(tuple(sounds), header, limit, is_clear=False)
    aligned = start + -(-(end - start) // form.aligned) * form.aligned
    is_clear = aligned >= limit or not sounds or _begins_recording(file, {end, aligned})
    if aligned < limit and kind_at(file, aligned):
        end = aligned
    return Chunks(tuple(sounds), header, end, is_clear)


def _walk(file: BinaryIO, kind: str, start: int, limit: int) -> Iterator[Chunk]:
    """Yield chunks until something else begins, with the true length of those with samples."""
    form, at, is_odd, ds64 = FORMS[kind], start + FORMS[kind].first, False, None
    while at < limit and not (at > start + form.first and kind_at(file, at)):
        found = _chunk(file, at, form, may_be_earlier=is_odd)
        if found is None:
            return
        if found.kind == b"ds64":
            ds64 = _ds64_length(file, found)
        elif found.kind == form.sound and ds64 is not None:
            found, ds64 = replace(found, length=ds64), None
        elif found.kind == form.sound and kind in ("wav", "rf64") and found.length in _UNKNOWN:
            found = replace(found, length=None)
        if found.length is None or found.start + found.length <= limit + 1 or found.kind == form.sound:
            yield found
        if found.length is None:
            return
        size = found.start - start + found.length
        is_odd = bool(size % form.aligned)
        at = start + -(-size // form.aligned) * form.aligned


def _begins_recording(file: BinaryIO, places: set[int]) -> bool:
    """Tell whether a recording or a tag begins at one of the places."""
    return any(kind_at(file, at) is not None or _is_tag(file, at) for at in places)


def _chunk(file: BinaryIO, at: int, form: Form, *, may_be_earlier: bool) -> Chunk | None:
    """Return the chunk there, or one byte earlier: some writers don't align them."""
    for place in (at, at - 1) if may_be_earlier else (at,):
        file.seek(place)
        head = file.read(form.header.size)
        if len(head) == form.header.size:
            kind, length = form.header.unpack(head)
            is_named = all(0x20 <= letter < 0x7F for letter in kind[:4]) and kind[:4].strip() != b""
            if is_named and kind[4:] in (b"", _W64_TAIL, _LIST_TAIL):
                length -= form.counted
                return Chunk(kind, place, place + form.header.size, length if length >= 0 else None)
    return None


_LIST_TAIL = bytes.fromhex("2f91cf11a5d628db04c10000")
_MAX_TAG_BYTES = 16


def _is_tag(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    return file.read(_MAX_TAG_BYTES).startswith(TAGS)


def _ds64_length(file: BinaryIO, chunk: Chunk) -> int | None:
    file.seek(chunk.start)
    content = file.read(16)
    return int(struct.unpack("<Q", content[8:])[0]) if len(content) == 16 else None
