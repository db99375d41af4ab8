"""Channels that cancel each other are turned round; all others stay as they are."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from tests.support import media


def read(path: Path) -> tuple[Samples, list[str]]:
    with closing(Recording(path)) as recording:
        return np.concatenate(list(recording.blocks())), recording.warnings


def loudness(sound: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(sound, dtype=np.float64))))


@pytest.fixture(scope="module")
def talk() -> media.Sound:
    return media.speech()


def channels(*sounds: media.Sound) -> media.Sound:
    return np.stack(sounds, axis=1)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_a_channel_that_is_the_opposite_of_the_other_is_added_turned_round(tmp_path, talk, bits):
    heard, _ = read(media.write_wav(tmp_path / "a.wav", channels(talk, -talk), bits=bits))
    np.testing.assert_allclose(heard, talk, atol=0.01)


def test_an_opposite_channel_in_float_is_heard(tmp_path, talk):
    heard, _ = read(media.write_float_wav(tmp_path / "a.wav", channels(talk, -talk)))
    np.testing.assert_allclose(heard, talk, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mp3", "m4a", "flac", "ogg"])
def test_opposite_channels_are_heard_in_any_codec(tmp_path, talk, ending):
    sound = channels(talk, -talk) if ending != "ogg" else np.repeat(channels(talk, -talk), 3, axis=0)
    rate = SAMPLE_RATE if ending != "ogg" else 48_000
    heard, _ = read(media.write_media(tmp_path / f"a.{ending}", sound, rate=rate))
    assert loudness(heard) > 0.8 * loudness(talk)


@pytest.mark.parametrize("level", [0.5, 0.8, 1.3])
def test_an_opposite_channel_of_another_level_takes_nothing_away(tmp_path, talk, level):
    heard, _ = read(media.write_float_wav(tmp_path / "a.wav", channels(talk, -level * talk)))
    np.testing.assert_allclose(heard, talk * (1 + level) / 2, atol=1e-5)


def test_opposite_channels_with_noise_and_hum_of_their_own_are_heard(tmp_path, talk):
    hum = media.tone(len(talk) / SAMPLE_RATE, hertz=50, amplitude=0.05)
    noise = [media.white_noise(len(talk) / SAMPLE_RATE, amplitude=0.003, seed=seed) for seed in (1, 2)]
    heard, _ = read(media.write_float_wav(tmp_path / "a.wav", channels(talk + hum + noise[0], -talk + hum + noise[1])))
    assert float(np.corrcoef(heard, talk)[0, 1]) > 0.95


def test_channels_that_turn_opposite_on_the_way_are_followed(tmp_path, talk):
    both = channels(talk, talk)
    sound = np.concatenate([both, both * (1, -1), both]).astype(np.float32)
    heard, _ = read(media.write_float_wav(tmp_path / "a.wav", sound))
    for part in range(3):
        at = part * len(talk) + SAMPLE_RATE
        assert loudness(heard[at : at + 9 * SAMPLE_RATE]) > 0.9 * loudness(talk[SAMPLE_RATE : 10 * SAMPLE_RATE])


@pytest.mark.parametrize("opposite", [1, 2, 3])
def test_an_opposite_one_of_four_inputs_is_turned_round(tmp_path, talk, opposite):
    sound = channels(*(-talk if index == opposite else talk for index in range(4)))
    heard, _ = read(media.write_float_wav(tmp_path / "a.wav", sound))
    np.testing.assert_allclose(heard, talk, atol=1e-5)


def plain_mean(sound: media.Sound) -> Samples:
    mean: Samples = sound.mean(axis=1, dtype=np.float32)
    return mean


@pytest.mark.parametrize("other", ["same", "silent", "quieter", "other", "late"])
def test_channels_that_do_not_cancel_are_averaged_bit_for_bit(tmp_path, talk, other):
    others = {
        "same": talk,
        "silent": np.zeros_like(talk),
        "quieter": talk * np.float32(0.25),
        "other": np.roll(talk[::-1], 3000),
        "late": np.roll(talk, 160),
    }
    sound = channels(talk, others[other])
    heard, _ = read(media.write_float_wav(tmp_path / "a.wav", sound))
    np.testing.assert_array_equal(heard, plain_mean(sound))


def test_dialogue_in_the_centre_is_mixed_as_ever_whatever_the_front_does(tmp_path, talk):
    """Six channels: the two in front hold opposite music, the centre the dialogue."""
    music = media.chords(len(talk) / SAMPLE_RATE)[: len(talk)]
    nothing = np.zeros_like(talk)
    with_music, _ = read(
        media.write_media(tmp_path / "a.flac", channels(music, -music, talk, nothing, nothing, nothing))
    )
    alone, _ = read(media.write_media(tmp_path / "b.flac", channels(nothing, nothing, talk, nothing, nothing, nothing)))
    np.testing.assert_allclose(with_music, alone, atol=2e-3)


def test_opposite_fronts_of_six_channels_are_heard_where_nothing_is_in_the_centre(tmp_path, talk):
    nothing = np.zeros_like(talk)
    heard, _ = read(media.write_media(tmp_path / "a.flac", channels(talk, -talk, nothing, nothing, nothing, nothing)))
    assert float(np.corrcoef(heard, talk)[0, 1]) > 0.99
