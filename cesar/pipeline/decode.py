"""First stage: any media file becomes mono samples at 16 kHz, block by block, whatever its length.

FFmpeg's libraries do the decoding (through PyAV); only local files are opened, whatever a playlist inside one says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np
import numpy.typing as npt

from cesar.errors import (
    BadAudio,
    EmptyRecording,
    NoAudioTrack,
    NotMedia,
)
from cesar.recording import require_readable

Samples = npt.NDArray[np.float32]
"""float32[n], mono, 16 kHz, −1…1."""

SAMPLE_RATE = 16_000
BLOCK_SAMPLES = 4 * SAMPLE_RATE

_LOWEST_RATE = 1_000
_GAP_S = 0.25
"""A hole in the time stamps longer than this is filled with silence, so that later times stay true."""
_LONGEST_UNBOUNDED_GAP_S = 60.0
"""The longest hole believed when the header doesn't tell the recording's length."""
_CUT_OFF_S = 1.0
"""A recording that ends this much before its header says is reported as cut off."""


class Recording:
    """One opened media file: `blocks` gives its sound, `warnings` what was wrong with it.

    Raises a subclass of `InputError` when the file can't be opened or has no sound.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.warnings: list[str] = []
        self.samples_given = 0
        self._container = _open(path)
        self._stream = _audio_stream(self._container, path)
        self._damaged = 0
        self._not_finite = 0

    @property
    def header_duration(self) -> float | None:
        """The length in seconds by the file's header; None where it doesn't tell. It may be wrong."""
        if self._container.duration:
            return float(self._container.duration) / av.time_base
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return None

    def blocks(self) -> Iterator[Samples]:
        """Give the sound from first sample to last, `BLOCK_SAMPLES` at a time; the last block has what is left."""
        pending: list[Samples] = []
        count = 0
        for piece in self._pieces():
            pending.append(piece)
            count += len(piece)
            if count >= BLOCK_SAMPLES:
                joined = np.concatenate(pending)
                whole = len(joined) // BLOCK_SAMPLES * BLOCK_SAMPLES
                for at in range(0, whole, BLOCK_SAMPLES):
                    yield self._finite(joined[at : at + BLOCK_SAMPLES])
                pending, count = [joined[whole:]], len(joined) - whole
        if count:
            yield self._finite(np.concatenate(pending))
        self._conclude()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _pieces(self) -> Iterator[Samples]:
        """Decoded sound in FFmpeg's own portions, holes in the time stamps filled with silence."""
        downmix = _Downmix()
        for frame in self._frames():
            if missing := self._missing_before(frame):
                yield from self._counted(_silence(missing))
            yield from self._counted(downmix.feed(frame))
        yield from self._counted(downmix.flush())

    def _counted(self, pieces: Iterator[Samples]) -> Iterator[Samples]:
        for piece in pieces:
            self.samples_given += len(piece)
            yield piece

    def _frames(self) -> Iterator[av.AudioFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                self.warnings.append("the file is damaged or cut off: what could be read of it was transcribed")
                return
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self._damaged += 1
                continue
            yield from frames

    def _missing_before(self, frame: av.AudioFrame) -> int:
        """Samples of silence to put before the frame so that it stands at its time."""
        if frame.time is None:
            return 0
        origin = (self._container.start_time or 0) / av.time_base
        gap = frame.time - origin - self.samples_given / SAMPLE_RATE
        if not _GAP_S < gap < math.inf:
            return 0
        length = self.header_duration
        believable = _LONGEST_UNBOUNDED_GAP_S if length is None else length - self.samples_given / SAMPLE_RATE
        return round(gap * SAMPLE_RATE) if gap <= believable else 0

    def _finite(self, block: Samples) -> Samples:
        """Put silence where a float file holds NaN or infinity."""
        finite = np.isfinite(block)
        if finite.all():
            return block
        self._not_finite += int(len(block) - np.count_nonzero(finite))
        return np.where(finite, block, np.float32(0))

    def _conclude(self) -> None:
        name = self.path.name
        if not self.samples_given:
            if self._damaged:
                raise BadAudio(f"nothing in the audio track of {name} could be decoded")
            raise EmptyRecording(f"the audio track of {name} is empty")
        if self._not_finite * 2 > self.samples_given:
            raise BadAudio(f"most samples of {name} are not numbers (NaN or infinite)")
        if self._not_finite:
            self.warnings.append(f"{self._not_finite} samples were not numbers (NaN) and taken as silence")
        if self._damaged:
            self.warnings.append(f"{self._damaged} damaged packets were skipped")
        duration, header = self.samples_given / SAMPLE_RATE, self.header_duration
        if header is not None and duration < header - max(_CUT_OFF_S, 0.02 * header):
            self.warnings.append(
                f"the sound ends at {duration:.1f} s, but the header says {header:.1f} s: the file may be cut off"
            )


class _Downmix:
    """Frames of any format, layout and rate in, mono samples at 16 kHz out."""

    def __init__(self) -> None:
        self._resampler: av.AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None

    def feed(self, frame: av.AudioFrame) -> Iterator[Samples]:
        """Give what the frame adds."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:  # the first frame, or a stream that changes its mind on the way
            yield from self.flush()
            self._resampler, self._shape = _resampler(), shape
        frame.pts = None  # the resampler would fill holes by itself
        assert self._resampler is not None
        try:
            resampled = self._resampler.resample(frame)
        except (av.error.FFmpegError, ValueError):  # a layout FFmpeg has no downmix for
            self._resampler = _resampler()
            resampled = self._resampler.resample(_average_channels(frame))
        for out in resampled:
            yield out.to_ndarray()[0]

    def flush(self) -> Iterator[Samples]:
        """Give what the resampler still holds back."""
        if self._resampler is not None:
            for out in self._resampler.resample(None):
                yield out.to_ndarray()[0]
        self._resampler = None
        self._shape = None


def _open(path: Path) -> av.container.InputContainer:
    require_readable(path)
    try:
        # `file:` and the whitelist keep names and playlists from reaching the network or another protocol
        return av.open(
            f"file:{path.absolute()}",
            mode="r",
            metadata_errors="replace",
            options={"protocol_whitelist": "file"},
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise NotMedia(f"{path.name} is not audio or video, or is damaged ({_reason(error)})") from error


def _audio_stream(container: av.container.InputContainer, path: Path) -> av.AudioStream:
    """The track to transcribe. Closes the container if there is none that can be."""
    stream = container.streams.best("audio")
    if not isinstance(stream, av.AudioStream):
        container.close()
        if container.streams.audio:
            raise BadAudio(f"the audio of {path.name} is in a format that can't be decoded")
        raise NoAudioTrack(f"{path.name} has no audio track")
    rate = stream.codec_context.sample_rate
    if 0 < rate < _LOWEST_RATE:
        container.close()
        raise BadAudio(f"{path.name} says it has {rate} samples a second, which can't hold speech")
    return stream


def _resampler() -> av.AudioResampler:
    return av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE)


def _average_channels(frame: av.AudioFrame) -> av.AudioFrame:
    planar = av.AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
    channels = np.concatenate([part.to_ndarray() for part in planar.resample(frame)], axis=1)
    mono = av.AudioFrame.from_ndarray(channels.mean(axis=0, keepdims=True), format="fltp", layout="mono")
    mono.sample_rate = frame.sample_rate
    return mono


def _silence(samples: int) -> Iterator[Samples]:
    while samples > 0:
        yield np.zeros(min(samples, BLOCK_SAMPLES), dtype=np.float32)
        samples -= BLOCK_SAMPLES


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".")
