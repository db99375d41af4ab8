"""Media files for tests, sound and broken: made with the `wave` module, PyAV and a few bytes by hand.

Sounds are float32[n] or float32[n, channels], −1…1. Every `write_…` function gives back the path it wrote.
"""

from __future__ import annotations

import struct
import wave
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

Sound = npt.NDArray[np.float32]

AUDIO = Path(__file__).parents[1] / "audio"
"""Real speech; `manifest.json` there has the words."""

_PCM = 1
_IEEE_FLOAT = 3
_CODECS = {
    ".aac": "aac",
    ".aiff": "pcm_s16be",
    ".flac": "flac",
    ".m4a": "aac",
    ".mka": "flac",
    ".mkv": "flac",
    ".mp3": "libmp3lame",
    ".mp4": "aac",
    ".ogg": "libopus",
    ".ts": "aac",
    ".wav": "pcm_s16le",
    ".webm": "libopus",
}
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


def tone(seconds: float, *, hertz: float = 440.0, rate: int = 16_000, amplitude: float = 0.5) -> Sound:
    """Return a sine wave."""
    times = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def silence(seconds: float, *, rate: int = 16_000) -> Sound:
    """Return digital silence."""
    return np.zeros(round(seconds * rate), np.float32)


def white_noise(seconds: float, *, rate: int = 16_000, amplitude: float = 0.1, seed: int = 1) -> Sound:
    """Return Gaussian noise with that standard deviation, reproducible by its seed."""
    noise = np.random.default_rng(seed).normal(0.0, amplitude, round(seconds * rate))
    return np.clip(noise, -1, 1).astype(np.float32)


def chords(seconds: float, *, rate: int = 16_000) -> Sound:
    """Return music-like sound: four repeating chords of plucked strings with overtones, a second each."""
    bars = [(220.0, 261.63, 329.63), (174.61, 220.0, 261.63), (261.63, 329.63, 392.0), (196.0, 246.94, 293.66)]
    times = np.arange(round(seconds * rate)) / rate
    fading = np.exp(-3 * (times % 1.0))
    out = np.zeros_like(times)
    for index, chord in enumerate(bars):
        playing = (times.astype(int) % len(bars)) == index
        for hertz in chord:
            for overtone in (1, 2, 3, 4):
                out += playing * np.sin(2 * np.pi * hertz * overtone * times) / overtone
    return (0.1 * fading * out).astype(np.float32)


def write_wav(path: Path, sound: Sound, *, rate: int = 16_000, bits: int = 16) -> Path:
    """Write an integer WAV of 8, 16, 24 or 32 bits, with any rate and number of channels."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if sound.ndim == 1 else sound.shape[1])
        file.setsampwidth(bits // 8)
        file.setframerate(rate)
        file.writeframes(_integers(sound, bits))
    return path


def write_float_wav(path: Path, sound: Sound, *, rate: int = 16_000) -> Path:
    """Write a 32-bit float WAV, the only form that allows NaN, infinity and values beyond ±1."""
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    body = np.ascontiguousarray(sound, "<f4").tobytes()
    path.write_bytes(wav_header(len(body), rate=rate, channels=channels, bits=32, tag=_IEEE_FLOAT) + body)
    return path


def wav_header(data_bytes: int, *, rate: int = 16_000, channels: int = 1, bits: int = 16, tag: int = _PCM) -> bytes:
    """Return the 44-byte header of a WAV; it may state anything."""
    frame = min(channels * bits // 8, 0xFFFF)
    return (
        struct.pack("<4sI4s", b"RIFF", min(36 + data_bytes, 0xFFFF_FFFF), b"WAVE")
        + struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, min(rate * frame, 0xFFFF_FFFF), frame, bits)
        + struct.pack("<4sI", b"data", data_bytes)
    )


def write_media(
    path: Path, sound: Sound, *, rate: int = 16_000, delay: float = 0.0, options: dict[str, str] | None = None
) -> Path:
    """Write sound in the format of the file extension: mp3, flac, ogg, m4a, mp4, mkv, mka, webm, aiff, wav.

    delay: by how many seconds the track starts after the container. options: of FFmpeg's muxer.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        _add_sound(container, sound, rate, codec=_CODECS[path.suffix], holes={0: delay})
    return path


