"""Where paragraphs begin, and which sentences are joined across segments."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from cesar.formats import render
from cesar.formats.paragraphs import paragraphs
from cesar.formats.sentence_joins import spoken_segments
from cesar.formats.typography import flatten, join_texts
from cesar.transcript import Segment, Transcript, Word
from tests.formats.strategies import MODEL, transcripts

SENTENCE = "This is a sentence of exactly fifty letters, is it?"


def transcript_of(*segments: Segment, language: str = "en") -> Transcript:
    return Transcript(segments, language, 1.0, 1000.0, MODEL)


def texts_of(*segments: Segment) -> list[list[str]]:
    return [[segment.text for segment in paragraph] for paragraph in paragraphs(segments)]


def sentences(count: int, *, pause_s: float = 0.1) -> list[Segment]:
    return [Segment(n * (3 + pause_s), n * (3 + pause_s) + 3, SENTENCE) for n in range(count)]


# Paragraphs.


@given(transcripts())
def test_every_segment_is_in_one_paragraph_and_in_order(transcript: Transcript) -> None:
    found = list(paragraphs(transcript.segments))
    assert [segment for paragraph in found for segment in paragraph] == [*transcript.segments]
    assert all(found)


def test_a_long_pause_after_a_sentence_begins_a_paragraph() -> None:
    assert texts_of(Segment(0, 2, "One."), Segment(3, 4, "Two."), Segment(6, 7, "Three.")) == [
        ["One.", "Two."],
        ["Three."],
    ]


def test_a_shorter_pause_begins_one_only_after_a_few_sentences() -> None:
    assert [len(paragraph) for paragraph in paragraphs(sentences(10, pause_s=1.5))] == [4, 4, 2]


def test_a_pause_within_a_sentence_does_not_begin_a_paragraph() -> None:
    assert texts_of(Segment(0, 2, "One or"), Segment(9, 10, "two.")) == [["One or", "two."]]


def test_speech_without_pauses_gets_paragraphs_of_a_readable_length() -> None:
    lengths = [len(paragraph) for paragraph in paragraphs(sentences(30))]
    assert lengths == [14, 14, 2]


def test_a_paragraph_of_slow_speech_ends_with_its_sentence() -> None:
    parts = [
        Segment(0, 60, "A long"),
        Segment(60, 95, "sentence,"),
        Segment(95, 99, "at last."),
        Segment(99, 101, "More."),
    ]
    assert texts_of(*parts) == [["A long", "sentence,", "at last."], ["More."]]


def test_speech_without_punctuation_gets_paragraphs_at_its_pauses() -> None:
    parts = [Segment(n * 10, n * 10 + 8, "and on and on it goes without any mark") for n in range(20)]
    assert {len(paragraph) for paragraph in [*paragraphs(parts)][:-1]} == {11}


def test_speech_without_punctuation_and_pauses_gets_paragraphs_too() -> None:
    parts = [Segment(n * 10, n * 10 + 10, "and on") for n in range(40)]
    assert [len(paragraph) for paragraph in paragraphs(parts)] == [19, 19, 2]


def test_txt_has_empty_lines_only_between_paragraphs() -> None:
    transcript = transcript_of(Segment(0, 2, "One."), Segment(2, 4, "Two."), Segment(7, 8, "Three."))
    assert render(transcript, "txt") == "One. Two.\n\nThree.\n"


def test_silence_gives_an_empty_txt() -> None:
    assert render(transcript_of(), "txt") == ""


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        (["今日は。", "はい。"], "今日は。はい。"),
        (["我们用", "GPU训练"], "我们用GPU训练"),
        (["안녕하세요.", "네."], "안녕하세요. 네."),
        (["สวัสดีครับ", "วันนี้"], "สวัสดีครับ วันนี้"),
        (["One.", "Two."], "One. Two."),
        (["", "One."], "One."),
        ([], ""),
    ],
)
def test_texts_are_joined_by_the_rules_of_their_script(texts: list[str], joined: str) -> None:
    assert join_texts(texts) == joined


# Joined sentences.


def test_a_sentence_that_continues_in_the_next_chunk_loses_the_full_stop_between() -> None:
    transcript = transcript_of(
        Segment(0, 14.5, "We have come so far today that we are tired out."), Segment(14.9, 17, "with walking.")
    )
    assert render(transcript, "txt") == "We have come so far today that we are tired out with walking.\n"
    assert "tired out with walking." in render(transcript, "md")
    assert "tired out.\n" not in render(transcript, "srt")
    assert "tired out." in render(transcript, "json")
    assert "tired out." in render(transcript, "tsv")


def test_a_removed_full_stop_is_also_removed_from_its_word() -> None:
    words = (Word(0.0, 1.0, "Tired", 0.9), Word(5.0, 6.0, "out.", 0.9))
    transcript = transcript_of(Segment(0, 6, "Tired out.", words), Segment(6.5, 8, "with walking."))
    assert spoken_segments(transcript)[0].words == (words[0], replace(words[1], text="out"))


@pytest.mark.parametrize(
    ("before", "after", "language"),
    [
        ("We met Dr.", "wu and his sister.", "en"),
        ("It starts at 9 a.m.", "every day.", "en"),
        ("It belongs to the U.S.", "government.", "en"),
        ("Wir treffen uns am 3.", "oder am vierten.", "de"),
        ("Is that so?", "he asked.", "en"),
        ("And then...", "nothing.", "en"),
        ("He said “no.”", "and left.", "en"),
        ("They sell phones.", "iPhone sales rose.", "en"),
        ("It was so.", "Then it was not.", "en"),
        ("It was in May.", "1874 was the year.", "en"),
        ("昨日の会議です。", "はい。", "ja"),
    ],
)
def test_no_other_punctuation_mark_is_removed(before: str, after: str, language: str) -> None:
    segments = (Segment(0, 5, "Good Morning, Everybody."), Segment(5, 9, before), Segment(9.2, 12, after))
    assert spoken_segments(transcript_of(*segments, language=language)) == [*segments]


def test_a_full_stop_before_a_long_silence_is_kept() -> None:
    segments = (Segment(0, 5, "We are tired out."), Segment(9, 12, "with walking."))
    assert spoken_segments(transcript_of(*segments)) == [*segments]


def test_a_text_written_without_capitals_keeps_its_sentences() -> None:
    segments = tuple(Segment(n, n + 1, text) for n, text in enumerate(["hello.", "how are you?", "fine.", "good."]))
    assert render(transcript_of(*segments), "txt") == "hello. how are you? fine. good.\n"


@given(transcripts())
def test_joining_sentences_changes_only_full_stops_at_the_ends_of_segments(transcript: Transcript) -> None:
    original = [segment for segment in transcript.segments if flatten(segment.text)]
    joined = spoken_segments(transcript)
    for before, after in zip(original, joined, strict=True):
        assert after.text in (before.text, before.text.rstrip().removesuffix("."))
        assert (after.start, after.end, after.tokens) == (before.start, before.end, before.tokens)
