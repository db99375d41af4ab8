"""The second half of decoding: frames of any format, layout and rate become mono samples at 16 kHz.

FFmpeg's filters do the arithmetic (through PyAV); which mix is right for which channels is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import av.error
import av.filter

from cesar.errors import BadAudio
from cesar.pipeline.samples import SAMPLE_RATE, Samples


class Downmix:
    """Frames of any format, layout and rate in, mono samples at 16 kHz out."""

    def __init__(self) -> None:
        self._graph: av.filter.Graph | None = None
        self._shape: tuple[str, str, int] | None = None

    def feed(self, frame: av.AudioFrame) -> Iterator[Samples]:
        """Give what the frame adds."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:  # the first frame, or a stream that changes its mind on the way
            yield from self.flush()
            self._graph, self._shape = _graph_for(frame), shape
        assert self._graph is not None
        frame.pts = None  # the resampler would fill holes by itself
        self._graph.push(frame)
        yield from self._pulled(self._graph)

    def flush(self) -> Iterator[Samples]:
        """Give what the resampler still holds back."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pulled(self._graph)
        self._graph = None
        self._shape = None

    @staticmethod
    def _pulled(graph: av.filter.Graph) -> Iterator[Samples]:
        while True:
            try:
                frame = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, av.AudioFrame)
            yield frame.to_ndarray()[0]


def _is_unnamed(layout: av.AudioLayout) -> bool:
    """Tell whether a layout says only how many channels there are, as a recorder's inputs do.

    FFmpeg would guess at loudspeakers, and leave out the fourth of eight inputs as the one for the bass.
    """
    return layout.nb_channels > 2 and layout.name == f"{layout.nb_channels} channels"


def _graph_for(frame: av.AudioFrame) -> av.filter.Graph:
    """FFmpeg's own downmix for loudspeakers that it knows, the channels' mean for others."""
    if not _is_unnamed(frame.layout):
        try:
            return _linked(frame, [("aresample", "rematrix_maxval=1")])  # else loud channels add up to more than 1
        except av.error.FFmpegError:  # no downmix for these
            pass
    channels = frame.layout.nb_channels
    mean = "+".join(f"{1 / channels}*c{channel}" for channel in range(channels))
    try:
        return _linked(frame, [("pan", f"mono|c0={mean}"), ("aresample", None)])
    except av.error.FFmpegError as error:
        raise BadAudio(f"{channels} channels at {frame.sample_rate} Hz can't be mixed down") from error


def _linked(frame: av.AudioFrame, filters: list[tuple[str, str | None]]) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_abuffer(
        format=frame.format,
        sample_rate=frame.sample_rate,
        layout=frame.layout,
        time_base=Fraction(1, frame.sample_rate),
    )
    wanted = f"sample_rates={SAMPLE_RATE}:sample_fmts=fltp:channel_layouts=mono"
    nodes = [graph.add(name, options) for name, options in [*filters, ("aformat", wanted), ("abuffersink", None)]]
    graph.link_nodes(source, *nodes).configure()
    return graph
