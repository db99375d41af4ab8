"""Cesar: offline transcription that never loses a recording.

>>> from cesar import AudioTranscriber
>>> for segment in AudioTranscriber("base").stream("interview.mp3"):  # doctest: +SKIP
...     print(f"{segment.start:7.2f} {segment.text}")
"""

from cesar.errors import CesarError
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
    "TranscribeOptions",
    "Transcript",
    "Word",
    "__version__",
]
