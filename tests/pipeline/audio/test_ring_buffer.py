from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.pipeline.audio.ring_buffer import CAPACITY_S, Tape
from cesar.pipeline.samples import SAMPLE_RATE

CAPACITY = CAPACITY_S * SAMPLE_RATE


def numbered(length: int) -> np.ndarray:
    """Samples that tell their own position."""
    return np.arange(length, dtype=np.float32)


@given(st.data())
def test_any_part_that_was_recorded_can_be_cut_out(data):
    start = data.draw(st.integers(0, 10**6))
    sound = numbered(data.draw(st.integers(0, 5_000)))
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(sound)), max_size=5))), len(sound)]
    tape = Tape(start)
    for a, b in pairwise(cuts):
        tape.record(sound[a:b])
    begin = data.draw(st.integers(0, len(sound)))
    end = data.draw(st.integers(begin, len(sound)))
    np.testing.assert_array_equal(tape.cut(start + begin, start + end), sound[begin:end])


def test_the_last_minute_is_kept_and_what_is_older_goes():
    blocks = [np.full(4 * SAMPLE_RATE, second, np.float32) for second in range(0, 200, 4)]
    tape = Tape()
    for block in blocks:
        tape.record(block)
        newest = max(0, tape.end - CAPACITY)
        kept = tape.cut(newest, tape.end)
        assert kept[-1] == tape.end // SAMPLE_RATE - 4
    with pytest.raises(IndexError):
        tape.cut(tape.end - CAPACITY - 5 * SAMPLE_RATE, tape.end)
    assert sum(map(len, tape._blocks)) <= CAPACITY + 4 * SAMPLE_RATE


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 11), (6, 5), (99, 100)])
def test_what_is_not_on_the_tape_is_an_error(start, end):
    tape = Tape()
    tape.record(numbered(10))
    with pytest.raises(IndexError):
        tape.cut(start, end)


def test_what_was_cut_out_is_a_copy():
    """Recognition works on it in another thread while the tape moves on."""
    block = numbered(10)
    tape = Tape()
    tape.record(block)
    tape.cut(0, 10)[:] = 0
    assert tape.cut(3, 4) == 3
    assert block[3] == 3
