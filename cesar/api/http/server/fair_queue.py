"""`FairQueue`: spreads requests over iterations of the event loop, by address in rotation.

The loop runs every ready callback before it looks for new connections, so a hundred requests that arrive together
would hold up everyone else for as long as all of them take. Here a few start in each iteration, and the rest wait.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

from cesar.api.http.server.pace import Pace

MAX_PER_TURN = 4
"""Most requests run for less than a millisecond until they first wait for something."""


class FairQueue:
    """Callbacks waiting for their turn. To be called from the event loop's thread only."""

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace = pace or Pace(MAX_PER_TURN)
        self._remaining = self._pace.allowed
        """How many callbacks may still run in this turn."""
        self._waiting: OrderedDict[str, deque[Callable[[], None]]] = OrderedDict()
        """The callbacks of each address in order; the address whose turn it is comes first."""
        self._is_scheduled = False

    def run(self, address: str, callback: Callable[[], None]) -> None:
        """Run a callback: at once if this turn has room and nothing waits, else when it is the address's turn."""
        self._schedule()
        if self._remaining > 0 and not self._waiting:
            self._remaining -= 1
            callback()
        else:
            self._waiting.setdefault(address, deque()).append(callback)

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._pace.begin()
            asyncio.get_running_loop().call_soon(self._begin_turn)

    def _begin_turn(self) -> None:
        self._is_scheduled = False
        self._pace.end()
        self._remaining = self._pace.allowed
        if self._waiting:
            self._schedule()
        while self._waiting and self._remaining > 0:
            self._remaining -= 1
            self._next_callback()()

    def _next_callback(self) -> Callable[[], None]:
        address, callbacks = self._waiting.popitem(last=False)
        callback = callbacks.popleft()
        if callbacks:
            self._waiting[address] = callbacks
        return callback
