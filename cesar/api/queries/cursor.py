"""A job's history as subscribers read it: how much of it they have, and what has happened since."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cesar.api.models import Job, JobEvent
from cesar.transcript import Chunk


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """A subscriber's position in a job's history, after which reading can resume.

    >>> str(Cursor(12, 0, 30.5, 7, 2)), Cursor.parse("12-0-30500-7-2")
    ('12-0-30500-7-2', Cursor(event=12, generation=0, chunk_start=30.5, segments=7, segment_offset=2, is_end=False))
    """

    event: int = 0
    """The id of the last `JobEvent`."""
    generation: int = 0
    """The `Job.generation` that the chunks are of."""
    chunk_start: float = -1.0
    """Start of the last chunk that the subscriber has completely, in seconds."""
    segments: int = 0
    """Number of segments that the subscriber has."""
    segment_offset: int = 0
    """How many of them belong to the next chunk."""
    is_end: bool = False
    """Whether the subscriber knows that the job is finished."""

    def __str__(self) -> str:
        counts = f"{round(self.chunk_start * 1000)}-{self.segments}-{self.segment_offset}"
        return f"{self.event}-{self.generation}-{counts}{'-end' if self.is_end else ''}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Parse the text that `str` returns. Raises ValueError."""
        found = re.fullmatch(r"(\d{1,18})-(\d{1,9})-(-?\d{1,12})-(\d{1,9})-(\d{1,9})(-end)?", text, re.ASCII)
        if found is None:
            raise ValueError(f"{text!r} is not a cursor")
        event, generation, chunk_start, segments, segment_offset = map(int, found.groups()[:5])
        return cls(event, generation, chunk_start / 1000, segments, segment_offset, found[6] is not None)


@dataclass(frozen=True, slots=True)
class Tail:
    """What has happened to a job since a cursor, as one consistent state."""

    job: Job
    events: tuple[JobEvent, ...]
    chunks: tuple[Chunk, ...]
    """Those after the cursor; all of them if the job's generation differs from the cursor's."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Which jobs may have changed since an event."""

    last_event: int
    job_ids: frozenset[str]
