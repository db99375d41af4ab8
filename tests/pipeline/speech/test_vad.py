import math
from importlib.resources import files
from itertools import pairwise

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.pipeline.audio.decode import BLOCK_SAMPLES, Recording
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from cesar.pipeline.speech.chunking import ChunkSettings, pack
from cesar.pipeline.speech.vad import FRAME_S, FRAME_SAMPLES, Region, SpeechDetector, VadSettings, detect_regions
from tests.pipeline.strategies import blocked, frame_probabilities
from tests.support import media

SETTINGS = VadSettings()

MEETING_TURNS = [(1.44, 13.312), (13.152, 16.922), (18.064, 21.616), (21.952, 30.0)]
"""When somebody speaks in the meeting, by the corpus's annotation (pauses below half a second are not marked)."""


def in_blocks(samples: Samples, size: int = BLOCK_SAMPLES) -> list[Samples]:
    return [samples[at : at + size] for at in range(0, len(samples), size)]


def regions_of(samples: Samples) -> list[Region]:
    probabilities = SpeechDetector().probabilities(in_blocks(samples))
    return [region for news in detect_regions(probabilities, SETTINGS) for region in news.regions]


def speech_of(name: str) -> Samples:
    recording = Recording(media.AUDIO / name)
    samples = np.concatenate(list(recording.blocks()))
    recording.close()
    return samples


def seconds(spans: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(start / SAMPLE_RATE, end / SAMPLE_RATE) for start, end in spans]


def overlap(spans: list[tuple[float, float]], start: float, end: float) -> float:
    return sum(max(0.0, min(b, end) - max(a, start)) for a, b in spans)


# What the detector hears.


def test_every_turn_of_a_meeting_is_heard():
    found = seconds([(region.start, region.end) for region in regions_of(speech_of("meeting-es2003a-0-30s.wav"))])
    for start, end in MEETING_TURNS:
        assert overlap(found, start, end) > 0.5 * (end - start)


def test_the_silence_of_a_meeting_is_not_taken_for_speech():
    found = seconds([(region.start, region.end) for region in regions_of(speech_of("meeting-es2003a-0-30s.wav"))])
    assert overlap(found, 0, 1.44) < 0.1
    assert overlap(found, 16.922, 18.064) < 0.2


def test_chunks_hold_nearly_all_that_is_said_in_a_meeting():
    probabilities = SpeechDetector().probabilities(in_blocks(speech_of("meeting-es2003a-0-30s.wav")))
    chunks = pack(detect_regions(probabilities, SETTINGS), ChunkSettings())
    found = seconds([(chunk.start, chunk.end) for chunk in chunks])
    for start, end in MEETING_TURNS:
        assert overlap(found, start, end) > 0.97 * (end - start)


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("jfk.m4a", 0.3, 10.4),
        ("german.ogg", 2.3, 8.9),
        ("japanese.mp3", 1.0, 5.6),
        ("phone-prompt-8k.wav", 0.3, 30.0),
    ],
)
def test_a_speech_is_heard_from_beginning_to_end(name, start, end):
    regions = regions_of(speech_of(name))
    assert regions[0].start / SAMPLE_RATE < start
    assert regions[-1].end / SAMPLE_RATE > end
    assert min(region.confidence for region in regions) > 0.9


@pytest.mark.parametrize(
    "sound",
    [
        media.silence(20),
        media.silence(20) + np.float32(0.3),
        media.white_noise(20, amplitude=0.01),
        media.white_noise(20, amplitude=0.3),
        media.tone(20, hertz=100),
        media.tone(20, hertz=1_000),
        media.chords(20),
    ],
    ids=["silence", "direct current", "soft noise", "loud noise", "hum", "beep", "chords"],
)
def test_what_is_not_speech_gives_no_regions(sound):
    assert regions_of(sound) == []


def test_a_single_wild_sample_does_not_deafen_the_detector_for_good():
    sound = speech_of("jfk.m4a")
    quiet = regions_of(sound)[-1]
    sound[3 * SAMPLE_RATE] = 1e6
    assert abs(regions_of(sound)[-1].start - quiet.start) < SAMPLE_RATE / 2


