"""FFmpeg's filters, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import av.filter


def filter_graph(frame: av.AudioFrame, filters: Sequence[tuple[str, str | None]]) -> av.filter.Graph:
    """Return a graph of filters for frames like this one. filters: name and options of each."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(
        format=frame.format,
        sample_rate=frame.sample_rate,
        layout=frame.layout,
        time_base=Fraction(1, frame.sample_rate),
    )
    nodes = [graph.add(name, options) for name, options in [*filters, ("abuffersink", None)]]
    graph.link_nodes(source, *nodes).configure()
    return graph
