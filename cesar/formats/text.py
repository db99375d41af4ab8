"""Plain text: one segment a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cesar.formats.typography import flatten

if TYPE_CHECKING:
    from cesar.transcript import Transcript


def render(transcript: Transcript) -> str:
    """Write each segment's text on a line of its own, without times; "" when nothing was said."""
    lines = (flatten(segment.text) for segment in transcript.segments)
    return "".join(f"{line}\n" for line in lines if line)
