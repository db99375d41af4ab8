"""Recordings that were joined byte by byte, of one format or of several: where each of them begins.

Of some formats FFmpeg reads on by itself (MP3, AAC, transport streams). Of others it stops after the first recording,
or takes what follows for sound. A recording is passed over by its structure as far as that is known, and searched for
the beginning of another one where it is not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from cesar.pipeline.extents import extent_of
from cesar.pipeline.signatures import FRAMED, SELF_JOINING, first_beginning, kind_at

_SAMPLES_ONLY = frozenset({"flac", "tta", "wv", "voc", "au", "amr", "ape", "dsf", "wav", "rf64", "w64"}) | FRAMED
"""Formats in which frames of another one are no part of the recording."""
_INTERLEAVED = frozenset({"matroska", "ogg", "asf", "flv", "ps", "nut", "rm", "swf"})
"""Formats that have a header between any few frames: a longer chain of them is no part of the recording."""

Beginning = tuple[int, str]
"""Where a recording begins, and its kind."""


def beginnings(file: BinaryIO, size: int, most: int, on_step: Callable[[], None]) -> list[Beginning]:
    """Return where recordings begin, the first at 0; none if the format of that is not known.

    most: more are not looked for. on_step: called often.
    """
    kind = kind_at(file, 0)
    if kind is None:
        return []
    found = [(0, kind)]
    while len(found) <= most and (following := _following(file, size, found[-1], on_step)):
        found.append(following)
    return found


def _following(file: BinaryIO, size: int, beginning: Beginning, on_step: Callable[[], None]) -> Beginning | None:
    start, kind = beginning
    extent = extent_of(file, kind, start, size)
    if extent.end >= size:
        return None
    if extent.is_whole and (other := kind_at(file, extent.end)) and (other != kind or kind not in SELF_JOINING):
        return extent.end, other
    least = None
    if kind in _SAMPLES_ONLY:
        least = 6
    elif kind in _INTERLEAVED:
        least = 24
    return first_beginning(file, max(extent.end, start + 1), size, kind, least, on_step)
