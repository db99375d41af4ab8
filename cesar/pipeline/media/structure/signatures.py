"""How recordings begin, by the first bytes of each format, and the search for such a beginning in a file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cesar.pipeline.media.structure.frame_chains import FIRST_PAIRS, Places, chains, unlike

_INITIAL = b"".join(b"\\x%02x" % flags for flags in range(256) if flags & 8)
"""WavPack: flags of the first block of those that begin at the same sample."""
_BEGINNINGS = (
    ("matroska", b"\x1aE", rb"\x1aE\xdf\xa3.{1,60}?(webm|matroska)"),
    ("mp4", b"\0\0", rb"\0\0[\0-\x03].ftyp[\x20-\x7e]{4}"),
    ("ogg", b"Og", rb"OggS\0\x02"),
    ("wav", b"RI", rb"RIFF.{4}WAVE[ -~]{4}"),
    ("avi", b"RI", rb"RIFF.{4}AVI LIST"),
    ("rf64", b"RF", rb"RF64.{4}WAVE[ -~]{4}"),
    ("w64", b"ri", rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0"),
    ("aiff", b"FO", rb"FORM.{4}AIF[FC][ -~]{4}"),
    ("caf", b"ca", rb"caff\0\x01\0\0desc"),
    ("au", b".s", rb"\.snd\0\0[\0-\x0f].{5}\0\0\0[\x01-\x1b]\0[\0-\x0b].{2}\0\0\0[\x01-\x40]"),
    ("flac", b"fL", rb"fLaC[\0\x80]\0\0\x22"),
    ("tta", b"TT", rb"TTA1\x01\0"),
    ("wv", b"wv", rb"wvpk.{4}[\x02-\x10]\x04.{6}\0{4}.{5}[%s]" % _INITIAL),
    ("voc", b"Cr", rb"Creative Voice File\x1a"),
    ("asf", b"0&", rb"0&\xb2u\x8ef\xcf\x11\xa6\xd9\0\xaa\0b\xcel"),
    ("flv", b"FL", rb"FLV\x01[\x01\x04\x05]\0\0\0\x09\0\0\0\0"),
    ("nut", b"nu", rb"nut/multimedia container\0"),
    ("rm", b".R", rb"\.RMF\0\0\0[\x12\x10]\0[\0\x01]"),
    ("amr", b"#!", rb"#!AMR(-WB|_MC1\.0|-WB_MC1\.0)?\n"),
    ("ape", b"MA", rb"MAC [\x40-\xff]\x0f"),
    ("dsf", b"DS", rb"DSD \x1c\0\0\0\0\0\0\0"),
    ("mpc", b"MP", rb"MPCKSH"),
    ("mxf", b"\x06\x0e", rb"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02"),
    ("ps", b"\0\0", rb"\0\0\x01\xba[\x20-\x3f\x40-\x7f].{7,13}?\0\0\x01[\xba-\xef]"),
)
"""Kind, the first two bytes, and all that is the same in each recording of that kind."""
_AT_KNOWN_PLACES = (
    ("mp4", re.compile(rb"\0.{3}(moov|mdat|wide|free|skip|styp|moof|pnot)", re.DOTALL)),
    ("swf", re.compile(rb"FWS[\x03-\x14].{3}[\0-\x0f][\x30-\x98]", re.DOTALL)),
)
"""How recordings may begin besides. It is too short to be searched for: chance makes such bytes too."""
_CHAIN = 6
"""Frames in a row that make a recording, where one is expected."""
_LONGEST_HEAD = 2**16
_TAG_HEAD_BYTES = 10
_MAX_TAGS = 16
_BLOCK = 2**20

FRAMED = frozenset(FIRST_PAIRS)
SELF_JOINING = FRAMED | {"ps", "nut"}
"""Formats of which FFmpeg reads on by itself, where two recordings are joined."""


_OF_ONE_CODEC = frozenset({"flac", "tta", "wv", "ape", "mpc", "amr", "dsf"})


def kind_at(file: BinaryIO, at: int) -> str | None:
    """Return the kind of recording that begins there; None: none does."""
    file.seek(_past_tags(file, at))
    head = file.read(_LONGEST_HEAD)
    if head[:3] == b"ID3":
        return None
    for kind, magic in _BY_PAIR.get(head[:2], ()):
        if magic.match(head):
            return kind
    values = np.frombuffer(head, np.uint8)
    for kind in FIRST_PAIRS:
        if len(chains(kind, values, np.zeros(1, np.int64), _CHAIN)):
            return kind
    return next((kind for kind, magic in _AT_KNOWN_PLACES if magic.match(head)), None)


def _past_tags(file: BinaryIO, at: int) -> int:
    """Return where the ID3v2 tags that begin there end, or the first that is damaged, or one too many, begins.

    Few tags are passed over except at the beginning: in a file full of them, a search comes here for each.
    """
    for _ in count() if at == 0 else range(_MAX_TAGS):
        file.seek(at)
        head = file.read(_TAG_HEAD_BYTES)
        length = id3_end(head) if at == 0 or head[3:4] in (b"\2", b"\3", b"\4") else 0
        if not length:
            break
        at += length
    return at


@dataclass(frozen=True, slots=True)
class Wanted:
    """What counts as the beginning of another recording."""

    unlike: str
    """A kind that is passed over, if FFmpeg reads on at it by itself."""
    least: int | None
    """So many frames in a row are a recording; None: none are."""
    key: int | None = None
    """What frames of that kind have in common, if those that differ begin another recording."""
    is_any: bool = True
    """Whether formats of one codec count, whose beginning may be content of another format."""

    def has(self, kind: str) -> bool:
        """Whether this kind counts."""
        if kind == self.unlike and kind in SELF_JOINING:
            return False
        return self.is_any or kind not in _OF_ONE_CODEC


def first_beginning(
    file: BinaryIO, start: int, end: int, wanted: Wanted, on_step: Callable[[], None]
) -> tuple[int, str] | None:
    """Find where the first recording begins between two positions, and of what kind it is. on_step: called often."""
    for begin in range(start, end, _BLOCK):
        on_step()
        file.seek(begin)
        block = file.read(_BLOCK + _LONGEST_HEAD)
        places, groups = _promising(block, min(_BLOCK, end - begin))
        found = _chained(block, places, groups, wanted) if wanted.least else []
        for at in places[groups & 1 > 0].tolist():
            if found and at > min(found)[0]:
                break
            if (kind := _magic_kind(file, begin, block, at)) and wanted.has(kind):
                found.append((at, kind))
                break
        if found:
            at, kind = min(found)
            return begin + at, kind
    return None


def _chained(block: bytes, places: Places, groups: Places, wanted: Wanted) -> list[tuple[int, str]]:
    """Return the first chain of frames of each kind."""
    values = np.frombuffer(block, np.uint8)
    found = []
    for group, kind in enumerate(FIRST_PAIRS, 1):
        at = places[groups & (1 << group) > 0]
        if kind == wanted.unlike:
            at = unlike(kind, values, at, wanted.key) if wanted.key is not None else at[:0]
        if len(at := chains(kind, values, at, wanted.least or 0)):
            found.append((int(at[0]), kind))
    return found


def _magic_kind(file: BinaryIO, begin: int, block: bytes, at: int) -> str | None:
    for kind, magic in _BY_PAIR.get(block[at : at + 2], ()):
        if magic.match(block, at):
            return kind
    is_tag = block.startswith(b"ID3", at) and block[at + 3] in (2, 3, 4)
    return kind_at(file, begin + at) if is_tag else None


def id3_end(head: bytes) -> int:
    """Return the length of the ID3v2 tag that begins with these ten bytes; 0: there is none."""
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 0x7F:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return 10 + size + (10 if head[5] & 0x10 else 0)


def tags_end(path: Path) -> int:
    """Return where the ID3v2 tags at the beginning of a file end; 0 if there is none."""
    end = 0
    with path.open("rb") as file:
        while length := id3_end(file.read(10)):
            end += length
            file.seek(end)
    return end


_BY_PAIR: dict[bytes, list[tuple[str, re.Pattern[bytes]]]] = {}
for _name, _pair, _pattern in _BEGINNINGS:
    _BY_PAIR.setdefault(_pair, []).append((_name, re.compile(_pattern, re.DOTALL)))
_GROUPS = np.zeros(2**16, np.uint8)
"""By the first two bytes of a place: bit 0, a format with a header may begin there; bits 1 to 6, a frame."""
for _pair in (*_BY_PAIR, b"ID"):
    _GROUPS[_pair[0] | _pair[1] << 8] |= 1
for _group, _pairs in enumerate(FIRST_PAIRS.values(), 1):
    for _first, _second in _pairs:
        _GROUPS[_first | _second << 8] |= 1 << _group
_AFTER_ZEROS = (b"ftyp", b"\0\0\x01\xba")
"""Where none of these is in a block, none of its many zeros is the beginning of anything."""


def _promising(block: bytes, size: int) -> tuple[Places, Places]:
    """Return where something may begin in the first bytes of a block, in order, and by which groups."""
    all_places, all_groups = [], []
    has_zeros = any(mark in block for mark in _AFTER_ZEROS)
    for odd in (0, 1):
        pairs = np.frombuffer(block, "<u2", max(0, min(size, len(block) - 1) - odd + 1) // 2, odd)
        groups = _GROUPS[pairs]
        places = np.flatnonzero(groups.view(np.bool_) if has_zeros else (groups > 0) & (pairs > 0))
        all_places.append(2 * places + odd)
        all_groups.append(groups[places])
    places = np.concatenate(all_places)
    order = np.argsort(places, kind="stable")
    return places[order], np.concatenate(all_groups)[order].astype(np.int64)
