"""Timestamps and lengths that are not to be believed, and those that are."""

from __future__ import annotations

import struct
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cesar.errors import RecordingTooLong
from cesar.pipeline.audio.clock import Clock, Stamp
from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from tests.support import media

YEAR_S = 365.25 * 86_400


@dataclass
class Heard:
    samples: Samples
    warnings: list[str]

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    def loud_from(self, after: float = 0.0, level: float = 0.2) -> float:
        """The second from which the sound reaches the level, after that second."""
        begin = round(after * SAMPLE_RATE)
        return after + float(np.flatnonzero(np.abs(self.samples[begin:]) > level)[0]) / SAMPLE_RATE


def read(path: Path, *, max_duration_s: float | None = None) -> Heard:
    with closing(Recording(path, max_duration_s=max_duration_s)) as recording:
        return Heard(np.concatenate(list(recording.blocks())), recording.warnings)


def beeps(seconds: float, *at: float, rate: int = SAMPLE_RATE) -> media.Sound:
    """Silence with tones of half a second."""
    sound = media.silence(seconds, rate=rate)
    for begin in at:
        sound[round(begin * rate) : round((begin + 0.5) * rate)] = media.tone(0.5, rate=rate)
    return sound


# Holes.


@pytest.mark.slow
@pytest.mark.parametrize("missing", [90, 600, 3600])
@pytest.mark.parametrize("ending", ["mka", "webm"])
def test_a_recorder_that_was_muted_keeps_later_times_true_though_no_header_says_how_long(tmp_path, missing, ending):
    rate = 48_000
    path = tmp_path / f"a.{ending}"
    sound = beeps(12, 1, 9, rate=rate)
    media.write_with_hole(path, sound, at=6, missing=missing, rate=rate, options={"live": "1"})
    heard = read(path)
    assert heard.loud_from(2) == pytest.approx(9 + missing, abs=0.05)
    [warning] = heard.warnings
    assert "the file holds no sound from " in warning


@pytest.mark.parametrize("years", [0.01, 1, 10])
@pytest.mark.parametrize("ending", ["mka", "mkv"])
def test_timestamps_that_jump_by_years_are_not_filled_but_warned_of(tmp_path, years, ending):
    path = media.write_with_hole(tmp_path / f"a.{ending}", beeps(6, 1, 4), at=3, missing=years * YEAR_S)
    heard = read(path)
    assert heard.seconds == pytest.approx(6, abs=0.15)
    assert heard.loud_from(2) == pytest.approx(4, abs=0.15)
    assert [("jump" in warning and "at 3." in warning) or "at 2.9" in warning for warning in heard.warnings] == [True]


def test_a_single_wrong_timestamp_moves_nothing():
    clock = Clock(0.0, "matroska,webm", None)
    wrong, right = Stamp(1000.0, 0.02), Stamp(5.02, 0.02)
    assert clock.lead(Stamp(4.98, 0.02), [5.0, 5.02], 4.98) == 0
    assert clock.lead(wrong, [5.02, 5.04], 5.0) == 0
    assert clock.lead(right, [5.04, 5.06], 5.02) == 0
    assert clock.lead(Stamp(95.04, 0.02), [95.06, 95.08], 5.04) == pytest.approx(90)


def test_no_more_than_a_day_of_holes_is_filled():
    clock, given, filled = Clock(0.0, "matroska,webm", None), 0.0, 0.0
    for hour in range(1, 100):
        lead = clock.lead(Stamp(hour * 3600.0, 0.02), [hour * 3600.0 + 0.02], given)
        given, filled = given + lead + 0.02, filled + lead
    assert 23 * 3600 < filled <= 24 * 3600
    assert "jump" in clock.warnings()[0]


