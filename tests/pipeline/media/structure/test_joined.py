"""Recordings of one kind joined byte by byte, RF64 whose length was never written, and WAV that was cut off."""

import struct
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.media.structure.joined import recordings
from cesar.pipeline.media.structure.signatures import kind_at
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from tests.support import media

OTHERS = {
    "mp3": ("mp3", "libmp3lame"),
    "mp3 without tags": ("mp3", "libmp3lame"),
    "aac": ("adts", "aac"),
    "ac3": ("ac3", "ac3"),
    "m4a": ("ipod", "aac"),
    "opus": ("ogg", "libopus"),
    "ts": ("mpegts", "mp2"),
    "mpg": ("mpeg", "mp2"),
    "wav": ("wav", "pcm_s16le"),
    "avi": ("avi", "pcm_s16le"),
    "wv": ("wv", "wavpack"),
}
"""Formats besides those of `JOINED`: FFmpeg reads on by itself, or a test of its own joins two."""
JOINED = {
    "mka": ("matroska", "aac"),
    "webm": ("webm", "libopus"),
    "flv": ("flv", "aac"),
    "aiff": ("aiff", "pcm_s16be"),
    "caf": ("caf", "pcm_s16le"),
    "w64": ("w64", "pcm_s16le"),
    "rf64": ("wav", "pcm_s16le"),
    "flac": ("flac", "flac"),
    "tta": ("tta", "tta"),
    "voc": ("voc", "pcm_u8"),
    "asf": ("asf", "pcm_s16le"),
}
HERTZ = (440.0, 1000.0, 1700.0)


def written(path: Path, kind: str, sound: media.Sound) -> Path:
    form, codec = {**JOINED, **OTHERS}[kind]
    rate = 48_000 if codec in ("mp2", "ac3", "libopus") else SAMPLE_RATE
    options = {"rf64": {"rf64": "always"}, "mp3 without tags": {"write_xing": "0", "id3v2_version": "0"}}
    with av.open(str(path), "w", format=form, options=options.get(kind, {})) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> tuple[Samples, list[str]]:
    with closing(Recording(path)) as recording:
        return np.concatenate(list(recording.blocks())), recording.warnings


def loudest_hertz(sound: Samples) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(sound))) * SAMPLE_RATE / len(sound))


@pytest.mark.parametrize("kind", JOINED)
def test_joined_recordings_are_heard_one_after_the_other(tmp_path, kind):
    joined = tmp_path / f"joined.{kind}"
    parts = [written(tmp_path / f"{hertz}", kind, media.tone(3, hertz=hertz)) for hertz in HERTZ]
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    heard, warnings = read(joined)
    assert len(heard) / SAMPLE_RATE == pytest.approx(9, abs=0.5)
    for hertz, at in zip(HERTZ, (1, 4, 7), strict=True):
        assert loudest_hertz(heard[at * SAMPLE_RATE : (at + 1) * SAMPLE_RATE]) == pytest.approx(hertz, rel=0.01)
    assert warnings == ["3 recordings are joined in this file: they were transcribed one after the other"]


ALL = [*JOINED, *OTHERS]


@pytest.mark.parametrize(
    ("first", "second"),
    [(kind, ALL[(index + step) % len(ALL)]) for index, kind in enumerate(ALL) for step in (3, 7, 12)],
)
def test_recordings_of_two_formats_in_one_file_are_both_heard(tmp_path, first, second):
    joined = tmp_path / "joined.bin"
    parts = [
        written(tmp_path / f"{hertz}", kind, media.tone(3, hertz=hertz))
        for kind, hertz in ((first, 440.0), (second, 1000.0))
    ]
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    heard, warnings = read(joined)
    assert len(heard) / SAMPLE_RATE == pytest.approx(6, abs=0.4)
    for hertz, at in ((440.0, 1), (1000.0, 4)):
        assert loudest_hertz(heard[at * SAMPLE_RATE : (at + 1) * SAMPLE_RATE]) == pytest.approx(hertz, rel=0.01)
    assert warnings == ["2 recordings are joined in this file: they were transcribed one after the other"]


