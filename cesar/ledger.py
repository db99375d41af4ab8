"""The ledger: every second of a recording as speech, silence, or dropped with a reason. Pure arithmetic on spans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from cesar.transcript import NOT_ASKED_FOR, Chunk, Segment, Span

_IMPROBABLE = -1.0
"""Average log-probability below which openai/whisper decodes a text again."""
_MAX_TIMES = 5
"""Number of times that a warning lists for each reason."""


def chunk_ledger(
    start: float, end: float, speech: Iterable[tuple[float, float]], dropped: Sequence[Span]
) -> list[Span]:
    """Cover start…end: speech where it was detected, `dropped` where it produced no text, silence elsewhere.

    Dropped text that touches no speech is kept as well: it must not vanish.

    >>> [span.kind for span in chunk_ledger(0, 3, [(1, 2)], [])]
    ['silence', 'speech', 'silence']
    """
    regions = [(max(start, a), min(end, b)) for a, b in speech if a < end and b > start]
    edges = {start, end}
    edges.update(edge for region in regions for edge in region)
    edges.update(min(max(edge, start), end) for span in dropped for edge in (span.start, span.end))
    return _merged(_classify(a, b, regions, dropped) for a, b in pairwise(sorted(edges)))


def whole_ledger(chunks: Iterable[Chunk], duration: float, *, start: float, end: float | None) -> tuple[Span, ...]:
    """Cover the whole recording: the chunks' ledgers, the silence between them, and the parts outside start…end.

    All chunks lie within start…end, in order, without overlap.
    """
    last = duration if end is None else round(min(end, duration), 3)
    spans = [Span(0.0, round(start, 3), "dropped", NOT_ASKED_FOR)]
    for chunk in chunks:
        spans.append(Span(spans[-1].end, chunk.start, "silence"))
        spans += chunk.ledger
    spans += [Span(spans[-1].end, last, "silence"), Span(last, duration, "dropped", NOT_ASKED_FOR)]
    return tuple(_merged(spans))


def has_speech(ledger: Iterable[Span]) -> bool:
    """Return whether speech was detected anywhere, transcribed or not."""
    return any(span.kind != "silence" and span.reason != NOT_ASKED_FOR for span in ledger)


def dropped_spans(ledger: Iterable[Span]) -> list[Span]:
    """Return the spans that should have produced text but did not, or whose text was rejected."""
    return [span for span in ledger if span.kind == "dropped" and span.reason != NOT_ASKED_FOR]


def dropped_s(ledger: Iterable[Span]) -> float:
    """Return the total length of the dropped spans, in seconds."""
    return round(sum(span.end - span.start for span in dropped_spans(ledger)), 3)


_NO_WORD_S = 0.05
"""Less holds no word: it is no loss beside text."""


def dropped_warning(ledger: Sequence[Span], *, has_text: bool) -> Iterator[str]:
    """Yield a warning that says what was dropped, where and why, if anything was.

    >>> list(dropped_warning([Span(3.2, 5.2, "dropped", "no words heard")], has_text=True))
    ['1 stretch (2.0 s) gave no text: no words heard at 0:03; see the ledger in the JSON output']
    """
    dropped = [span for span in dropped_spans(ledger) if span.end - span.start >= _NO_WORD_S or not has_text]
    if not dropped:
        return
    starts: dict[str, list[str]] = {}
    for span in dropped:
        starts.setdefault(span.reason or "", []).append(short_clock(span.start))
    why = ", ".join(f"{reason} at {_listed(times)}" for reason, times in starts.items())
    count = "1 stretch" if len(dropped) == 1 else f"{len(dropped)} stretches"
    lead = "" if has_text else "there is no text, although speech was detected: "
    yield f"{lead}{count} ({dropped_s(dropped):.1f} s) gave no text: {why}; see the ledger in the JSON output"


def improbable_warning(segments: Sequence[Segment]) -> Iterator[str]:
    """Yield one warning that names the places where the model itself finds the text improbable, if there are any.

    >>> list(improbable_warning([Segment(1.0, 2.0, "Take care, Elmo!", avg_logprob=-1.1)]))
    ['the model finds the text at 0:01 improbable: it may be wrong, or there is no intelligible speech']
    """
    times = [short_clock(segment.start) for segment in segments if segment.avg_logprob < _IMPROBABLE]
    if times:
        yield (
            f"the model finds the text at {_listed(times)} improbable: "
            "it may be wrong, or there is no intelligible speech"
        )


def _listed(times: Sequence[str]) -> str:
    shown = ", ".join(times[:_MAX_TIMES])
    return f"{shown} and {len(times) - _MAX_TIMES} more times" if len(times) > _MAX_TIMES else shown


def short_clock(seconds: float) -> str:
    """Return a time as minutes and seconds, with hours if needed; fractions are rounded down.

    >>> short_clock(83.9), short_clock(3725.5)
    ('1:23', '1:02:05')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _classify(start: float, end: float, speech: Sequence[tuple[float, float]], dropped: Iterable[Span]) -> Span:
    is_speech = any(a <= start and end <= b for a, b in speech)
    for span in dropped:
        is_on_speech = any(a < span.end and span.start < b for a, b in speech)
        if span.start <= start and end <= span.end and (is_speech or not is_on_speech):
            return Span(start, end, "dropped", span.reason, span.text)
    return Span(start, end, "speech" if is_speech else "silence")


def _merged(spans: Iterable[Span]) -> list[Span]:
    """Merge adjacent spans of the same kind; drop empty spans and what is already covered."""
    merged: list[Span] = []
    for given in spans:
        last = merged[-1] if merged else None
        span = replace(given, start=max(given.start, last.end)) if last else given
        if span.end <= span.start:
            continue
        if last and (last.kind, last.reason, last.text) == (span.kind, span.reason, span.text):
            merged[-1] = Span(last.start, span.end, span.kind, span.reason, span.text)
        else:
            merged.append(span)
    return merged
