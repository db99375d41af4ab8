"""A job's history as it is read by those who follow it: how much of it they have, and what has come since."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cesar.api.models import Job, JobEvent
from cesar.transcript import Chunk


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """How much of a job's history somebody has: what came after it can be asked for.

    >>> str(Cursor(12, 0, 30.5, 7, 2)), Cursor.read("12-0-30500-7-2")
    ('12-0-30500-7-2', Cursor(event=12, generation=0, chunk_start=30.5, segments=7, of_next=2, is_end=False))
    """

    event: int = 0
    """The id of the last `JobEvent`."""
    generation: int = 0
    """The `Job.generation` that the chunks are of."""
    chunk_start: float = -1.0
    """Where the last chunk starts of which they have everything, in seconds."""
    segments: int = 0
    """How many segments they have."""
    segment_offset: int = 0
    """How many of these are of the chunk after that one."""
    is_end: bool = False
    """Whether they know that the job is over."""

    def __str__(self) -> str:
        counts = f"{round(self.chunk_start * 1000)}-{self.segments}-{self.segment_offset}"
        return f"{self.event}-{self.generation}-{counts}{'-end' if self.is_end else ''}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what `str` gave. Raises ValueError."""
        found = re.fullmatch(r"(\d{1,18})-(\d{1,9})-(-?\d{1,12})-(\d{1,9})-(\d{1,9})(-end)?", text, re.ASCII)
        if found is None:
            raise ValueError(f"{text!r} is no cursor")
        event, generation, chunk_start, segments, segment_offset = map(int, found.groups()[:5])
        return cls(event, generation, chunk_start / 1000, segments, segment_offset, found[6] is not None)


@dataclass(frozen=True, slots=True)
class Tail:
    """What has happened to a job since a cursor, as one consistent state."""

    job: Job
    events: tuple[JobEvent, ...]
    chunks: tuple[Chunk, ...]
    """Those after the cursor; all, if the job's generation is another than the cursor's."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Which jobs may have changed since an event."""

    last_event: int
    job_ids: frozenset[str]
