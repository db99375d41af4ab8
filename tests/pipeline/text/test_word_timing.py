from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.engines.base import TimedWord
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.vad import Region
from cesar.pipeline.text.word_timing import place
from cesar.transcript import Word
from tests.pipeline.strategies import speech_regions


def regions(*spans: tuple[float, float]) -> list[Region]:
    return [Region(int(a * SAMPLE_RATE), int(b * SAMPLE_RATE), 0.9) for a, b in spans]


def placed(
    starts: list[float], spans: list[tuple[float, float]], start: float, end: float
) -> list[tuple[float, float]]:
    words = [TimedWord(at, end, f"w{index}", 0.5) for index, at in enumerate(starts)]
    return [(word.start, word.end) for word in place(words, regions(*spans), start=start, end=end)]


def test_a_word_ends_where_the_next_begins():
    assert placed([1, 2, 3], [(0, 10)], 0, 4) == [(1, 2), (2, 3), (3, 4)]


def test_a_word_before_a_pause_ends_soon_after_the_speech():
    assert placed([1, 5], [(0, 2), (5, 8)], 0, 8) == [(1, 2.1), (5, 8)]


def test_a_word_placed_in_a_pause_starts_where_speech_continues():
    assert placed([1, 3], [(0, 2), (5, 8)], 0, 8) == [(1, 2.1), (5, 8)]


def test_a_word_does_not_start_in_the_last_moment_before_a_pause():
    assert placed([1, 1.95], [(0, 2), (5, 8)], 0, 8)[1] == (5, 8)


def test_words_at_one_moment_share_the_available_time():
    assert placed([1, 1, 1], [(0, 2)], 0, 2) == [(1, 1.02), (1.02, 1.04), (1.04, 2)]


def test_words_keep_their_text_and_probability():
    (word,) = place([TimedWord(1, 2, "Yes,", 0.98765)], regions((0, 3)), start=0, end=3)
    assert word == Word(1, 3, "Yes,", 0.9877)


def test_no_words_give_no_words():
    assert place([], regions((0, 3)), start=0, end=3) == []


times = st.floats(0, 60)


@given(st.lists(times, max_size=12), speech_regions(8), times, st.floats(0, 20))
def test_words_stay_in_order_within_their_bounds_and_never_overlap(starts, spoken, start, length):
    end = start + length
    words = [TimedWord(at, at, str(index), 0.5) for index, at in enumerate(starts)]
    found = place(words, spoken, start=start, end=end)
    assert [word.text for word in found] == [word.text for word in words]
    assert all(round(start, 3) <= word.start <= word.end <= round(end, 3) for word in found)
    assert all(before.end <= after.start for before, after in pairwise(found))


@given(st.lists(times, min_size=1, max_size=12), speech_regions(8), times, st.floats(0, 20))
def test_every_word_lasts_20_ms_if_there_is_room(starts, spoken, start, length):
    end = start + length + 0.02 * (len(starts) + 1)
    words = [TimedWord(at, at, "w", 0.5) for at in sorted(starts)]
    for word in place(words, spoken, start=start, end=end):
        assert word.end - word.start >= 0.02 - 0.0011  # times are rounded to a millisecond


@pytest.mark.parametrize("room", [0.0, 0.001, 0.03])
def test_too_little_room_is_shared(room):
    found = placed([5, 5, 5, 5], [(0, 10)], 5, 5 + room)
    assert found[0][0] >= 5
    assert found[-1][1] <= 5 + room