def stream_of_two(path: Path, *, jump: float) -> Path:
    """A transport stream whose clock jumps where its second half begins, as when two are joined."""
    parts = []
    for index, begin in enumerate((2.0, 12.0 + jump)):
        part = path.with_name(f"{index}.ts")
        media.write_media(part, beeps(10, 1, 8, rate=48_000), rate=48_000, delay=begin, options={"muxdelay": "0"})
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("jump", [3600, 5 * 3600, 20 * 3600])
def test_a_transport_stream_whose_clock_jumps_is_as_long_as_its_sound(tmp_path, jump):
    heard = read(stream_of_two(tmp_path / "a.ts", jump=jump))
    assert heard.seconds == pytest.approx(20, abs=0.3)
    assert heard.loud_from(9) == pytest.approx(11, abs=0.2)
    assert any("jump on by" in warning for warning in heard.warnings)
    assert not any("cut off" in warning for warning in heard.warnings)


@pytest.mark.parametrize("back", [5, 11])
def test_a_clock_that_jumps_back_loses_no_sound(tmp_path, back):
    heard = read(stream_of_two(tmp_path / "a.ts", jump=-back))
    assert heard.seconds == pytest.approx(20, abs=0.3)
    assert heard.loud_from(9) == pytest.approx(11, abs=0.2)
    assert any("jump back by" in warning for warning in heard.warnings)


@pytest.mark.slow
@pytest.mark.parametrize("speed", [0.97, 0.99, 1.01])
def test_sound_that_runs_faster_or_slower_than_its_clock_does_not_drift_away_from_it(tmp_path, speed):
    sound = beeps(120, 1, 60, 110)
    heard = read(media.write_stamped(tmp_path / "a.mka", sound, lambda time: time * speed))
    assert heard.loud_from(2) == pytest.approx(60 * speed, abs=0.35)
    assert heard.loud_from(70) == pytest.approx(110 * speed, abs=0.35)


def test_a_clock_that_stands_still_leaves_the_sound_as_it_is(tmp_path):
    heard = read(media.write_stamped(tmp_path / "a.mka", beeps(30, 1, 25), lambda time: time / 1000))
    assert heard.seconds == pytest.approx(30, abs=0.1)
    assert heard.loud_from(2) == pytest.approx(25, abs=0.1)


@pytest.mark.slow
def test_holes_count_towards_the_longest_recording_that_is_taken(tmp_path):
    path = tmp_path / "a.mka"
    media.write_with_hole(path, beeps(6, 1, 4), at=3, missing=3600, options={"live": "1"})
    with closing(Recording(path, max_duration_s=600)) as recording, pytest.raises(RecordingTooLong):
        list(recording.blocks())
    assert recording.samples_given / SAMPLE_RATE == pytest.approx(600, abs=5)
    assert read(path, max_duration_s=3700).seconds == pytest.approx(3606, abs=0.2)


def test_a_header_that_states_more_than_is_taken_is_refused_at_once(tmp_path):
    path = media.write_media(tmp_path / "a.flac", media.tone(11))
    with pytest.raises(RecordingTooLong, match=r"a\.flac is longer than 10 s"):
        Recording(path, max_duration_s=10)


# Lengths.


@pytest.mark.parametrize("stated_s", [0.5, 2, 5.5])
def test_a_wav_that_goes_on_after_its_stated_length_is_read_to_its_end_with_both_lengths_named(tmp_path, stated_s):
    path = media.write_wav(tmp_path / "a.wav", beeps(10, 1, 8))
    path.write_bytes(media.wav_header(round(stated_s * 32_000)) + path.read_bytes()[44:])
    heard = read(path)
    assert heard.seconds == pytest.approx(10, abs=0.01)
    assert heard.loud_from(2) == pytest.approx(8, abs=0.01)
    assert [f"{stated_s:.1f} s" in warning and "10.0 s" in warning for warning in heard.warnings] == [True]


@pytest.mark.parametrize("stated", [0, 0xFFFF_FFFF])
def test_a_wav_whose_recorder_crashed_is_read_to_its_end(tmp_path, stated):
    path = media.write_wav(tmp_path / "a.wav", beeps(10, 1, 8))
    path.write_bytes(media.wav_header(stated) + path.read_bytes()[44:])
    assert read(path).seconds == pytest.approx(10, abs=0.01)


