from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from cesar.ledger import chunk_ledger, dropped_s, dropped_warning, has_speech, improbable_warning, whole_ledger
from cesar.transcript import NOT_ASKED_FOR, Chunk, Segment, Span


def milliseconds(highest: int) -> st.SearchStrategy[float]:
    return st.integers(0, highest).map(lambda ms: round(ms / 1000, 3))


def spans(highest: int, max_size: int = 8) -> st.SearchStrategy[list[tuple[float, float]]]:
    """Generate intervals in order, without overlap."""
    edges = st.lists(st.integers(0, highest), max_size=2 * max_size, unique=True).map(sorted)
    return edges.map(lambda e: [(a / 1000, b / 1000) for a, b in zip(e[::2], e[1::2], strict=False)])


def assert_covers(ledger, start: float, end: float) -> None:
    if start == end:
        assert list(ledger) == []
        return
    assert ledger[0].start == start
    assert ledger[-1].end == end
    assert all(span.start < span.end for span in ledger)
    assert all(before.end == after.start for before, after in pairwise(ledger))


def at(ledger: Sequence[Span], time: float) -> Span:
    return next(span for span in ledger if span.start <= time < span.end)


# The ledger of a chunk.


def test_speech_is_speech_and_the_rest_is_silence():
    assert chunk_ledger(0, 5, [(1, 2), (3, 4)], []) == [
        Span(0, 1, "silence"),
        Span(1, 2, "speech"),
        Span(2, 3, "silence"),
        Span(3, 4, "speech"),
        Span(4, 5, "silence"),
    ]


def test_speech_without_text_is_dropped_with_its_reason_and_text():
    assert chunk_ledger(0, 5, [(1, 4)], [Span(2, 5, "dropped", "no words heard", "hm")]) == [
        Span(0, 1, "silence"),
        Span(1, 2, "speech"),
        Span(2, 4, "dropped", "no words heard", "hm"),
        Span(4, 5, "silence"),
    ]


def test_adjacent_spans_of_the_same_kind_are_merged():
    assert chunk_ledger(0, 3, [(0, 1), (1, 3)], []) == [Span(0, 3, "speech")]


def test_spans_are_clipped_to_the_chunk():
    assert chunk_ledger(1, 2, [(0, 5)], [Span(1.5, 9, "dropped", "x")]) == [
        Span(1, 1.5, "speech"),
        Span(1.5, 2, "dropped", "x"),
    ]


@given(milliseconds(5_000), milliseconds(15_000), spans(20_000), spans(20_000))
def test_a_chunk_ledger_covers_the_chunk_without_gaps_or_overlaps(start, length, speech, dropped):
    end = round(start + length, 3)
    dropped_spans = [Span(a, b, "dropped", f"reason {a}", "text") for a, b in dropped]
    ledger = chunk_ledger(start, end, speech, dropped_spans)
    assert_covers(ledger, start, end)
    for a, b in pairwise(sorted({start, end, *(t for pair in speech + dropped for t in pair if start < t < end)})):
        spoken = any(x <= a and b <= y for x, y in speech)
        dropped_here = [(x, y) for x, y in dropped if x <= a and b <= y]
        has_speech = any(max(x, c, start) < min(y, d, end) for x, y in dropped_here for c, d in speech)
        expected = "speech" if spoken else "silence"
        if dropped_here and (spoken or not has_speech):
            expected = "dropped"
        assert at(ledger, a).kind == expected


# The ledger of a whole recording.


def chunk(start: float, end: float) -> Chunk:
    middle = round((start + end) / 2, 3)
    ledger = [Span(start, middle, "speech"), Span(middle, end, "dropped", "no words heard")]
    return Chunk(start, end, (), tuple(span for span in ledger if span.end > span.start))


def test_between_chunks_there_is_silence():
    ledger = whole_ledger([chunk(1, 3), chunk(5, 7)], 9, start=0, end=None)
    assert [(span.start, span.end, span.kind) for span in ledger] == [
        (0, 1, "silence"),
        (1, 2, "speech"),
        (2, 3, "dropped"),
        (3, 5, "silence"),
        (5, 6, "speech"),
        (6, 7, "dropped"),
        (7, 9, "silence"),
    ]


def test_parts_outside_the_requested_range_are_dropped_as_not_asked_for():
    ledger = whole_ledger([], 9, start=2, end=5)
    assert ledger == (
        Span(0, 2, "dropped", "not asked for"),
        Span(2, 5, "silence"),
        Span(5, 9, "dropped", "not asked for"),
    )