@pytest.mark.parametrize("rates", [(44_100, 22_050), (16_000, 48_000), (48_000, 32_000)])
def test_aac_of_two_rates_is_heard_at_both(tmp_path, rates):
    content = b""
    for rate, hertz in zip(rates, (440.0, 1000.0), strict=True):
        path = media.write_media(tmp_path / f"{rate}.aac", media.tone(4, hertz=hertz, rate=rate), rate=rate)
        content += path.read_bytes()
    (tmp_path / "a.aac").write_bytes(content)
    heard, warnings = read(tmp_path / "a.aac")
    assert len(heard) / SAMPLE_RATE == pytest.approx(8, abs=0.3)
    assert loudest_hertz(heard[2 * SAMPLE_RATE : 3 * SAMPLE_RATE]) == pytest.approx(440, abs=3)
    assert loudest_hertz(heard[6 * SAMPLE_RATE : 7 * SAMPLE_RATE]) == pytest.approx(1000, abs=3)
    assert warnings == ["2 recordings are joined in this file: they were transcribed one after the other"]


def test_mp3_of_two_bit_rates_is_not_called_cut_off(tmp_path):
    content = b""
    for bit_rate in (32_000, 128_000):
        with av.open(str(tmp_path / f"{bit_rate}.mp3"), "w") as container:
            stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE)
            assert isinstance(stream, av.AudioStream)
            stream.bit_rate, stream.layout = bit_rate, "mono"
            frame = av.AudioFrame.from_ndarray(media.white_noise(6).reshape(1, -1), format="fltp", layout="mono")
            frame.sample_rate = SAMPLE_RATE
            container.mux([*stream.encode(frame), *stream.encode(None)])
        content += (tmp_path / f"{bit_rate}.mp3").read_bytes()
    (tmp_path / "a.mp3").write_bytes(content)
    heard, warnings = read(tmp_path / "a.mp3")
    assert len(heard) / SAMPLE_RATE == pytest.approx(12, abs=0.3)
    assert not any("cut off" in warning for warning in warnings)


