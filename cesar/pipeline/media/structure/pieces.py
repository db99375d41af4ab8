"""Files that hold more than their header says: stale lengths, and recordings joined byte by byte.

FFmpeg stops where the first header says that the sound ends, and says nothing of the rest.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from cesar.errors import BadAudio
from cesar.pipeline.media.structure.chunked import FORMS, Chunks, read_chunks
from cesar.pipeline.media.structure.damage import Damage
from cesar.pipeline.media.structure.frame_chains import SPEECH_FIRSTS
from cesar.pipeline.media.structure.frame_losses import (
    KINDS,
    Loss,
    Losses,
    find_losses,
    stated_frames,
    with_stated_total,
)
from cesar.pipeline.media.structure.joined import Found, recordings
from cesar.pipeline.media.structure.signatures import tags_end
from cesar.pipeline.media.structure.stale_lengths import length_patches

_PLACEHOLDER = 0x7FFF_0000
"""From here on, a length of a WAV is what programs write that don't know it yet, each another."""
_CUT_OFF_S = 1.0
_CUT_OFF_PART = 0.02
_MAX_CUT_OFF_S = 5.0
"""A recording that ends this much before its header says is reported as cut off."""
_MIN_REST_S = 0.5
_MIN_REST_BYTES = 4096
"""Shorter remains are padding, or tags that no list of chunks announces."""
_WITHOUT_TIMESTAMPS = frozenset({"avi", "voc", "w64", "rf64", "aiff", "caf", "au"})
_OR_LACK_A_PART = ", or a part within the file is missing, after which times are too early"
_INCOMPLETE = "it may be incomplete"
_FRAMES_BY_TAG = {0x50: "mpa", 0x55: "mpa", 0x2000: "ac3", 0x2001: "dts", 0xFF: "adts", 0x1600: "adts"}
"""Codecs of WAV whose frames can be told from other bytes."""
_LONGEST_AMR_LINE = 16
_BIG_TAG_BYTES = 2**20
_BLOCK_TAGS = (0x02, 0x11, 0x31)
"""Codecs of WAV, ADPCM and GSM, whose headers state the samples in a block."""
_MAX_REPORTED = 3
_MAX_PIECES = 100_000
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
    shortages: tuple[str, ...] = ()
    """Lengths in headers that the file is too short for, worth saying if decoding does not show it."""


