from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.pipeline.audio.ring_buffer import CAPACITY_S, RingBuffer
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
    buffer = RingBuffer(start)
    for a, b in pairwise(cuts):
        buffer.record(sound[a:b])
    begin = data.draw(st.integers(0, len(sound)))
    end = data.draw(st.integers(begin, len(sound)))
    np.testing.assert_array_equal(buffer.cut(start + begin, start + end), sound[begin:end])


def test_the_last_minute_is_kept_and_what_is_older_goes():
    blocks = [np.full(4 * SAMPLE_RATE, second, np.float32) for second in range(0, 200, 4)]
    buffer = RingBuffer()
    for block in blocks:
        buffer.record(block)
        newest = max(0, buffer.end - CAPACITY)
        kept = buffer.cut(newest, buffer.end)
        assert kept[-1] == buffer.end // SAMPLE_RATE - 4
    with pytest.raises(IndexError):
        buffer.cut(buffer.end - CAPACITY - 5 * SAMPLE_RATE, buffer.end)
    assert sum(map(len, buffer._blocks)) <= CAPACITY + 4 * SAMPLE_RATE


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 11), (6, 5), (99, 100)])
def test_reading_samples_that_are_not_in_the_buffer_is_an_error(start, end):
    buffer = RingBuffer()
    buffer.record(numbered(10))
    with pytest.raises(IndexError):
        buffer.cut(start, end)


def test_what_was_cut_out_is_a_copy():
    """Recognition works on it in another thread while the buffer moves on."""
    block = numbered(10)
    buffer = RingBuffer()
    buffer.record(block)
    buffer.cut(0, 10)[:] = 0
    assert buffer.cut(3, 4) == 3
    assert block[3] == 3
