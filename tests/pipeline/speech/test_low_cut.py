"""Speech below hum, rumble, wind and offset is heard; where there is none, none is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from cesar import AudioTranscriber
from cesar.pipeline.channels.picker import ChannelPicker
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from cesar.pipeline.speech.low_cut import LowCut
from cesar.pipeline.speech.vad import FRAME_SAMPLES, Probabilities, SpeechDetector, VadSettings, detect_regions
from tests.support import media

BLOCK = 4 * SAMPLE_RATE
LOW = ("hum 50", "hum 60", "offset", "wind", "rumble")


def low_sound(kind: str, samples: int) -> media.Sound:
    """Sound below speech, at about half of full scale."""
    times = np.arange(samples) / SAMPLE_RATE
    if kind == "offset":
        return np.full(samples, 0.6, np.float32)
    if kind.startswith("hum"):
        return (0.6 * np.sin(2 * np.pi * float(kind[-2:]) * times)).astype(np.float32)
    steps = np.cumsum(np.random.default_rng(1).standard_normal(samples))
    steps -= np.convolve(steps, np.ones(BLOCK // 10) / (BLOCK // 10), "same")
    swell = 1 + np.sin(2 * np.pi * 0.3 * times) if kind == "wind" else 1.0
    return (steps * swell * 0.15 / np.std(steps)).astype(np.float32)


def heard(sound: media.Sound) -> tuple[Samples, Probabilities]:
    blocks = [sound[np.newaxis, at : at + BLOCK] for at in range(0, len(sound), BLOCK)]
    sounds, found = zip(*ChannelPicker().pick(blocks), strict=True)
    return np.concatenate(sounds), np.concatenate(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["jfk.m4a", "sonnet-1.mp3", "phone-prompt-8k.wav", "printing-lj.m4a"])
@pytest.mark.parametrize("kind", LOW)
def test_speech_below_low_sound_is_heard(name, kind):
    talk = media.speech(name)[: 10 * SAMPLE_RATE]
    talk = talk * np.float32(0.02 / np.std(talk))
    _, found = heard(talk + low_sound(kind, len(talk)))
    spoken = np.concatenate(list(SpeechDetector().probabilities([talk]))) > 0.5
    assert float(_in_regions(found)[spoken].mean()) > 0.85


def _in_regions(found: Probabilities) -> npt.NDArray[np.bool_]:
    """Which frames are in a region of speech."""
    inside = np.zeros(len(found), np.bool_)
    for updates in detect_regions([found], VadSettings()):
        for region in updates.regions:
            inside[region.start // FRAME_SAMPLES : region.end // FRAME_SAMPLES] = True
    return inside


@pytest.mark.parametrize("kind", LOW)
@pytest.mark.parametrize("hiss", [0.0, 1e-4, 3e-3])
def test_low_sound_without_speech_is_not_taken_for_speech(kind, hiss):
    sound = low_sound(kind, 9 * SAMPLE_RATE)
    as_it_is = sound + media.white_noise(9.0, amplitude=hiss)
    given, found = heard(as_it_is)
    np.testing.assert_array_equal(given, as_it_is)
    assert not (found > 0.3).any()


def test_the_size_of_the_blocks_changes_nothing():
    talk = media.speech("jfk.m4a") * np.float32(0.1)
    sound = talk + low_sound("hum 50", len(talk))
    everywhere = np.ones(len(sound), np.bool_)
    whole, _ = LowCut().feed(sound, everywhere)
    cut = LowCut()
    pieces = [cut.feed(sound[at : at + 5000], everywhere[at : at + 5000])[0] for at in range(0, len(sound), 5000)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)
    assert np.corrcoef(whole[399:], talk[:-399])[0, 1] > 0.9


def test_speech_without_low_sound_stays_as_it_is():
    talk = media.speech("jfk.m4a")
    given, is_cut = LowCut().feed(talk, np.ones(len(talk), np.bool_))
    assert not is_cut
    np.testing.assert_array_equal(given, talk)


@pytest.mark.model
@pytest.mark.slow
def test_the_words_below_hum_are_written(tmp_path):
    talk = media.speech("jfk.m4a") * np.float32(0.05)
    path = media.write_wav(tmp_path / "a.wav", talk + low_sound("hum 50", len(talk)))
    assert "what your country can do for you" in AudioTranscriber("tiny.en").transcribe(path).text.lower()
