import socket
import struct
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cesar.errors import (
    BadAudio,
    EmptyRecording,
    InputError,
    NoAudioTrack,
    NotMedia,
    RecordingNotFound,
)
from cesar.pipeline.audio.decode import BLOCK_SAMPLES, Recording
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from tests.support import media


@dataclass
class Decoded:
    samples: Samples
    blocks: list[Samples]
    warnings: list[str]
    header_duration: float | None

    @property
    def seconds(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    def first_loud(self, level: float = 0.2) -> float:
        """The second at which the sound first reaches the level."""
        return float(np.flatnonzero(np.abs(self.samples) > level)[0]) / SAMPLE_RATE


def decode(path: Path) -> Decoded:
    recording = Recording(path)
    try:
        blocks = list(recording.blocks())
        return Decoded(np.concatenate(blocks), blocks, recording.warnings, recording.header_duration)
    finally:
        recording.close()


def loudest_hertz(samples: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum)) * SAMPLE_RATE / len(samples)


def amplitude(samples: Samples) -> float:
    """Of a sine."""
    return float(np.sqrt(2 * np.mean(samples.astype(np.float64) ** 2)))


def middle(samples: Samples) -> Samples:
    return samples[len(samples) // 4 : -len(samples) // 4]


# Any form of sound becomes the same mono sound at 16 kHz.


@pytest.mark.parametrize("rate", [1_000, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_a_sine_keeps_its_length_frequency_and_amplitude_at_any_rate(tmp_path, rate):
    decoded = decode(media.write_wav(tmp_path / "a.wav", media.tone(2, hertz=220, rate=rate), rate=rate))
    assert decoded.seconds == pytest.approx(2, abs=0.002)
    assert loudest_hertz(decoded.samples) == pytest.approx(220, abs=1)
    assert amplitude(middle(decoded.samples)) == pytest.approx(0.5, rel=0.01)
    assert decoded.warnings == []


@pytest.mark.parametrize("channels", [2, 3, 4, 6, 7, 8, 9, 10, 24, 40, 64])
def test_the_same_sine_in_any_number_of_channels_keeps_its_amplitude(tmp_path, channels):
    sound = np.repeat(media.tone(0.5, rate=44_100)[:, np.newaxis], channels, axis=1)
    decoded = decode(media.write_wav(tmp_path / "a.wav", sound, rate=44_100))
    assert decoded.seconds == pytest.approx(0.5, abs=0.002)
    assert loudest_hertz(decoded.samples) == pytest.approx(440, abs=2)
    assert amplitude(middle(decoded.samples)) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("channels", [2, 6, 8])
def test_named_loudspeakers_are_mixed_without_growing_louder_than_full_scale(tmp_path, channels):
    sound = np.repeat(media.tone(1, rate=48_000, amplitude=0.9)[:, np.newaxis], channels, axis=1)
    decoded = decode(media.write_media(tmp_path / "a.flac", sound, rate=48_000))
    assert np.abs(middle(decoded.samples)).max() <= 1.0
    assert amplitude(middle(decoded.samples)) > 0.6


def test_eight_channels_at_192_khz_are_mixed_down(tmp_path):
    sound = np.repeat(media.tone(1, rate=192_000)[:, np.newaxis], 8, axis=1)
    decoded = decode(media.write_wav(tmp_path / "a.wav", sound, rate=192_000, bits=24))
    assert decoded.seconds == pytest.approx(1, abs=0.002)
    assert amplitude(middle(decoded.samples)) == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("channel", [0, 1])
def test_who_speaks_in_one_channel_only_is_heard(tmp_path, channel):
    sound = np.zeros((SAMPLE_RATE, 2), np.float32)
    sound[:, channel] = media.tone(1)
    decoded = decode(media.write_wav(tmp_path / "a.wav", sound))
    assert amplitude(middle(decoded.samples)) == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0.01), (16, 1e-4), (24, 1e-6), (32, 1e-6)])
def test_integer_samples_keep_their_values(tmp_path, bits, tolerance):
    sound = media.white_noise(1)
    decoded = decode(media.write_wav(tmp_path / "a.wav", sound, bits=bits))
    np.testing.assert_allclose(decoded.samples, sound, atol=tolerance)


