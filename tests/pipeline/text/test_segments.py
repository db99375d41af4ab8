from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.engines.base import TimedWord
from cesar.pipeline.recognition.decoding_passes import PlacedUtterance, Recognized, RejectedSpan
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.chunking import PlannedChunk
from cesar.pipeline.speech.vad import Region
from cesar.pipeline.text.segments import finish, split_sentences
from cesar.transcript import Chunk, Span
from tests.pipeline.strategies import speech_regions


def chunk(start: float, end: float, *regions: tuple[float, float]) -> PlannedChunk:
    spoken = tuple(Region(int(a * SAMPLE_RATE), int(b * SAMPLE_RATE), 0.9) for a, b in regions or ((start, end),))
    return PlannedChunk(int(start * SAMPLE_RATE), int(end * SAMPLE_RATE), spoken)


def said(start: float, end: float, text: str, *word_starts: float) -> PlacedUtterance:
    words = tuple(TimedWord(at, at, word, 0.9) for at, word in zip(word_starts, text.split(), strict=False))
    tokens = tuple(text.encode())
    ends, logprobs = tuple(range(1, len(tokens) + 1)), tuple(-token / 1000 for token in tokens)
    contents = tuple(f"{token:02x}" for token in tokens)
    return PlacedUtterance(
        start, end, text, words, -0.2, 0.01, 1.1, 0.4, int(start * 100), tokens, ends, logprobs, contents
    )


def finished(
    plan: PlannedChunk, *utterances: PlacedUtterance, language: str = "en", rejected: tuple[RejectedSpan, ...] = ()
) -> Chunk:
    return finish(Recognized(plan, [replace(one, language=language) for one in utterances], list(rejected)))


def lines(result: Chunk) -> list[tuple[float, float, str]]:
    return [(segment.start, segment.end, segment.text) for segment in result.segments]


# Sentences.


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Wait... What?! Now.", ["Wait...", "What?!", "Now."]),
        ("Well... maybe not. Yes.", ["Well... maybe not.", "Yes."]),
        ('He said: "Go." "Where?" she asked.', ['He said: "Go."', '"Where?" she asked.']),
        ("Dr. Wu and Mrs. Lee left. St. Ives is far.", ["Dr. Wu and Mrs. Lee left.", "St. Ives is far."]),
        ("J. F. Kennedy spoke. They listened.", ["J. F. Kennedy spoke.", "They listened."]),
        ("Pi is 3.14 or so. Version 2.0 is out.", ["Pi is 3.14 or so.", "Version 2.0 is out."]),
        ("See e.g. Paris, i.e. France, etc. It is far.", ["See e.g. Paris, i.e. France, etc. It is far."]),
        ("Das ist z.B. Äpfeln eigen. Österreich auch.", ["Das ist z.B. Äpfeln eigen.", "Österreich auch."]),
        ("¿Qué? ¡No! Sí.", ["¿Qué?", "¡No!", "Sí."]),
        ("Он пришёл. Она ушла.", ["Он пришёл.", "Она ушла."]),
        ("我来了。你呢？好！", ["我来了。", "你呢？", "好！"]),
        ("「行こう。」と言った。はい。", ["「行こう。」", "と言った。", "はい。"]),
        ("It cost 5. 20 came.", ["It cost 5.", "20 came."]),
        ("no marks at all", ["no marks at all"]),
        ("", []),
        ("   ", []),
    ],
)
def test_text_is_split_where_a_sentence_ends(text, sentences):
    assert split_sentences(text) == sentences


@pytest.mark.parametrize(
    "text", ["Er sah... über den See.", "Ils disent... étrange.", "и т. д. и т. п.", "Ξέρω... όχι."]
)
def test_no_sentence_begins_with_a_small_letter_in_any_script(text):
    assert split_sentences(text) == [text]


@given(st.text(alphabet="aBé。？.!? \"'”)」\n…0", max_size=60))
def test_splitting_loses_no_character(text):
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)


