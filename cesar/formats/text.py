"""Plain text in paragraphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cesar.formats.paragraphs import paragraph_text, paragraphs
from cesar.formats.sentence_joins import spoken_segments

if TYPE_CHECKING:
    from cesar.transcript import Transcript


def render(transcript: Transcript) -> str:
    """Render each paragraph on one line, separated by empty lines, without times; "" when nothing was said."""
    found = [paragraph_text(paragraph) for paragraph in paragraphs(spoken_segments(transcript))]
    return "\n\n".join(found) + "\n" if found else ""
