"""Files that hold more than their header says: stale lengths, and recordings joined byte by byte.

FFmpeg stops where the first header says that the sound ends, and says nothing of the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from cesar.errors import BadAudio
from cesar.pipeline.chunked import FORMS, Chunks, read_chunks
from cesar.pipeline.joined import Beginning, beginnings
from cesar.pipeline.signatures import tags_end
from cesar.pipeline.stale_lengths import length_patches

_PLACEHOLDER = 0x7FFF_0000
"""From here on, a length of a WAV is what programs write that don't know it yet, each another."""
_CUT_OFF_S = 1.0
_LEAST_REST_S = 0.5
_LEAST_REST_BYTES = 4096
"""Shorter remains are padding, or tags that no list of chunks announces."""
_BIG_TAG_BYTES = 2**20
_MOST_PIECES = 100_000
"""A day in pieces of a second. Opening one takes a millisecond, however little sound is in it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file that is a recording by itself."""

    start: int = 0
    end: int | None = None
    """None: the end of the file."""
    patches: tuple[tuple[int, bytes], ...] = ()
    """Positions in the file, and what should be there: lengths that are wrong, since the sound goes on after them."""
    prefix: bytes = b""
    """What belongs before the part: the header of samples that have none of their own."""

    @property
    def is_whole(self) -> bool:
        """Whether the piece is the whole file."""
        return self == Piece()


def find_pieces(path: Path, on_step: Callable[[], None] = lambda: None) -> tuple[list[Piece], list[str]]:
    """Return the recordings that follow each other in a file, in order, and what is to be said about them.

    on_step: called often, where the file has to be searched.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        found = beginnings(file, size, _MOST_PIECES, on_step)
        if len(found) > _MOST_PIECES:
            raise BadAudio(f"the file is more than {_MOST_PIECES} recordings joined")
        pieces, said = _split(file, found, size)
    if pieces == [Piece()] and _BIG_TAG_BYTES < (end := tags_end(path)) < size:
        pieces = [Piece(start=end)]  # full of pictures, or of a million notes: nothing in it is sound
    return pieces, said


def _split(file: BinaryIO, found: list[Beginning], size: int) -> tuple[list[Piece], list[str]]:
    if len(found) < 2:
        return _parts(file, found[0][1], 0, size, None) if found else ([Piece()], [])
    pieces: list[Piece] = []
    said = [f"{len(found)} recordings are joined in this file: they were transcribed one after the other"]
    for (start, kind), (end, _) in pairwise([*found, (size, "")]):
        parts, more = _parts(file, kind, start, end, end)
        pieces += parts
        said += more
    return pieces, said


def _parts(file: BinaryIO, kind: str, start: int, limit: int, end: int | None) -> tuple[list[Piece], list[str]]:
    """Return the blocks of sound of one recording, and what is to be said of their lengths."""
    whole = Piece(start, end)
    chunks = read_chunks(file, kind, start, limit) if kind in FORMS else None
    if chunks is None or not chunks.sounds or (chunks.sounds[-1].length is None and len(chunks.sounds) == 1):
        return [whole], []
    rest = 0 if chunks.is_clear else limit - chunks.end
    second = _bytes_a_second(file, kind, chunks)
    is_stale = rest >= (_LEAST_REST_S * second if second else _LEAST_REST_BYTES)
    said = [_lengths_said(chunks, limit, second)] if is_stale else []
    if kind == "wav" and second and chunks.is_cut_off(limit):
        said += _cut_off(chunks, limit, second)
    if len(chunks.sounds) > 1:
        said.append(f"the sound lies in {len(chunks.sounds)} parts of the file: they were transcribed in their order")
        return _blocks(file, kind, start, chunks, limit if is_stale else chunks.end), said
    if is_stale:
        whole = replace(whole, patches=length_patches(file, kind, start, chunks, limit - chunks.sounds[0].start))
    return [whole], said


def _blocks(file: BinaryIO, kind: str, start: int, chunks: Chunks, limit: int) -> list[Piece]:
    """Return each chunk of samples with the header of the first."""
    pieces = []
    for chunk, following in pairwise([*chunks.sounds, None]):
        assert chunk is not None
        end = limit if following is None else chunk.start + (chunk.length or 0)
        file.seek(start)
        prefix = file.read(chunks.sounds[0].start - start)
        for at, patch in length_patches(file, kind, start, chunks, end - chunk.start):
            prefix = prefix[: at - start] + patch + prefix[at - start + len(patch) :]
        pieces.append(Piece(chunk.start, end, prefix=prefix))
    return pieces


def _bytes_a_second(file: BinaryIO, kind: str, chunks: Chunks) -> int:
    """Return it where a header states it, as those of WAV do; else 0."""
    if kind != "wav" or chunks.header is None:
        return 0
    file.seek(chunks.header.start + 8)
    return int.from_bytes(file.read(4), "little")


def _lengths_said(chunks: Chunks, limit: int, second: int) -> str:
    stated = sum(chunk.length or 0 for chunk in chunks.sounds)
    actual = stated - (chunks.sounds[-1].length or 0) + limit - chunks.sounds[-1].start
    if second:
        lengths = f"{stated / second:.1f} s", f"{actual / second:.1f} s"
    else:
        lengths = f"{stated / 1e6:.1f} MB", f"{actual / 1e6:.1f} MB"
    return f"the header says {lengths[0]} of sound, but the file holds {lengths[1]}: all of it was transcribed"


def _cut_off(chunks: Chunks, limit: int, second: int) -> list[str]:
    """Say that a file is too short for the length in its header; FFmpeg takes what there is for the whole."""
    last = chunks.sounds[-1]
    stated_s, actual_s = (last.length or 0) / second, (limit - last.start) / second
    if (last.length or 0) >= _PLACEHOLDER or stated_s - actual_s < max(_CUT_OFF_S, 0.02 * stated_s):
        return []
    return [f"the sound ends at {actual_s:.1f} s, but the header says {stated_s:.1f} s: the file may be cut off"]
