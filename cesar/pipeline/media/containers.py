"""Opening a media file: which kinds are recordings at all, and what their headers really state.

FFmpeg opens far more than recordings: generators that play without end, scripts, pictures, playlists that name other
files. So formats and decoders are allowed by list, and what is not on it is not media. Pictures are never decoded.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import av
import av.codec
import av.error

from cesar.errors import NotMedia
from cesar.files.readable import require_readable
from cesar.pipeline.media.mp4_index import require_honest_index
from cesar.pipeline.media.structure.pieces import Piece
from cesar.pipeline.media.structure.signatures import tags_end


def _names(*lists: str) -> frozenset[str]:
    return frozenset(name for line in lists for name in line.split(","))


RECORDINGS = _names(
    # of computers, phones and the web
    "aac,aiff,ape,asf,asf_o,au,avi,caf,flac,flv,kux,live_flv,loas,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8",
    "mmf,mpeg,mpegts,mpegtsraw,nut,ogg,rm,sox,swf,tak,tta,w64,wav,wv,xwma",
    # of dictation machines, telephones and exchanges
    "act,aea,amr,amrnb,amrwb,codec2,dss,g722,g723_1,g726,g726le,g729,gsm,ilbc,lc3,mulaw,alaw,qcp,sln,voc,vqf,wve",
    # of cameras, studios and broadcasters
    "ac3,ac4,daud,dhav,dts,dtshd,dv,eac3,gxf,iamf,ivr,mlp,mlv,mxf,nsv,nuv,pmp,pva,s337m,spdif,truehd,ty,wtv",
    # older, rarer, or scientific
    "aa,aax,adp,adx,apm,avr,bonk,dsf,epaf,hca,hcom,iff,ircam,laf,mtaf,nistsphere,oma,osq,paf,pvf,qoa",
    "rka,rso,sbc,sds,shn,siff,smjpeg,sol,wavarc,wsd,xa",
)
"""Names of FFmpeg's demuxers. A demuxer of several names is allowed if all of them are here."""
_NOT_SOUND = frozenset({"anull", "ftr", "wavesynth"})
"""Decoders that make sound up, or pass it through undecoded."""
_WITHOUT_HEADER = frozenset({"aac", "ac3", "eac3", "adp", "dts", "loas"})
"""Bare streams: FFmpeg guesses their length from the first packets, and may be wrong by a factor of ten."""
_STATING_LENGTH = _names(
    "aa,aiff,ape,asf,asf_o,au,avi,caf,dsf,flac,flv,gxf,matroska,webm,mov,mp4,mpc,mpc8,mxf,nistsphere,rm,tak,tta,w64",
    "wav,wv",
)
"""Formats whose headers state the length. In others FFmpeg guesses from the bit rate or the last timestamp."""
_ONE_LENGTH = _names("asf,asf_o,flv,kux,matroska,webm,rm")
"""Of these, formats with one length for all tracks, which FFmpeg gives as that of each."""
_PACKET_BYTES = 2**13
"""Read at once of a WAV file. By itself FFmpeg takes 40 ms, which makes reading twice as slow."""
_TELEPHONE_RATE = 8_000
"""Of samples without a header (A-law, µ-law), which telephone exchanges write. FFmpeg takes them for 44.1 kHz."""
_PROBED_BYTES = 5_000_000
_PROBED_US = 5_000_000
"""FFmpeg's own limits for finding out what a file holds, stated so that they stay."""
_MIN_BYTES_PER_S = 1.0
"""Silence in the leanest of codecs takes more. A header that states a longer recording is broken."""
_XING_BYTES = 4096
_MAX_BEYOND = 17 / 16
"""How much longer than its first frame says an MP3 is until FFmpeg takes it for several joined."""
_PADDING_AT_ONCE = 2**16


def open_media(path: Path, piece: Piece | None = None) -> av.container.InputContainer:
    """Open a recording, or one piece of it. Raises a subclass of `InputError` where that can't be."""
    require_readable(path)
    if piece is None or not piece.prefix:
        require_honest_index(path, *(() if piece is None else (piece.start, piece.end)))
    options = {
        "protocol_whitelist": "file",  # keeps names and playlists from reaching the network and other protocols
        "format_whitelist": ",".join(_demuxers()),
        "codec_whitelist": ",".join(_decoders()),  # else a cover picture is decoded to see what it is
        "probesize": str(_PROBED_BYTES),
        "analyzeduration": str(_PROBED_US),
        "max_size": str(_PACKET_BYTES),
        "sample_rate": str(_TELEPHONE_RATE),
    }
    source = f"file:{path.absolute()}" if piece is None or piece.is_whole else _Slice(path, piece)
    try:
        return av.open(source, mode="r", metadata_errors="replace", options=options)
    except (av.error.FFmpegError, ValueError, OSError) as error:
        if isinstance(error, av.error.ArgumentError):  # what FFmpeg says of a format that is not on the list
            raise NotMedia(f"{path.name} is not audio or video: its format holds no recordings") from error
        raise NotMedia(f"{path.name} is not audio or video, or is damaged ({_reason(error)})") from error