def write_with_hole(
    path: Path,
    sound: Sound,
    *,
    at: float,
    missing: float,
    rate: int = 16_000,
    options: dict[str, str] | None = None,
) -> Path:
    """Write sound whose timestamps jump by `missing` seconds, as when a stream was interrupted.

    They jump at second `at`, or up to 0.1 s away from it: between two of the codec's frames.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        _add_sound(container, sound, rate, codec=_CODECS[path.suffix], holes={round(at * rate): missing})
    return path


def write_tracks(
    path: Path,
    sounds: Sequence[Sound],
    *,
    rate: int = 16_000,
    codec: str | None = None,
    tags: Sequence[str] = (),
    holes: Sequence[range] = (),
) -> Path:
    """Write several audio tracks, as screen recorders and cameras do. tags: their languages.

    holes: by track, the seconds for which nothing is written.
    """
    with av.open(str(path), "w") as container:
        streams = []
        for index, sound in enumerate(sounds):
            stream = container.add_stream(codec or _CODECS[path.suffix], rate=rate)
            assert isinstance(stream, av.AudioStream)
            stream.layout = _LAYOUTS[1 if sound.ndim == 1 else sound.shape[1]]
            if tags:
                stream.metadata["language"] = tags[index]
            streams.append(stream)
        for second in range(-(-max(map(len, sounds)) // rate)):
            for index, (stream, sound) in enumerate(zip(streams, sounds, strict=True)):
                if holes and second in holes[index]:
                    continue
                begin = second * rate
                for packet in _encoded(stream, sound[begin : begin + rate], begin, rate):
                    container.mux(packet)
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def write_stamped(path: Path, sound: Sound, stamp: Callable[[float], float], *, rate: int = 16_000) -> Path:
    """Write FLAC in Matroska with timestamps changed by `stamp`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        for packet in [*_encoded(stream, sound, 0, rate), *stream.encode(None)]:
            if packet.pts is not None and packet.time_base:
                packet.pts = packet.dts = round(stamp(float(packet.pts * packet.time_base)) / packet.time_base)
                container.mux(packet)
    return path


def speech(name: str = "jfk.m4a") -> Sound:
    """Return real speech at 16 kHz, mono."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=16_000)
    with av.open(str(AUDIO / name)) as container:
        frames = [*(part for frame in container.decode(audio=0) for part in resampler.resample(frame))]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float32)


def write_video(path: Path, *, seconds: float = 1.0, sound: Sound | None = None, delay: float = 0.0) -> Path:
    """Write a small video (MPEG-4), silent unless given sound at 16 kHz, which may start after the picture."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        if sound is not None:
            _add_sound(container, sound, 16_000, codec=_CODECS[path.suffix], holes={0: delay})
        for index in range(round(seconds * 10)):
            picture.pts = index
            picture.time_base = Fraction(1, 10)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    return path


def write_cut_off(path: Path, source: Path, *, keep: float) -> Path:
    """Write the first part of another file, like a truncated copy; `keep` is 0…1."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def write_damaged(path: Path, source: Path, *, begin: float, end: float, seed: int = 1) -> Path:
    """Write another file with random bytes between two positions (0…1)."""
    data = bytearray(source.read_bytes())
    first, last = int(len(data) * begin), int(len(data) * end)
    data[first:last] = np.random.default_rng(seed).bytes(last - first)
    path.write_bytes(data)
    return path


def write_text(path: Path) -> Path:
    """Write text, whatever the file extension."""
    path.write_text("This is not a recording, whatever its name says.\n" * 40, encoding="utf-8")
    return path


def write_playlist(path: Path, entries: Iterable[str]) -> Path:
    """Write an HLS playlist (m3u8) of files or URLs."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:10", "#EXT-X-MEDIA-SEQUENCE:0"]
    for entry in entries:
        lines += ["#EXTINF:10.0,", entry]
    path.write_text("\n".join([*lines, "#EXT-X-ENDLIST", ""]), encoding="utf-8")
    return path


def _integers(sound: Sound, bits: int) -> bytes:
    """Return little-endian PCM; 8 bits are unsigned, as in WAV."""
    if bits == 8:
        return np.clip(np.round(sound * 127) + 128, 0, 255).astype(np.uint8).tobytes()
    highest = 2 ** (bits - 1) - 1
    whole: npt.NDArray[np.int32] = np.clip(np.round(sound.astype(np.float64) * highest), -highest - 1, highest).astype(
        "<i4"
    )
    if bits == 24:
        return whole.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    return whole.astype("<i2" if bits == 16 else "<i4").tobytes()


def _add_sound(
    container: av.container.OutputContainer, sound: Sound, rate: int, *, codec: str, holes: dict[int, float]
) -> None:
    """Encode the sound; before each sample that is a key of `holes`, time jumps by its value in seconds."""
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    stream = container.add_stream(codec, rate=rate)
    assert isinstance(stream, av.AudioStream)
    stream.layout = _LAYOUTS[channels]
    shift = round(holes.pop(0, 0.0) * rate)
    cuts = [0, *sorted(holes), len(sound)]
    for begin, end in pairwise(cuts):
        shift += round(holes.get(begin, 0.0) * rate)
        for packet in _encoded(stream, sound[begin:end], begin + shift, rate):
            container.mux(packet)
    container.mux(stream.encode(None))


def _encoded(stream: av.AudioStream, sound: Sound, pts: int, rate: int) -> Iterable[av.Packet]:
    for at in range(0, len(sound), 960):
        part = sound[at : at + 960].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="flt", layout=stream.layout.name)
        frame.sample_rate = rate
        frame.pts = pts + at
        frame.time_base = Fraction(1, rate)
        yield from stream.encode(frame)
