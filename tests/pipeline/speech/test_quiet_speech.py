"""Quiet speech is found, alone and after louder speech; sounds without speech stay without it at any level."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from cesar import AudioTranscriber
from cesar.pipeline.channels.picker import ChannelPicker
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from cesar.pipeline.speech.vad import Probabilities, SpeechDetector
from tests.support import media

TALKS = ("jfk.m4a", "sonnet-1.mp3", "phone-prompt-8k.wav")
BLOCK = 4 * SAMPLE_RATE


def at_level(sound: media.Sound, decibels: float) -> media.Sound:
    """The sound with that root mean square, by full scale, in steps of 16 bits."""
    level = np.sqrt(np.mean(np.square(sound, dtype=np.float64)))
    louder: media.Sound = (np.round(sound * (10 ** (decibels / 20) / level) * 32768) / 32768).astype(np.float32)
    return louder


@pytest.fixture(scope="module")
def talks() -> dict[str, media.Sound]:
    return {name: at_level(media.speech(name)[: 10 * SAMPLE_RATE], -22) for name in TALKS}


def heard(sound: media.Sound) -> tuple[Samples, Probabilities]:
    """What would be transcribed of one channel, and the probability of speech in its frames."""
    blocks = [sound[np.newaxis, at : at + BLOCK] for at in range(0, len(sound), BLOCK)]
    sounds, found = zip(*ChannelPicker().pick(blocks), strict=True)
    return np.concatenate(sounds), np.concatenate(found)


def part_heard(found: Probabilities, loud: Samples) -> float:
    """How much of the frames in which somebody speaks is taken for speech."""
    spoken = np.concatenate(list(SpeechDetector().probabilities([loud]))) > 0.5
    return float((found[: len(spoken)][spoken] > 0.3).mean())


@pytest.mark.slow
@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize("decibels", [-50, -60, -70])
def test_quiet_speech_alone_is_heard_from_its_first_word(talks, name, decibels):
    sound = np.concatenate([media.silence(1.0), at_level(talks[name], decibels)])
    _, found = heard(sound)
    loud = np.concatenate([media.silence(1.0), talks[name]])
    assert part_heard(found, loud) > 0.9
    first, first_loud = (int(np.argmax(p > 0.3)) for p in (found, SpeechDetector().feed(loud)))
    assert first <= first_loud + 6


@pytest.mark.slow
@pytest.mark.parametrize(("before", "name"), [*pairwise(TALKS), ("phone-prompt-8k.wav", "jfk.m4a")])
@pytest.mark.parametrize("decibels", [-42, -50, -60, -68])
def test_quiet_speech_after_louder_speech_is_heard(talks, before, name, decibels):
    talk = talks[name]
    _, found = heard(np.concatenate([talks[before], media.silence(0.5), at_level(talk, decibels)]))
    begins = (len(talks[before]) + SAMPLE_RATE // 2) // 512
    assert part_heard(found[begins:], talk) > 0.75


@pytest.mark.parametrize("name", TALKS)
def test_speech_that_is_loud_enough_stays_as_it_is_to_the_bit(talks, name):
    sound, found = heard(talks[name])
    np.testing.assert_array_equal(sound, talks[name])
    np.testing.assert_array_equal(found > 0.3, np.concatenate(list(SpeechDetector().probabilities([sound]))) > 0.3)


@pytest.mark.parametrize("decibels", [-45, -60, -75, -90])
@pytest.mark.parametrize("kind", ["noise", "music", "hum", "rumble"])
def test_quiet_sound_without_speech_is_not_taken_for_speech_even_after_speech(talks, kind, decibels):
    noise = media.white_noise(9.0)
    sounds = {
        "noise": noise,
        "music": media.chords(9.0),
        "hum": media.tone(9.0, hertz=50.0),
        "rumble": np.cumsum(noise - noise.mean()).astype(np.float32),
    }
    before = talks["jfk.m4a"]
    sound = np.concatenate([before, media.silence(0.5), at_level(sounds[kind], decibels)])
    _, found = heard(sound)
    as_it_is = SpeechDetector().feed(sound)
    assert not ((found > 0.3) & (as_it_is <= 0.3))[len(before) // 512 + 10 :].any()


def test_silence_stays_silence():
    sound, found = heard(media.silence(9.0))
    assert not sound.any()
    assert not (found > 0.3).any()


@pytest.mark.model
@pytest.mark.slow
def test_the_words_of_a_quiet_voice_after_a_loud_one_are_written(tmp_path, talks):
    quiet = at_level(media.speech("printing-lj.m4a")[: 10 * SAMPLE_RATE], -60)
    sound = np.concatenate([talks["jfk.m4a"], media.silence(0.5), quiet])
    text = AudioTranscriber("tiny.en").transcribe(media.write_wav(tmp_path / "a.wav", sound)).text.lower()
    assert "what your country can do for you" in text
    assert "printing" in text
    assert "exhibition" in text
