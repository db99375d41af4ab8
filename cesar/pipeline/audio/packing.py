"""Frames of eight channels and more as PyAV can read them: packed, one sample of each channel after the other.

PyAV 18 counts the planes of a frame up to a null pointer, and FFmpeg sets none behind the eighth: reading a planar
frame of 7.1 or of a recorder with many inputs is a segmentation fault.
"""

from __future__ import annotations

import av
import av.filter

from cesar.pipeline.audio.filter_graph import filter_graph

_FEWEST = 8
_Shape = tuple[str, str, int]


class Packer:
    """Remembers the graph that packs the frames of a stream."""

    def __init__(self) -> None:
        self._shape: _Shape | None = None
        self._graph = av.filter.Graph()

    def packed(self, frame: av.AudioFrame) -> av.AudioFrame:
        """Return the same sound at the same time, packed if it has so many channels, sample for sample."""
        if not frame.format.is_planar or frame.layout.nb_channels < _FEWEST or not frame.samples:
            return frame
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            self._shape = shape
            self._graph = filter_graph(frame, [("aformat", f"sample_fmts={frame.format.packed.name}")])
        pts, time_base = frame.pts, frame.time_base
        frame.pts = None
        self._graph.push(frame)
        packed = self._graph.pull()
        assert isinstance(packed, av.AudioFrame)
        packed.pts, packed.time_base = pts, time_base
        return packed
