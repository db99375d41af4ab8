"""Which languages a recording is in, by its finished chunks, and what the reader has to be told about that.

Computed where all chunks are at hand, also those of an earlier run: so it is the same after a resumption.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cesar.engines.languages import UNKNOWN, language_name
from cesar.ledger import short_clock
from cesar.options import TranscribeOptions
from cesar.transcript import Chunk

_UNSURE = 0.7
"""A guess that is less likely than this is called one. docs/benchmarks.md has the table behind it."""
_MOST_SPANS = 5


@dataclass(frozen=True, slots=True)
class Spoken:
    """The language of a recording, and how likely it is."""

    language: str
    probability: float


def spoken_in(chunks: Sequence[Chunk], guess: Spoken) -> Spoken:
    """Return the language of most of the text; without any text, the first guess."""
    seconds: defaultdict[str, float] = defaultdict(float)
    weighted: defaultdict[str, float] = defaultdict(float)
    for chunk in chunks:
        for segment in chunk.segments:
            seconds[segment.language] += segment.end - segment.start
            weighted[segment.language] += (segment.end - segment.start) * chunk.language_probability
    seconds.pop("", None)
    if not seconds or (language := max(seconds, key=lambda code: seconds[code])) == guess.language:
        return guess
    return Spoken(language, round(weighted[language] / seconds[language], 4))


def warnings(chunks: Sequence[Chunk], spoken: Spoken, options: TranscribeOptions) -> Iterator[str]:
    """Yield warnings where the language is a guess, changes, or is clearly not that of the text."""
    if options.language is None and spoken.language != UNKNOWN and spoken.probability < _UNSURE:
        yield (
            f"the language, {_named(spoken.language)}, is a guess: its probability is {spoken.probability:.2f}; "
            "if it is wrong, name the right one (--language)"
        )
    yield from _changes(chunks, spoken.language)
    yield from _mismatches(chunks, options)


def _changes(chunks: Sequence[Chunk], main: str) -> Iterator[str]:
    stretches: dict[str, list[tuple[float, float]]] = {}
    before = ""
    for segment in (segment for chunk in chunks for segment in chunk.segments):
        if segment.language not in ("", main):
            _extend(stretches.setdefault(segment.language, []), segment.start, segment.end, segment.language == before)
        before = segment.language
    for language, spans in stretches.items():
        yield f"the language changes: {_named(language)} at {_written(spans)}, {_named(main)} elsewhere"


def _mismatches(chunks: Sequence[Chunk], options: TranscribeOptions) -> Iterator[str]:
    stretches: dict[str, list[tuple[float, float]]] = {}
    before = ""
    for chunk in chunks:
        if chunk.other_language and (chunk.segments or _has_dropped(chunk)):
            spans = stretches.setdefault(chunk.other_language, [])
            _extend(spans, chunk.start, chunk.end, chunk.other_language == before)
        before = chunk.other_language
    asked_for = options.language or options.languages
    remedy = "leave the language out to have it detected" if asked_for else "if you know it, name it (--language)"
    for language, spans in stretches.items():
        if language == UNKNOWN:
            yield f"the language of the speech at {_written(spans)} is not clear, and its text may be false: {remedy}"
            continue
        yield f"there is speech at {_written(spans)} that is clearly {_named(language)}, and its text is not: {remedy}"


def _has_dropped(chunk: Chunk) -> bool:
    """Whether speech gave a text that was not believed: looked for in the wrong language, it often isn't."""
    return any(span.kind == "dropped" for span in chunk.ledger)


def _extend(spans: list[tuple[float, float]], start: float, end: float, goes_on: bool) -> None:
    if spans and goes_on:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))


def _written(spans: Sequence[tuple[float, float]]) -> str:
    shown = ", ".join(f"{short_clock(start)}-{short_clock(end)}" for start, end in spans[:_MOST_SPANS])
    more = len(spans) - _MOST_SPANS
    return f"{shown} and {more} more" if more > 0 else shown


def _named(language: str) -> str:
    return f"{language_name(language)} ({language})"