# Segments.


def test_two_sentences_of_one_utterance_become_two_segments():
    result = finished(chunk(0, 10), said(0, 10, "Five. Five."))
    assert lines(result) == [(0, 5, "Five."), (5, 10, "Five.")]


def test_a_boundary_between_sentences_moves_to_the_pause():
    result = finished(chunk(0, 10, (0, 4.3), (4.9, 10)), said(0, 10, "Five. Five."))
    assert lines(result) == [(0, 4.3, "Five."), (4.9, 10, "Five.")]


def test_a_pause_after_the_utterance_does_not_draw_a_boundary_out_of_it():
    plan = chunk(0, 10, (0, 3), (3.6, 10))
    result = finished(plan, said(0, 3, "I really think that we should go now. Oh."), said(3.2, 9, "Then we left."))
    assert [segment.text for segment in result.segments] == [
        "I really think that we should go now.",
        "Oh.",
        "Then we left.",
    ]
    assert result.segments[1].end <= 3
    assert_well_formed(result)


def test_sentences_follow_their_words_where_there_are_words():
    result = finished(chunk(0, 10), said(0, 10, "One two. Three.", 1, 2, 7))
    assert lines(result) == [(1, 7, "One two."), (7, 10, "Three.")]
    assert [[word.text for word in segment.words] for segment in result.segments] == [["One", "two."], ["Three."]]


def test_parts_of_a_sentence_are_joined():
    result = finished(chunk(0, 10), said(0, 3, "We went on"), said(3.2, 6, "and came back."), said(6, 9, "Late."))
    assert lines(result) == [(0, 6, "We went on and came back."), (6, 9, "Late.")]


def test_parts_of_a_sentence_are_joined_without_a_space_where_the_script_has_none():
    result = finished(chunk(0, 10), said(0, 3, "我们走了"), said(3, 6, "又回来了。"), language="zh")
    assert lines(result) == [(0, 6, "我们走了又回来了。")]


def test_a_long_pause_divides_a_sentence():
    result = finished(chunk(0, 10), said(0, 3, "We went on"), said(4, 6, "and came back."))
    assert len(result.segments) == 2


def test_segments_start_and_end_on_speech():
    result = finished(chunk(0, 10, (1, 4), (6, 8)), said(0, 10, "hm"))
    assert lines(result) == [(1, 8, "hm")]


def test_overlapping_utterances_take_turns():
    result = finished(chunk(0, 10), said(0, 6, "One."), said(4, 8, "Two."))
    assert lines(result) == [(0, 6, "One."), (6, 8, "Two.")]


def test_an_utterance_whose_time_is_taken_keeps_its_text():
    result = finished(chunk(0, 10), said(0, 10, "One."), said(9.99, 10, "Two."))
    assert " ".join(segment.text for segment in result.segments) == "One. Two."
    assert_well_formed(result)


def test_the_ledger_holds_speech_silence_and_what_was_dropped():
    rejected_span = RejectedSpan(5.0, 9.0, "the text repeated itself", "na na")
    result = finished(chunk(0, 10, (1, 4), (5, 8)), said(1, 4, "One."), rejected=(rejected_span,))
    assert result.ledger == (
        Span(0, 1, "silence"),
        Span(1, 4, "speech"),
        Span(4, 5, "silence"),
        Span(5, 8, "dropped", "the text repeated itself", "na na"),
        Span(8, 10, "silence"),
    )


def test_decoding_statistics_stay_with_the_segment():
    segment = finished(chunk(0, 10), said(0, 10, "One.")).segments[0]
    assert (segment.avg_logprob, segment.no_speech_prob, segment.compression_ratio) == (-0.2, 0.01, 1.1)


def test_each_sentence_has_its_own_tokens():
    segments = finished(chunk(0, 10), said(0, 10, "Five. Ça va.")).segments
    assert [bytes(segment.tokens).decode() for segment in segments] == ["Five. ", "Ça va."]
    assert [segment.token_logprobs for segment in segments] == [
        tuple(-token / 1000 for token in segment.tokens) for segment in segments
    ]
    assert ["".join(segment.token_bytes) for segment in segments] == [bytes(one.tokens).hex() for one in segments]


