"""The costs of breaks, and that lines and cues are broken where it costs least."""

from __future__ import annotations

import pytest

from cesar.formats.subtitles.cues import Cue, SubtitleOptions, cues
from cesar.formats.subtitles.line_breaks import (
    AFTER_CLAUSE,
    AFTER_SENTENCE,
    AFTER_SHORT_WORD,
    BEFORE_CONJUNCTION,
    BEFORE_LONE_MARK,
    BETWEEN_WORDS,
    CONJUNCTIONS,
    break_costs,
)
from cesar.transcript import Segment, Transcript, Word
from tests.formats.strategies import MODEL

WORD_S = 0.4
WORDS = ("bravo", "gamma", "delta", "sigma", "omega", "kappa", "theta", "lambd", "zetas", "iotas", "alpha", "epsil",
         "omikr", "upsil", "digam", "sampi", "koppa")  # fmt: skip
"""Words of equal width, none of them short or a conjunction."""


def cost_before(word: str, text: str, language: str = "en") -> float:
    return break_costs(text, language, 42)[text.index(f" {word}") + 1]


def spoken(words: tuple[str, ...], pauses: dict[int, float]) -> list[Cue]:
    """Return cues of words of equal duration; pauses: seconds of silence after that many words."""
    timed: list[Word] = []
    now = 0.0
    for number, word in enumerate(words, 1):
        timed.append(Word(now, now + WORD_S, word, 0.9))
        now += WORD_S + pauses.get(number, 0.0)
    segment = Segment(0.0, timed[-1].end, " ".join(words), tuple(timed))
    return cues(Transcript((segment,), "en", 1.0, now + 10.0, MODEL), SubtitleOptions(max_cue_duration_s=60))


def words_in_first_cue(words: tuple[str, ...], pauses: dict[int, float]) -> int:
    first, _ = spoken(words, pauses)
    return len(" ".join(first.lines).split())


# Costs.


def test_a_better_position_for_a_break_costs_less() -> None:
    order = [AFTER_SENTENCE, AFTER_CLAUSE, BEFORE_CONJUNCTION, BETWEEN_WORDS, AFTER_SHORT_WORD, BEFORE_LONE_MARK]
    assert order == sorted(set(order))


@pytest.mark.parametrize("word", ["a", "Dr", "the", "der", "les", "и"])
def test_a_break_after_a_word_of_up_to_three_letters_costs_more(word: str) -> None:
    assert cost_before("lighthouse", f"nobody saw {word} lighthouse") == AFTER_SHORT_WORD


@pytest.mark.parametrize("word", ["that", "their", "маяк"])
def test_a_break_after_a_longer_word_costs_no_more(word: str) -> None:
    assert cost_before("lighthouse", f"nobody saw {word} lighthouse") == BETWEEN_WORDS


def test_a_short_word_in_korean_is_as_good_as_a_long_one() -> None:
    assert cost_before("가나", "역사에 그가 가나", "ko") == BETWEEN_WORDS


@pytest.mark.parametrize(
    ("language", "word"), [(language, word) for language, words in CONJUNCTIONS.items() for word in words.split()]
)
def test_a_break_before_a_conjunction_costs_less(language: str, word: str) -> None:
    assert cost_before(word, f"lighthouses {word} everything", language) == BEFORE_CONJUNCTION
    assert cost_before(word.upper(), f"lighthouses {word.upper()} everything", language) == BEFORE_CONJUNCTION


def test_a_conjunction_counts_in_its_own_language_only() -> None:
    assert cost_before("weil", "everybody weil", "de") == BEFORE_CONJUNCTION
    assert cost_before("weil", "everybody weil", "en") == BETWEEN_WORDS
    assert cost_before("because", "everybody because", "tlh") == BETWEEN_WORDS


def test_a_conjunction_after_a_short_word_may_begin_a_line() -> None:
    assert cost_before("and", "nobody saw it and left") == BEFORE_CONJUNCTION


# Lines.


def lines(*words: str) -> tuple[str, ...]:
    [cue] = spoken(words, {})
    return cue.lines


def test_of_two_equally_balanced_line_breaks_the_one_after_a_longer_word_is_chosen() -> None:
    assert lines(*WORDS[:9]) == (" ".join(WORDS[:4]), " ".join(WORDS[4:9]))
    with_article = (*WORDS[:3], "theta", "the", *WORDS[5:9])
    assert lines(*with_article)[0].endswith("theta")
    with_article = (*WORDS[:3], "the", *WORDS[4:9])
    assert lines(*with_article) == (" ".join(with_article[:5]), " ".join(with_article[5:])), "not after the article"


def test_a_line_that_begins_with_a_conjunction_may_be_a_little_longer_or_shorter() -> None:
    later = (*WORDS[:5], "which", *WORDS[6:9])
    assert lines(*later)[1].startswith("which")


# Cues.


@pytest.mark.parametrize("at", [8, 9])
def test_of_two_equally_balanced_cue_breaks_the_one_in_a_pause_is_chosen(at: int) -> None:
    """Seventeen words don't fit in a cue, and are split after the eighth or the ninth."""
    assert words_in_first_cue(WORDS, {at: 0.5}) == at


@pytest.mark.parametrize(("longer", "shorter"), [(8, 9), (9, 8)])
def test_of_two_pauses_the_longer_one_is_chosen(longer: int, shorter: int) -> None:
    assert words_in_first_cue(WORDS, {longer: 0.8, shorter: 0.4}) == longer


@pytest.mark.parametrize("at", [7, 10])
def test_a_long_pause_outweighs_cues_of_equal_length(at: int) -> None:
    assert words_in_first_cue(WORDS, {at: 1.0}) == at
    assert words_in_first_cue(WORDS, {at: 0.05}) != at


def test_a_pause_of_a_second_counts_as_much_as_a_longer_one() -> None:
    for pauses in ({8: 1.0, 9: 3.0}, {8: 3.0, 9: 1.0}):
        with_equal = {8: 1.0, 9: 1.0}
        assert words_in_first_cue(WORDS, pauses) == words_in_first_cue(WORDS, with_equal)


@pytest.mark.parametrize(("sentence", "pause"), [(8, 9), (9, 8)])
def test_the_end_of_a_sentence_outweighs_any_pause(sentence: int, pause: int) -> None:
    ended = f"{WORDS[sentence - 1][:4]}."
    following = WORDS[sentence].capitalize()
    words = (*WORDS[: sentence - 1], ended, following, *WORDS[sentence + 1 :])
    assert words_in_first_cue(words, {pause: 2.0}) == sentence


@pytest.mark.parametrize("article", [8, 9])
def test_no_cue_ends_with_an_article_where_another_break_is_as_good(article: int) -> None:
    words = (*WORDS[: article - 1], "the", *WORDS[article:])
    assert words_in_first_cue(words, {}) == {8: 9, 9: 8}[article]