def stale(path: Path, stated: float) -> Path:
    """Ten seconds, with a header that states so many."""
    codecs = {".aiff": "pcm_s16be", ".caf": "pcm_s16be", ".w64": "pcm_s16le", ".au": "pcm_s16be"}
    media.write_tracks(path, [beeps(10, 1, 8)], codec=codecs[path.suffix])
    data, size = bytearray(path.read_bytes()), round(stated * 32_000)
    match path.suffix:
        case ".aiff":
            at = data.index(b"COMM") + 10
            data[at : at + 4] = struct.pack(">I", size // 2)
            at = data.index(b"SSND") + 4
            data[at : at + 4] = struct.pack(">I", size + 8)
        case ".caf":
            at = data.index(b"data") + 4
            data[at : at + 8] = struct.pack(">q", size + 4)
        case ".w64":
            at = data.index(b"data\xf3") + 16
            data[at : at + 8] = struct.pack("<q", size + 24)
        case _:
            data[8:12] = struct.pack(">I", size)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("ending", ["aiff", "au", "caf", "w64"])
@pytest.mark.parametrize("stated", [0.001, 2, 5])
def test_other_formats_of_samples_are_read_to_their_end_too(tmp_path, ending, stated):
    heard = read(stale(tmp_path / f"a.{ending}", stated))
    assert heard.seconds == pytest.approx(10, abs=0.01)
    assert heard.loud_from(2) == pytest.approx(8, abs=0.01)
    assert not any("cut off" in warning for warning in heard.warnings)


@pytest.mark.parametrize("ending", ["aiff", "au", "caf", "w64"])
def test_other_formats_with_a_true_length_are_read_without_a_warning(tmp_path, ending):
    heard = read(stale(tmp_path / f"a.{ending}", 10))
    assert heard.seconds == pytest.approx(10, abs=0.01)
    assert heard.warnings == []


@pytest.mark.slow
def test_a_wav_of_more_than_four_gigabytes_whose_length_has_wrapped_is_read_on(tmp_path):
    """Sparse: 192 kHz, 16 channels; the header's 32 bits hold what is left beyond 4 GiB."""
    rate, channels = 192_000, 16
    second = rate * channels * 2
    path = tmp_path / "a.wav"
    header = media.wav_header((3 * second) & 0xFFFF_FFFF, rate=rate, channels=channels)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 2**32 + 3 * second)
    with closing(Recording(path)) as recording:
        reached = 0
        for block in recording.blocks():
            reached += len(block)
            if reached > 20 * SAMPLE_RATE:
                break
    assert reached > 20 * SAMPLE_RATE
    assert "3.0 s" in recording.warnings[0]
    assert "702.1 s" in recording.warnings[0]


def test_wavs_joined_byte_by_byte_are_read_one_after_the_other(tmp_path):
    first = media.write_wav(tmp_path / "1.wav", beeps(4, 1))
    second = media.write_wav(tmp_path / "2.wav", beeps(5, 2, rate=44_100), rate=44_100)
    third = media.write_wav(tmp_path / "3.wav", beeps(3, 1))
    joined = tmp_path / "joined.wav"
    joined.write_bytes(first.read_bytes() + second.read_bytes() + third.read_bytes())
    heard = read(joined)
    assert heard.seconds == pytest.approx(12, abs=0.01)
    assert heard.loud_from(2) == pytest.approx(6, abs=0.01)
    assert heard.loud_from(8) == pytest.approx(10, abs=0.01)
    assert ["3 recordings are joined" in warning for warning in heard.warnings] == [True]


def test_mp4_files_joined_byte_by_byte_are_read_one_after_the_other(tmp_path):
    parts = [media.write_media(tmp_path / f"{index}.m4a", beeps(5, 2)).read_bytes() for index in range(2)]
    joined = tmp_path / "joined.m4a"
    joined.write_bytes(b"".join(parts))
    heard = read(joined)
    assert heard.seconds == pytest.approx(10, abs=0.3)
    assert heard.loud_from(4) == pytest.approx(7, abs=0.2)


@pytest.mark.parametrize("ending", ["mp3", "flac", "ogg", "aac", "mka"])
def test_other_files_joined_byte_by_byte_are_heard_to_their_end(tmp_path, ending):
    rate = 48_000
    part = media.write_media(tmp_path / f"1.{ending}", beeps(5, 2, rate=rate), rate=rate).read_bytes()
    joined = tmp_path / f"joined.{ending}"
    joined.write_bytes(part + part)
    heard = read(joined)
    assert heard.seconds == pytest.approx(10, abs=0.3)
    assert heard.loud_from(4) == pytest.approx(7, abs=0.2)