def find_pieces(path: Path, on_step: Callable[[], None] = lambda: None) -> Content:
    """Return what recordings are in a file. on_step: called often, where it has to be searched."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        found = recordings(file, size, _MAX_PIECES, on_step)
        if len(found) > _MAX_PIECES:
            raise BadAudio(f"the file is more than {_MAX_PIECES} recordings joined")
        pieces, said, shortages = _split(file, found, size)
        pieces, damaged, incomplete = _without_losses(file, found, pieces, size, on_step)
    if pieces == [Piece()] and _BIG_TAG_BYTES < (end := tags_end(path)) < size:
        pieces = [Piece(start=end)]  # full of pictures, or of a million notes: nothing in it is sound
    said += damaged
    said += _damage_warnings([damage for recording in found for damage in recording.damages])
    if any(piece.holes for piece in pieces):  # what is missing is filled
        shortages = []
    return Content(tuple(pieces), tuple(said), (*_suspicions(found, size), *incomplete), tuple(shortages))


def _split(file: BinaryIO, found: list[Found], size: int) -> tuple[list[Piece], list[str], list[str]]:
    """Return the pieces, what to say of them, and what if decoding does not show it."""
    pieces: list[Piece] = []
    shortages: list[str] = []
    said = [f"{len(found)} recordings are joined in this file: they were transcribed one after the other"]
    for recording, following in pairwise([*found, None]):
        assert recording is not None
        end = following.start if following else size
        parts, more, short = _parts(file, recording.kind, recording.start, end, end if len(found) > 1 else None)
        cuts = tuple(damage for damage in recording.damages if damage.end <= end)
        pieces += [replace(part, cuts=cuts) for part in parts] if cuts else parts
        said += more
        shortages += short
    return pieces or [Piece()], said if len(found) > 1 else said[1:], shortages


def _without_losses(
    file: BinaryIO, found: list[Found], pieces: list[Piece], size: int, on_step: Callable[[], None]
) -> tuple[list[Piece], list[str], list[str]]:
    """Cut out of recordings that are bare frames what is none; say so, and what may be worth saying."""
    kinds = {recording.start: recording.kind for recording in found}
    cleared, said, suspicions = [], list[str](), list[str]()
    damages: list[Damage] = []
    for piece in pieces:
        framed = _framed(file, kinds.get(piece.start), piece, size)
        if framed is None:
            cleared.append(piece)
            continue
        losses = _losses(file, framed, on_step)
        is_cut = {loss: framed.kind in SPEECH_FIRSTS or not loss.is_partial for loss in losses.within}
        cuts = tuple(Damage(loss.start, loss.end) for loss in losses.within if is_cut[loss])
        cleared.append(replace(piece, cuts=cuts, holes=tuple(_holes(piece.start, is_cut))))
        damages += [Damage(loss.start, loss.end) for loss in losses.within if not loss.is_partial]
        said += _short_frame_warnings([loss for loss in losses.within if loss.is_partial])
        if losses.end is not None:
            said.append(f"there is no sound from byte {losses.end} of the file to byte {framed.end}: {_INCOMPLETE}")
        if losses.is_cut_off:
            suspicions.append(_cut_off_at(framed.end, size))
    return cleared, _damage_warnings(damages) + said, suspicions


@dataclass(frozen=True, slots=True)
class _Framed:
    """Where frames of one kind lie, that have no timestamps."""

    kind: str
    start: int
    end: int
    stated_bytes: int | None = None
    """How long they are by a header."""


def _framed(file: BinaryIO, kind: str | None, piece: Piece, size: int) -> _Framed | None:
    end = size if piece.end is None else piece.end
    if kind in KINDS:
        return _Framed(kind, piece.start, end)
    if kind == "amr":
        return _amr(file, piece.start, end)
    if kind != "wav" or piece.prefix:
        return None
    chunks = read_chunks(file, kind, piece.start, end)
    if chunks.header is None or len(chunks.sounds) != 1:
        return None
    file.seek(chunks.header.start)
    frames = _FRAMES_BY_TAG.get(int.from_bytes(file.read(2), "little"))
    [sound] = chunks.sounds
    if frames is None or sound.length is None or piece.patches:
        return None
    is_cut_off = sound.start + sound.length > end
    return _Framed(
        frames, sound.start, end if is_cut_off else sound.start + sound.length, sound.length if is_cut_off else None
    )


def _amr(file: BinaryIO, start: int, end: int) -> _Framed | None:
    file.seek(start)
    kind, newline, _ = file.read(_LONGEST_AMR_LINE).partition(b"\n")
    names = {b"#!AMR": "amr", b"#!AMR-WB": "amr-wb"}
    return _Framed(names[kind], start + len(kind) + 1, end) if newline and kind in names else None


def _losses(file: BinaryIO, framed: _Framed, on_step: Callable[[], None]) -> Losses:
    losses = find_losses(file, framed.kind, framed.start, framed.end, on_step)
    if not losses.frames:
        return Losses()
    if framed.stated_bytes is not None:
        return with_stated_total(losses, framed.stated_bytes / losses.usual_bytes)
    stated = stated_frames(file, framed.start) if framed.kind == "mpa" else None
    return losses if stated is None else with_stated_total(losses, float(stated))


def _holes(start: int, is_cut: Mapping[Loss, bool]) -> Iterator[tuple[int, float]]:
    for loss, is_left_out in is_cut.items():
        if loss.frames:
            yield (loss.start if is_left_out else loss.end) - start, loss.frames
        if is_left_out:
            start += loss.end - loss.start


def _short_frame_warnings(losses: list[Loss]) -> list[str]:
    if not losses:
        return []
    places = ", ".join(str(loss.start) for loss in losses[:_MAX_REPORTED])
    more = f" and at {len(losses) - _MAX_REPORTED} places more" if len(losses) > _MAX_REPORTED else ""
    later = "" if all(loss.frames for loss in losses) else ", and later times are too early"
    return [f"bytes are missing from the file at byte {places}{more}: sound is lost there{later}"]


def _damage_warnings(damages: list[Damage]) -> list[str]:
    said = [
        f"the file is damaged from byte {damage.start} to {damage.end}: what sound was there is lost"
        for damage in damages[:_MAX_REPORTED]
    ]
    if len(damages) > _MAX_REPORTED:
        said.append(f"{len(damages) - _MAX_REPORTED} places more are damaged")
    return said


def _suspicions(found: list[Found], size: int) -> Iterator[str]:
    for recording, following in pairwise([*found, None]):
        assert recording is not None
        end = following.start if following else size
        if recording.rest_bytes:
            yield f"the last {recording.rest_bytes} bytes of the file are in no known format: sound may be there"
        elif recording.is_cut_off:
            later = _OR_LACK_A_PART if recording.kind in _WITHOUT_TIMESTAMPS else ""
            yield _cut_off_at(end, size) + later


def _cut_off_at(end: int, size: int) -> str:
    part = "its last part is incomplete" if end == size else f"the recording that ends at byte {end} is incomplete"
    return f"the file may be cut off: {part}"


def _parts(
    file: BinaryIO, kind: str, start: int, limit: int, end: int | None
) -> tuple[list[Piece], list[str], list[str]]:
    """Return the blocks of sound of one recording, and what is to be said of their lengths, too short and too long."""
    whole = Piece(start, end)
    chunks = read_chunks(file, kind, start, limit) if kind in FORMS else None
    if chunks is None or not chunks.sounds or (chunks.sounds[-1].length is None and len(chunks.sounds) == 1):
        return [whole], [], []
    rest = 0 if chunks.is_clear else limit - chunks.end
    second = _bytes_per_s(file, kind, chunks)
    is_stale = rest >= (_MIN_REST_S * second if second else _MIN_REST_BYTES)
    said = [_length_warnings(chunks, limit, second)] if is_stale else []
    short = _cut_off(chunks, limit, second) if kind == "wav" and second and chunks.is_cut_off(limit) else []
    if len(chunks.sounds) > 1:
        said.append(f"the sound lies in {len(chunks.sounds)} parts of the file: they were transcribed in their order")
        return _blocks(file, kind, start, chunks, limit if is_stale else chunks.end), said, short
    if is_stale:
        whole = replace(whole, patches=length_patches(file, kind, start, chunks, limit - chunks.sounds[0].start))
    return [whole], said, short


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


def _bytes_per_s(file: BinaryIO, kind: str, chunks: Chunks) -> float:
    """Return it where a header states it, as those of WAV do; else 0."""
    if kind != "wav" or chunks.header is None:
        return 0.0
    file.seek(chunks.header.start)
    tag, _, rate, stated, block_bytes, _, _, in_block = struct.unpack("<HHIIHHHH", file.read(20).ljust(20, b"\0"))
    if tag in _BLOCK_TAGS and in_block:  # some writers of ADPCM state the bytes of PCM
        return float(rate * block_bytes / in_block)
    return float(stated)


def _length_warnings(chunks: Chunks, limit: int, second: float) -> str:
    stated = sum(chunk.length or 0 for chunk in chunks.sounds)
    actual = stated - (chunks.sounds[-1].length or 0) + limit - chunks.sounds[-1].start
    if second:
        lengths = f"{stated / second:.1f} s", f"{actual / second:.1f} s"
    else:
        lengths = f"{stated / 1e6:.1f} MB", f"{actual / 1e6:.1f} MB"
    return f"the header says {lengths[0]} of sound, but the file holds {lengths[1]}: all of it was transcribed"


def _cut_off(chunks: Chunks, limit: int, second: float) -> list[str]:
    """Return a warning that a file is shorter than its header says; FFmpeg takes what there is for the whole."""
    last = chunks.sounds[-1]
    stated_s, actual_s = (last.length or 0) / second, (limit - last.start) / second
    said = cut_off_warning(actual_s, stated_s)
    return [said] if said and (last.length or 0) < _PLACEHOLDER else []


def cut_off_warning(actual_s: float, stated_s: float) -> str | None:
    """Return a warning if the sound ends before the header says: its end is missing, or a part within it."""
    if actual_s >= stated_s - max(_CUT_OFF_S, min(_CUT_OFF_PART * stated_s, _MAX_CUT_OFF_S)):
        return None
    lengths = f"the sound ends at {actual_s:.1f} s, but the header says {stated_s:.1f} s"
    return f"{lengths}: the file may be cut off, or lack a part, after which times are too early"
