"""What is opened at all: recordings, by list; never pictures, scripts, generators, nor an index that can't be true."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cesar.errors import BadAudio, InputError, NotMedia
from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.media.containers import RECORDINGS
from cesar.pipeline.media.mp4_index import require_honest_index
from cesar.pipeline.samples import SAMPLE_RATE
from tests.support import media

# Not media.

NOT_RECORDINGS = {
    "endless.sbg": b"-SE\na: pink/40 200+10/30\nNOW a\n+00:00:01 off\n",
    "tones.sbg": b"base: 200+10/20\nNOW base\n",
    "subtitles.srt": b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n2\n00:00:03,000 --> 00:00:04,000\nworld\n",
    "subtitles.ass": b"[Script Info]\nScriptType: v4.00+\n\n[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,,,,,,,Hi\n",
    "subtitles.vtt": b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n",
    "words.lrc": b"[00:01.00]Hello\n[00:02.00]world\n",
    "art.nfo": b"\x1b[31mHello\x1b[0m" * 100,
    "art.ans": b"\x1b[31mHello\x1b[0m" * 100,
    "notes.ffmeta": b";FFMETADATA1\ntitle=x\n",
    "raw.yuv": bytes(100_000),
    "raw.s16": bytes(100_000),
    "raw.sw": bytes(100_000),
    "picture.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII4x", 58, 0, 0, 54, 40, 1, 1, 1, 24, *[0] * 6),
    "edit.edl": b"TITLE: x\n001 AX A C 00:00:00:00 00:00:01:00 00:00:00:00 00:00:01:00\n",
    "list.ffconcat": b"ffconcat version 1.0\nfile other.wav\n",
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_RECORDINGS)
def test_what_ffmpeg_could_play_but_nobody_recorded_is_not_media(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(NOT_RECORDINGS[name])
    with pytest.raises(NotMedia, match="is not audio or video"):
        Recording(path)


def test_no_generator_script_picture_or_device_is_on_the_list():
    others = {
        "sbg",
        "lavfi",
        "concat",
        "hls",
        "dash",
        "sdp",
        "rtsp",
        "tty",
        "rawvideo",
        "data",
        "image2",
        "s16le",
        "srt",
    }
    assert not RECORDINGS & others
    assert not [name for name in RECORDINGS if name.endswith("_pipe")]


# What people have.

CODECS = {
    "aac.aac": "aac", "aac.m4a": "aac", "aac.flv": "aac", "aac.ts": "aac", "ac3.ac3": "ac3", "ac3.mkv": "ac3",
    "alac.m4a": "alac", "alaw.wav": "pcm_alaw", "amr.amr": "libopencore_amrnb", "eac3.eac3": "eac3",
    "flac.flac": "flac", "flac.oga": "flac", "flac.mka": "flac", "flac.mp4": "flac", "g722.wav": "g722",
    "ima.wav": "adpcm_ima_wav", "mp2.mp2": "mp2", "mp2.mpg": "mp2", "mp3.mp3": "libmp3lame", "mp3.avi": "libmp3lame",
    "mp3.wav": "libmp3lame", "ms.wav": "adpcm_ms", "mulaw.au": "pcm_mulaw",
    "opus.mka": "libopus", "opus.ogg": "libopus", "opus.opus": "libopus", "opus.webm": "libopus",
    "pcm.aiff": "pcm_s16be", "pcm.au": "pcm_s16be", "pcm.avi": "pcm_s16le", "pcm.caf": "pcm_s16be",
    "pcm.mov": "pcm_s16le", "pcm.nut": "pcm_s16le", "pcm.voc": "pcm_s16le", "pcm.w64": "pcm_s24le",
    "pcm.wav": "pcm_f32le", "tta.tta": "tta",
    "wma.asf": "wmav1", "wma.wma": "wmav2", "wavpack.wv": "wavpack", "g723.wav": "g723_1",
}  # fmt: skip
"""A file's name, and FFmpeg's name of what it is encoded with."""
_MUXERS = {".wma": "asf", ".asf": "asf", ".oga": "oga", ".au": "au", ".mpg": "mpeg", ".mp2": "mp2"}
_RATES = {"libopencore_amrnb": 8_000, "libopus": 48_000, "ac3": 48_000, "eac3": 48_000, "dca": 48_000, "g723_1": 8_000}
_BIT_RATES = {"libopencore_amrnb": 12_200, "g723_1": 6_300, "wmav1": 64_000, "wmav2": 64_000}


def encoded(path: Path, codec: str) -> Path:
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"this FFmpeg can't write {codec}")
    rate = _RATES.get(codec, 44_100 if "." in codec or codec.startswith(("mp", "lib", "wma", "aac")) else 16_000)
    with av.open(str(path), "w", format=_MUXERS.get(path.suffix)) as container:
        stream = container.add_stream(codec, rate=rate, options={"strict": "-2"})
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        if codec in _BIT_RATES:
            stream.bit_rate = _BIT_RATES[codec]
        wanted = stream.codec_context.codec.audio_formats
        resampler = av.AudioResampler(format=wanted[0] if wanted else "s16", layout="mono", rate=rate)
        sound = media.tone(3, rate=rate)
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", CODECS)
def test_every_codec_and_container_that_people_have_is_decoded(tmp_path, name):
    path = encoded(tmp_path / name, CODECS[name])
    with closing(Recording(path)) as recording:
        heard = np.concatenate(list(recording.blocks()))
    assert len(heard) / SAMPLE_RATE == pytest.approx(3, abs=0.12)
    spectrum = np.abs(np.fft.rfft(heard[SAMPLE_RATE : 2 * SAMPLE_RATE] * np.hanning(SAMPLE_RATE)))
    assert float(np.argmax(spectrum)) == pytest.approx(440, abs=3)
    assert recording.warnings == []


# Files that lie about how much they hold.


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", len(body) + 8, kind) + body


def lying_mp4(
    samples: int, *, duration: int = 1152, per_chunk: int | None = None, size: int = 0, tracks: int = 1
) -> bytes:
    """An M4A whose tracks say that they hold so many samples."""
    description = box(b".mp3", bytes(6), struct.pack(">HIIHHHHI", 1, 0, 0, 2, 16, 0, 0, 44_100 << 16))
    trak = box(
        b"trak",
        box(b"tkhd", struct.pack(">IIIII", 7, 0, 0, 1, 0), bytes(64)),
        box(
            b"mdia",
            box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 44_100, 1_000_000, 0x55C4, 0)),
            box(b"hdlr", struct.pack(">II4s", 0, 0, b"soun"), bytes(13)),
            box(
                b"minf",
                box(b"smhd", bytes(8)),
                box(b"dinf", box(b"dref", struct.pack(">II", 0, 1), box(b"url ", b"\0\0\0\1"))),
                box(
                    b"stbl",
                    box(b"stsd", struct.pack(">II", 0, 1), description),
                    box(b"stts", struct.pack(">IIII", 0, 1, samples, duration)),
                    box(b"stsc", struct.pack(">IIIII", 0, 1, 1, per_chunk or samples, 1)),
                    box(b"stsz", struct.pack(">III", 0, size, samples)),
                    box(b"stco", struct.pack(">III", 0, 1, 40)),
                ),
            ),
        ),
    )
    header = box(b"mvhd", struct.pack(">IIIII", 0, 0, 0, 1000, 1000), bytes(80))
    return (
        box(b"ftyp", b"M4A \0\0\0\0M4A ") + box(b"mdat", b"\xff\xfb\x90\0" * 500) + box(b"moov", header, trak * tracks)
    )


def fragmented_bomb() -> bytes:
    """Fragments that say they hold two thousand million samples of no size."""
    trun = box(b"trun", struct.pack(">II", 0, 2_000_000_000))
    traf = box(b"traf", box(b"tfhd", struct.pack(">II", 0x20000, 1)), trun)
    return lying_mp4(0) + box(b"moof", box(b"mfhd", bytes(8)), traf)


BOMBS: dict[str, Callable[[], bytes]] = {
    "two tracks of 80 million": lambda: lying_mp4(80_000_000, tracks=2, size=1),
    "one of 2 thousand million": lambda: lying_mp4(2_000_000_000, size=1),
    "samples of no size": lambda: lying_mp4(80_000_000, size=0),
    "PCM in one huge chunk": lambda: lying_mp4(4_000_000_000, duration=1, size=1),
    "fragments": fragmented_bomb,
}

_MEASURED = """
import resource, sys
from pathlib import Path
from cesar.errors import InputError
from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.media.mp4_index import require_honest_index
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    recording = Recording(Path(sys.argv[1]))
    seconds = sum(map(len, recording.blocks())) / 16_000
    print("heard", round(seconds, 1), end=" ")
