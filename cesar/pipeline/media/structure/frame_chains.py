"""Formats without a header (MPEG audio, ADTS, AC-3, DTS, LOAS, transport streams): known by frames in a row.

All places of a block are looked at together: of samples, one in twenty looks like the beginning of a frame.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]
_Sized = tuple[Places, Places]
"""Of each place the length of the frame there (0: there is none), and what is the same in all frames of a recording."""

HEAD_BYTES = 8


def chains(kind: str, block: Bytes, places: Places, least: int) -> Places:
    """Return the places from which at least so many frames of that kind follow each other."""
    sized = _SIZED[kind]
    at = places = places[places + HEAD_BYTES <= len(block)]
    sizes, keys = sized(block, at)
    is_frame = sizes > 0
    for _ in range(least - 1):
        places, at, keys = places[is_frame], at[is_frame] + sizes[is_frame], keys[is_frame]
        is_within = at + HEAD_BYTES <= len(block)
        places, at, keys = places[is_within], at[is_within], keys[is_within]
        if not len(places):
            return places
        sizes, found = sized(block, at)
        is_frame = (sizes > 0) & (found == keys)
    return places[is_frame]


def frames_at(kind: str, block: Bytes, places: Places) -> tuple[Places, Places]:
    """Return of each place the length of the frame there (0: there is none), and what its recording has in common."""
    return _SIZED[kind](block, places)


def unlike(kind: str, block: Bytes, places: Places, key: int) -> Places:
    """Return the places whose frames are of another rate or number of channels than those with that key."""
    places = places[places + HEAD_BYTES <= len(block)]
    differing: Places = places[_SIZED[kind](block, places)[1] != key]
    return differing


def key_of(kind: str, head: bytes) -> int:
    """Return what is the same in all frames of the recording that begins with these bytes."""
    return int(_SIZED[kind](np.frombuffer(head.ljust(HEAD_BYTES, b"\0"), np.uint8), np.zeros(1, np.int64))[1][0])


_BITRATES = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


def _mpeg_size(second: int, third: int) -> int:
    """ISO/IEC 11172-3: version 3 is MPEG-1, 2 MPEG-2, 0 MPEG-2.5; layer 3 is I, 2 is II, 1 is III."""
    version, layer = second >> 3 & 3, second >> 1 & 3
    bits, rate = third >> 4, third >> 2 & 3
    if second < 0xE0 or version == 1 or layer == 0 or bits in (0, 15) or rate == 3:
        return 0
    table = _BITRATES.get((3 if version == 3 else 2, layer)) or _BITRATES[2, 2]
    bit_rate, padding = 1000 * table[bits - 1], third >> 1 & 1
    hertz = _RATES[version][rate]
    if layer == 3:
        return (12 * bit_rate // hertz + padding) * 4
    return (72 if layer == 1 and version != 3 else 144) * bit_rate // hertz + padding


_MPEG_SIZES = np.array([[_mpeg_size(second, third) for third in range(256)] for second in range(256)], np.int64)


def _mpeg_audio(block: Bytes, at: Places) -> _Sized:
    second, third = block[at + 1], block[at + 2]
    sizes = np.where(block[at] == 0xFF, _MPEG_SIZES[second, third], 0)
    return sizes, (second & 0x1E).astype(np.int64) << 8 | (third & 0x0C)


def _adts(block: Bytes, at: Places) -> _Sized:
    second, third, fourth = (block[at + index].astype(np.int64) for index in (1, 2, 3))
    size = (fourth & 3) << 11 | block[at + 4].astype(np.int64) << 3 | block[at + 5] >> 5
    is_frame = (block[at] == 0xFF) & (second & 0xF6 == 0xF0) & (third >> 2 & 15 <= 12) & (size > 7)
    return np.where(is_frame, size, 0), second << 16 | third << 8 | fourth & 0xF0


_AC3_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def _ac3_size(fifth: int) -> int:
    rate, code = fifth >> 6, fifth & 63
    if rate == 3 or code >= 2 * len(_AC3_KILOBITS):
        return 0
    kilobits = _AC3_KILOBITS[code // 2]
    return 2 * (2 * kilobits, kilobits * 320 // 147 + code % 2, 3 * kilobits)[rate]


_AC3_SIZES = np.array([_ac3_size(fifth) for fifth in range(256)], np.int64)


def _ac3(block: Bytes, at: Places) -> _Sized:
    """ETSI TS 102 366: AC-3 to bit stream identification 10, Enhanced AC-3 from there to 16."""
    version = block[at + 5].astype(np.int64) >> 3
    enhanced = 2 * (((block[at + 2].astype(np.int64) & 7) << 8 | block[at + 3]) + 1)
    sizes = np.where(version <= 10, _AC3_SIZES[block[at + 4]], np.where(version <= 16, enhanced, 0))
    return np.where((block[at] == 0x0B) & (block[at + 1] == 0x77), sizes, 0), version


def _dts(block: Bytes, at: Places) -> _Sized:
    sixth, seventh, eighth = (block[at + index].astype(np.int64) for index in (5, 6, 7))
    size = ((sixth & 3) << 12 | seventh << 4 | eighth >> 4) + 1
    is_frame = size >= 96
    for index, value in enumerate((0x7F, 0xFE, 0x80, 0x01)):
        is_frame &= block[at + index] == value
    return np.where(is_frame, size, 0), np.zeros_like(at)


def _loas(block: Bytes, at: Places) -> _Sized:
    size = (block[at + 1].astype(np.int64) & 0x1F) << 8 | block[at + 2]
    is_frame = (block[at] == 0x56) & (block[at + 1] >= 0xE0) & (size > 3)
    return np.where(is_frame, size + 3, 0), np.zeros_like(at)


_AMR_NARROW = (13, 14, 16, 18, 20, 21, 27, 32, 6)
_AMR_WIDE = (17, 24, 33, 37, 41, 47, 51, 59, 61, 6)
_AMR_NOTHING = (14, 15)
"""Types of frames that hold nothing: lost, or not sent."""


def _amr_sizes(sizes: tuple[int, ...]) -> Places:
    """RFC 4867, section 5.3: by the first byte of a frame, with its type and whether it is good."""
    table = np.zeros(256, np.int64)
    for kind in range(16):
        size = 1 if kind in _AMR_NOTHING else sizes[kind] if kind < len(sizes) else 0
        table[[kind << 3, kind << 3 | 4]] = size
    table[0] = 0  # a bad frame of the lowest rate, by zeros that overwrote others
    return table


_AMR_SIZES = {"amr": _amr_sizes(_AMR_NARROW), "amr-wb": _amr_sizes(_AMR_WIDE)}


def _amr(block: Bytes, at: Places) -> _Sized:
    return _AMR_SIZES["amr"][block[at]], np.zeros_like(at)


def _amr_wide(block: Bytes, at: Places) -> _Sized:
    return _AMR_SIZES["amr-wb"][block[at]], np.zeros_like(at)


def _transport(block: Bytes, at: Places) -> _Sized:
    is_packet = (block[at] == 0x47) & (block[at + 1] < 0x80) & (block[at + 3] & 0x30 > 0)
    return np.where(is_packet, 188, 0), np.zeros_like(at)


_SIZED: dict[str, Callable[[Bytes, Places], _Sized]] = {
    "mpa": _mpeg_audio,
    "adts": _adts,
    "ac3": _ac3,
    "dts": _dts,
    "loas": _loas,
    "ts": _transport,
    "amr": _amr,
    "amr-wb": _amr_wide,
}
SPEECH_FIRSTS = {kind: np.flatnonzero(sizes).tolist() for kind, sizes in _AMR_SIZES.items()}
"""The first bytes of frames of speech codecs, by their kind: too common to find a recording by them."""
FIRST_PAIRS = {
    "mpa": [(0xFF, second) for second in range(0xE2, 0x100) if _MPEG_SIZES[second].any()],
    "adts": [(0xFF, second) for second in (0xF0, 0xF1, 0xF8, 0xF9)],
    "ac3": [(0x0B, 0x77)],
    "dts": [(0x7F, 0xFE)],
    "loas": [(0x56, second) for second in range(0xE0, 0x100)],
    "ts": [(0x47, 0x40)],
}
"""The first two bytes of frames, by their kind. Of a transport stream: of the packet that tells what is in it."""