@pytest.mark.parametrize("length", [1, 511, 512, 513, BLOCK_SAMPLES, BLOCK_SAMPLES + 1])
def test_every_begun_frame_gets_one_probability(length):
    blocks = SpeechDetector().probabilities(in_blocks(np.zeros(length, np.float32)))
    assert len(np.concatenate(list(blocks))) == -(-length // FRAME_SAMPLES)


@pytest.mark.parametrize("size", [400, 512, 5_000])
def test_probabilities_do_not_depend_on_the_blocks(size):
    sound = speech_of("jfk.m4a")[: 5 * SAMPLE_RATE]
    whole = np.concatenate(list(SpeechDetector().probabilities([sound])))
    parts = np.concatenate(list(SpeechDetector().probabilities(in_blocks(sound, size))))
    np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_probabilities_are_those_of_the_network_as_published():
    sound = speech_of("meeting-es2003a-0-30s.wav")
    frames = np.pad(sound, (0, -len(sound) % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
    before = np.vstack([np.zeros(64, np.float32), frames[:-1, -64:]])
    published = files("cesar").joinpath("assets/silero_vad_16k_sequence.onnx").read_bytes()
    session = onnxruntime.InferenceSession(published, providers=["CPUExecutionProvider"])
    state = np.zeros((1, 1, 128), np.float32)
    expected, _, _ = session.run(None, {"input": np.hstack([before, frames]), "h": state, "c": state})
    found = np.concatenate(list(SpeechDetector().probabilities(in_blocks(sound))))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.max() > 0.9
    assert found.min() < 0.1


def test_no_sound_gives_no_probabilities():
    assert list(SpeechDetector().probabilities([])) == []


# What becomes of probabilities.


def frames(*stretches: tuple[float, float]) -> np.ndarray:
    """Seconds and probability of each stretch."""
    return np.concatenate([np.full(round(s / FRAME_S), p, np.float32) for s, p in stretches])


def heard(*stretches: tuple[float, float]) -> list[tuple[float, float]]:
    regions = [region for news in detect_regions([frames(*stretches)], SETTINGS) for region in news.regions]
    return [(round(region.start / SAMPLE_RATE, 1), round(region.end / SAMPLE_RATE, 1)) for region in regions]


def test_a_region_begins_at_the_onset_and_ends_where_the_silence_began():
    assert heard((1, 0.0), (2, 0.9), (1, 0.0)) == [(1.0, 3.0)]


def test_a_short_pause_does_not_end_a_region():
    assert heard((1, 0.9), (0.2, 0.0), (1, 0.9), (1, 0.0)) == [(0.0, 2.2)]


def test_doubtful_frames_prolong_a_region_but_do_not_begin_one():
    assert heard((1, 0.2), (1, 0.0), (1, 0.9), (1, 0.2), (1, 0.0)) == [(2.0, 4.0)]


def test_a_click_is_not_speech():
    assert heard((1, 0.0), (FRAME_S, 0.9), (1, 0.0)) == []


def test_speech_that_lasts_to_the_end_is_a_region():
    assert heard((1, 0.0), (1, 0.9)) == [(1.0, 2.0)]


def test_a_long_speech_is_cut_at_its_quietest_moment():
    first, second = heard((10, 0.9), (0.2, 0.16), (10, 0.9), (1, 0.0))
    assert 10.0 <= first[1] <= 10.2
    assert second == (first[1], 20.2)


def test_the_rest_of_a_region_that_was_cut_is_speech_however_short():
    """By itself a frame would be taken for a click."""
    length = math.ceil(SETTINGS.max_region_s / FRAME_S)
    probabilities = np.array([0.9] * (length - 5) + [0, 0, 0.9, 0, 0] + [0] * 20, np.float32)
    (regions,) = (news.regions for news in detect_regions([probabilities], SETTINGS) if news.regions)
    found = [(region.start // FRAME_SAMPLES, region.end // FRAME_SAMPLES) for region in regions]
    assert found == [(0, length - 3), (length - 3, length - 2)]


@given(frame_probabilities())
def test_regions_are_ordered_and_neither_overlap_nor_grow_too_long(probabilities):
    regions = [region for news in detect_regions([probabilities], SETTINGS) for region in news.regions]
    assert all(before.end <= after.start for before, after in pairwise(regions))
    for region in regions:
        assert 0 <= region.start < region.end <= len(probabilities) * FRAME_SAMPLES
        assert (region.end - region.start) / SAMPLE_RATE <= SETTINGS.max_region_s + FRAME_S
        assert region.start % FRAME_SAMPLES == region.end % FRAME_SAMPLES == 0


@given(frame_probabilities())
def test_speech_of_two_frames_or_more_is_never_missed(probabilities):
    regions = [region for news in detect_regions([probabilities], SETTINGS) for region in news.regions]
    heard = {frame for region in regions for frame in range(region.start // FRAME_SAMPLES, region.end // FRAME_SAMPLES)}
    loud = [index for index, value in enumerate(probabilities) if value >= SETTINGS.onset]
    assert all(first in heard for first, second in pairwise(loud) if second == first + 1)


@given(st.data())
def test_regions_do_not_depend_on_the_blocks(data):
    probabilities = data.draw(frame_probabilities())
    blocks = data.draw(blocked(probabilities))
    whole = [region for news in detect_regions([probabilities], SETTINGS) for region in news.regions]
    assert [region for news in detect_regions(blocks, SETTINGS) for region in news.regions] == whole


@given(st.data())
def test_no_later_region_starts_before_what_was_promised(data):
    blocks = data.draw(blocked(data.draw(frame_probabilities())))
    promised = 0
    for news in detect_regions(blocks, SETTINGS):
        assert all(region.start >= promised for region in news.regions)
        assert news.until >= promised
        assert all(region.end <= news.until for region in news.regions)
        promised = news.until


@given(st.data())
def test_what_is_settled_lags_behind_by_one_region_at_most(data):
    blocks = data.draw(blocked(data.draw(frame_probabilities())))
    fed = 0
    for block, news in zip(blocks, detect_regions(blocks, SETTINGS), strict=False):
        fed += len(block)
        assert fed * FRAME_SAMPLES - news.until <= (SETTINGS.max_region_s + FRAME_S) * SAMPLE_RATE