def test_chunks_after_the_sound_are_no_sound(tmp_path):
    path = media.write_wav(tmp_path / "a.wav", beeps(3, 1))
    notes = b"LIST" + (40_000).to_bytes(4, "little") + b"INFO" + bytes(39_996)
    for tail in (notes, notes[:20_000], b"TAG" + bytes(125), b"id3 " + (50_000).to_bytes(4, "little") + bytes(50_000)):
        other = tmp_path / "b.wav"
        other.write_bytes(path.read_bytes() + tail)
        heard = read(other)
        assert heard.seconds == pytest.approx(3, abs=0.001)
        assert heard.warnings == []


# "May be cut off" only where a header states a length.


def variable_mp3(path: Path) -> Path:
    """MP3 of varying bit rate, and no frame that counts the others."""
    sound = np.concatenate([media.silence(20), media.white_noise(5)])
    with av.open(str(path), "w", options={"write_xing": "0", "id3v2_version": "0"}) as container:
        stream = container.add_stream("libmp3lame", rate=16_000, options={"q": "4"})
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        stream.codec_context.flags |= av.codec.context.Flags.qscale
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = 16_000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("make", ["mp3", "aac", "ts", "ogg"])
def test_a_guessed_length_is_no_reason_to_speak_of_a_cut_off_file(tmp_path, make):
    sound = np.concatenate([media.silence(20, rate=48_000), media.white_noise(5, rate=48_000)])
    path = (
        variable_mp3(tmp_path / "a.mp3")
        if make == "mp3"
        else media.write_media(tmp_path / f"a.{make}", sound, rate=48_000)
    )
    heard = read(path)
    assert heard.seconds == pytest.approx(25, abs=0.3)
    assert heard.warnings == []


@pytest.mark.parametrize("ending", ["mp3", "flac", "mka"])
def test_a_stated_length_is_reason_to_speak_of_a_cut_off_file(tmp_path, ending):
    whole = media.write_media(tmp_path / f"whole.{ending}", media.white_noise(20))
    heard = read(media.write_cut_off(tmp_path / f"cut.{ending}", whole, keep=0.6))
    assert any("cut off" in warning for warning in heard.warnings)


def broadcast(path: Path, *, muted: tuple[int, int], seconds: int) -> Path:
    """A transport stream whose picture goes on while the sound is away."""
    rate = 48_000
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg2video", rate=25)
        video.width, video.height, video.pix_fmt, video.bit_rate = 160, 120, "yuv420p", 200_000
        sound = container.add_stream("mp2", rate=rate)
        assert isinstance(sound, av.AudioStream)
        sound.layout = "mono"
        noise = np.random.default_rng(1)
        for second in range(seconds):
            for index in range(second * 25, second * 25 + 25):
                picture = av.VideoFrame.from_ndarray(noise.integers(0, 256, (180, 160), np.uint8), format="yuv420p")
                picture.pts, picture.time_base = index, Fraction(1, 25)
                container.mux(video.encode(picture))
            if not muted[0] <= second < muted[1]:
                part = (media.tone(1, rate=rate) * 32767 * (second % 20 == 1)).astype(np.int16)
                for at in range(0, rate - 1152, 1152):
                    frame = av.AudioFrame.from_ndarray(part[at : at + 1152].reshape(1, -1), format="s16", layout="mono")
                    frame.sample_rate, frame.pts, frame.time_base = rate, second * rate + at, Fraction(1, rate)
                    container.mux(sound.encode(frame))
        container.mux([*video.encode(None), *sound.encode(None)])
    return path


@pytest.mark.slow
def test_a_broadcast_that_was_muted_while_its_picture_went_on_keeps_later_times_true(tmp_path):
    heard = read(broadcast(tmp_path / "a.ts", muted=(10, 90), seconds=105))
    assert heard.loud_from(50) == pytest.approx(101, abs=0.3)
    assert not any("jump" in warning for warning in heard.warnings)
