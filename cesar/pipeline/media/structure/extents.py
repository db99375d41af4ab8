"""How far a recording goes by the structure of its format: where its last box, page, chunk or element ends.

Only headers are read, so that this takes no time worth speaking of. What lies between is not looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from cesar.pipeline.media.structure.chunked import FORMS, read_chunks
from cesar.pipeline.media.structure.signatures import kind_at
from cesar.pipeline.media.structure.transport import PACKET_BYTES, walk_packets


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the parts of a format that follow each other without a gap end."""

    end: int
    is_whole: bool = True
    """False: what is there goes on, or may go on, in a way that the headers don't tell."""
    last: int | None = None
    """Where the last part begins, if something may go on within it, because bytes of it are missing."""
    is_cut_off: bool = False
    """Whether the last part is longer than the file."""
    is_joint: bool = False
    """Whether a recording of the same format begins at the end, though it looks like any other part."""


_Walk = Callable[[BinaryIO, int, int, int], Extent]
"""Takes the file, where the recording begins, where in it to go on, and the file's size."""
_BOXES = frozenset(
    b"ftyp moov mdat free skip wide pnot styp moof mfra sidx ssix uuid meta prft emsg udta pdin junk".split()
)


def extent_of(file: BinaryIO, kind: str, start: int, size: int, at: int | None = None) -> Extent:
    """Return how far the recording of this kind goes that begins there.

    size: of the file. at: where to go on, after damage.
    """
    if kind in FORMS:
        return _chunked(file, kind, start, size)
    walk = _WALKS.get(kind)
    return walk(file, start, start if at is None else at, size) if walk else Extent(start + 1, is_whole=False)


def _chunked(file: BinaryIO, kind: str, start: int, size: int) -> Extent:
    found = read_chunks(file, kind, start, size)
    if found.is_clear:
        return Extent(found.end)
    end = found.sounds[-1].start if found.sounds else start + 12
    return Extent(end, is_whole=False, is_cut_off=kind != "wav" and found.is_cut_off(size))


def _mp4(file: BinaryIO, start: int, at: int, size: int) -> Extent:
    last = None
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16).ljust(16, b"\0")
        length, kind, long = struct.unpack(">I4sQ", head)
        length = long if length == 1 else length
        if kind not in _BOXES or (kind == b"ftyp" and at > start):
            break
        if length < 8 or at + length > size:  # 0: to the end of the file, by somebody who was not to go back
            return Extent(at + 8, is_whole=False, last=last, is_cut_off=length >= 8)
        last = at if kind == b"moof" else last
        at += length
    return Extent(at, last=last)


_EBML, _SEGMENT, _CLUSTER = b"\x1aE\xdf\xa3", b"\x18S\x80g", b"\x1fC\xb6u"
_IN_SEGMENT = frozenset(
    (_CLUSTER, b"\x11M\x9bt", b"\x15I\xa9f", b"\x16T\xaek", b"\x1cS\xbbk", b"\x12T\xc3g", b"\x10C\xa7p", b"\x19A\xa4i")
)
_IN_CLUSTER = frozenset((b"\xe7", b"\xa3", b"\xa0", b"\xab", b"\xa7", b"\xa2", b"\x58\x54"))
_ANYWHERE = frozenset((b"\xec", b"\xbf"))


def _matroska(file: BinaryIO, start: int, at: int, size: int) -> Extent:
    """Elements whose length is not known (live streams) are gone through part by part."""
    while at < size:
        identity, length, header = _element(file, at)
        is_known = identity in _IN_SEGMENT or identity in _IN_CLUSTER or identity in _ANYWHERE
        if not (is_known or identity == _SEGMENT or (identity == _EBML and at == start)):
            break
        if length is not None and at + header + length <= size:
            at += header + length
        elif identity in (_SEGMENT, _CLUSTER):  # gone through part by part: not finished, or cut off
            at += header
        else:
            return Extent(size if length is not None else at, length is not None, is_cut_off=length is not None)
    return Extent(at)


