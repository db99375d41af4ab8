"""Bytes lost, overwritten or joined where nothing else tells the time: bare frames, speech codecs, samples in WAV."""

from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest

from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from tests.support import media

KINDS = {
    "mp3": ("mp3", "libmp3lame", 44_100, {}),
    "vbr": ("mp3", "libmp3lame", 44_100, {}),
    "mp3 without tags": ("mp3", "libmp3lame", 44_100, {"write_xing": "0", "id3v2_version": "0"}),
    "mp2": ("mp2", "mp2", 48_000, {}),
    "aac": ("adts", "aac", 44_100, {}),
    "loas": ("latm", "aac", 44_100, {}),
    "ac3": ("ac3", "ac3", 48_000, {}),
    "amr": ("amr", "libopencore_amrnb", 8_000, {}),
    "3gp": ("3gp", "libopencore_amrnb", 8_000, {"movflags": "faststart"}),
    "opus in mp4": ("mp4", "libopus", 48_000, {"movflags": "faststart"}),
    "tta": ("tta", "tta", 16_000, {}),
    "voc": ("voc", "pcm_s16le", 16_000, {}),
    "mp3 in avi": ("avi", "libmp3lame", 44_100, {}),
    "wav": ("wav", "pcm_s16le", 16_000, {}),
    "wav mp3": ("wav", "libmp3lame", 44_100, {}),
    "wav ac3": ("wav", "ac3", 48_000, {}),
    "wav ms adpcm": ("wav", "adpcm_ms", 16_000, {}),
    "wav ima adpcm": ("wav", "adpcm_ima_wav", 16_000, {}),
    "wav g.723.1": ("wav", "g723_1", 8_000, {}),
}
SECONDS = 20


def rising(
    path: Path, kind: str, *, seconds: int = SECONDS, first: int = 0, rate: int = 0, layout: str = "mono"
) -> Path:
    """A tone for each second, each 100 Hz higher, with some noise."""
    form, codec, usual_rate, options = KINDS[kind]
    rate = rate or usual_rate
    with av.open(str(path), "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = layout
        if codec == "g723_1":
            stream.bit_rate = 6300
        if kind == "vbr":
            stream.codec_context.flags |= av.codec.context.Flags.qscale
        tones = [media.tone(1, hertz=300.0 + 100 * (first + second), rate=rate) for second in range(seconds)]
        sound = np.concatenate(tones) + media.white_noise(seconds, rate=rate, amplitude=0.02)
        frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=_frame_size(stream))
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def _frame_size(stream: av.AudioStream) -> int:
    return {"libopencore_amrnb": 160, "g723_1": 240}.get(stream.codec_context.name, 1024)


def read(path: Path) -> tuple[Samples, list[str]]:
    with closing(Recording(path)) as recording:
        return np.concatenate(list(recording.blocks())), recording.warnings


def second_at(heard: Samples, time: float) -> float:
    """Return which second of the truth is heard there."""
    part = heard[round((time + 0.3) * SAMPLE_RATE) : round((time + 0.7) * SAMPLE_RATE)]
    return (float(np.argmax(np.abs(np.fft.rfft(part))) * SAMPLE_RATE / len(part)) - 300) / 100


def without(content: bytes, begin: float, end: float) -> bytes:
    """Leave some bytes out."""
    return content[: int(begin * len(content))] + content[int(end * len(content)) + 7 :]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mp3", "vbr", "wav mp3", "wav ac3"])
