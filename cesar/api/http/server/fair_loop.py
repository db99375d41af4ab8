"""`FairLoop`: an event loop on which sockets take turns, so that hundreds of busy ones hold up nobody who comes new.

asyncio serves every socket that is ready before it looks for others. 200 uploads at full speed made each round a second
long, and a new caller had to wait for five of them. Here a round serves a few: those that have waited longest.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
import sys
from typing import Any, Self

from cesar.api.http.server.pace import Pace

PER_ROUND = 4
"""Reading from one takes a millisecond at most: 16 KiB in the smallest of chunks."""
_Ready = list[tuple[selectors.SelectorKey, int]]


class FairSelector:
    """Waits as another selector does, but gives a few sockets at a time; the others stay ready for the next round."""

    def __init__(self, selector: selectors.BaseSelector, pace: Pace | None = None) -> None:
        self._selector = selector
        self._pace = pace or Pace(PER_ROUND)
        self._round = 0
        self._served: dict[int, int] = {}
        """The round in which each socket was last given."""
        self._first: frozenset[int] = frozenset()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def prefer_registered(self) -> None:
        """Give what is registered by now in every round in which it is ready."""
        self._first = frozenset(key.fd for key in self._selector.get_map().values())

    def forget(self, fd: int) -> None:
        """Take this number for a new socket's, which goes before all that were given before."""
        self._served.pop(fd, None)

    def select(self, timeout: float | None = None) -> _Ready:
        """Wait for sockets that are ready, and give those whose turn it is."""
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
        first = [item for item in ready if item[0].fd in self._first]
        others = (item for item in ready if item[0].fd not in self._first)
        return first + heapq.nsmallest(self._pace.allowed, others, key=lambda item: self._served.get(item[0].fd, 0))


if sys.platform == "win32":
    FairLoop = asyncio.ProactorEventLoop  # knows no selector
else:

    class FairLoop(asyncio.SelectorEventLoop):
        """An event loop over a `FairSelector`."""

        def __init__(self) -> None:
            self.fairness = FairSelector(selectors.DefaultSelector())
            super().__init__(self.fairness)  # type: ignore[arg-type]  # it does whatever a selector does


def fairness_of(loop: asyncio.AbstractEventLoop) -> FairSelector | None:
    """Return the selector by which a loop's sockets take turns; None for other loops, and on Windows."""
    fairness = getattr(loop, "fairness", None)
    return fairness if isinstance(fairness, FairSelector) else None
