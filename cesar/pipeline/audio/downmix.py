"""The second half of decoding: frames of any format and rate become a mix and each channel by itself, at 16 kHz.

FFmpeg's filters do the arithmetic (through PyAV); which mix is right for which channels is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import av.error
import av.filter
import numpy as np

from cesar.errors import BadAudio
from cesar.pipeline.audio.filter_graph import filter_graph
from cesar.pipeline.samples import SAMPLE_RATE, Channels, joined


class Downmix:
    """Frames of any format, layout and rate in; their mix and each channel at 16 kHz out."""

    def __init__(self) -> None:
        self._mix: av.filter.Graph | None = None
        """None in stereo: the mean of both is taken after the resampler, to the same bits, which costs half."""
        self._apart: av.filter.Graph | None = None
        """Leaves the channels as they are; None where there is one."""
        self._shape: tuple[str, str, int] | None = None
        self._left: tuple[Channels, Channels] | None = None
        """What one graph has given and the other not yet."""

    def feed(self, frame: av.AudioFrame) -> Iterator[Channels]:
        """Yield what the frame adds."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:  # the first frame, or a stream that changes its mind on the way
            yield from self.flush()
            self._shape = shape
            self._mix = None if _is_stereo(frame.layout) else _graph_for(frame)
            self._apart = _linked(frame, [("aresample", None)]) if frame.layout.nb_channels > 1 else None
        frame.pts = None  # the resampler would fill holes by itself
        yield from self._pushed(frame)

    def flush(self) -> Iterator[Channels]:
        """Yield what the resampler still holds back."""
        if self._shape is not None:
            yield from self._pushed(None)
        self._mix = self._apart = self._shape = self._left = None

    def _pushed(self, frame: av.AudioFrame | None) -> Iterator[Channels]:
        graphs = [graph for graph in (self._mix, self._apart) if graph is not None]
        for graph in graphs:
            graph.push(frame)
        if len(graphs) == 1:
            yield from map(_with_mean, _pulled(graphs[0])) if self._apart else _pulled(graphs[0])
            return
        parts = [list(_pulled(graph)) for graph in graphs]
        if self._left is not None:
            parts = [[before, *part] for before, part in zip(self._left, parts, strict=True)]
        if not all(parts):
            return
        mix, apart = (joined(part) for part in parts)
        count = min(mix.shape[1], apart.shape[1])
        self._left = mix[:, count:], apart[:, count:]
        if count:
            yield np.concatenate([mix[:, :count], apart[:, :count]])


def _pulled(graph: av.filter.Graph) -> Iterator[Channels]:
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.AudioFrame)
        channels = frame.layout.nb_channels
        yield frame.to_ndarray().astype(np.float32, copy=False).reshape(-1, channels).T


def _with_mean(stereo: Channels) -> Channels:
    half = np.float32(0.5)
    return np.stack([stereo[0] * half + stereo[1] * half, *stereo])


def _is_stereo(layout: av.AudioLayout) -> bool:
    return layout.name in {"stereo", "2 channels"}


def _is_unnamed(layout: av.AudioLayout) -> bool:
    """Tell whether a layout says only how many channels there are, as a recorder's inputs do.

    FFmpeg would guess at loudspeakers, and leave out the fourth of eight inputs as the one for the bass.
    """
    return layout.nb_channels > 2 and layout.name == f"{layout.nb_channels} channels"


def _graph_for(frame: av.AudioFrame) -> av.filter.Graph:
    """FFmpeg's own downmix for loudspeakers that it knows, the channels' mean for others."""
    if not _is_unnamed(frame.layout):
        try:
            return _linked(
                frame, [("aresample", "rematrix_maxval=1")], is_mono=True
            )  # else loud channels add up to more than 1
        except av.error.FFmpegError:  # no downmix for these
            pass
    channels = frame.layout.nb_channels
    mean = "+".join(f"{1 / channels}*c{channel}" for channel in range(channels))
    try:
        return _linked(frame, [("pan", f"mono|c0={mean}"), ("aresample", None)], is_mono=True)
    except av.error.FFmpegError as error:
        raise BadAudio(f"{channels} channels at {frame.sample_rate} Hz can't be mixed down") from error


def _linked(frame: av.AudioFrame, filters: list[tuple[str, str | None]], *, is_mono: bool = False) -> av.filter.Graph:
    wanted = f"sample_rates={SAMPLE_RATE}:sample_fmts=flt"  # planar, eight channels and more crash PyAV
    if is_mono:
        wanted += ":channel_layouts=mono"
    return filter_graph(frame, [*filters, ("aformat", wanted)])