def test_float_samples_keep_their_values(tmp_path):
    sound = media.white_noise(1)
    decoded = decode(media.write_float_wav(tmp_path / "a.wav", sound))
    np.testing.assert_array_equal(decoded.samples, sound)


@pytest.mark.parametrize("ending", ["aiff", "flac", "m4a", "mka", "mkv", "mp3", "mp4", "ogg", "wav", "webm"])
def test_a_sine_survives_any_codec_and_container(tmp_path, ending):
    path = media.write_media(tmp_path / f"a.{ending}", media.tone(3, rate=48_000), rate=48_000)
    decoded = decode(path)
    assert decoded.seconds == pytest.approx(3, abs=0.06)
    assert loudest_hertz(decoded.samples) == pytest.approx(440, abs=1)
    assert amplitude(middle(decoded.samples)) == pytest.approx(0.5, rel=0.1)
    assert decoded.warnings == []


def test_a_file_that_changes_rate_and_channels_on_the_way_is_decoded_to_its_end(tmp_path):
    """Two MP3 files joined byte by byte, as some recorders and all `cat` users do."""
    stereo = np.repeat(media.tone(3, rate=44_100)[:, np.newaxis], 2, axis=1)
    first = media.write_media(tmp_path / "1.mp3", stereo[:, 0], rate=44_100)
    second = media.write_media(tmp_path / "2.mp3", media.tone(3, hertz=1000))
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    decoded = decode(joined)
    assert decoded.seconds == pytest.approx(6, abs=0.15)
    assert loudest_hertz(decoded.samples[: 2 * SAMPLE_RATE]) == pytest.approx(440, abs=1)
    assert loudest_hertz(decoded.samples[4 * SAMPLE_RATE :]) == pytest.approx(1000, abs=1)


@pytest.mark.parametrize(
    "name",
    ["a%03d.wav", "what?.wav", "a#b.wav", "http:x.wav", "-x.wav", "ünï 日本.wav", "new\nline.wav", "caf\udce9.wav"],
)
def test_a_file_may_have_any_name(tmp_path, name):
    assert decode(media.write_wav(tmp_path / name, media.tone(0.5))).seconds == 0.5


# Blocks.


@pytest.mark.parametrize("seconds", [0.01, 3.99, 4.0, 8.0, 9.5])
def test_all_blocks_but_the_last_have_the_same_size(tmp_path, seconds):
    decoded = decode(media.write_wav(tmp_path / "a.wav", media.tone(seconds)))
    *whole, last = map(len, decoded.blocks)
    assert set(whole) <= {BLOCK_SAMPLES}
    assert 0 < last <= BLOCK_SAMPLES
    assert all(block.dtype == np.float32 and block.ndim == 1 for block in decoded.blocks)


