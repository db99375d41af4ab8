"""Recordings that were joined byte by byte, of one format or of several: where each of them begins.

Of some formats FFmpeg reads on by itself (MP3, AAC, transport streams). Of others it stops after the first recording,
or takes what follows for sound. A recording is passed over by its structure as far as that is known, and searched for
the beginning of another one where it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

from cesar.pipeline.media.structure.chunked import TAGS
from cesar.pipeline.media.structure.damage import Damage, padding_for, resumes_at
from cesar.pipeline.media.structure.extents import extent_of
from cesar.pipeline.media.structure.frame_chains import key_of
from cesar.pipeline.media.structure.signatures import FRAMED, SELF_JOINING, Wanted, first_beginning, id3_end, kind_at

_SAMPLES_ONLY = frozenset({"flac", "tta", "wv", "voc", "au", "amr", "ape", "dsf"}) | FRAMED
"""Formats in which frames of another one are no part of the recording."""
_INTERLEAVED = frozenset({"matroska", "ogg", "asf", "flv", "ps", "nut", "rm", "swf"})
"""Formats that have a header between any few frames: a longer chain of them is no part of the recording."""

_BEGINNING_ANYWHERE = frozenset({"ogg", "wv"})
"""Formats whose first pages and blocks look like all others."""
_OF_SAMPLES_MOSTLY = frozenset({"wav", "rf64", "w64"})
_HEADER_BYTES = 4096
_PCM_TAGS = (1, 3, 6, 7, 0xFFFE)
_OF_MANY_CODECS = frozenset({"nut", "avi", "mp4", "matroska", "asf", "mxf", "caf"})
"""Formats that hold frames of others with all their headers."""
_MIN_AFTER_ZEROS = 12
"""Frames in a row."""
_MIN_REST_BYTES = 2**13
_MAX_DAMAGES = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """A recording in a file."""

    start: int
    kind: str
    damages: tuple[Damage, ...] = ()
    """Bytes of it that are nothing of its format."""
    is_cut_off: bool = False
    """Whether its last part is incomplete."""
    rest_bytes: int = 0
    """So many bytes at its end are of no known form."""


def recordings(file: BinaryIO, size: int, most: int, on_step: Callable[[], None]) -> list[Found]:
    """Return the recordings in a file, the first at 0; none if the format of that is not known.

    most: more are not looked for. on_step: called often.
    """
    kind = kind_at(file, 0) or _frames_after_zeros(file, size)
    found: list[Found] = []
    following = None if kind is None else (0, kind)
    while following and len(found) <= most:
        recording, following = _recording(file, size, following[0], following[1], on_step)
        found.append(recording)
    return found


_MAX_ZEROS = 2**30
_AFTER_ZEROS = 2**16


def _frames_after_zeros(file: BinaryIO, size: int) -> str | None:
    """Return the kind of bare frames that begin after zeros: the beginning was overwritten, or never came."""
    at = 0
    while at < min(size, _MAX_ZEROS):
        file.seek(at)
        block = file.read(_AFTER_ZEROS)
        if left := len(block.lstrip(b"\0")):
            at += len(block) - left
            break
        at += len(block)
    if not at:
        return None
    wanted = Wanted("", _MIN_AFTER_ZEROS, is_any=False)
    following = first_beginning(file, at, min(size, at + _AFTER_ZEROS), wanted, lambda: None)
    return following[1] if following and following[1] in FRAMED - {"ts"} else None


_Next = tuple[int, str] | None


def _recording(file: BinaryIO, size: int, start: int, kind: str, on_step: Callable[[], None]) -> tuple[Found, _Next]:
    damages: list[Damage] = []
    at: int | None = None
    while True:
        extent = extent_of(file, kind, start, size, at)
        found = Found(start, kind, tuple(damages), extent.is_cut_off)
        if extent.end >= size:
            return found, None
        if extent.is_joint:
            return found, (extent.end, kind)
        if extent.is_whole and (other := kind_at(file, extent.end)) and (other != kind or kind not in SELF_JOINING):
            return found, (extent.end, other)
        resumed = None
        if extent.last is not None and len(damages) < _MAX_DAMAGES:
            resumed = resumes_at(file, kind, extent.last + 1, size)
            if resumed == extent.end:
                return replace(found, is_cut_off=True), None
        is_any = extent.is_whole or kind not in _OF_MANY_CODECS
        wanted = Wanted(kind, _min_chain(file, kind, start), _key(file, kind, start), is_any)
        following = first_beginning(file, max(extent.end, start + 1), resumed or size, wanted, on_step)
        if following or resumed is None:
            rest = 0 if following or not extent.is_whole else _rest_bytes(file, extent.end, size)
            return replace(found, rest_bytes=rest), following
        is_within = kind == "flv" or resumed < extent.end  # FFmpeg takes a damaged tag for a change of the codec
        begin = extent.last if is_within and extent.last is not None else extent.end
        damages.append(Damage(begin, resumed, padding_for(file, begin, resumed) if kind == "mp4" else 0))
        at = resumed
        if kind in _BEGINNING_ANYWHERE and kind_at(file, resumed) == kind:
            return replace(found, damages=tuple(damages)), (resumed, kind)


def _min_chain(file: BinaryIO, kind: str, start: int) -> int | None:
    """Return how many frames in a row are another recording, within one of this kind; None: none are."""
    if kind in _SAMPLES_ONLY or (kind in _OF_SAMPLES_MOSTLY and _is_pcm(file, start)):
        return 6
    return 24 if kind in _INTERLEAVED else None


def _key(file: BinaryIO, kind: str, start: int) -> int | None:
    """Of ADTS: FFmpeg decodes frames of another rate by the first one's, to noise."""
    file.seek(start)
    head = file.read(10)
    if length := id3_end(head):
        file.seek(start + length)
        head = file.read(10)
    return key_of(kind, head) if kind == "adts" and head.strip(b"\0") else None


def _is_pcm(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    head = file.read(_HEADER_BYTES)
    at = head.find(b"fmt ")
    content = at + (24 if head[:4] == b"riff" else 8)
    return at >= 0 and int.from_bytes(head[content : content + 2], "little") in _PCM_TAGS


def _rest_bytes(file: BinaryIO, start: int, size: int) -> int:
    """Count what follows a recording and is neither tag nor padding."""
    file.seek(start)
    head = file.read(_MIN_REST_BYTES)
    if len(head) < _MIN_REST_BYTES or head.lstrip(b"\0").startswith(TAGS) or not head.strip(b"\0"):
        return 0
    return size - start
