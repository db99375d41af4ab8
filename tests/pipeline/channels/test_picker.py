"""The mix of several channels is heard, unless it loses speech that one of them holds."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.channels.picker import ChannelPicker
from cesar.pipeline.samples import SAMPLE_RATE, Channels, Samples
from cesar.pipeline.speech.vad import Probabilities, SpeechDetector
from tests.support import media
from tests.support.picked import picked

TALKS = ("jfk.m4a", "sonnet-1.mp3", "phone-prompt-8k.wav")


def at_level(sound: media.Sound, decibels: float) -> media.Sound:
    """The sound with that root mean square, by full scale."""
    level = np.sqrt(np.mean(np.square(sound, dtype=np.float64)))
    louder: media.Sound = (sound * (10 ** (decibels / 20) / level)).astype(np.float32)
    return louder


@pytest.fixture(scope="module")
def talks() -> dict[str, media.Sound]:
    return {name: at_level(media.speech(name)[: 12 * SAMPLE_RATE], -20) for name in TALKS}


def loud(kind: str, length: int, seed: int = 1) -> media.Sound:
    """Something at -20 dB in which nobody speaks."""
    seconds = length / SAMPLE_RATE + 1
    sounds = {
        "music": lambda: np.roll(media.chords(seconds), seed * 5000),
        "noise": lambda: media.white_noise(seconds, seed=seed),
        "hum": lambda: sum(media.tone(seconds, hertz=50 * n, amplitude=0.5 / n) for n in range(1, 9)),
    }
    return at_level(np.asarray(sounds[kind](), np.float32)[:length], -20)


def placed(position: str, voice: media.Sound, other: media.Sound) -> media.Sound:
    """Channels side by side: float32[n, channels]."""
    nothing = np.zeros_like(voice)
    ways = {
        "left": [voice, other],
        "right": [other, voice],
        "opposite": [other + voice, other - voice],
        "one of four": [other, other * np.float32(0.5), voice, nothing],
        "back of six": [other, other, nothing, nothing, voice, nothing],
    }
    return np.stack(ways[position], axis=1)


def part_heard(found: Probabilities, voice: Samples) -> float:
    """How much of the frames in which somebody speaks is taken for speech."""
    channel_speech_frames = np.concatenate(list(SpeechDetector().probabilities([at_level(voice, -30)]))) > 0.5
    return float((found[: len(channel_speech_frames)][channel_speech_frames] > 0.3).mean())


@pytest.mark.slow
@pytest.mark.parametrize("position", ["left", "right", "opposite", "one of four", "back of six"])
@pytest.mark.parametrize("decibels", [-12, -20, -28, -35])
@pytest.mark.parametrize(("name", "kind"), list(zip(TALKS, ["music", "noise", "hum"], strict=True)))
def test_a_quiet_voice_beside_something_loud_is_heard(tmp_path, talks, name, kind, decibels, position):
    voice = at_level(talks[name], -20 + decibels)
    sound = placed(position, voice, loud(kind, len(voice)))
    heard = picked(media.write_float_wav(tmp_path / "a.wav", sound))
    assert len(heard.sound) == len(sound)
    assert part_heard(heard.probabilities, voice) > 0.75
    assert any("was transcribed alone at 0:0" in warning for warning in heard.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize("decibels", [-5, -8, -10, -12])
def test_a_voice_beside_loud_noise_is_taken_alone_from_first_to_last(tmp_path, talks, name, decibels):
    """The detector hears it through the noise now and then, but the model makes up words there."""
    voice = talks[name]
    sound = placed("left", voice, at_level(loud("noise", len(voice)), decibels))
    heard = picked(media.write_float_wav(tmp_path / "a.wav", sound))
    seconds = [slice(at, at + SAMPLE_RATE) for at in range(0, len(voice) - SAMPLE_RATE, SAMPLE_RATE)]
    channel_speech_frames = [second for second in seconds if np.std(voice[second]) > 0.03]
    assert min(float(np.corrcoef(heard.sound[second], voice[second])[0, 1]) for second in channel_speech_frames) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mp3", "m4a", "flac", "wav"])
def test_a_quiet_voice_is_heard_in_any_codec(tmp_path, talks, ending):
    voice = at_level(talks["sonnet-1.mp3"], -45)
    sound = np.repeat(placed("right", voice, loud("music", len(voice))), 3, axis=0)
    heard = picked(media.write_media(tmp_path / f"a.{ending}", sound, rate=48_000))
    assert part_heard(heard.probabilities, voice) > 0.75
    assert any(warning.startswith("channel 2 was transcribed alone") for warning in heard.warnings)


def test_a_voice_in_one_of_two_tracks_taken_together_is_heard(tmp_path, talks):
    voice = at_level(talks["jfk.m4a"], -45)
    path = media.write_tracks(tmp_path / "a.mkv", [loud("music", len(voice)), voice], codec="flac")
    heard = picked(path, track="all")
    assert part_heard(heard.probabilities, voice) > 0.75
    assert any(warning.startswith("track 2 was transcribed alone") for warning in heard.warnings)


@pytest.mark.slow
def test_a_voice_that_begins_late_and_one_that_changes_sides_are_heard(tmp_path, talks):
    voice = at_level(talks["sonnet-1.mp3"], -45)
    music = loud("music", len(voice))
    sound = np.concatenate(
        [placed("left", np.zeros_like(voice), music), placed("left", voice, music), placed("right", voice, music)]
    )
    heard = picked(media.write_float_wav(tmp_path / "a.wav", sound))
    frames = len(voice) // 512
    assert not (heard.probabilities[: frames - 30] > 0.3).any()
    assert part_heard(heard.probabilities[frames:], voice) > 0.75
    assert part_heard(heard.probabilities[2 * frames :], voice) > 0.7


def test_the_mix_is_heard_again_where_it_holds_the_speech(tmp_path, talks):
    quiet, clear = at_level(talks["jfk.m4a"], -45), talks["jfk.m4a"]
    music = loud("music", len(quiet))
    sound = np.concatenate([placed("left", quiet, music), np.stack([clear, clear], axis=1)])
    heard = picked(media.write_float_wav(tmp_path / "a.wav", sound))
    np.testing.assert_allclose(heard.sound[len(quiet) + 2 * SAMPLE_RATE :], clear[2 * SAMPLE_RATE :], atol=1e-6)


def ordinary(kind: str, talk: media.Sound) -> media.Sound:
    """A voice in stereo as it usually is."""
    noise = [media.white_noise(len(talk) / SAMPLE_RATE, amplitude=0.002, seed=seed)[: len(talk)] for seed in (1, 2)]
    ways = {
        "both": [talk, talk],
        "panned": [talk, talk * np.float32(0.4)],
        "late": [talk, np.roll(talk, 20)],
        "spaced": [talk, np.roll(talk, 250) * np.float32(0.7)],
        "one side": [talk, np.zeros_like(talk)],
        "one side, hiss on the other": [talk, noise[0]],
        "hiss": [talk + noise[0], talk + noise[1]],
        "over music": [talk + loud("music", len(talk), seed) * np.float32(0.3) for seed in (1, 3)],
    }
    return np.stack(ways[kind], axis=1).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize(
    "kind", ["both", "panned", "late", "spaced", "one side", "one side, hiss on the other", "hiss", "over music"]
)
def test_an_ordinary_voice_in_stereo_is_mixed_as_ever(tmp_path, talks, name, kind):
    path = media.write_float_wav(tmp_path / "a.wav", ordinary(kind, talks[name]))
    heard = picked(path)
    np.testing.assert_array_equal(heard.sound, np.concatenate(list(Recording(path).blocks())))
    assert heard.warnings == []


@pytest.mark.slow
@pytest.mark.parametrize("name", TALKS)
@pytest.mark.parametrize("decibels", [-24, -30, -36])
@pytest.mark.parametrize(("delay", "share"), [(72, 1.0), (200, 0.7)])
def test_a_late_voice_with_noise_on_one_side_is_mixed_as_ever(tmp_path, name, decibels, delay, share):
    """Where the voice falls for a moment, at the end of a sentence, the noise is louder: no reason for a warning."""
    talk = at_level(media.speech(name)[: 30 * SAMPLE_RATE], -20)
    noise = at_level(media.white_noise(len(talk) / SAMPLE_RATE + 1)[: len(talk)], decibels)
    sound = np.stack([talk, np.roll(talk, delay) * np.float32(share) + noise], axis=1)
    path = media.write_float_wav(tmp_path / "a.wav", sound)
    heard = picked(path)
    np.testing.assert_array_equal(heard.sound, np.concatenate(list(Recording(path).blocks())))
    assert heard.warnings == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["music", "noise", "hum"])
@pytest.mark.parametrize("shares", [(1, 0, 0, 1), (1, 0.5, 0.5, 1), (1, 0.1, 1, -0.1), (1, 0, 0, 0.01)])
def test_music_and_noise_without_a_voice_are_mixed_as_ever(tmp_path, kind, shares):
    first, second = (loud(kind, 20 * SAMPLE_RATE, seed) for seed in (1, 2))
    a, b, c, d = shares
    sound = np.stack([a * first + b * second, c * first + d * second], axis=1).astype(np.float32)
    path = media.write_float_wav(tmp_path / "a.wav", sound)
    heard = picked(path)
    np.testing.assert_array_equal(heard.sound, np.concatenate(list(Recording(path).blocks())))
    assert heard.warnings == []


def test_too_little_speech_to_be_taken_is_told_where_there_is_no_other(tmp_path, talks):
    """A syllable of 0.2 s in one channel, under music: an empty text must not look as if nobody spoke."""
    music = loud("music", 8 * SAMPLE_RATE)
    voice = np.zeros_like(music)
    voice[3 * SAMPLE_RATE :][: SAMPLE_RATE // 5] = at_level(talks["jfk.m4a"], -40)[2 * SAMPLE_RATE :][
        : SAMPLE_RATE // 5
    ]
    heard = picked(media.write_float_wav(tmp_path / "a.wav", np.stack([voice, music], axis=1)))
    assert [re.sub(r"\d\.\d", "N", warning) for warning in heard.warnings] == [
        "channel 1 may hold N s of speech, too little to tell: nothing was taken"
    ]


def test_what_is_heard_is_the_same_each_time_and_whole(talks):
    voice = at_level(talks["sonnet-1.mp3"], -45)
    rows = placed("left", voice, loud("music", len(voice))).T
    sound: Channels = np.concatenate([rows.mean(axis=0, keepdims=True), rows])

    def heard() -> list[tuple[Samples, Probabilities]]:
        return list(ChannelPicker().pick(sound[:, at : at + 64_000] for at in range(0, sound.shape[1], 64_000)))

    first, again = heard(), heard()
    assert sum(len(part) for part, _ in first) == len(voice)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


def test_channels_that_come_and_go_are_followed(talks):
    """A stream that turns from mono to stereo and back."""
    voice = talks["jfk.m4a"][: 8 * SAMPLE_RATE]
    mono: Channels = voice[np.newaxis]
    stereo: Channels = np.stack([voice, voice, voice])
    parts = list(ChannelPicker().pick([mono, stereo, mono, stereo, mono]))
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), np.tile(voice, 5))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(talks):
    picker = ChannelPicker()
    voice = at_level(talks["jfk.m4a"], -45)[: 8 * SAMPLE_RATE]
    rows = placed("left", voice, loud("music", len(voice))).T
    block: Channels = np.concatenate([rows.mean(axis=0, keepdims=True), rows])
    for _ in picker.pick(block for _ in range(30)):
        assert len(picker._recent) <= 2
    assert sum(map(len, picker._taken.values())) <= 2
