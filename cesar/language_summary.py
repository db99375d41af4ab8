"""The languages of a recording, computed from its finished chunks, and the warnings about them.

The chunks of an earlier run are included, so the result is the same after a resumption.
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
"""A language less likely than this is reported as a guess. The table behind it is in docs/benchmarks.md."""
_MAX_SPANS = 5


@dataclass(frozen=True, slots=True)
class RecordingLanguage:
    """The language of a recording and its probability."""

    language: str
    probability: float


def recording_language(chunks: Sequence[Chunk], guess: RecordingLanguage) -> RecordingLanguage:
    """Return the language of most of the text; if there is no text, the initial guess."""
    seconds: defaultdict[str, float] = defaultdict(float)
    weighted: defaultdict[str, float] = defaultdict(float)
    for chunk in chunks:
        for segment in chunk.segments:
            seconds[segment.language] += segment.end - segment.start
            weighted[segment.language] += (segment.end - segment.start) * chunk.language_probability
    seconds.pop("", None)
    if not seconds or (language := max(seconds, key=lambda code: seconds[code])) == guess.language:
        return guess
    return RecordingLanguage(language, round(weighted[language] / seconds[language], 4))


def warnings(chunks: Sequence[Chunk], spoken: RecordingLanguage, options: TranscribeOptions) -> Iterator[str]:
    """Yield warnings if the language is a guess, changes, or is clearly not that of the text."""
    if options.language is None and spoken.language != UNKNOWN and spoken.probability < _UNSURE:
        yield (
            f"the language, {_label(spoken.language)}, is a guess: its probability is {spoken.probability:.2f}; "
            "if it is wrong, specify the right one (--language)"
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
        yield f"the language changes: {_label(language)} at {_format_spans(spans)}, {_label(main)} elsewhere"


def _mismatches(chunks: Sequence[Chunk], options: TranscribeOptions) -> Iterator[str]:
    stretches: dict[str, list[tuple[float, float]]] = {}
    before = ""
    for chunk in chunks:
        if chunk.other_language and (chunk.segments or _has_dropped(chunk)):
            spans = stretches.setdefault(chunk.other_language, [])
            _extend(spans, chunk.start, chunk.end, chunk.other_language == before)
        before = chunk.other_language
    asked_for = options.language or options.languages
    fix = "omit the language to have it detected" if asked_for else "if you know it, specify it (--language)"
    for language, spans in stretches.items():
        if language == UNKNOWN:
            yield f"the language of the speech at {_format_spans(spans)} is unclear, and its text may be wrong: {fix}"
            continue
        yield f"the speech at {_format_spans(spans)} is clearly {_label(language)}, but its text is not: {fix}"


def _has_dropped(chunk: Chunk) -> bool:
    """Return whether text was rejected, as happens often to text in the wrong language."""
    return any(span.kind == "dropped" for span in chunk.ledger)


def _extend(spans: list[tuple[float, float]], start: float, end: float, continues: bool) -> None:
    if spans and continues:
        spans[-1] = (spans[-1][0], end)
    else:
        spans.append((start, end))


def _format_spans(spans: Sequence[tuple[float, float]]) -> str:
    shown = ", ".join(f"{short_clock(start)}-{short_clock(end)}" for start, end in spans[:_MAX_SPANS])
    more = len(spans) - _MAX_SPANS
    return f"{shown} and {more} more" if more > 0 else shown


def _label(language: str) -> str:
    return f"{language_name(language)} ({language})"
