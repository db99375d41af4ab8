"""Third stage: speech regions become chunks, the units of recognition, checkpoint and resume.

The plan is a pure function of the regions: the same recording gives the same chunks, and no chunk depends on what
was recognised in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.vad import Region, VadUpdate


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """How regions are packed into chunks."""

    max_chunk_s: float = 15.0
    """From the first region's start to the last one's end. A window of 15 s costs a quarter of one of 30 s."""
    max_gap_s: float = 3.0
    """Regions separated by a longer pause never share a chunk. At least twice the margin."""
    margin_s: float = 1.0
    """Sound kept before and after the speech, at most half the way to its neighbour: detectors notice soft onsets
    late, and soft ends too early."""


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A stretch to recognise, in samples from the start of the recording. Chunks never overlap."""

    start: int
    end: int
    regions: tuple[Region, ...]


def pack(updates: Iterable[VadUpdate], settings: ChunkSettings) -> Iterator[PlannedChunk]:
    """Join neighbouring regions while the chunk stays short and the pauses between them do too.

    A chunk that grows too long ends at the longest pause of its second half: most likely where a sentence does.
    A chunk is yielded as soon as nothing can join it any more. The margin of the last one may reach past the end of
    the recording, which is not known here.
    """
    packer = _Packer(settings)
    for update in updates:
        for region in update.regions:
            yield from packer.add(region)
        yield from packer.wait_until(update.until)
    yield from packer.finish()


class _Packer:
    def __init__(self, settings: ChunkSettings) -> None:
        self._longest = int(settings.max_chunk_s * SAMPLE_RATE)
        self._longest_pause = int(settings.max_gap_s * SAMPLE_RATE)
        self._margin = int(settings.margin_s * SAMPLE_RATE)
        self._given_until = 0
        self._waiting: list[Region] = []

    def add(self, region: Region) -> Iterator[PlannedChunk]:
        if self._waiting and region.start - self._waiting[-1].end > self._longest_pause:
            yield self._give(len(self._waiting), region)
        while self._waiting and region.end - self._waiting[0].start > self._longest:
            yield self._give(self._best_end(region), region)
        self._waiting.append(region)

    def wait_until(self, until: int) -> Iterator[PlannedChunk]:
        """Yield the waiting regions once it is certain that no speech follows closely."""
        if self._waiting and until - self._waiting[-1].end > self._longest_pause:
            yield from self.finish()

    def finish(self) -> Iterator[PlannedChunk]:
        if self._waiting:
            yield self._give(len(self._waiting), None)

    def _best_end(self, following: Region) -> int:
        """Return the number of waiting regions to yield: up to the longest pause after half of the maximum length."""
        regions = [*self._waiting, following]
        half = self._waiting[0].start + self._longest // 2
        ends = [n for n in range(1, len(regions)) if regions[n - 1].end >= half] or [len(self._waiting)]
        return max(ends, key=lambda n: (regions[n].start - regions[n - 1].end, n))

    def _give(self, count: int, following: Region | None) -> PlannedChunk:
        given, self._waiting = self._waiting[:count], self._waiting[count:]
        after = self._waiting[0] if self._waiting else following
        start = max(self._given_until, given[0].start - self._margin)
        end = given[-1].end + self._margin
        if after:
            end = min(end, (given[-1].end + after.start) // 2)
        self._given_until = end
        return PlannedChunk(start, end, tuple(given))
