"""Sentences that continue in the next segment: the full stop that the model puts at the end of a window is removed.

Whisper tends to end each window with a full stop, even in the middle of a sentence: "… we are tired out." and then
"with walking". Only the formats for readers (txt, md, srt, vtt) remove such a full stop, and they never change anything
else: no word and no other punctuation. JSON and tsv keep each segment as the model wrote it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from cesar.formats.typography import ends_with_stop, flatten, is_capitalised, starts_in_lower_case

if TYPE_CHECKING:
    from cesar.transcript import Segment, Transcript

LONGEST_PAUSE_S = 3.0
"""After a longer pause a full stop is kept, whatever follows."""


def spoken_segments(transcript: Transcript) -> list[Segment]:
    """Return the segments with text, without the full stops that do not end a sentence.

    A full stop does not end a sentence if the next text begins in lower case within `LONGEST_PAUSE_S`, unless it
    belongs to an abbreviation or, in languages that write them that way, to an ordinal number. A transcript with more
    such places than capitalised segments is assumed to be written without capitals, and is returned unchanged.
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
