"""Two people in two channels are warned of; one person in both is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cesar.pipeline.samples import SAMPLE_RATE
from tests.support import media
from tests.support.picked import picked


def warnings_of(path: Path) -> list[str]:
    return picked(path).warnings


@pytest.fixture(scope="module")
def talk() -> media.Sound:
    return media.speech()


def channels(*sounds: media.Sound) -> media.Sound:
    return np.stack(sounds, axis=1)


def said_two(warnings: list[str]) -> bool:
    return any("a different person speaks in each of the two channels" in warning for warning in warnings)


def test_two_people_at_once_in_two_channels_are_warned_of():
    assert said_two(warnings_of(media.AUDIO / "stereo-two-talkers.wav"))


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_two_people_at_once_are_noticed_at_any_rate(tmp_path, talk, rate):
    other = media.speech("sonnet-1.mp3")[: len(talk)]
    at = np.arange(int(len(talk) * rate / SAMPLE_RATE)) * SAMPLE_RATE / rate
    sound = channels(*(np.interp(at, np.arange(len(talk)), side).astype(np.float32) for side in (talk, other)))
    assert said_two(warnings_of(media.write_wav(tmp_path / "a.wav", np.clip(sound, -1, 1), rate=rate)))


def test_two_people_in_turn_with_a_channel_each_are_warned_of(tmp_path, talk):
    """A telephone's two sides."""
    hush = media.white_noise(len(talk) / SAMPLE_RATE, amplitude=0.0003)[: len(talk)]
    sound = np.concatenate([channels(talk, hush), channels(hush, talk)])
    assert said_two(warnings_of(media.write_wav(tmp_path / "a.wav", sound)))


@pytest.mark.parametrize("other", ["same", "silent", "late", "echo", "music", "noise"])
def test_one_person_in_two_channels_is_no_reason_for_a_warning(tmp_path, talk, other):
    seconds = len(talk) / SAMPLE_RATE
    others = {
        "same": talk,
        "silent": np.zeros_like(talk),
        "late": np.roll(talk, 300) * np.float32(0.7),
        "echo": np.roll(talk, 80) + np.float32(0.5) * np.roll(talk, 900) + np.float32(0.4) * np.roll(talk, 2100),
        "music": media.chords(seconds)[: len(talk)],
        "noise": media.white_noise(seconds, amplitude=0.1)[: len(talk)],
    }
    assert not said_two(warnings_of(media.write_wav(tmp_path / "a.wav", np.clip(channels(talk, others[other]), -1, 1))))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["meeting-es2003a-0-30s.wav", "phone-prompt-8k.wav", "sonnet-1.mp3"])
@pytest.mark.parametrize("decibels", [-36, -30, -26, -22])
@pytest.mark.parametrize("sides", [(1, 1), (0, 1)])
def test_a_far_voice_in_noises_of_their_own_is_no_reason_for_a_warning(tmp_path, name, decibels, sides):
    """The noises hide that both channels carry the same; that it comes and goes in both together does not change."""
    voice = media.speech(name)[: 30 * SAMPLE_RATE]
    voice *= np.float32(0.1) / np.sqrt(np.mean(np.square(voice)))
    level = 10 ** (decibels / 20)
    noises = [
        media.white_noise(len(voice) / SAMPLE_RATE + 1, amplitude=level, seed=seed)[: len(voice)] for seed in (1, 2)
    ]
    sound = channels(voice + noises[0] * sides[0], np.roll(voice, 72) * np.float32(0.7) + noises[1] * sides[1])
    assert not said_two(warnings_of(media.write_float_wav(tmp_path / "a.wav", sound.astype(np.float32))))


@pytest.mark.slow
@pytest.mark.parametrize("decibels", [-25, -20])
def test_two_people_at_once_are_noticed_though_each_is_faintly_in_the_other_channel(tmp_path, talk, decibels):
    other = media.speech("sonnet-1.mp3")[: len(talk)]
    level = np.float32(10 ** (decibels / 20))
    sound = channels(talk + level * np.roll(other, 30), other + level * np.roll(talk, 30))
    assert said_two(warnings_of(media.write_float_wav(tmp_path / "a.wav", sound)))


@pytest.mark.slow
def test_music_in_stereo_is_no_reason_for_a_warning(tmp_path):
    left, right = media.chords(20), np.roll(media.chords(20), 7 * SAMPLE_RATE // 5)
    assert not said_two(warnings_of(media.write_wav(tmp_path / "a.wav", channels(left, right))))
