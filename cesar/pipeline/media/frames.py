"""Packets of one or several tracks, decoded: what is damaged is counted and passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import av
import av.error

_ZEROS_ARE_SOUND = (
    "pcm_",
    "adpcm_",
    "dsd_",
    "dfpwm",
    "wma",
    "nelly",
    "s302m",
    "atrac",
    "qdm",
    "interplay",
    "roq",
    "sol",
)
"""Codecs, by how their names begin, that write silence as zeros, or may."""
_NOT_SO = frozenset({"adpcm_g722", "adpcm_g726", "adpcm_g726le"})
_MIN_BLANK_BYTES = 8
Decoded = tuple[int, av.AudioFrame, int | None]
"""Track, frame, and where its packet lies in the file."""


class Frames:
    """The decoded frames of some audio tracks of an open file, as they lie in it."""

    def __init__(self, container: av.container.InputContainer, tracks: Sequence[int]) -> None:
        self._container = container
        self._streams = [container.streams.audio[index] for index in tracks]
        self._track_of = {stream.index: index for stream, index in zip(self._streams, tracks, strict=True)}
        self.damaged_in: Counter[int] = Counter()
        """Packets that could not be decoded, or were overwritten with zeros, by track."""
        self.is_broken_off = False
        """Whether reading ended before the file did."""

    def __iter__(self) -> Iterator[Decoded]:
        """Yield what can be decoded, until the file ends or can't be read further."""
        packets = self._container.demux(self._streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError:
                self.is_broken_off = True
                return
            if _is_blank(packet):
                self.damaged_in[self._track_of[packet.stream.index]] += 1
                continue
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.damaged_in[self._track_of[packet.stream.index]] += 1
                continue
            for frame in frames:
                if isinstance(frame, av.AudioFrame):
                    yield self._track_of[packet.stream.index], frame, packet.pos


def _is_blank(packet: av.Packet[Any]) -> bool:
    """Tell whether a packet is nothing but zeros, which no encoder of its codec writes: they are no sound.

    The file was overwritten there, or never written. Decoders take it for silence, or for frames of another length.
    """
    if packet.size < _MIN_BLANK_BYTES:
        return False
    content = memoryview(packet)
    if content[0] or content[-1] or content[len(content) // 2]:
        return False
    name = packet.stream.codec_context.name
    if name.startswith(_ZEROS_ARE_SOUND) and name not in _NOT_SO:
        return False
    return not any(content)
