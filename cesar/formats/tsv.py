"""Tab-separated values, as openai/whisper writes them: for spreadsheets and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cesar.formats.timecode import milliseconds
from cesar.formats.typography import flatten

if TYPE_CHECKING:
    from cesar.transcript import Segment, Transcript


def render(transcript: Transcript) -> str:
    """Render a header and one row per segment: start and end in whole milliseconds, and the text on one line."""
    rows = (_row(segment) for segment in transcript.segments if flatten(segment.text))
    return "".join(["start\tend\ttext\n", *rows])


def _row(segment: Segment) -> str:
    return f"{milliseconds(segment.start)}\t{milliseconds(segment.end)}\t{flatten(segment.text)}\n"
