"""`Pace`: how much work may start in one round of the event loop, so that rounds stay short.

A new client waits for five or six rounds until it is answered. With a fixed number of work items, a round is as long
as the costliest items make it: four uploads in tiny chunks, or four requests with thousands of cookies.
"""

from __future__ import annotations

import time
from collections.abc import Callable

ROUND_S = 0.002
"""Target for the CPU time of a round; CPU time, as doing less would not help while other programs run."""


class Pace:
    """Allows `max_items` work items in each round, fewer while rounds take longer than `round_s`, and at least one."""

    def __init__(self, max_items: int, round_s: float = ROUND_S, clock: Callable[[], float] = time.thread_time) -> None:
        self.allowed = max_items
        self._max_items = max_items
        self._round_s = round_s
        self._clock = clock
        self._started_at: float | None = None

    def begin(self) -> None:
        """Begin a round."""
        self._started_at = self._clock()

    def end(self) -> None:
        """End the round, if one has begun, and adapt the allowance of the next."""
        if self._started_at is None:
            return
        took_s, self._started_at = self._clock() - self._started_at, None
        if took_s > self._round_s:
            self.allowed = max(1, self.allowed // 2)
        elif took_s < self._round_s / 2:
            self.allowed = min(self._max_items, self.allowed + 1)
