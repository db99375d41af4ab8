"""Markdown: a document to be read, in paragraphs that begin with the time they were spoken."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cesar.formats.timecode import clock
from cesar.formats.typography import ends_sentence, flatten
from cesar.transcript import UNSPACED_LANGUAGES, Segment, Transcript

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PARAGRAPH_PAUSE_S = 1.2
"""A pause this long after a sentence begins a new paragraph."""
PARAGRAPH_SENTENCES = 6
PARAGRAPH_S = 90.0
"""A paragraph with more sentences or seconds than this ends with its sentence."""
ENDLESS_S = 180.0
"""Where no sentence ever ends (Thai, speech without punctuation), a paragraph this long ends anyway."""

_INLINE = re.compile(r"[\\`*_~\[\]<]|&(?=#?\w+;)")
_LEADING = re.compile(r"(?:#{1,6}|[-+>=]|\d{1,9}(?=[.)]))")


def render(transcript: Transcript) -> str:
    """Write a line that says what this is the transcript of, and then the paragraphs."""
    joiner = "" if transcript.text_language in UNSPACED_LANGUAGES else " "
    spoken = (segment for segment in transcript.segments if flatten(segment.text))
    blocks = [_heading(transcript)]
    for paragraph in paragraphs(spoken):
        text = joiner.join(flatten(segment.text) for segment in paragraph)
        blocks.append(f"[{clock(paragraph[0].start)}] {escape(text)}")
    return "\n\n".join(blocks) + "\n"


def paragraphs(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Gather segments into paragraphs, by the pauses between sentences and then by length."""
    current: list[Segment] = []
    for segment in segments:
        if current and _begins_paragraph(segment, current):
            yield current
            current = []
        current.append(segment)
    if current:
        yield current


def escape(text: str) -> str:
    r"""Put a backslash before what Markdown would take for markup.

    A mark that counts only at the start of a line is escaped at the start of the text.

    >>> print(escape("# of files_in *this* folder"))
    \# of files\_in \*this\* folder
    """
    text = _INLINE.sub(r"\\\g<0>", text)
    if found := _LEADING.match(text):
        at = found.end() if found[0].isdigit() else 0  # "1\." but "\#"
        text = f"{text[:at]}\\{text[at:]}"
    return text


def _heading(transcript: Transcript) -> str:
    facts = [
        f"Language: {transcript.language}",
        f"Duration: {clock(transcript.duration)}",
        f"Model: {escape(flatten(transcript.model.name))}",
    ]
    if transcript.is_partial:
        facts.append("unfinished")
    return " · ".join(facts)


def _begins_paragraph(segment: Segment, before: list[Segment]) -> bool:
    length_s = before[-1].end - before[0].start
    if not ends_sentence(before[-1].text):
        return length_s > ENDLESS_S
    sentences = sum(ends_sentence(earlier.text) for earlier in before)
    pause_s = segment.start - before[-1].end
    return pause_s >= PARAGRAPH_PAUSE_S or sentences > PARAGRAPH_SENTENCES or length_s > PARAGRAPH_S
