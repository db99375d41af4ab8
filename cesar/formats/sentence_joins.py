"""Sentences that go on in the next segment: the full stop that a model puts at the end of its window is dropped.

Whisper hears a recording window by window and likes to end each with a full stop, in the middle of a sentence too:
"… we are tired out." and then "with walking". Only the formats for readers (txt, md, srt, vtt) drop such a stop, and
nothing else is ever changed: no letter, no word, no other mark. JSON and tsv keep each segment as the model wrote it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from cesar.formats.typography import ends_with_stop, flatten, is_capitalised, starts_in_lower_case

if TYPE_CHECKING:
    from cesar.transcript import Segment, Transcript

LONGEST_PAUSE_S = 3.0
"""After a longer pause a full stop stays, whatever follows."""


def spoken_segments(transcript: Transcript) -> list[Segment]:
    """Return the segments that have a text, each without the full stop that the next one shows to be none.

    A stop is none if the text after it begins in lower case within `LONGEST_PAUSE_S`, unless it belongs to an
    abbreviation or, in languages that write them so, to an ordinal number. A transcript with fewer capitals
    than such places is taken to be written without capitals, and is left as it is.
    """
    segments = [segment for segment in transcript.segments if flatten(segment.text)]
    seams = {
        index
        for index, (before, after) in enumerate(pairwise(segments))
        if _goes_on(before, after, transcript.language_of(before))
    }
    if sum(is_capitalised(segment.text) for segment in segments) < len(seams):
        return segments
    return [_without_stop(segment) if index in seams else segment for index, segment in enumerate(segments)]


def _goes_on(before: Segment, after: Segment, language: str) -> bool:
    return (
        before.language == after.language
        and ends_with_stop(before.text, language)
        and starts_in_lower_case(after.text)
        and after.start - before.end <= LONGEST_PAUSE_S
    )


def _without_stop(segment: Segment) -> Segment:
    words = segment.words
    if words and words[-1].text.endswith("."):
        words = (*words[:-1], replace(words[-1], text=words[-1].text.removesuffix(".")))
    return replace(segment, text=segment.text.rstrip().removesuffix("."), words=words)
