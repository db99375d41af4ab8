"""`Pace`: how much may begin in one round of the event loop, so that rounds stay short whatever the work costs.

A new caller waits for five or six rounds until it is answered. With a fixed number of pieces of work in each, rounds
are as long as the costliest pieces make them: four uploads in tiny chunks, or four requests with thousands of cookies.
"""

from __future__ import annotations

import time
from collections.abc import Callable

ROUND_S = 0.002
"""How long a round should take at most, in CPU time: while other programs have the CPU, less work would not help."""


class Pace:
    """Allows `most` pieces of work in each round, fewer while rounds take longer than `round_s`, one at least."""

    def __init__(self, most: int, round_s: float = ROUND_S, clock: Callable[[], float] = time.thread_time) -> None:
        self.allowed = most
        self._most = most
        self._round_s = round_s
        self._clock = clock
        self._begun_at: float | None = None

    def begin(self) -> None:
        """Begin a round."""
        self._begun_at = self._clock()

    def end(self) -> None:
        """End the round, if one was begun, and allow less or more in the next."""
        if self._begun_at is None:
            return
        took_s, self._begun_at = self._clock() - self._begun_at, None
        if took_s > self._round_s:
            self.allowed = max(1, self.allowed // 2)
        elif took_s < self._round_s / 2:
            self.allowed = min(self._most, self.allowed + 1)
