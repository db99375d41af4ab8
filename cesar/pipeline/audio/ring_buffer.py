"""The last minute of sound, so that a chunk's samples can be cut out once the plan is known."""

from __future__ import annotations

from collections import deque

import numpy as np

from cesar.pipeline.samples import SAMPLE_RATE, Samples

CAPACITY_S = 60
"""Longer than the longest chunk with its margins, the pause after it and one block together."""


class RingBuffer:
    """Keeps the newest blocks of a stream; `cut` gives any part of them by position in the recording."""

    def __init__(self, start: int = 0) -> None:
        self._blocks: deque[Samples] = deque()
        self._start = start
        self.end = start
        """Position after the newest sample, in samples from the start of the recording."""

    def record(self, block: Samples) -> None:
        """Keep a block."""
        self._blocks.append(block)
        self.end += len(block)
        while self._blocks and self.end - self._start - len(self._blocks[0]) > CAPACITY_S * SAMPLE_RATE:
            self._start += len(self._blocks.popleft())

    def cut(self, start: int, end: int) -> Samples:
        """Return a copy of the samples from start to end."""
        if not self._start <= start <= end <= self.end:
            raise IndexError(f"samples {start}-{end} are not in the buffer ({self._start}-{self.end})")
        kept = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.float32)
        return kept[start - self._start : end - self._start].copy()