def test_memory_stays_flat_however_long_the_recording(tmp_path):
    """Two minutes would be 7.7 MB as samples."""
    path = tmp_path / "a.wav"
    quiet = bytes([128]) * 120_000
    path.write_bytes(media.wav_header(len(quiet), rate=1_000, bits=8) + quiet)
    recording = Recording(path)
    tracemalloc.start()
    try:
        samples = sum(map(len, recording.blocks()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        recording.close()
    assert samples / SAMPLE_RATE == pytest.approx(120, abs=0.01)
    assert peak < 3_000_000


# Values that are no sound.


def test_values_that_are_not_numbers_become_silence_with_a_warning(tmp_path):
    sound = media.tone(1)
    sound[1000:1100] = np.nan
    sound[2000] = np.inf
    sound[2001] = -np.inf
    decoded = decode(media.write_float_wav(tmp_path / "a.wav", sound))
    assert np.isfinite(decoded.samples).all()
    assert not decoded.samples[1000:1100].any()
    assert decoded.seconds == 1
    assert ["102 samples" in warning for warning in decoded.warnings] == [True]


def test_values_far_beyond_full_scale_count_as_no_numbers(tmp_path):
    """They overflow in the spectrum: one of them would make a chunk's features infinite."""
    sound = media.tone(1)
    sound[1000:1010] = 1e30
    decoded = decode(media.write_float_wav(tmp_path / "a.wav", sound))
    assert np.abs(decoded.samples).max() < 1e6
    assert len(decoded.warnings) == 1


def test_loud_values_beyond_full_scale_are_kept(tmp_path):
    decoded = decode(media.write_float_wav(tmp_path / "a.wav", media.tone(1, amplitude=3.0)))
    assert amplitude(decoded.samples) == pytest.approx(3.0, rel=0.01)
    assert decoded.warnings == []


def test_a_recording_of_nothing_but_nan_is_refused(tmp_path):
    with pytest.raises(BadAudio):
        decode(media.write_float_wav(tmp_path / "a.wav", np.full(SAMPLE_RATE, np.nan, np.float32)))


# Damage.


def test_damaged_packets_are_skipped_with_a_warning_and_what_follows_stays_at_its_time(tmp_path):
    sound = np.concatenate([media.tone(8, amplitude=0.05), media.tone(2)])
    path = media.write_media(tmp_path / "a.m4a", sound, options={"movflags": "+faststart"})
    decoded = decode(media.write_damaged(tmp_path / "b.m4a", path, begin=0.4, end=0.5))
    assert decoded.seconds == pytest.approx(10, abs=0.1)
    assert loudest_hertz(decoded.samples[-SAMPLE_RATE:]) == pytest.approx(440, abs=2)
    assert amplitude(decoded.samples[int(8.2 * SAMPLE_RATE) : int(9.8 * SAMPLE_RATE)]) == pytest.approx(0.5, rel=0.1)
    assert amplitude(decoded.samples[int(7.0 * SAMPLE_RATE) : int(7.9 * SAMPLE_RATE)]) < 0.1
    assert any("damaged" in warning for warning in decoded.warnings)


@pytest.mark.parametrize(("ending", "keep"), [("flac", 0.5), ("mp3", 0.5), ("m4a", 0.5), ("mkv", 0.5), ("mp4", 0.8)])
def test_a_cut_off_file_gives_what_is_left_of_it_and_a_warning(tmp_path, ending, keep):
    whole = media.write_media(
        tmp_path / f"whole.{ending}",
        media.white_noise(20),
        options={"movflags": "+faststart"} if ending in ("m4a", "mp4") else None,
    )
    decoded = decode(media.write_cut_off(tmp_path / f"cut.{ending}", whole, keep=keep))
    assert decoded.seconds == pytest.approx(20 * keep, abs=1.5)
    assert any("cut off" in warning for warning in decoded.warnings)


def test_a_cut_off_wav_gives_what_is_left_of_it(tmp_path):
    whole = media.write_wav(tmp_path / "whole.wav", media.tone(10))
    assert decode(media.write_cut_off(tmp_path / "cut.wav", whole, keep=0.5)).seconds == pytest.approx(5, abs=0.01)


def test_a_length_that_is_only_guessed_is_not_believed(tmp_path):
    """Raw AAC has no header: FFmpeg guesses ten times the length from a beginning of silence."""
    sound = np.concatenate([media.silence(10), media.white_noise(10)])
    decoded = decode(media.write_media(tmp_path / "a.aac", sound))
    assert decoded.seconds == pytest.approx(20, abs=0.2)
    assert decoded.header_duration is None
    assert decoded.warnings == []


@pytest.mark.parametrize("promised", [0, 0xFFFF_FFFF])
def test_a_wav_that_was_streamed_without_knowing_its_length_is_read_to_the_end(tmp_path, promised):
    path = media.write_wav(tmp_path / "a.wav", media.tone(3))
    path.write_bytes(media.wav_header(promised) + path.read_bytes()[44:])
    decoded = decode(path)
    assert decoded.seconds == 3
    assert decoded.warnings == []


def test_an_mp4_whose_index_was_cut_off_is_not_media(tmp_path):
    """The index (moov) comes last: without it nothing in the file can be found."""
    whole = media.write_media(tmp_path / "whole.mp4", media.white_noise(5))
    with pytest.raises(NotMedia, match=r"cut\.mp4"):
        decode(media.write_cut_off(tmp_path / "cut.mp4", whole, keep=0.9))


@pytest.mark.slow
def test_random_damage_gives_sound_or_an_input_error_but_nothing_else(tmp_path):
    sources = [
        media.write_media(tmp_path / f"a.{ending}", media.tone(0.5, rate=48_000), rate=48_000)
        for ending in ("aiff", "flac", "m4a", "mkv", "mp3", "ogg", "wav")
    ]
    random = np.random.default_rng(7)
    outcomes = set()
    for turn in range(140):
        source = sources[turn % len(sources)]
        data = bytearray(source.read_bytes())
        for at in random.integers(0, min(len(data), 400), 6):
            data[at] = random.integers(0, 256)
        damaged = tmp_path / f"damaged{source.suffix}"
        damaged.write_bytes(data)
        try:
            decoded = decode(damaged)
        except InputError as error:
            outcomes.add(error.code)
        else:
            outcomes.add("sound")
            assert np.isfinite(decoded.samples).all()
    assert {"sound", "not_media"} <= outcomes


# Time.


@pytest.mark.parametrize("ending", ["mkv", "mka", "mp4", "webm"])
def test_sound_after_a_hole_in_the_timestamps_stays_at_its_time(tmp_path, ending):
    sound = np.concatenate([media.silence(3, rate=48_000), media.tone(1, rate=48_000)])
    path = media.write_with_hole(tmp_path / f"a.{ending}", sound, at=2, missing=3, rate=48_000)
    decoded = decode(path)
    assert decoded.seconds == pytest.approx(7, abs=0.05)
    assert decoded.first_loud() == pytest.approx(6, abs=0.01)


def test_small_irregularities_of_the_timestamps_do_not_cut_into_the_sound(tmp_path):
    path = media.write_with_hole(tmp_path / "a.mkv", media.tone(4), at=2, missing=0.1)
    assert decode(path).seconds == pytest.approx(4, abs=0.01)


def test_an_absurd_hole_is_not_filled_where_no_header_confirms_it(tmp_path):
    """A timestamp that jumps by a day is a broken timestamp, not a day of silence."""
    path = tmp_path / "a.mka"
    media.write_with_hole(path, media.tone(4), at=2, missing=86_400, options={"live": "1"})
    decoded = decode(path)
    assert decoded.header_duration is None
    assert decoded.seconds == pytest.approx(4, abs=0.05)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_sound_track_that_starts_after_the_picture_keeps_its_delay(tmp_path, ending):
    path = media.write_video(tmp_path / f"a.{ending}", seconds=5, sound=media.tone(3), delay=2)
    decoded = decode(path)
    assert decoded.first_loud() == pytest.approx(2, abs=0.03)
    assert decoded.seconds == pytest.approx(5, abs=0.03)
    assert decoded.warnings == []


def test_a_whole_recording_that_starts_late_by_its_own_clock_starts_at_nought(tmp_path):
    """A stream that was cut out of a longer one: nothing is missing, so nothing is said to be cut off."""
    path = media.write_media(tmp_path / "a.mka", media.tone(3, rate=48_000), rate=48_000, delay=20)
    decoded = decode(path)
    assert decoded.first_loud() < 0.05
    assert decoded.seconds == pytest.approx(3, abs=0.03)
    assert decoded.warnings == []


def test_a_picture_that_goes_on_after_the_sound_is_no_cut_off_file(tmp_path):
    path = media.write_video(tmp_path / "a.mp4", seconds=8, sound=media.tone(3))
    assert decode(path).warnings == []


# Other files and the network stay out of reach.


def other_files(folder: Path) -> list[Path]:
    sound = media.write_media(folder / "secret.mp3", media.tone(1))
    media.write_wav(folder / "secret.wav", media.tone(1))
    concat = folder / "concat.wav"
    concat.write_text("ffconcat version 1.0\nfile secret.wav\n")
    description = folder / "description.mpd"
    description.write_text(
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet '
        f'mimeType="audio/mpeg"><Representation id="1" bandwidth="1"><BaseURL>{sound}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    )
    return [
        media.write_playlist(folder / "absolute.m3u8", [str(sound)]),
        media.write_playlist(folder / "relative.m3u8", [sound.name]),
        media.write_playlist(folder / "disguised.mp3", [sound.name]),
        media.write_playlist(folder / "address.m3u8", [sound.as_uri()]),
        concat,
        description,
    ]


@pytest.mark.parametrize("index", range(6))
def test_a_file_that_names_another_file_does_not_open_it(tmp_path, index):
    """Else whoever uploads a playlist would get to hear what others have uploaded."""
    with pytest.raises(NotMedia):
        decode(other_files(tmp_path)[index])


def test_a_playlist_does_not_reach_the_network(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        playlist = media.write_playlist(tmp_path / "a.m3u8", [f"http://{host}:{port}/a.mp3"])
        with pytest.raises(NotMedia):
            decode(playlist)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


# What can't be read at all.


def unknown_codec(folder: Path) -> Path:
    path = folder / "unknown.wav"
    path.write_bytes(media.wav_header(32_000, tag=999) + bytes(32_000))
    return path


def empty(folder: Path) -> Path:
    path = folder / "empty.mp3"
    path.touch()
    return path


def one_hertz(folder: Path) -> Path:
    return media.write_wav(folder / "slow.wav", media.tone(1_000, rate=1, hertz=0.1), rate=1)


def header_only(folder: Path) -> Path:
    return media.write_wav(folder / "none.wav", media.silence(0))


def random_bytes(folder: Path) -> Path:
    path = folder / "noise.mp3"
    path.write_bytes(np.random.default_rng(1).bytes(20_000))
    return path


def absurd_rate(folder: Path) -> Path:
    path = folder / "fast.wav"
    path.write_bytes(media.wav_header(64_000, rate=788_000_003) + bytes(64_000))
    return path


def folder_itself(folder: Path) -> Path:
    return folder


def video_without_sound(folder: Path) -> Path:
    return media.write_video(folder / "mute.mp4")


@pytest.mark.parametrize(
    ("make", "expected", "code"),
    [
        (lambda folder: folder / "missing.mp3", RecordingNotFound, "file_not_found"),
        (lambda folder: folder / "no-such-folder" / "a.mp3", RecordingNotFound, "file_not_found"),
        (lambda folder: folder / ("x" * 300), RecordingNotFound, "file_not_found"),
        (folder_itself, NotMedia, "not_media"),
        (empty, EmptyRecording, "empty_recording"),
        (header_only, EmptyRecording, "empty_recording"),
        (lambda folder: media.write_text(folder / "words.mp3"), NotMedia, "not_media"),
        (random_bytes, NotMedia, "not_media"),
        (video_without_sound, NoAudioTrack, "no_audio_track"),
        (one_hertz, BadAudio, "bad_audio"),
        (absurd_rate, BadAudio, "bad_audio"),
        (unknown_codec, BadAudio, "bad_audio"),
    ],
)
def test_what_is_no_recording_is_refused_by_name(tmp_path, make, expected, code):
    path = make(tmp_path)
    with pytest.raises(expected) as caught:
        decode(path)
    assert caught.value.code == code
    assert path.name in caught.value.message
    assert caught.value.hint


def test_too_many_channels_to_mix_are_refused(tmp_path):
    body = struct.pack("<h", 0) * 300 * 1000
    path = tmp_path / "many.wav"
    path.write_bytes(media.wav_header(len(body), channels=300) + body)
    with pytest.raises(InputError):
        decode(path)


# Real speech, as people's devices write it.


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("chinese.flac", 0.96),
        ("french.aiff", 2.53),
        ("german.ogg", 11.16),
        ("japanese.mp3", 6.52),
        ("jfk.m4a", 11.0),
        ("meeting-es2003a-0-30s.wav", 30.0),
        ("phone-prompt-8k.wav", 30.28),
        ("short-video.mp4", 1.98),
        ("sonnet-1-opening.webm", 9.01),
    ],
)
def test_real_recordings_have_their_length_and_no_warnings(name, seconds):
    decoded = decode(media.AUDIO / name)
    assert decoded.seconds == pytest.approx(seconds, abs=0.03)
    assert decoded.header_duration == pytest.approx(seconds, abs=0.1)
    assert decoded.warnings == []
    assert 0.05 < np.abs(decoded.samples).max() <= 1.5