def expected_length(container: av.container.InputContainer, stream: av.AudioStream) -> float | None:
    """Return the length in seconds as far as the file tells or FFmpeg guesses, for showing progress."""
    if container.format.name in _WITHOUT_HEADER:
        return None
    if container.duration:
        length = float(container.duration) / av.time_base
    elif stream.duration and stream.time_base:
        length = float(stream.duration * stream.time_base)
    else:
        return None
    is_believable = length > 0 and container.size >= _MIN_BYTES_PER_S * length
    return length if is_believable or length < 60 else None


def stated_end(container: av.container.InputContainer, stream: av.AudioStream, path: Path) -> float | None:
    """Return where the sound ends by the header and the file's own clock; None where no header states it."""
    kind = container.format.name
    if kind == "mp3":
        if not _has_frame_count(path):
            return None
    elif not _STATING_LENGTH.intersection(kind.split(",")):
        return None
    is_shared = bool(_ONE_LENGTH.intersection(kind.split(",")))
    if stream.duration and stream.time_base and not is_shared:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if tagged := _tagged_end(stream):
        return tagged
    if len(container.streams) > 1:  # the picture may go on for longer
        return None
    start = (container.start_time or 0) / av.time_base if is_shared else 0.0
    return start + float(container.duration) / av.time_base if container.duration else None


def _tagged_end(stream: av.AudioStream) -> float | None:
    """Matroska's DURATION tag of a track: 00:01:02.345000000."""
    try:
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _has_frame_count(path: Path) -> bool:
    """Tell whether an MP3 begins with a frame that says how many there are (Xing, Info or VBRI).

    That of the first of several files joined to one says nothing of the others, and FFmpeg guesses then.
    """
    begin = tags_end(path)
    with path.open("rb") as file:
        file.seek(begin)
        beginning = file.read(_XING_BYTES)
    for name in (b"Xing", b"Info"):
        at = beginning.find(name)
        if at >= 0:
            flags = beginning[at + 7 : at + 8] or b"\0"
            stated = int.from_bytes(beginning[at + 12 : at + 16]) if flags[0] & 3 == 3 else 0
            is_joined = stated > 0 and path.stat().st_size - begin > stated * _MAX_BEYOND
            return bool(flags[0] & 1) and not is_joined
    return b"VBRI" in beginning


class _Slice(io.RawIOBase):
    """Parts of a file, as a file that FFmpeg can read through PyAV."""

    def __init__(self, path: Path, piece: Piece) -> None:
        self._file = path.open("rb")
        self._prefix = piece.prefix
        end = piece.end or os.fstat(self._file.fileno()).st_size
        self._spans = list(_spans(piece, end))
        self._size = len(piece.prefix) + sum(length for _, length in self._spans)
        self._at = 0
        self._patches = piece.patches

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found = self._read_at(self._at, self._size if size < 0 else size)
        self._at += len(found)
        return found

    def _read_at(self, at: int, size: int) -> bytes:
        if at < len(self._prefix):
            return self._prefix[at : at + size]
        at -= len(self._prefix)
        for begin, length in self._spans:
            if at < length and isinstance(begin, bytes):
                return begin[at : at + size] or bytes(min(size, length - at, _PADDING_AT_ONCE))
            if at < length and isinstance(begin, int):
                self._file.seek(begin + at)
                found = self._file.read(min(size, length - at))
                for place, patch in self._patches:
                    found = _patched(found, place - begin - at, patch)
                return found
            at -= length
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


def _spans(piece: Piece, end: int) -> Iterator[tuple[int | bytes, int]]:
    """Yield places in the file, or the first bytes of padding that stands in for what is cut out; and lengths."""
    at = piece.start
    for cut in piece.cuts:
        yield at, cut.start - at
        if cut.padding:
            yield struct.pack(">I4sQ", 1, b"free", max(16, cut.padding)), max(16, cut.padding)
        at = cut.end
    yield at, end - at


def _patched(found: bytes, at: int, patch: bytes) -> bytes:
    """Put a patch over bytes where it touches them; at: where it begins, from their first one on."""
    begin, end = max(0, at), min(len(found), at + len(patch))
    return found if begin >= end else found[:begin] + patch[begin - at : end - at] + found[end:]


@cache
def _demuxers() -> tuple[str, ...]:
    return tuple(sorted(name for name in av.formats_available if RECORDINGS.issuperset(name.split(","))))


@cache
def _decoders() -> tuple[str, ...]:
    return tuple(sorted(name for name in av.codecs_available - _NOT_SOUND if _decodes_sound(name)))


def _decodes_sound(name: str) -> bool:
    try:
        return av.codec.Codec(name, "r").type == "audio"
    except ValueError:  # an encoder only
        return False


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".")
