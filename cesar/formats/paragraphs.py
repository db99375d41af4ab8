"""Segments grouped into paragraphs, by the pauses between sentences and by length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cesar.formats.typography import columns, ends_sentence, flatten, join_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cesar.transcript import Segment

TURN_PAUSE_S = 2.0
"""A pause this long after a sentence always starts a paragraph: a new thought, often a new speaker."""
PAUSE_S = 1.2
"""A pause this long starts a paragraph unless the current one is short."""
SHORT = 200
"""Columns. A shorter paragraph is continued, so that the text of a slow speaker is not a list of lines."""
LONG = 700
"""Columns. A paragraph this long ends with its sentence."""
LONG_S = 90.0
"""A paragraph that lasts this long ends with its sentence."""
UNENDED = 400
"""Columns. If no sentence has ended for this long (Thai, speech without punctuation), a pause is enough."""
ENDLESS = 1200
"""Columns. Without the end of a sentence or a pause, a paragraph ends here."""
ENDLESS_S = 180.0


def paragraphs(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Group segments into paragraphs, which end with a sentence unless the sentence is endless."""
    current: list[Segment] = []
    for segment in segments:
        if current and _begins_paragraph(segment, current):
            yield current
            current = []
        current.append(segment)
    if current:
        yield current


def paragraph_text(paragraph: Sequence[Segment]) -> str:
    """Return the text of a paragraph on one line."""
    return join_texts(flatten(segment.text) for segment in paragraph)


def _begins_paragraph(segment: Segment, before: Sequence[Segment]) -> bool:
    pause_s = segment.start - before[-1].end
    length_s = before[-1].end - before[0].start
    if not ends_sentence(before[-1].text):
        unended = _width(_after_last_sentence(before))
        return (unended >= UNENDED and pause_s >= PAUSE_S) or unended >= ENDLESS or length_s > ENDLESS_S
    width = _width(before)
    return pause_s >= TURN_PAUSE_S or (pause_s >= PAUSE_S and width >= SHORT) or width >= LONG or length_s > LONG_S


def _after_last_sentence(paragraph: Sequence[Segment]) -> Sequence[Segment]:
    ended = [index for index, segment in enumerate(paragraph) if ends_sentence(segment.text)]
    return paragraph[ended[-1] + 1 :] if ended else paragraph


def _width(segments: Sequence[Segment]) -> int:
    return sum(columns(flatten(segment.text))[-1] for segment in segments)