except InputError as error:
    print(error.code, end=" ")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def measured(path: Path) -> tuple[str, int]:
    """Read a file in a process of its own: what came of it, and the megabytes it took."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    outcome, megabytes = done.stdout.rsplit(maxsplit=1)
    return outcome, int(megabytes)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_an_index_that_no_file_of_this_size_can_have_is_refused_in_little_memory(tmp_path, name):
    path = tmp_path / "bomb.m4a"
    path.write_bytes(BOMBS[name]())
    assert len(path.read_bytes()) < 5_000
    outcome, megabytes = measured(path)
    assert outcome == "bad_audio"
    assert megabytes < 100


@pytest.mark.parametrize(("size", "samples"), [(0, 500), (4, 500)])
def test_an_index_that_can_be_true_is_read(tmp_path, size, samples):
    """The same bytes with a true number of samples get as far as the decoder."""
    path = tmp_path / "a.m4a"
    path.write_bytes(lying_mp4(samples, size=size))
    try:
        with closing(Recording(path)) as recording:
            list(recording.blocks())
    except InputError as error:
        assert "says it holds" not in error.message  # noqa: PT017 - it may be read, or fail later


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [700])
def test_hours_of_pcm_in_quicktime_have_an_honest_index(tmp_path, seconds):
    """Its index counts every single sample: far more than there may be frames of a codec."""
    path = media.write_tracks(tmp_path / "a.mov", [media.silence(seconds)], codec="pcm_s16le")
    with closing(Recording(path)) as recording:
        assert sum(map(len, recording.blocks())) / SAMPLE_RATE == pytest.approx(seconds, abs=0.1)


def png(width: int, height: int) -> bytes:
    """A black picture of that size, in a few kilobytes a hundred million points."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    line = bytes(1 + width * 4)
    rows = b"".join([*(packer.compress(line) for _ in range(height)), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def id3(*frames: bytes) -> bytes:
    body = b"".join(frames)
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + body


@pytest.mark.slow
def test_a_cover_picture_is_never_decoded(tmp_path):
    """12,000 by 12,000 points are 576 MB when they are decoded."""
    picture = b"\0image/png\0\3\0" + png(12_000, 12_000)
    cover = id3(b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture)
    sound = media.write_media(tmp_path / "a.mp3", media.tone(3))
    path = tmp_path / "cover.mp3"
    path.write_bytes(cover + sound.read_bytes())
    outcome, megabytes = measured(path)
    assert outcome in ("heard 3.0", "heard 3.1")
    assert megabytes < 100


@pytest.mark.slow
def test_a_million_notes_before_the_sound_are_passed_over(tmp_path):
    notes = id3(
        *(b"TXXX" + struct.pack(">I", 6) + b"\0\0" + b"\0%04x\0" % (index & 0xFFFF) for index in range(1_000_000))
    )
    sound = media.write_media(tmp_path / "a.mp3", media.tone(3))
    path = tmp_path / "notes.mp3"
    path.write_bytes(notes + sound.read_bytes())
    outcome, megabytes = measured(path)
    assert outcome.startswith("heard 3.")
    assert megabytes < 100


@pytest.mark.slow
def test_more_joined_recordings_than_a_day_of_seconds_are_refused(tmp_path):
    """Each takes a millisecond to open, also if it holds a single sample: 8 GB of them would take days."""
    one = b"RIFF\x26\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data\2\0\0\0\1\0"
    path = tmp_path / "joined.wav"
    path.write_bytes(one * 100_001)
    with pytest.raises(BadAudio, match="100000 recordings joined"):
        Recording(path)
    mp4 = tmp_path / "joined.m4a"
    mp4.write_bytes(struct.pack(">I4s8s", 16, b"ftyp", b"M4A \0\0\0\0") * 100_001)
    with pytest.raises(BadAudio, match="100000 recordings joined"):
        Recording(mp4)


def test_the_index_of_a_joined_recording_is_looked_at_by_itself(tmp_path):
    """Else the time grows with the square of their number."""
    honest, lying = lying_mp4(500, size=4), lying_mp4(50_000_000, size=4)
    path = tmp_path / "joined.m4a"
    path.write_bytes(honest + lying)
    require_honest_index(path, 0, len(honest))
    with pytest.raises(BadAudio, match="says it holds"):
        require_honest_index(path, len(honest))