def test_parts_that_are_joined_have_the_tokens_of_both_and_the_window_of_the_first():
    (segment,) = finished(chunk(0, 10), said(1, 3, "We went on"), said(3.2, 6, "and came back.")).segments
    assert bytes(segment.tokens) == bytes.fromhex("".join(segment.token_bytes)) == b"We went onand came back."
    assert (segment.seek, segment.temperature) == (100, 0.4)


def assert_well_formed(result: Chunk) -> None:
    for segment in result.segments:
        assert result.start <= segment.start < segment.end <= result.end
        assert segment.text == segment.text.strip() != ""
        assert all(segment.start <= word.start <= word.end <= segment.end for word in segment.words)
        assert all(before.end <= after.start for before, after in pairwise(segment.words))
    assert all(before.end <= after.start for before, after in pairwise(result.segments))
    assert result.ledger[0].start == result.start
    assert result.ledger[-1].end == result.end
    assert all(before.end == after.start for before, after in pairwise(result.ledger))


SENTENCES = ["Yes. No. I think so.", "and then", "Dr. Wu left.", "so", "A. B. C! D? E", "What is it? It is"]


@st.composite
def recognized(draw: st.DrawFn) -> Recognized:
    """A chunk with utterances as `Recognizer` gives them: sorted, within the chunk, maybe overlapping or empty."""
    regions = draw(speech_regions(5).filter(bool))
    start, end = max(0, regions[0].start - 16_000), regions[-1].end + 16_000
    edges = [start, end, *(edge for region in regions for edge in (region.start, region.end))]
    at = st.floats(start / SAMPLE_RATE, end / SAMPLE_RATE) | st.sampled_from([edge / SAMPLE_RATE for edge in edges])
    with_words = draw(st.booleans())
    utterances = []
    for first, second, text in draw(st.lists(st.tuples(at, at, st.sampled_from(SENTENCES)), max_size=5)):
        begin, finish = sorted((first, second))
        word_starts = sorted(draw(st.tuples(*[at] * len(text.split())))) if with_words else []
        utterances.append(said(begin, finish, text, *word_starts))
    utterances.sort(key=lambda one: (one.start, one.end))
    return Recognized(PlannedChunk(start, end, tuple(regions)), utterances)


@given(recognized())
def test_segments_never_overlap_and_stay_within_the_chunk_whatever_was_recognised(one):
    assert_well_formed(finish(one))


@given(recognized())
def test_no_text_is_lost_on_the_way_to_segments(one):
    result = finish(one)
    before = "".join("".join(said.text for said in one.accepted).split())
    after = "".join("".join(segment.text for segment in result.segments).split())
    assert after == before


@given(recognized())
def test_no_token_is_lost_on_the_way_to_segments(one):
    result = finish(one)
    before = [token for said in one.accepted for token in said.tokens]
    assert [token for segment in result.segments for token in segment.tokens] == before
    assert all(len(segment.token_logprobs) == len(segment.tokens) for segment in result.segments)
    for segment in result.segments:
        assert "".join(bytes(segment.tokens).decode().split()) == "".join(segment.text.split())


@given(recognized())
def test_no_word_is_lost_on_the_way_to_segments(one):
    result = finish(one)
    before = [word.text for said in one.accepted for word in said.words]
    assert [word.text for segment in result.segments for word in segment.words] == before


def test_an_ordinal_number_does_not_end_a_sentence_in_a_language_that_writes_it_with_a_dot():
    assert split_sentences("Am 3. Oktober war es. Dann nicht.", "de") == ["Am 3. Oktober war es.", "Dann nicht."]
    assert split_sentences("It was 3. Then it was 4.", "en") == ["It was 3.", "Then it was 4."]
