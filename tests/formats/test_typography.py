"""Spaces, characters, widths and ends of sentences."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.formats.subtitles.line_breaks import WITHIN_WORD, break_costs
from cesar.formats.typography import character_starts, columns, ends_sentence, flatten
from tests.formats.strategies import TEXTS


@given(TEXTS)
def test_flattened_text_has_single_spaces_and_no_control_characters(text: str) -> None:
    flat = flatten(text)
    assert flat == " ".join(flat.split())
    assert not any(char < " " or "\x7f" <= char < "\xa0" for char in flat)
    assert flatten(flat) == flat


@pytest.mark.parametrize(
    "character",
    [
        "a",
        "e\u0301",
        "ẹ\u0301\u0302",
        "👍🏽",
        "👨‍👩‍👧‍👦",
        "🇫🇷",
        "❤\ufe0f",
        "🏴\U000e0067\U000e0062\U000e007f",
        "กำ",
        "\u1112\u1161\u11ab",
    ],
)
def test_a_character_is_what_a_reader_perceives_as_one(character: str) -> None:
    assert character_starts(character * 3) == [0, len(character), 2 * len(character)]


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("abc", 3),
        ("日本語", 6),
        ("한글", 4),
        ("ｱｲｳ", 3),
        ("「", 2),
        ("e\u0301", 1),
        ("👨‍👩‍👧‍👦", 2),
        ("สวัสดี", 4),
    ],
)
def test_the_width_of_text_counts_full_width_characters_twice(text: str, width: int) -> None:
    assert columns(text)[-1] == width


@pytest.mark.parametrize(
    "text",
    ["Yes.", "Why?", "“Stop!”", "(Really.)", "„Nein.“", "好的。", "「はい。」", "मैं हूँ।", "Well…", "Yes. "],
)
def test_a_sentence_ends_with_its_mark_whatever_closing_marks_follow(text: str) -> None:
    assert ends_sentence(text)


@pytest.mark.parametrize("text", ["", "and", "however,", "Dr.", "Mrs.", "George W.", "e.g.", "好的、", "3.5"])
def test_an_abbreviation_or_a_comma_does_not_end_a_sentence(text: str) -> None:
    assert not ends_sentence(text)


@given(TEXTS.map(flatten).filter(bool), st.integers(2, 50))
def test_text_can_be_broken_into_lines_of_any_length(text: str, limit: int) -> None:
    stops = [0, *sorted(break_costs(text, "en", limit))]
    width = columns(text)
    assert stops[-1] == len(text)
    for start, end in pairwise(stops):
        piece = text[start:end].rstrip(" ")
        assert piece == piece.lstrip(" ") != ""
        assert width[start + len(piece)] - width[start] <= limit


@given(TEXTS.map(flatten).filter(bool))
def test_no_break_falls_within_a_character(text: str) -> None:
    assert set(break_costs(text, "en", 2)) <= {*character_starts(text), len(text)}


def test_only_words_longer_than_a_line_are_split() -> None:
    costs = break_costs("short incomprehensibilities short", "en", 12)
    assert {index for index, cost in costs.items() if cost == WITHIN_WORD} == set(range(7, 27))


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("日本。語", {1, 3, 4}),  # after a full stop, not before it
        ("「日」本", {3, 4}),  # brackets stay with their content
        ("ちょっと", {3, 4}),  # a small kana does not begin a line
        ("東京Tower", {1, 2, 7}),  # a Latin word stays whole
        ("เขา", {3}),  # Thai vowels stay with their consonant, before it and after
        ("한글", {2}),  # Korean has spaces for that
        ("so—well", {3, 7}),
    ],
)
def test_breaks_without_spaces_follow_the_rules_of_the_script(text: str, allowed: set[int]) -> None:
    assert set(break_costs(text, "unknown", 42)) == allowed
