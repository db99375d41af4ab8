"""Third stage: speech regions become chunks, the units of recognition, checkpoint and resume.

The plan is a pure function of the regions: the same recording gives the same chunks, and no chunk depends on what
was recognised in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cesar.pipeline.decode import SAMPLE_RATE
from cesar.pipeline.vad import Listened, Region


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """How regions are packed."""

    max_chunk_s: float = 15.0
    """From the first region's start to the last one's end. A window of 15 s costs a quarter of one of 30 s."""
    max_gap_s: float = 3.0
    """Speech across a longer pause is never packed together. At least twice the margin."""
    margin_s: float = 1.0
    """Sound kept before and after the speech (at most half the way to its neighbour): detectors hear soft
    beginnings and ends late."""


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A stretch to recognise, in samples from the start of the recording. Chunks never overlap."""

    start: int
    end: int
    regions: tuple[Region, ...]


def pack(listened: Iterable[Listened], settings: ChunkSettings) -> Iterator[PlannedChunk]:
    """Join neighbouring regions while the chunk stays short and the pauses between them do too.

    A chunk is given as soon as nothing can join it any more. The last one's margin may reach past the recording's
    end, which is not known here.
    """
    margin = int(settings.margin_s * SAMPLE_RATE)
    start, waiting = 0, list[Region]()
    for news in listened:
        for region in news.regions:
            if not waiting:
                start = max(start, region.start - margin)
            elif not _fits(waiting, region, settings):
                half_way = (region.start - waiting[-1].end) // 2
                end = waiting[-1].end + min(margin, half_way)
                yield PlannedChunk(start, end, tuple(waiting))
                start, waiting = max(end, region.start - margin), []
            waiting.append(region)
        if waiting and news.until - waiting[-1].end > settings.max_gap_s * SAMPLE_RATE:
            end = waiting[-1].end + margin
            yield PlannedChunk(start, end, tuple(waiting))
            start, waiting = end, []
    if waiting:
        yield PlannedChunk(start, waiting[-1].end + margin, tuple(waiting))


def _fits(waiting: list[Region], region: Region, settings: ChunkSettings) -> bool:
    gap_s = (region.start - waiting[-1].end) / SAMPLE_RATE
    length_s = (region.end - waiting[0].start) / SAMPLE_RATE
    return gap_s <= settings.max_gap_s and length_s <= settings.max_chunk_s
