"""Markdown: a document of paragraphs, each with its start time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cesar.formats.paragraphs import paragraph_text, paragraphs
from cesar.formats.sentence_joins import spoken_segments
from cesar.formats.timecode import clock
from cesar.formats.typography import flatten

if TYPE_CHECKING:
    from cesar.transcript import Transcript

_INLINE = re.compile(r"[\\`*_~\[\]<]|&(?=#?\w+;)")
_CLOSING = re.compile(r"(?<= )(?=#+$)")
"""Where marks would be parsed as the end of a heading."""
_BACKSLASH = r"\\"
_LEADING = re.compile(r"(?:#{1,6}|[-+>=]|\d{1,9}(?=[.)]))")


def render(transcript: Transcript) -> str:
    """Render a title, a line about the recording and the transcription, and the paragraphs."""
    spoken = paragraphs(spoken_segments(transcript))
    text = (f"[{clock(paragraph[0].start)}] {escape(paragraph_text(paragraph))}" for paragraph in spoken)
    return "\n\n".join([_title(transcript), _facts(transcript), *text]) + "\n"


def escape(text: str) -> str:
    r"""Put a backslash before characters that Markdown would parse as markup.

    Markup that counts only at the start of a line is escaped at the start of the text.

    >>> print(escape("# of files_in *this* folder"))
    \# of files\_in \*this\* folder
    """
    text = _INLINE.sub(r"\\\g<0>", text)
    if found := _LEADING.match(text):
        at = found.end() if found[0].isdigit() else 0  # "1\." but "\#"
        text = f"{text[:at]}\\{text[at:]}"
    return text


def _title(transcript: Transcript) -> str:
    name = escape(flatten(transcript.origin.recording or ""))
    return f"# {_CLOSING.sub(_BACKSLASH, name) or 'Transcript'}"


def _facts(transcript: Transcript) -> str:
    origin = transcript.origin
    dated = "Recorded" if origin.recorded_at_source == "media" else "File of"  # a copy may have its own date
    facts = [
        f"{dated}: {escape(flatten(origin.recorded_at[:10]))}" if origin.recorded_at else "",
        f"Duration: {clock(transcript.duration)}",
        f"Language: {transcript.language}",
        f"Model: {escape(flatten(transcript.model.name))}",
        f"Transcribed: {escape(flatten(origin.transcribed_at[:10]))}" if origin.transcribed_at else "",
        "unfinished" if transcript.is_partial else "",
    ]
    return " · ".join(filter(None, facts))
