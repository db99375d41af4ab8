"""Which of several audio tracks is heard."""

from __future__ import annotations

import math
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cesar.errors import TrackNotFound
from cesar.options import Track
from cesar.pipeline.audio.clock import Clock
from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.audio.timeline import Timeline
from cesar.pipeline.audio.track_mixing import side_by_side
from cesar.pipeline.audio.tracks import Part
from cesar.pipeline.media.frames import Decoded
from cesar.pipeline.samples import SAMPLE_RATE, Samples, joined
from tests.support import media


def read(path: Path, track: Track | None = None) -> tuple[Samples, list[str]]:
    with closing(Recording(path, track=track)) as recording:
        return np.concatenate(list(recording.blocks())), recording.warnings


def likeness(heard: Samples, truth: media.Sound, at: float = 0.0) -> float:
    """Correlation with what should be there, whatever its loudness."""
    part = heard[round(at * SAMPLE_RATE) :][: len(truth)]
    return float(np.corrcoef(part, truth[: len(part)])[0, 1])


@pytest.fixture(scope="module")
def talk() -> media.Sound:
    return media.speech()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
@pytest.mark.parametrize("speaking", [0, 1, 2])
def test_the_track_with_speech_is_taken_wherever_it_stands(tmp_path, talk, ending, speaking):
    sounds = [media.silence(11), media.chords(11), media.white_noise(11, amplitude=0.01)]
    sounds[speaking] = talk
    codec = "flac" if ending == "mkv" else None
    heard, warnings = read(media.write_tracks(tmp_path / f"a.{ending}", sounds, codec=codec))
    assert likeness(heard, talk) > 0.98
    assert warnings == [f"track {speaking + 1} of 3 audio tracks was transcribed"]


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
@pytest.mark.parametrize(
    ("start", "end", "taken"), [(0.0, 11.0, 1), (11.5, math.inf, 2), (12.0, 20.0, 2), (0.0, 5.0, 1)]
)
def test_of_a_part_of_a_recording_the_track_that_speaks_there_is_taken(tmp_path, talk, ending, start, end, taken):
    """In two tracks somebody speaks, in one after the other."""
    sounds = [np.concatenate([talk, media.silence(11)]), np.concatenate([media.silence(11), talk])]
    path = media.write_tracks(tmp_path / f"a.{ending}", sounds, codec="flac" if ending == "mkv" else None)
    with closing(Recording(path, part=Part(start, end))) as recording:
        assert recording.warnings[0] == f"track {taken} of 2 audio tracks was transcribed"
        assert len(recording.warnings) == 1


@pytest.mark.slow
def test_four_mono_tracks_of_a_camera_are_listened_to(tmp_path, talk):
    sounds = [media.silence(11, rate=48_000)] * 4
    sounds[2] = np.interp(np.arange(len(talk) * 3) / 3, np.arange(len(talk)), talk).astype(np.float32)
    path = media.write_tracks(tmp_path / "a.mov", sounds, rate=48_000, codec="pcm_s16le")
    heard, warnings = read(path)
    assert likeness(heard, talk) > 0.98
    assert warnings[0].startswith("track 3 of 4")


@pytest.mark.slow
def test_speech_that_begins_late_in_the_second_track_is_found(tmp_path, talk):
    """A screen recorder: the desktop plays music, and the microphone comes in after minutes."""
    desktop, microphone = media.chords(151), np.concatenate([media.silence(140), talk])
    heard, _ = read(media.write_tracks(tmp_path / "a.mkv", [desktop, microphone]))
    assert likeness(heard, talk, at=140) > 0.98


def test_other_tracks_with_speech_are_named_with_their_language(tmp_path, talk):
    other = np.resize(media.speech("french.aiff"), len(talk))
    path = media.write_tracks(tmp_path / "a.mkv", [talk, other], codec="flac", tags=["eng", "fre"])
    heard, warnings = read(path)
    assert likeness(heard, talk) > 0.98
    assert warnings[0] == "track 1 (eng) of 2 audio tracks was transcribed"
    assert "track 2 (fre)" in warnings[1]
    assert "--track" in warnings[1]