def test_a_chunk_that_ends_a_millisecond_after_the_requested_range_is_covered_once():
    ledger = whole_ledger([chunk(0, 2.001)], 5, start=0, end=2)
    assert_covers(ledger, 0, 5)
    assert ledger[-1] == Span(2.001, 5, "dropped", NOT_ASKED_FOR)


def test_a_recording_without_speech_is_all_silence():
    assert whole_ledger([], 9, start=0, end=None) == (Span(0, 9, "silence"),)


def test_an_end_after_the_end_of_the_recording_changes_nothing():
    assert whole_ledger([], 9, start=0, end=100) == (Span(0, 9, "silence"),)


@given(spans(60_000), milliseconds(60_000), milliseconds(30_000))
def test_the_ledger_covers_the_recording_without_gaps_or_overlaps(planned, first, more):
    chunks = [chunk(a, b) for a, b in planned]
    begin = min([first, *(c.start for c in chunks)])
    end = max([0.001, begin, *(c.end for c in chunks)])
    duration = round(end + more, 3)
    assert_covers(whole_ledger(chunks, duration, start=begin, end=None), 0, duration)
    assert_covers(whole_ledger(chunks, duration, start=begin, end=end), 0, duration)


@given(st.floats(0, 5), st.floats(6, 10))
def test_the_ledger_covers_the_recording_for_any_requested_range(start, end):
    """Chunk times are whole samples rounded to milliseconds; the caller's start and end may be anything."""
    first, last = round(start * 16_000), round(end * 16_000)
    planned = chunk(round(first / 16_000, 3), round(last / 16_000, 3))
    assert_covers(whole_ledger([planned], 12.0, start=start, end=end), 0, 12.0)


# Warnings.

SILENT = [Span(0, 2, "silence"), Span(2, 3, "dropped", NOT_ASKED_FOR)]
NOTHING_HEARD = Span(3.9, 5.0, "dropped", "no words heard")
HALLUCINATED = Span(3725, 3726.5, "dropped", "probably invented", "Thank you.")


def test_speech_silence_and_parts_outside_the_requested_range_give_no_warning():
    assert list(dropped_warning([*SILENT, Span(3, 4, "speech")], has_text=True)) == []


def test_a_warning_says_how_much_was_dropped_where_and_why():
    ledger = [NOTHING_HEARD, HALLUCINATED, replace(NOTHING_HEARD, start=8000, end=8001)]
    (warning,) = dropped_warning(ledger, has_text=True)
    assert warning == (
        "3 stretches (3.6 s) gave no text: no words heard at 0:03, 2:13:20, probably invented at 1:02:05; "
        "see the ledger in the JSON output"
    )


def test_a_stretch_too_short_for_a_word_gives_no_warning_beside_text():
    tiny = Span(13.228, 13.248, "dropped", "after the sound's end")
    assert list(dropped_warning([tiny], has_text=True)) == []
    assert len(list(dropped_warning([tiny], has_text=False))) == 1


def test_a_warning_says_that_there_is_no_text_at_all():
    (warning,) = dropped_warning([HALLUCINATED], has_text=False)
    assert warning.startswith("there is no text, although speech was detected: 1 stretch (1.5 s)")


def test_a_warning_stays_short():
    ledger = [replace(NOTHING_HEARD, start=at, end=at + 1.0) for at in range(0, 2000, 2)]
    (warning,) = dropped_warning(ledger, has_text=True)
    assert "1000 stretches (1000.0 s)" in warning
    assert "0:00, 0:02, 0:04, 0:06, 0:08 and 995 more times" in warning


def test_speech_was_detected_if_any_span_is_transcribed_or_dropped():
    assert not has_speech(SILENT)
    assert has_speech([*SILENT, NOTHING_HEARD])
    assert has_speech([*SILENT, Span(3, 4, "speech")])


def test_dropped_seconds_exclude_parts_outside_the_requested_range():
    assert dropped_s([*SILENT, NOTHING_HEARD, HALLUCINATED]) == 2.6


def test_text_that_the_model_finds_improbable_gets_one_warning_with_its_places():
    texts = [Segment(float(at), at + 1.0, "Take care.", avg_logprob=-1.2) for at in range(7)]
    (warning,) = improbable_warning([Segment(90.0, 91.0, "And so.", avg_logprob=-0.9), *texts])
    assert warning.startswith("the model finds the text at 0:00, 0:01, 0:02, 0:03, 0:04 and 2 more times improbable")
    assert list(improbable_warning([Segment(0.0, 1.0, "And so.", avg_logprob=-0.9)])) == []