def _element(file: BinaryIO, at: int) -> tuple[bytes, int | None, int]:
    """Identity, length of the content (None: not known) and of the header of an EBML element."""
    file.seek(at)
    head = file.read(12)
    if len(head) < 2 or not head[0]:
        return b"", None, 0
    width = 9 - head[0].bit_length()
    identity, rest = head[:width], head[width:]
    if width > 4 or not rest or not rest[0]:
        return b"", None, 0
    count = 9 - rest[0].bit_length()
    value = int.from_bytes(rest[:count].ljust(count, b"\0")) & ((1 << 7 * count) - 1)
    return identity, None if value == (1 << 7 * count) - 1 else value, width + count


def _ogg(file: BinaryIO, start: int, at: int, size: int) -> Extent:
    """Pages of the links of a chain: a link begins with first pages that follow others."""
    is_beginning, last = at == start, at
    while at + 27 <= size:
        head, length = ogg_page(file, at)
        if not length:
            break
        is_first = bool(head[5] & 2)
        if is_first and not is_beginning:
            break
        is_beginning &= is_first
        if at + length > size:
            return Extent(size, last=at, is_cut_off=True)
        last = at
        at += length
    return Extent(at, last=last)


def ogg_page(file: BinaryIO, at: int) -> tuple[bytes, int]:
    """Return the header of the page there, and its whole length; 0: there is none."""
    file.seek(at)
    head = file.read(27 + 255)
    if head[:5] != b"OggS\0" or len(head) < 27:
        return b"", 0
    lengths = head[27 : 27 + head[26]]
    return head[:27], 27 + len(lengths) + sum(lengths)


_ASF_OBJECTS = tuple(
    bytes.fromhex(identity)
    for identity in ("3026b2758e66cf11", "3626b2758e66cf11", "90080033b1e5cf11", "d329e2d6da35d111")
)
"""Header, data, index, simple index."""


def _asf(file: BinaryIO, start: int, at: int, size: int) -> Extent:
    while at + 24 <= size:
        file.seek(at)
        head = file.read(24)
        (length,) = struct.unpack("<Q", head[16:])
        if head[:8] not in _ASF_OBJECTS or (at > start and head[:8] == _ASF_OBJECTS[0]):
            break
        if length < 24 or at + length > size:  # a live stream, whose length was not known
            return Extent(at + 24, is_whole=False)
        at += length
    return Extent(at)


def _flv(file: BinaryIO, start: int, at: int, size: int) -> Extent:
    at, last = max(at, start + 13), at
    while at + 11 <= size:
        file.seek(at)
        head = file.read(11)
        length = int.from_bytes(head[1:4])
        if head[0] & 0x1F not in (8, 9, 18) or head[0] & 0xC0 or head[8:11] != b"\0\0\0":
            break
        if at + 11 + length > size:
            return Extent(size, last=at, is_cut_off=True)
        last = at
        at += 15 + length
    return Extent(min(at, size), last=last)


def _avi(file: BinaryIO, start: int, at: int, size: int) -> Extent:
    """RIFF lists, the first of them AVI, further ones AVIX."""
    while at + 12 <= size:
        file.seek(at)
        name, length, kind = struct.unpack("<4sI4s", file.read(12))
        if name != b"RIFF" or kind not in (b"AVI ", b"AVIX") or (at > start and kind == b"AVI "):
            break
        if length < 12 or at + 8 + length > size:
            return Extent(at + 12, is_whole=False, is_cut_off=length >= 12)
        at += 8 + length + length % 2
    return Extent(min(at, size))


def _transport(file: BinaryIO, _: int, at: int, size: int) -> Extent:
    end, is_joint = walk_packets(file, at, size)
    if is_joint:
        return Extent(end, is_joint=True)
    if end < size:
        return Extent(end, last=end)
    return Extent(size, is_cut_off=(size - at) % PACKET_BYTES > 0)