def test_a_named_track_is_taken_even_if_it_is_silent(tmp_path, talk):
    path = media.write_tracks(tmp_path / "a.mkv", [talk, media.silence(11)])
    heard, warnings = read(path, track=2)
    assert not heard.any()
    assert warnings == []


def test_all_tracks_are_mixed_side_by_side_in_time(tmp_path, talk):
    late = np.concatenate([media.silence(12), talk])
    early = np.concatenate([talk, media.silence(3)])
    heard, _ = read(media.write_tracks(tmp_path / "a.mkv", [early, late], codec="flac"), track="all")
    assert len(heard) == len(late)
    np.testing.assert_allclose(heard[: len(talk)], talk / 2, atol=1e-3)
    np.testing.assert_allclose(heard[12 * SAMPLE_RATE :], talk / 2, atol=1e-3)


@pytest.mark.parametrize("hole", [range(40), range(2, 95), range(33)])
def test_a_track_that_is_not_written_for_a_while_keeps_its_place_in_the_mix(tmp_path, talk, hole):
    """A second speaker who joins late: until then his track has no packets, and the mix goes on without it."""
    late = np.concatenate([media.silence(hole.stop), talk])
    path = tmp_path / "a.mkv"
    media.write_tracks(path, [np.zeros_like(late), late], codec="pcm_s16le", holes=[range(0), hole])
    heard, _ = read(path, track="all")
    assert len(heard) == len(late)
    np.testing.assert_allclose(heard[hole.stop * SAMPLE_RATE :], talk / 2, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("hole", [range(12, 50), range(12, 130)])
def test_the_last_words_of_a_track_before_a_long_pause_keep_their_place_in_the_mix(tmp_path, talk, hole):
    """Its last frames are held back until the next one comes, which is too late for the mix."""
    early = np.concatenate([media.silence(12 - len(talk) / SAMPLE_RATE), talk])
    sound = np.concatenate([early, media.silence(hole.stop - hole.start), talk])
    path = tmp_path / "a.mkv"
    media.write_tracks(path, [np.zeros_like(sound), sound], codec="pcm_s16le", holes=[range(0), hole])
    heard, _ = read(path, track="all")
    assert len(heard) == len(sound)
    np.testing.assert_allclose(heard, sound / 2, atol=1e-3)


@pytest.mark.slow
def test_a_long_pause_of_all_tracks_is_kept_in_the_mix(tmp_path, talk):
    """A recorder that was muted: each track's clock puts the whole pause before its next sound."""
    pause = range(12, 900)
    sound = np.concatenate([talk, media.silence(pause.stop - len(talk) / SAMPLE_RATE), talk])
    path = media.write_tracks(tmp_path / "a.mkv", [sound, sound], codec="pcm_s16le", holes=[pause, pause])
    heard, _ = read(path, track="all")
    assert len(heard) == len(sound)
    np.testing.assert_allclose(heard, sound, atol=1e-3)


def test_a_track_that_ends_early_does_not_end_the_mix(tmp_path, talk):
    long = np.concatenate([media.silence(60), talk])
    heard, _ = read(media.write_tracks(tmp_path / "a.mkv", [talk, long], codec="flac"), track="all")
    assert len(heard) == len(long)
    assert likeness(heard, talk, at=60) > 0.99


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
@pytest.mark.parametrize("begin", [12, 40])
def test_a_track_that_begins_after_another_has_ended_keeps_its_place_in_the_mix(tmp_path, talk, ending, begin):
    """Someone joins a call after another has left: the header states an end for each track."""
    late = np.concatenate([media.silence(begin), talk])
    path = tmp_path / f"a.{ending}"
    media.write_tracks(path, [talk, late], codec="aac", holes=[range(0), range(begin)])
    heard, warnings = read(path, track="all")
    assert likeness(heard, talk) > 0.9
    assert likeness(heard, talk, at=begin) > 0.9
    assert warnings == []


def test_a_track_that_is_not_there_is_refused_with_the_number_there_are(tmp_path, talk):
    path = media.write_tracks(tmp_path / "a.mkv", [talk, talk])
    with pytest.raises(TrackNotFound, match=r"a\.mkv has 2 audio tracks, and no track 3"):
        read(path, track=3)


def test_a_file_of_one_track_is_opened_once_and_says_nothing_of_tracks(tmp_path, talk):
    _, warnings = read(media.write_media(tmp_path / "a.mp3", talk))
    assert warnings == []


@pytest.mark.slow
def test_the_same_file_gives_the_same_sound_each_time(tmp_path, talk):
    path = media.write_tracks(tmp_path / "a.mkv", [media.chords(11), talk, talk[::-1].copy()])
    choices: tuple[Track | None, ...] = (None, "all")
    for track in choices:
        first, again = read(path, track=track)[0], read(path, track=track)[0]
        np.testing.assert_array_equal(first, again)


@pytest.mark.slow
def test_a_track_whose_mix_drowns_its_speech_is_the_one_with_speech(tmp_path, talk):
    """A voice in one of its channels, 25 dB below the music in the other."""
    music = media.chords(12)[: len(talk)]
    quiet = np.stack([music, talk * np.float32(0.03)], axis=1)
    _, warnings = read(media.write_tracks(tmp_path / "a.mkv", [np.stack([music, music], axis=1), quiet], codec="flac"))
    assert warnings[0].startswith("track 2 of 2")


@pytest.mark.slow
def test_a_track_whose_speech_begins_after_the_choice_was_made_is_warned_of(tmp_path, talk):
    """The choice is made after ten minutes; the others are listened to until the end."""
    speaking = np.tile(talk, 70)
    late = np.concatenate([media.silence(12 * 60), talk])
    path = media.write_tracks(tmp_path / "a.mkv", [speaking, late], tags=["eng", "ger"])
    heard, warnings = read(path)
    assert likeness(heard, talk) > 0.98
    assert warnings[0].startswith("track 1 (eng) of 2")
    assert ["track 2 (ger) also holds speech" in warning for warning in warnings[1:]] == [True]


def frames_of(track: int, sound: media.Sound, start: float = 0.0) -> list[Decoded]:
    """A tenth of a second each."""
    given: list[Decoded] = []
    for at in range(0, len(sound), 1600):
        frame = av.AudioFrame.from_ndarray(sound[at : at + 1600].reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
        frame.pts = round(start * SAMPLE_RATE) + at
        given.append((track, frame, None))
    return given


@pytest.mark.parametrize("start", [20, 60, 130.5])
def test_a_track_that_begins_long_after_the_others_is_at_its_time_in_the_mix(talk, start):
    """The mix doesn't wait for it; what comes then is not put behind the silence that stands for it already."""
    frames = [*frames_of(0, media.silence(start + 30)), *frames_of(1, talk, start)]
    lines = {track: Timeline("a", Clock(0.0, "mov", None)) for track in (0, 1)}
    heard = joined(list(side_by_side(sorted(frames, key=lambda one: one[1].time or 0.0), lines)))[0]
    assert len(heard) == pytest.approx((start + 30) * SAMPLE_RATE, abs=SAMPLE_RATE)
    assert likeness(heard, talk, at=start) > 0.98


@pytest.mark.parametrize("broken", [0, 1])
def test_a_track_that_cannot_be_decoded_is_told(tmp_path, talk, broken):
    path = media.write_tracks(tmp_path / "a.mkv", [talk, talk])
    content = path.read_bytes()
    parts = content.split(b"A_FLAC")
    assert len(parts) == 3
    parts[broken] += b"A_QQQQ" + parts.pop(broken + 1)
    path.write_bytes(b"A_FLAC".join(parts))
    _, warnings = read(path)
    assert warnings == [f"track {broken + 1} can't be decoded: whether there is speech is not known"]


def test_a_track_that_ends_before_the_others_is_not_cut_off(tmp_path, talk):
    path = media.write_video(tmp_path / "a.mkv", seconds=40, sound=talk)
    heard, warnings = read(path)
    assert len(heard) == pytest.approx(len(talk), abs=SAMPLE_RATE)
    assert warnings == []
