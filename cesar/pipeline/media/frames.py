"""Packets of one or several tracks, decoded: what is damaged is counted and passed over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import av
import av.error

Decoded = tuple[int, av.AudioFrame, int | None]
"""Track, frame, and where its packet lies in the file."""


class Frames:
    """The decoded frames of some audio tracks of an open file, as they lie in it."""

    def __init__(self, container: av.container.InputContainer, tracks: Sequence[int]) -> None:
        self._container = container
        self._streams = [container.streams.audio[index] for index in tracks]
        self._track_of = {stream.index: index for stream, index in zip(self._streams, tracks, strict=True)}
        self.damaged_in: Counter[int] = Counter()
        """Packets that could not be decoded, by track."""
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
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.damaged_in[self._track_of[packet.stream.index]] += 1
                continue
            for frame in frames:
                if isinstance(frame, av.AudioFrame):
                    yield self._track_of[packet.stream.index], frame, packet.pos