def _voc(file: BinaryIO, start: int, _: int, size: int) -> Extent:
    """Blocks: a type up to 9, and 24 bits of length; a 0 ends them."""
    file.seek(start + 20)
    at = start + max(26, int.from_bytes(file.read(2), "little"))
    while at < size:
        file.seek(at)
        head = file.read(4)
        length = int.from_bytes(head[1:], "little")
        if head[0] == 0 or head[0] > _LAST_VOC_BLOCK or len(head) < 4:
            is_followed = size - at > _MIN_REST_BYTES and kind_at(file, at + 1) is None
            return Extent(min(at + 1, size), is_whole=False, is_cut_off=head[0] != 0 or is_followed)
        if at + 4 + length > size:
            return Extent(size, is_cut_off=True)
        at += 4 + length
    return Extent(size)


_LAST_VOC_BLOCK = 9
_MIN_REST_BYTES = 4096
_LOAS_AT_ONCE = 2**16
_LOAS_SYNC = (0x56, 0xE0)


def _loas(file: BinaryIO, start: int, at: int, size: int) -> Extent:
    """To the first frame whose stated codec, rate or channels differ: FFmpeg decodes it by the first one's."""
    stated: int | None = None
    block, base = b"", at
    while at + 8 <= size:
        if not base <= at <= base + len(block) - 8:
            file.seek(at)
            block, base = file.read(_LOAS_AT_ONCE), at
        head = block[at - base : at - base + 8]
        if head[0] != _LOAS_SYNC[0] or head[1] & 0xE0 != _LOAS_SYNC[1]:
            break
        if (found := _loas_config(head[3:])) is not None:
            if stated is not None and found != stated:
                return Extent(at, is_joint=True)
            stated = found
        at += 3 + ((head[1] & 0x1F) << 8 | head[2])
    return Extent(min(max(at, start + 1), size), is_whole=False)


def _loas_config(content: bytes) -> int | None:
    """Return what a frame states of its sound (ISO/IEC 14496-3, AudioMuxElement); None: the same as the one before."""
    bits = int.from_bytes(content[:4])
    has_config, version = not bits >> 31, bits >> 30 & 1
    return bits >> 3 & 0x1FFF if has_config and not version else None


def _wavpack(file: BinaryIO, start: int, at: int, size: int) -> Extent:
    last = at
    while at + 32 <= size:
        file.seek(at)
        head = file.read(32)
        length = 8 + int.from_bytes(head[4:8], "little")
        is_first = head[16:20] == b"\0\0\0\0" and bool(head[25] & 8) and bool(int.from_bytes(head[20:24], "little"))
        if head[:4] != b"wvpk" or length < 32 or (is_first and at > start):
            break
        if at + length > size:
            return Extent(size, last=at, is_cut_off=True)
        last = at
        at += length
    return Extent(at, last=last)


def _flac(file: BinaryIO, start: int, _: int, size: int) -> Extent:
    """To the end of its notes and pictures: frames are not to be told from other bytes without decoding them."""
    at, is_last = start + 4, False
    while not is_last and at + 4 <= size:
        file.seek(at)
        head = file.read(4)
        is_last = bool(head[0] & 0x80)
        at += 4 + int.from_bytes(head[1:])
    return Extent(min(at, size), is_whole=False)


def _au(file: BinaryIO, start: int, _: int, size: int) -> Extent:
    file.seek(start + 4)
    offset, length = struct.unpack(">II", file.read(8))
    end = start + offset + length
    return Extent(end) if length != 0xFFFF_FFFF and end <= size else Extent(start + offset, is_whole=False)


_WALKS: dict[str, _Walk] = {
    "mp4": _mp4,
    "matroska": _matroska,
    "ogg": _ogg,
    "asf": _asf,
    "flv": _flv,
    "avi": _avi,
    "ts": _transport,
    "flac": _flac,
    "au": _au,
    "wv": _wavpack,
    "loas": _loas,
    "voc": _voc,
}
