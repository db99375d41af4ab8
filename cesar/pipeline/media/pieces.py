"""Files that hold more than their header says: stale lengths, and recordings joined byte by byte.

FFmpeg stops where the first header says that the sound ends, and says nothing of the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from cesar.errors import BadAudio
from cesar.pipeline.media.chunked import FORMS, Chunks, read_chunks
from cesar.pipeline.media.damage import Damage
from cesar.pipeline.media.frame_losses import KINDS, Loss, find_losses
from cesar.pipeline.media.joined import Found, recordings
from cesar.pipeline.media.signatures import tags_end
from cesar.pipeline.media.stale_lengths import length_patches

_PLACEHOLDER = 0x7FFF_0000
"""From here on, a length of a WAV is what programs write that don't know it yet, each another."""
_CUT_OFF_S = 1.0
_LEAST_REST_S = 0.5
_LEAST_REST_BYTES = 4096
"""Shorter remains are padding, or tags that no list of chunks announces."""
_BIG_TAG_BYTES = 2**20
_MOST_SAID = 3
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
    cuts: tuple[Damage, ...] = ()
    """Parts of the file that are left out."""
    prefix: bytes = b""
    """What belongs before the part: the header of samples that have none of their own."""
    holes: tuple[tuple[int, float], ...] = ()
    """Where frames are missing that have no timestamps, in bytes of the part after its cuts; and how many they were."""

    @property
    def is_whole(self) -> bool:
        """Whether the piece is the whole file."""
        return self == Piece()


@dataclass(frozen=True, slots=True)
class Content:
    """The recordings that follow each other in a file, in order."""

    pieces: tuple[Piece, ...]
    warnings: tuple[str, ...] = ()
    suspicions: tuple[str, ...] = ()
    """What is worth saying if nothing else tells that sound is missing."""


def find_pieces(path: Path, on_step: Callable[[], None] = lambda: None) -> Content:
    """Return what recordings are in a file. on_step: called often, where it has to be searched."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        found = recordings(file, size, _MOST_PIECES, on_step)
        if len(found) > _MOST_PIECES:
            raise BadAudio(f"the file is more than {_MOST_PIECES} recordings joined")
        pieces, said = _split(file, found, size)
        pieces, damaged = _without_losses(file, found, pieces, size, on_step)
    if pieces == [Piece()] and _BIG_TAG_BYTES < (end := tags_end(path)) < size:
        pieces = [Piece(start=end)]  # full of pictures, or of a million notes: nothing in it is sound
    said += damaged
    said += _damages_said([damage for recording in found for damage in recording.damages])
    return Content(tuple(pieces), tuple(said), tuple(_suspicions(found, size)))


def _split(file: BinaryIO, found: list[Found], size: int) -> tuple[list[Piece], list[str]]:
    pieces: list[Piece] = []
    said = [f"{len(found)} recordings are joined in this file: they were transcribed one after the other"]
    for recording, following in pairwise([*found, None]):
        assert recording is not None
        end = following.start if following else size
        parts, more = _parts(file, recording.kind, recording.start, end, end if len(found) > 1 else None)
        cuts = tuple(damage for damage in recording.damages if damage.end <= end)
        pieces += [replace(part, cuts=cuts) for part in parts] if cuts else parts
        said += more
    return pieces or [Piece()], said if len(found) > 1 else said[1:]


def _without_losses(
    file: BinaryIO, found: list[Found], pieces: list[Piece], size: int, on_step: Callable[[], None]
) -> tuple[list[Piece], list[str]]:
    """Cut out of recordings that are bare frames what is none, and say so."""
    framed = {recording.start for recording in found if recording.kind in KINDS}
    kinds = {recording.start: recording.kind for recording in found}
    cleared, said = [], list[str]()
    damages: list[Damage] = []
    for piece in pieces:
        if piece.start not in framed:
            cleared.append(piece)
            continue
        end = size if piece.end is None else piece.end
        losses = find_losses(file, kinds[piece.start], piece.start, end, on_step)
        cuts = tuple(Damage(loss.start, loss.end) for loss in losses.within if loss.frames)
        cleared.append(replace(piece, cuts=cuts, holes=tuple(_holes(piece.start, losses.within))))
        damages += cuts
        said += _short_frames_said([loss for loss in losses.within if not loss.frames])
        if losses.end is not None:
            said.append(f"there is no sound from byte {losses.end} of the file to byte {end}: it may be incomplete")
    return cleared, _damages_said(damages) + said


def _holes(start: int, losses: tuple[Loss, ...]) -> Iterator[tuple[int, float]]:
    for loss in losses:
        if loss.frames:
            yield loss.start - start, loss.frames
            start += loss.end - loss.start


def _short_frames_said(losses: list[Loss]) -> list[str]:
    if not losses:
        return []
    places = ", ".join(str(loss.start) for loss in losses[:_MOST_SAID])
    more = f" and at {len(losses) - _MOST_SAID} places more" if len(losses) > _MOST_SAID else ""
    return [
        f"bytes are missing from the file at byte {places}{more}: sound is lost there, and later times are too early"
    ]


def _damages_said(damages: list[Damage]) -> list[str]:
    said = [
        f"the file is damaged from byte {damage.start} to {damage.end}: what sound was there is lost"
        for damage in damages[:_MOST_SAID]
    ]
    if len(damages) > _MOST_SAID:
        said.append(f"{len(damages) - _MOST_SAID} places more are damaged")
    return said


def _suspicions(found: list[Found], size: int) -> Iterator[str]:
    for recording, following in pairwise([*found, None]):
        assert recording is not None
        end = following.start if following else size
        if recording.rest_bytes:
            yield f"the last {recording.rest_bytes} bytes of the file are in no known format: sound may be there"
        elif recording.is_cut_off:
            part = (
                "its last part is incomplete" if end == size else f"the recording that ends at byte {end} is incomplete"
            )
            yield f"the file may be cut off: {part}"


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
