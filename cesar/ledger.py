"""The ledger: every second of a recording as speech, silence, or dropped with a reason. Pure arithmetic on spans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from cesar.transcript import NOT_ASKED_FOR, Chunk, Span


def chunk_ledger(
    start: float, end: float, speech: Iterable[tuple[float, float]], dropped: Sequence[Span]
) -> list[Span]:
    """Cover start…end: speech where it was detected, `dropped` where that speech gave nothing, silence elsewhere.

    Something dropped that touches no speech is shown as well: its text must not vanish.

    >>> [span.kind for span in chunk_ledger(0, 3, [(1, 2)], [])]
    ['silence', 'speech', 'silence']
    """
    regions = [(max(start, a), min(end, b)) for a, b in speech if a < end and b > start]
    edges = {start, end}
    edges.update(edge for region in regions for edge in region)
    edges.update(min(max(edge, start), end) for span in dropped for edge in (span.start, span.end))
    return _joined(_what(a, b, regions, dropped) for a, b in pairwise(sorted(edges)))


def whole_ledger(chunks: Iterable[Chunk], duration: float, *, start: float, end: float | None) -> tuple[Span, ...]:
    """Cover the whole recording: the chunks' ledgers, silence between them, and what lies outside start…end.

    All chunks lie within start…end, in order, without overlap.
    """
    last = duration if end is None else round(min(end, duration), 3)
    spans = [Span(0.0, round(start, 3), "dropped", NOT_ASKED_FOR)]
    for chunk in chunks:
        spans.append(Span(spans[-1].end, chunk.start, "silence"))
        spans += chunk.ledger
    spans += [Span(spans[-1].end, last, "silence"), Span(last, duration, "dropped", NOT_ASKED_FOR)]
    return tuple(_joined(spans))


def _what(start: float, end: float, speech: Sequence[tuple[float, float]], dropped: Iterable[Span]) -> Span:
    is_speech = any(a <= start and end <= b for a, b in speech)
    for span in dropped:
        is_on_speech = any(a < span.end and span.start < b for a, b in speech)
        if span.start <= start and end <= span.end and (is_speech or not is_on_speech):
            return Span(start, end, "dropped", span.reason, span.text)
    return Span(start, end, "speech" if is_speech else "silence")


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Neighbours of one kind become one; what is covered already, and what is empty, goes."""
    joined: list[Span] = []
    for given in spans:
        last = joined[-1] if joined else None
        span = replace(given, start=max(given.start, last.end)) if last else given
        if span.end <= span.start:
            continue
        if last and (last.kind, last.reason, last.text) == (span.kind, span.reason, span.text):
            joined[-1] = Span(last.start, span.end, span.kind, span.reason, span.text)
        else:
            joined.append(span)
    return joined
