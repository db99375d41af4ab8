from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.pipeline.audio.decode import BLOCK_SAMPLES
from cesar.pipeline.audio.ring_buffer import CAPACITY_S
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.chunking import ChunkSettings, PlannedChunk, pack
from cesar.pipeline.speech.vad import Region, VadUpdate
from tests.pipeline.strategies import portions, speech_regions

SETTINGS = ChunkSettings()
MAX_CHUNK = SETTINGS.max_chunk_s * SAMPLE_RATE
MAX_GAP = SETTINGS.max_gap_s * SAMPLE_RATE
MARGIN = SETTINGS.margin_s * SAMPLE_RATE


def plan(*spans: tuple[float, float]) -> list[tuple[float, float]]:
    """Chunks of regions given in seconds."""
    regions = tuple(Region(int(a * SAMPLE_RATE), int(b * SAMPLE_RATE), 0.9) for a, b in spans)
    until = regions[-1].end if regions else 0
    return [(c.start / SAMPLE_RATE, c.end / SAMPLE_RATE) for c in pack([VadUpdate(regions, until)], SETTINGS)]


def packed(regions: list[Region]) -> list[PlannedChunk]:
    return list(pack([VadUpdate(tuple(regions), regions[-1].end if regions else 0)], SETTINGS))


def test_a_region_alone_gets_a_margin_on_both_sides():
    assert plan((5, 7)) == [(4, 8)]


def test_nothing_starts_before_the_recording():
    assert plan((0.5, 7)) == [(0, 8)]


def test_regions_with_a_short_pause_between_them_share_a_chunk():
    assert plan((1, 4), (6, 9)) == [(0, 10)]


def test_speech_across_a_long_pause_is_not_packed_together():
    assert plan((1, 4), (7.5, 9)) == [(0, 5), (6.5, 10)]


def test_neighbours_share_a_pause_that_is_too_short_for_two_margins():
    assert plan((1, 9), (10, 20)) == [(0, 9.5), (9.5, 21)]


def test_a_chunk_that_grows_too_long_ends_at_the_longest_pause_of_its_second_half():
    spans = [(0, 3), (5, 8), (9.5, 11), (11.5, 14), (14.2, 18)]
    assert plan(*spans) == [(0, 8.75), (8.75, 19)]


def test_no_speech_gives_no_chunks():
    assert plan() == []
    assert list(pack([], SETTINGS)) == []


@given(speech_regions())
def test_every_region_lies_in_exactly_one_chunk_and_chunks_never_overlap(regions):
    chunks = packed(regions)
    assert [region for chunk in chunks for region in chunk.regions] == regions
    assert all(before.end <= after.start for before, after in pairwise(chunks))
    for chunk in chunks:
        assert 0 <= chunk.start <= chunk.regions[0].start
        assert chunk.regions[-1].end <= chunk.end


@given(speech_regions())
def test_chunks_keep_to_their_length_and_to_short_pauses(regions):
    for chunk in packed(regions):
        assert chunk.regions[-1].end - chunk.regions[0].start <= MAX_CHUNK
        assert all(after.start - before.end <= MAX_GAP for before, after in pairwise(chunk.regions))


@given(speech_regions())
def test_margins_are_whole_unless_a_neighbour_is_too_near(regions):
    chunks = packed(regions)
    for before, after in pairwise([None, *chunks, None]):
        if before is None:
            assert after is None or after.start == max(0, after.regions[0].start - MARGIN)
        elif after is None:
            assert before.end == before.regions[-1].end + MARGIN
        else:
            last, first = before.regions[-1].end, after.regions[0].start
            if first - last >= 2 * MARGIN:
                assert (before.end, after.start) == (last + MARGIN, first - MARGIN)
            else:
                assert before.end == after.start == (last + first) // 2


@given(st.data())
def test_the_plan_does_not_depend_on_how_the_regions_come_in(data):
    regions = data.draw(speech_regions())
    updates = data.draw(portions(regions))
    assert list(pack(updates, SETTINGS)) == packed(regions)


@given(st.data())
def test_a_chunk_is_given_as_soon_as_nothing_can_join_it(data):
    """Once it is known that nobody spoke for longer than the longest pause, nothing waits any more."""
    updates = data.draw(portions(data.draw(speech_regions())))
    told: list[VadUpdate] = []

    def tell() -> Iterator[VadUpdate]:
        for news in updates:
            if told and told[-1].until - max((r.end for n in told for r in n.regions), default=0) > MAX_GAP:
                assert given_regions == sum(len(earlier.regions) for earlier in told)
            told.append(news)
            yield news

    given_regions = 0
    for chunk in pack(tell(), SETTINGS):
        given_regions += len(chunk.regions)
    assert given_regions == sum(len(news.regions) for news in updates)


@given(speech_regions())
def test_a_chunk_is_planned_while_its_sound_is_still_at_hand(regions):
    """So that the tape, which keeps a minute, always has the sound of a chunk when it is planned."""
    recorded = 0

    def tell() -> Iterator[VadUpdate]:
        """As the detector does: what it knows is a block old, and of an open region only where it began."""
        nonlocal recorded
        for region in regions:
            recorded = region.start + BLOCK_SAMPLES
            yield VadUpdate((), region.start)
            recorded = region.end + BLOCK_SAMPLES
            yield VadUpdate((region,), region.end)

    for chunk in pack(tell(), SETTINGS):
        assert recorded - chunk.start < 0.75 * CAPACITY_S * SAMPLE_RATE


@pytest.mark.parametrize("pause", [2.99, 3.0, 3.01])
def test_the_longest_pause_counts_as_a_short_one(pause):
    assert len(plan((1, 2), (2 + pause, 6 + pause))) == (1 if pause <= 3 else 2)
