"""Cesar: offline transcription that never loses a recording.

>>> from cesar import AudioTranscriber
>>> for segment in AudioTranscriber("base").stream("interview.mp3"):  # doctest: +SKIP
...     print(f"{segment.start:7.2f} {segment.text}")

The names below are imported when they are first used (PEP 562): `cesar --version` should not wait for them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cesar.errors import CesarError
    from cesar.formats.subtitles.cues import SubtitleOptions
    from cesar.options import TranscribeOptions
    from cesar.transcriber import AudioTranscriber
    from cesar.transcript import Chunk, Progress, Segment, Span, Transcript, Word

__version__ = "0.1.0"

__all__ = [
    "AudioTranscriber",
    "CesarError",
    "Chunk",
    "Progress",
    "Segment",
    "Span",
    "SubtitleOptions",
    "TranscribeOptions",
    "Transcript",
    "Word",
    "__version__",
]

_HOMES = {
    "AudioTranscriber": "cesar.transcriber",
    "CesarError": "cesar.errors",
    "SubtitleOptions": "cesar.formats.subtitles.cues",
    "TranscribeOptions": "cesar.options",
    **dict.fromkeys(("Chunk", "Progress", "Segment", "Span", "Transcript", "Word"), "cesar.transcript"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
