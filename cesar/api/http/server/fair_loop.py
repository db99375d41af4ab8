"""`FairLoop`: an event loop on which sockets take turns, so that hundreds of busy sockets don't delay new clients.

asyncio serves every ready socket before it polls again. 200 uploads at full speed made each iteration a second long,
and a new client had to wait for five of them. Here an iteration serves a few sockets: those that have waited longest.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
import sys
from typing import Any, Self

from cesar.api.http.server.pace import Pace

MAX_PER_ROUND = 4
"""Reading from one socket takes a millisecond at most: 16 KiB in the smallest chunks."""
_Ready = list[tuple[selectors.SelectorKey, int]]


class FairSelector:
    """Wraps a selector, and returns a few ready sockets at a time; the others stay ready for the next round."""

    def __init__(self, selector: selectors.BaseSelector, pace: Pace | None = None) -> None:
        self._selector = selector
        self._pace = pace or Pace(MAX_PER_ROUND)
        self._round = 0
        self._served: dict[int, int] = {}
        """The round in which each socket was last served."""
        self._preferred: frozenset[int] = frozenset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def prefer_registered(self) -> None:
        """Serve the sockets registered so far in every round in which they are ready."""
        self._preferred = frozenset(key.fd for key in self._selector.get_map().values())

    def forget(self, fd: int) -> None:
        """Treat this descriptor as a new socket, which goes before all that were served already."""
        self._served.pop(fd, None)

    def select(self, timeout: float | None = None) -> _Ready:
        """Wait for ready sockets, and return those whose turn it is."""
        self._pace.end()
        ready = self._selector.select(timeout)
        self._pace.begin()
        self._round += 1
        if len(ready) > self._pace.allowed:
            ready = self._whose_turn_it_is(ready)
        for key, _ in ready:
            self._served[key.fd] = self._round
        return ready

    def _whose_turn_it_is(self, ready: _Ready) -> _Ready:
        first = [item for item in ready if item[0].fd in self._preferred]
        others = (item for item in ready if item[0].fd not in self._preferred)
        return first + heapq.nsmallest(self._pace.allowed, others, key=lambda item: self._served.get(item[0].fd, 0))


if sys.platform == "win32":
    FairLoop = asyncio.ProactorEventLoop  # has no selector
else:

    class FairLoop(asyncio.SelectorEventLoop):
        """An event loop over a `FairSelector`."""

        def __init__(self) -> None:
            self.fairness = FairSelector(selectors.DefaultSelector())
            super().__init__(self.fairness)  # type: ignore[arg-type]  # it delegates to a selector


def fair_selector_of(loop: asyncio.AbstractEventLoop) -> FairSelector | None:
    """Return the fair selector of a loop; None for other loops, and on Windows."""
    fairness = getattr(loop, "fairness", None)
    return fairness if isinstance(fairness, FairSelector) else None
