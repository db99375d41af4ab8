"""How a recording is sent back: its media type, its file name, and byte ranges."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from urllib.parse import quote

UNKNOWN = "application/octet-stream"
HEAD_BYTES = 64
"""How much of a recording is read to detect its media type."""
_SIGNATURES = (
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
    (b"#!AMR", "audio/amr"),
    (b"caff", "audio/x-caf"),
    (b".snd", "audio/basic"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (b"\xff\xf1", "audio/aac"),
    (b"\xff\xf9", "audio/aac"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"\xff\xfa", "audio/mpeg"),
)
_CONTAINERS = ((b"RIFF", b"WAVE", "audio/wav"), (b"RIFF", b"AVI ", "video/x-msvideo"), (b"FORM", b"AIF", "audio/aiff"))
_BY_EXTENSION = {
    ".3gp": "video/3gpp",
    ".aac": "audio/aac",
    ".aif": "audio/aiff",
    ".aiff": "audio/aiff",
    ".amr": "audio/amr",
    ".avi": "video/x-msvideo",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".mpeg": "video/mpeg",
    ".mpg": "video/mpeg",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".wma": "audio/x-ms-wma",
    ".wmv": "video/x-ms-wmv",
}
_MATROSKA = b"\x1a\x45\xdf\xa3"
_SINGLE_RANGE = re.compile(r"bytes\s*=\s*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))\s*", re.ASCII | re.IGNORECASE)


def detect_media_type(head: bytes, name: str) -> str:
    """Return the media type of a recording by its first bytes, else by its extension; never anything but media.

    >>> [detect_media_type(*it) for it in ((b"RIFF....WAVEfmt ", "talk.html"), (b"<svg>", "a.svg"), (b"", "a.wma"))]
    ['audio/wav', 'application/octet-stream', 'audio/x-ms-wma']
    """
    for signature, media_type in _SIGNATURES:
        if head.startswith(signature):
            return media_type
    for signature, kind, media_type in _CONTAINERS:
        if head.startswith(signature) and head[8:].startswith(kind):
            return media_type
    if head[4:8] == b"ftyp":
        return "audio/mp4" if head[8:11] == b"M4A" else "video/mp4"
    if head.startswith(_MATROSKA):
        return "video/webm" if b"webm" in head else "video/x-matroska"
    return _BY_EXTENSION.get(PurePosixPath(name).suffix.lower(), UNKNOWN)


def content_disposition(kind: str, name: str) -> str:
    r"""Return `Content-Disposition` (RFC 6266): an ASCII name for every client, and the real one.

    >>> content_disposition("inline", 'Café "1".srt')
    'inline; filename="Cafe _1_.srt"; filename*=UTF-8\'\'Caf%C3%A9%20%221%22.srt'
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^\w .()-]", "_", plain, flags=re.ASCII)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def is_usable_range(byte_range: str, if_range: str, tag: str) -> bool:
    """Whether to honour a `Range`: a single valid range, of the version that the caller has.

    Invalid ranges are ignored (RFC 9110, 14.2), and so are several ranges in one, as the standard allows.
    """
    if if_range and if_range.strip() != tag:
        return False
    found = _SINGLE_RANGE.fullmatch(byte_range)
    return found is not None and (not found[2] or int(found[2]) >= int(found[1]))


def is_satisfiable(byte_range: str, size_bytes: int) -> bool:
    """Whether a usable range contains any part of a recording.

    >>> is_satisfiable("bytes=-5", 3), is_satisfiable("bytes=3-", 3), is_satisfiable("bytes=-0", 3)
    (True, False, False)
    """
    found = _SINGLE_RANGE.fullmatch(byte_range)
    if found is None:
        return True
    return int(found[1]) < size_bytes if found[1] is not None else int(found[3]) > 0 and size_bytes > 0