@pytest.mark.parametrize("begin", [0.203, 0.4, 0.6])
def test_a_hole_whose_size_the_header_tells_leaves_later_times_true(tmp_path, kind, begin):
    content = rising(tmp_path / "whole", kind).read_bytes()
    (tmp_path / "a").write_bytes(without(content, begin, begin + 0.2))
    heard, warnings = read(tmp_path / "a")
    assert second_at(heard, 2) == pytest.approx(2, abs=0.1)
    assert second_at(heard, 18) == pytest.approx(18, abs=0.1)
    assert any(warning.endswith("sound is lost there") for warning in warnings)
    assert any("the file holds no sound from " in warning for warning in warnings)
    assert not any("too early" in warning or "cut off" in warning for warning in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mp3 without tags", "mp2", "aac", "loas", "ac3", "amr"])
@pytest.mark.parametrize("begin", [0.203, 0.4, 0.6])
def test_a_hole_whose_size_nothing_tells_is_said_to_make_later_times_too_early(tmp_path, kind, begin):
    content = rising(tmp_path / "whole", kind).read_bytes()
    (tmp_path / "a").write_bytes(without(content, begin, begin + 0.2))
    heard, warnings = read(tmp_path / "a")
    assert len(heard) / SAMPLE_RATE < 17
    assert any("later times are too early" in warning for warning in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wav", "wav mp3", "wav ac3", "wav ms adpcm", "wav ima adpcm", "wav g.723.1"])
@pytest.mark.parametrize("keep", [0.31, 0.6, 0.9])
def test_a_wav_cut_short_is_told_once_and_with_the_true_lengths(tmp_path, kind, keep):
    whole = rising(tmp_path / "whole", kind)
    heard, warnings = read(media.write_cut_off(tmp_path / "a", whole, keep=keep))
    [warning] = [warning for warning in warnings if "header" in warning or "cut off" in warning]
    stated = float(warning.split("the header says ")[1].split(" s")[0])
    ended = float(warning.split("the sound ends at ")[1].split(" s")[0])
    assert stated == pytest.approx(SECONDS, abs=0.2)
    assert ended == pytest.approx(len(heard) / SAMPLE_RATE, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wav ms adpcm", "wav ima adpcm"])
def test_adpcm_beyond_its_stated_length_is_told_with_the_true_lengths(tmp_path, kind):
    content = bytearray(rising(tmp_path / "whole", kind).read_bytes())
    at = content.index(b"data") + 4
    length = int.from_bytes(content[at : at + 4], "little")
    content[at : at + 4] = (length // 4096 * 2048).to_bytes(4, "little")
    (tmp_path / "a").write_bytes(content)
    heard, [warning] = read(tmp_path / "a")
    assert len(heard) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.2)
    assert warning.startswith(("the header says 1", "the header says 9."))
    assert f"but the file holds {SECONDS}." in warning


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mp3 without tags", "mp2", "aac", "loas", "ac3", "amr"])
@pytest.mark.parametrize("keep", [0.3337, 0.5137, 0.7771])
def test_frames_that_end_within_one_are_called_cut_off(tmp_path, kind, keep):
    whole = rising(tmp_path / "whole", kind)
    _, warnings = read(media.write_cut_off(tmp_path / "a", whole, keep=keep))
    assert any("the file may be cut off: its last part is incomplete" in warning for warning in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mp3 without tags", "mp2", "aac", "loas", "ac3"])
def test_frames_after_a_beginning_of_zeros_are_heard_in_their_place(tmp_path, kind):
    content = rising(tmp_path / "whole", kind).read_bytes()
    zeros = len(content) // 4
    (tmp_path / "a").write_bytes(bytes(zeros) + content[zeros:])
    heard, warnings = read(tmp_path / "a")
    assert second_at(heard, 8) == pytest.approx(8, abs=0.1)
    assert second_at(heard, 18) == pytest.approx(18, abs=0.1)
    assert any("the file is damaged from byte 0 to " in warning for warning in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["amr", "3gp", "opus in mp4", "tta"])
def test_packets_overwritten_with_zeros_are_told_and_later_times_stay_true(tmp_path, kind):
    content = rising(tmp_path / "whole", kind).read_bytes()
    begin, end = int(0.4 * len(content)), int(0.6 * len(content))
    (tmp_path / "a").write_bytes(content[:begin] + bytes(end - begin) + content[end:])
    heard, warnings = read(tmp_path / "a")
    assert second_at(heard, 2) == pytest.approx(2, abs=0.1)
    assert second_at(heard, 16) == pytest.approx(16, abs=0.1)
    assert any("the file holds no sound from " in warning for warning in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["zeros", "noise"])
def test_amr_after_damage_is_heard_in_its_place(tmp_path, damage):
    content = rising(tmp_path / "whole", "amr").read_bytes()
    begin, end = len(content) // 3, len(content) // 2
    lost = bytes(end - begin) if damage == "zeros" else np.random.default_rng(1).bytes(end - begin)
    (tmp_path / "a").write_bytes(content[:begin] + lost + content[end:])
    heard, warnings = read(tmp_path / "a")
    assert len(heard) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.1)
    assert second_at(heard, 14) == pytest.approx(14, abs=0.1)
    assert any("the file is damaged from byte " in warning for warning in warnings)


@pytest.mark.slow
@pytest.mark.parametrize("first", [(16_000, "mono"), (44_100, "stereo"), (48_000, "mono")])
@pytest.mark.parametrize("second", [(22_050, "stereo"), (44_100, "mono")])
def test_loas_of_other_rates_and_channels_is_heard_at_its_own(tmp_path, first, second):
    parts = [
        rising(tmp_path / "1", "loas", seconds=8, rate=first[0], layout=first[1]),
        rising(tmp_path / "2", "loas", seconds=8, first=8, rate=second[0], layout=second[1]),
    ]
    (tmp_path / "a").write_bytes(b"".join(part.read_bytes() for part in parts))
    heard, [warning] = read(tmp_path / "a")
    assert len(heard) / SAMPLE_RATE == pytest.approx(16, abs=0.3)
    assert second_at(heard, 6) == pytest.approx(6, abs=0.1)
    assert second_at(heard, 14) == pytest.approx(14, abs=0.1)
    assert "2 recordings are joined" in warning


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_whole_gives_no_warning(tmp_path, kind):
    heard, warnings = read(rising(tmp_path / "a", kind))
    assert len(heard) / SAMPLE_RATE == pytest.approx(SECONDS, abs=0.2)
    assert second_at(heard, 18) == pytest.approx(18, abs=0.1)
    assert warnings == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["hole", "zeros", "noise", "end"])
def test_damage_in_voc_is_told(tmp_path, damage):
    content = rising(tmp_path / "whole", "voc").read_bytes()
    begin, end = len(content) // 3, len(content) // 2
    middle = {
        "hole": b"",
        "zeros": bytes(end - begin),
        "noise": np.random.default_rng(1).bytes(end - begin),
        "end": b"",
    }
    (tmp_path / "a").write_bytes(content[:begin] + middle[damage] + (content[end + 1 :] if damage != "end" else b""))
    _, warnings = read(tmp_path / "a")
    assert any("the file may be cut off: its last part is incomplete" in warning for warning in warnings)


@pytest.mark.slow
def test_bytes_missing_from_mp3_in_avi_are_told_to_make_later_times_too_early(tmp_path):
    content = rising(tmp_path / "whole", "mp3 in avi").read_bytes()
    (tmp_path / "a").write_bytes(without(content, 0.4, 0.6))
    _, warnings = read(tmp_path / "a")
    assert any("after which times are too early" in warning for warning in warnings)


@pytest.mark.parametrize("ending", ["ul", "al"])
def test_samples_of_a_telephone_without_a_header_are_taken_for_8_kilohertz(tmp_path, ending):
    silence = {"ul": b"\xff", "al": b"\xd5"}[ending]
    (tmp_path / f"a.{ending}").write_bytes((silence + b"\x80") * 16_000)
    heard, _ = read(tmp_path / f"a.{ending}")
    assert len(heard) / SAMPLE_RATE == pytest.approx(4, abs=0.01)
