"""`FairQueue`: spreads the work of requests over turns of the event loop, addresses in rotation.

The loop runs all that is ready before it looks for new connections. So a hundred requests that arrive together would
hold up everybody else for as long as all of them take. Here a few get through in each turn, and the rest wait.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

from cesar.api.http.server.pace import Pace

PER_TURN = 4
"""Most requests take less than a millisecond until they first wait for something."""


class FairQueue:
    """Steps of work that wait for a turn. All calls come from the event loop's thread."""

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace = pace or Pace(PER_TURN)
        self._left = self._pace.allowed
        """How many steps may still be taken in this turn."""
        self._waiting: OrderedDict[str, deque[Callable[[], None]]] = OrderedDict()
        """The steps of each address in their order; the address whose turn it is comes first."""
        self._is_scheduled = False

    def run(self, address: str, step: Callable[[], None]) -> None:
        """Take a step: at once if there is room in this turn and nothing waits, else when it is the address's turn."""
        self._schedule()
        if self._left > 0 and not self._waiting:
            self._left -= 1
            step()
        else:
            self._waiting.setdefault(address, deque()).append(step)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._pace.begin()
            asyncio.get_running_loop().call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        self._is_scheduled = False
        self._pace.end()
        self._left = self._pace.allowed
        if self._waiting:
            self._schedule()
        while self._waiting and self._left > 0:
            self._left -= 1
            self._next_step()()

    def _next_step(self) -> Callable[[], None]:
        address, steps = self._waiting.popitem(last=False)
        step = steps.popleft()
        if steps:
            self._waiting[address] = steps
        return step
