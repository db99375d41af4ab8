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

from cesar.errors import (
    BadAudio,
    EmptyRecording,
    NoAudioTrack,
    NotMedia,
)
from cesar.pipeline.downmix import Downmix
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from cesar.recording import require_readable

BLOCK_SAMPLES = 4 * SAMPLE_RATE
_PACKET_BYTES = 2**13
"""Read at once of a WAV file. By itself FFmpeg takes 40 ms, which makes reading twice as slow."""

_LOWEST_RATE = 1_000
_HIGHEST_RATE = 50_000_000
"""Above any recorder's. Preparing to resample from an absurd rate takes minutes and gigabytes."""
_MOST_CHANNELS = 64
"""FFmpeg's resampler takes no more."""
_LOUDEST = 1e6
"""Full scale is 1. What is far beyond is no sound, and overflows in the spectrum."""
_OPEN_OTHER_FILES = frozenset({"concat", "dash", "hls", "imf", "rtsp", "sdp", "webm_dash_manifest"})
"""Formats that name other files. Who may have a playlist transcribed must not get to hear what it points to."""
_WITHOUT_HEADER = frozenset({"aac", "ac3", "eac3", "adp", "dts", "loas"})
"""Bare streams: FFmpeg guesses their length from the first packets, and may be wrong by a factor of ten."""
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
        self._is_broken_off = False
        self._not_finite = 0

    @property
    def header_duration(self) -> float | None:
        """The length in seconds by the file's header; None where it doesn't tell. It may be wrong."""
        if self._container.format.name in _WITHOUT_HEADER:
            return None
        if self._container.duration:
            return float(self._container.duration) / av.time_base
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return None

    @property
    def _origin(self) -> float:
        """Where the recording begins by the file's own clock."""
        return (self._container.start_time or 0) / av.time_base

    @property
    def _promised_end(self) -> float | None:
        """Where the sound ends by the header and the file's own clock; the picture may go on for longer."""
        stream = self._stream
        if self._container.format.name not in _WITHOUT_HEADER and stream.duration and stream.time_base:
            return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        return self.header_duration

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
        downmix = Downmix()
        for frame in self._frames():
            if (channels := frame.layout.nb_channels) > _MOST_CHANNELS:
                raise BadAudio(f"{self.path.name} has {channels} channels, more than can be mixed")
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
                self._is_broken_off = True
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
        gap = frame.time - self._origin - self.samples_given / SAMPLE_RATE
        if not _GAP_S < gap < math.inf:
            return 0
        length = self.header_duration
        believable = _LONGEST_UNBOUNDED_GAP_S if length is None else length - self.samples_given / SAMPLE_RATE
        return round(gap * SAMPLE_RATE) if gap <= believable else 0

    def _finite(self, block: Samples) -> Samples:
        """Put silence where a float file holds NaN, infinity or values that can't be sound."""
        finite = np.abs(block) <= _LOUDEST
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
        end, promised = self._origin + self.samples_given / SAMPLE_RATE, self._promised_end
        is_short = promised is not None and end < promised - max(_CUT_OFF_S, 0.02 * promised)
        if self._damaged > int(is_short):  # where a file was cut off, its last packet is damaged: no news
            self.warnings.append(f"{self._damaged} damaged packets were skipped")
        if is_short:
            self.warnings.append(
                f"the sound ends at {end:.1f} s, but the header says {promised:.1f} s: the file may be cut off"
            )
        elif self._is_broken_off:
            self.warnings.append("the file is damaged or cut off: what could be read of it was transcribed")


def _open(path: Path) -> av.container.InputContainer:
    require_readable(path)
    try:
        # `file:` and the whitelists keep names and playlists from reaching the network, other protocols and files
        return av.open(
            f"file:{path.absolute()}",
            mode="r",
            metadata_errors="replace",
            options={
                "protocol_whitelist": "file",
                "format_whitelist": ",".join(sorted(av.formats_available - _OPEN_OTHER_FILES)),
                "max_size": str(_PACKET_BYTES),
            },
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise NotMedia(f"{path.name} is not audio or video, or is damaged ({_reason(error)})") from error


def _audio_stream(container: av.container.InputContainer, path: Path) -> av.AudioStream:
    """The track to transcribe. Closes the container if there is none that can be."""
    stream = container.streams.best("audio")
    if not isinstance(stream, av.AudioStream) or stream.codec_context is None:
        has_audio = bool(container.streams.audio)
        container.close()  # which forgets the streams
        if has_audio:
            raise BadAudio(f"the audio of {path.name} is in a format that can't be decoded")
        raise NoAudioTrack(f"{path.name} has no audio track")
    rate = stream.codec_context.sample_rate
    if rate and not _LOWEST_RATE <= rate <= _HIGHEST_RATE:
        container.close()
        raise BadAudio(f"{path.name} says it has {rate} samples a second, which can't hold speech")
    return stream


def _silence(samples: int) -> Iterator[Samples]:
    while samples > 0:
        yield np.zeros(min(samples, BLOCK_SAMPLES), dtype=np.float32)
        samples -= BLOCK_SAMPLES


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).strip().rstrip(".")