@pytest.mark.parametrize("change", ["codec", "number", "both"])
def test_a_transport_stream_whose_streams_change_is_heard_to_its_end(tmp_path, change):
    parts = []
    for index, hertz in enumerate((440.0, 1000.0)):
        codec = "mp2" if index and change != "number" else "aac"
        options = {"mpegts_start_pid": "0x200"} if index and change != "codec" else {}
        path = tmp_path / f"{index}.ts"
        with av.open(str(path), "w", format="mpegts", options=options) as container:
            stream = container.add_stream(codec, rate=48_000)
            assert isinstance(stream, av.AudioStream)
            stream.layout = "mono"
            sound = media.tone(5, hertz=hertz, rate=48_000).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(sound, format="flt", layout="mono")
            frame.sample_rate = 48_000
            resampler = av.AudioResampler(format=stream.format, layout="mono", rate=48_000, frame_size=1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
        parts.append(path.read_bytes())
    (tmp_path / "joined.ts").write_bytes(b"".join(parts))
    heard, warnings = read(tmp_path / "joined.ts")
    assert len(heard) / SAMPLE_RATE == pytest.approx(10, abs=0.3)
    assert loudest_hertz(heard[2 * SAMPLE_RATE : 4 * SAMPLE_RATE]) == pytest.approx(440, abs=3)
    assert loudest_hertz(heard[7 * SAMPLE_RATE : 9 * SAMPLE_RATE]) == pytest.approx(1000, abs=3)
    assert warnings == ["2 recordings are joined in this file: they were transcribed one after the other"]


ENDINGS = {
    "ID3v1": b"TAG" + bytes(125),
    "APE": b"APETAGEX" + bytes(24) + b"\xff\xd8\xff\xe0 a cover" * 5000 + b"APETAGEX" + bytes(24),
    "ID3v2": b"ID3\x04\0\0\0\0\x07\x76" + b"TIT2" + bytes(1010),
    "zeros": bytes(10_000),
    "lyrics": b"LYRICSBEGIN" + b"ID3 MP3 RIFF OggS fLaC ftyp" * 40 + b"LYRICS200",
}


@pytest.mark.parametrize("kind", [kind for kind in ALL if kind not in ("wav", "aiff", "w64", "rf64", "caf", "voc")])
@pytest.mark.parametrize("ending", ENDINGS)
def test_tags_and_padding_at_the_end_are_no_recording(tmp_path, kind, ending):
    path = written(tmp_path / "a.bin", kind, media.tone(3))
    path.write_bytes(path.read_bytes() + ENDINGS[ending])
    heard, warnings = read(path)
    assert len(heard) / SAMPLE_RATE == pytest.approx(3, abs=0.2)
    assert not any("joined" in warning for warning in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flac", "aiff", "mka", "m4a", "mp3"])
def test_a_joint_is_found_behind_half_a_gigabyte(tmp_path, kind):
    """Sparse: the first recording goes on with zeros, as one that was never finished."""
    path = written(tmp_path / "a.bin", kind, media.tone(3))
    second = written(tmp_path / "b.bin", "flac", media.tone(3, hertz=1000.0)).read_bytes()
    with path.open("r+b") as file:
        file.seek(600_000_000)
        file.write(second)
        assert [found.start for found in recordings(file, file.tell(), 10, lambda: None)] == [0, 600_000_000]


@pytest.mark.parametrize("kind", ["wav", "rf64", "w64", "aiff", "caf"])
@pytest.mark.parametrize("between", ["nothing", "notes"])
def test_samples_in_two_chunks_are_both_heard(tmp_path, kind, between):
    header = {"wav": "<4sI", "rf64": "<4sI", "w64": "<16sq", "aiff": ">4sI", "caf": ">4sq"}[kind]
    name, skipped = {"aiff": (b"SSND", bytes(8)), "caf": (b"data", bytes(4))}.get(kind, (b"data", b""))
    tail = bytes.fromhex("f3acd3118cd100c04f8edb8a") if kind == "w64" else b""

    def chunk(name: bytes, content: bytes) -> bytes:
        size = len(content) + (24 if kind == "w64" else 0)
        return struct.pack(header, name + tail, size) + content

    path = written(tmp_path / "a.bin", kind, media.tone(3))
    samples = np.round(media.tone(3, hertz=1000.0) * 32767).astype(">i2" if kind == "aiff" else "<i2").tobytes()
    notes = chunk(b"free" if kind == "caf" else b"LIST", b"INFO" + bytes(60)) if between == "notes" else b""
    path.write_bytes(path.read_bytes() + notes + chunk(name, skipped + samples))
    heard, warnings = read(path)
    assert len(heard) / SAMPLE_RATE == pytest.approx(6, abs=0.05)
    for hertz, at in ((440.0, 1), (1000.0, 4)):
        assert loudest_hertz(heard[at * SAMPLE_RATE : (at + 1) * SAMPLE_RATE]) == pytest.approx(hertz, rel=0.01)
    assert warnings == ["the sound lies in 2 parts of the file: they were transcribed in their order"]


@pytest.mark.parametrize("kind", ALL)
def test_a_single_recording_is_no_joined_one(tmp_path, kind):
    heard, warnings = read(written(tmp_path / f"a.{kind}", kind, media.tone(3)))
    assert len(heard) / SAMPLE_RATE == pytest.approx(3, abs=0.2)
    assert warnings == []


@pytest.mark.parametrize("stated_part", [0.0, 0.3])
def test_rf64_whose_length_is_from_an_earlier_save_is_heard_to_its_end(tmp_path, stated_part):
    path = written(tmp_path / "a.rf64", "rf64", media.tone(5))
    content = bytearray(path.read_bytes())
    at = content.index(b"ds64") + 16
    content[at : at + 8] = struct.pack("<Q", int(5 * SAMPLE_RATE * 2 * stated_part) // 2 * 2)
    path.write_bytes(content)
    heard, [warning] = read(path)
    assert len(heard) / SAMPLE_RATE == pytest.approx(5, abs=0.1)
    assert "all of it was transcribed" in warning


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_wav_file_that_is_shorter_than_its_header_says_is_called_cut_off(tmp_path, keep):
    whole = media.write_wav(tmp_path / "whole.wav", media.tone(20))
    heard, [warning] = read(media.write_cut_off(tmp_path / "a.wav", whole, keep=keep))
    assert len(heard) / SAMPLE_RATE == pytest.approx(20 * keep, abs=0.1)
    assert f"ends at {20 * keep:.1f} s, but the header says 20.0 s" in warning


def test_a_part_that_is_missing_from_flac_is_told_and_later_times_stay_true(tmp_path):
    sound = np.concatenate([media.white_noise(12), media.tone(3)])
    content = written(tmp_path / "whole", "flac", sound).read_bytes()
    third = len(content) // 3
    (tmp_path / "a.flac").write_bytes(content[:third] + content[third + third // 2 :])
    heard, warnings = read(tmp_path / "a.flac")
    assert len(heard) / SAMPLE_RATE == pytest.approx(15, abs=0.1)
    assert loudest_hertz(heard[13 * SAMPLE_RATE : 14 * SAMPLE_RATE]) == pytest.approx(440, abs=3)
    assert any("of sound are missing from the file at" in warning for warning in warnings)


@pytest.mark.parametrize("length", [0, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_a_length_that_only_says_not_known_yet_makes_no_file_cut_off(tmp_path, length):
    content = bytearray(media.write_wav(tmp_path / "a.wav", media.tone(3)).read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", length)
    (tmp_path / "a.wav").write_bytes(content)
    heard, warnings = read(tmp_path / "a.wav")
    assert len(heard) / SAMPLE_RATE == pytest.approx(3, abs=0.1)
    assert warnings == []


# What is missing from the middle, or from the end.

DAMAGED = {
    "opus": ("ogg", "libopus", {}),
    "opus of small pages": ("ogg", "libopus", {"page_duration": "20000"}),
    "webm": ("webm", "libopus", {}),
    "live webm": ("webm", "libopus", {"live": "1"}),
    "mka": ("matroska", "aac", {}),
    "fragments": ("mp4", "aac", {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}),
    "ts": ("mpegts", "aac", {}),
    "flv": ("flv", "aac", {}),
    "wv": ("wv", "wavpack", {}),
}


FRAMES = {
    "mp3": ("mp3", "libmp3lame", {}),
    "mp3 without tags": ("mp3", "libmp3lame", {"write_xing": "0", "id3v2_version": "0"}),
    "mp2": ("mp2", "mp2", {}),
    "aac": ("adts", "aac", {}),
    "ac3": ("ac3", "ac3", {}),
    "loas": ("latm", "aac", {}),
}
"""Formats without timestamps."""


def changing(path: Path, kind: str, seconds: int = 20) -> Path:
    """A tone for each second, each 100 Hz higher, with some noise."""
    form, codec, options = {**DAMAGED, **FRAMES}[kind]
    rate = 48_000
    with av.open(str(path), "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        tones = [media.tone(1, hertz=300.0 + 100 * second, rate=rate) for second in range(seconds)]
        sound = np.concatenate(tones) + media.white_noise(seconds, rate=rate, amplitude=0.02)
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("damage", ["missing", "zeros", "noise"])
@pytest.mark.parametrize("begin", [0.3, 0.4])
def test_damage_in_the_middle_is_told_and_what_follows_is_heard_in_its_place(tmp_path, kind, damage, begin):
    content = changing(tmp_path / "whole", kind).read_bytes()
    first, last = int(begin * len(content)), int(0.7 * len(content))
    lost = last - first
    middle = {"missing": b"", "zeros": bytes(lost), "noise": np.random.default_rng(1).bytes(lost)}[damage]
    (tmp_path / "a").write_bytes(content[:first] + middle + content[last:])
    heard, warnings = read(tmp_path / "a")
    assert len(heard) / SAMPLE_RATE == pytest.approx(20, abs=0.2)
    assert loudest_hertz(heard[round(18.2 * SAMPLE_RATE) : round(18.8 * SAMPLE_RATE)]) == pytest.approx(2100, abs=5)
    assert any("the file holds no sound from " in warning for warning in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("damage", ["zeros", "ones", "noise"])
@pytest.mark.parametrize("tag_bytes", [0, 50_000])
def test_frames_after_a_hole_are_heard_in_their_place(tmp_path, kind, damage, tag_bytes):
    content = changing(tmp_path / "whole", kind).read_bytes()
    first, last, middle = (int(part * len(content)) for part in (0.2, 0.5, 0.3))
    lost = {"zeros": bytes, "ones": lambda size: b"\xff" * size, "noise": np.random.default_rng(1).bytes}[damage]
    # two holes: from 20 % to 30 %, and from 50 % to 70 %
    damaged = content[:first] + lost(middle - first) + content[middle:last] + lost(int(0.7 * len(content)) - last)
    tag = _id3(tag_bytes) if tag_bytes and kind != "loas" and not content.startswith(b"ID3") else b""
    (tmp_path / "a").write_bytes(tag + damaged + content[len(damaged) :])
    heard, warnings = read(tmp_path / "a")
    assert len(heard) / SAMPLE_RATE == pytest.approx(20, abs=0.3)
    for second in (2, 8, 16, 18):
        part = heard[round((second + 0.3) * SAMPLE_RATE) : round((second + 0.7) * SAMPLE_RATE)]
        assert loudest_hertz(part) == pytest.approx(300 + 100 * second, abs=5)
    assert sum("the file holds no sound from " in warning for warning in warnings) == 2
    assert sum("the file is damaged from byte " in warning for warning in warnings) == 2
    assert not any("cut off" in warning for warning in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mp3 without tags", "aac", "loas"])
def test_bytes_that_are_missing_between_frames_are_told(tmp_path, kind):
    content = changing(tmp_path / "whole", kind).read_bytes()
    first = len(content) // 3
    (tmp_path / "a").write_bytes(content[:first] + content[len(content) // 2 + 77 :])
    heard, warnings = read(tmp_path / "a")
    assert len(heard) / SAMPLE_RATE < 19
    assert any(f"bytes are missing from the file at byte {str(first)[:2]}" in warning for warning in warnings)


@pytest.mark.parametrize("kind", FRAMES)
def test_an_end_of_zeros_is_told(tmp_path, kind):
    content = changing(tmp_path / "whole", kind).read_bytes()
    (tmp_path / "a").write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))
    heard, warnings = read(tmp_path / "a")
    assert 8 < len(heard) / SAMPLE_RATE < 12
    assert any("there is no sound from byte " in warning for warning in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FRAMES)
def test_tags_and_notes_between_frames_are_no_damage(tmp_path, kind):
    content = changing(tmp_path / "whole", kind).read_bytes()
    half = len(content) // 2
    ape = b"APETAGEX" + struct.pack("<IIII8x", 2000, 60_000, 1, 1 << 31 | 1 << 29) + bytes(60_000)
    stream = b"".join(content[at : at + 8192] + b"\x01StreamTitle=''" for at in range(0, half, 8192))
    (tmp_path / "a").write_bytes(stream + content + _id3(90_000) + content + ape + b"TAG" + bytes(125))
    heard, warnings = read(tmp_path / "a")
    assert len(heard) / SAMPLE_RATE > 49
    assert not any("damaged from" in warning or "there is no sound" in warning for warning in warnings)


def _id3(size: int) -> bytes:
    length = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + length + b"APIC" + np.random.default_rng(2).bytes(size - 4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*DAMAGED, *FRAMES])
def test_what_is_whole_is_called_neither_damaged_nor_cut_off(tmp_path, kind):
    heard, warnings = read(changing(tmp_path / "a", kind))
    assert len(heard) / SAMPLE_RATE == pytest.approx(20, abs=0.1)
    assert warnings == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*(kind for kind in DAMAGED if kind != "ts"), "caf", "w64", "avi"])
@pytest.mark.parametrize("keep", [0.501, 0.777])
def test_what_ends_within_its_last_part_is_called_cut_off(tmp_path, kind, keep):
    path = tmp_path / "whole"
    whole = changing(path, kind) if kind in DAMAGED else written(path, kind, media.white_noise(20))
    heard, warnings = read(media.write_cut_off(tmp_path / "a", whole, keep=keep))
    assert 0 < len(heard) / SAMPLE_RATE < 19
    assert any("cut off" in warning for warning in warnings)


def test_a_file_that_grows_while_it_is_read_is_told(tmp_path):
    path = media.write_wav(tmp_path / "a.wav", media.tone(20))
    with closing(Recording(path)) as recording:
        blocks = recording.blocks()
        next(blocks)
        with path.open("ab") as file:
            file.write(bytes(32_000))
        for _ in blocks:
            pass
    assert any("changed while it was read" in warning for warning in recording.warnings)


@pytest.mark.parametrize(("count", "size"), [(5_000, 2037), (1_000_000, 0)], ids=["many", "empty ones"])
def test_thousands_of_tags_before_a_recording_are_passed_over(tmp_path: Path, count: int, size: int) -> None:
    tag = b"ID3\x04\0\0" + bytes([0, 0, size >> 7, size & 0x7F]) + bytes(size)
    sound = written(tmp_path / "sound.mp3", "mp3 without tags", media.tone(2.0))
    file = tmp_path / "tags.mp3"
    file.write_bytes(tag * count + sound.read_bytes())
    with file.open("rb") as opened:
        assert kind_at(opened, 0) == "mpa"
        assert kind_at(opened, len(tag) * (count - 3)) == "mpa"
        assert kind_at(opened, len(tag)) is None  # where there are too many to follow them from each
