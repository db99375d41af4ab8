"""`Connections`: every open connection of the service, how many each address may have, and which is closed first.

A new connection is always accepted. Beyond the limits, the connection that has been waiting longest without a request
is closed instead: nobody can keep others out by connections alone. Those that have never sent a request go first.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

MOST_UNSENT_BYTES = 48 * 2**20
"""How much of all answers together may wait for callers who do not read."""
_SPARED_S = 1.0
"""A connection as young as this is only closed if there are twice as many as may be: its request may be on its way."""


class Connection(Protocol):
    """One connection, as the table sees it."""

    @property
    def address(self) -> str:
        """The caller's address, or its network; "" if unknown."""

    @property
    def unsent_bytes(self) -> int:
        """How much of its answers has not left the process."""

    def drop(self) -> None:
        """Close it at once, whatever is unsent."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections there may be."""

    total: int
    per_address: int
    """Loopback is exempt from that, as a proxy sits there."""


class Connections:
    """The open connections. All calls come from the event loop's thread."""

    def __init__(self, limits: ConnectionLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._idle: OrderedDict[Connection, float] = OrderedDict()
        """Those without a whole request, and since when; the longest-waiting first."""
        self._unproven: OrderedDict[Connection, None] = OrderedDict()
        """Those of them that have never sent one."""
        self._idle_of: defaultdict[str, OrderedDict[Connection, None]] = defaultdict(OrderedDict)
        self._busy: dict[Connection, None] = {}
        self._busy_of: Counter[str] = Counter()
        self._unread: OrderedDict[Connection, None] = OrderedDict()
        """Those whose callers have not read all that was sent, the longest-waiting first."""

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy)

    def opened(self, connection: Connection) -> None:
        """Count a new connection, and close the longest-waiting one if there are too many."""
        self._rest(connection)
        self._unproven[connection] = None
        own = self._idle_of[connection.address]
        own_count = len(own) + self._busy_of[connection.address]
        if own_count > self.limits.per_address and not _is_local(connection):
            own_unproven = (each for each in own if each in self._unproven)
            self._evict(chain(own_unproven, own), connection, is_pressing=own_count > 2 * self.limits.per_address)
        elif len(self) > self.limits.total:
            self._evict(chain(self._unproven, self._idle), connection, is_pressing=len(self) > 2 * self.limits.total)

    def began(self, connection: Connection) -> None:
        """Note that a request is under way."""
        if connection not in self._busy:
            self._forget_idle(connection)
            self._busy[connection] = None
            self._busy_of[connection.address] += 1

    def rests(self, connection: Connection) -> None:
        """Note that its request is answered."""
        if connection in self._busy:
            self._forget_busy(connection)
            self._rest(connection)

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._forget_idle(connection)
        self._forget_busy(connection)
        self._unread.pop(connection, None)

    def is_crowded(self, connection: Connection) -> bool:
        """Whether there are more requests under way than may be, with that of this connection."""
        own = self._busy_of[connection.address]
        return len(self._busy) > self.limits.total or (not _is_local(connection) and own > self.limits.per_address)

    def unread(self, connection: Connection) -> None:
        """Note that a caller does not read; drop those who have not for longest if too much waits for them."""
        self._unread[connection] = None
        unsent = {each: each.unsent_bytes for each in self._unread}
        excess = sum(unsent.values()) - MOST_UNSENT_BYTES
        for each, size in unsent.items():
            if excess <= 0 or each is connection:
                return
            excess -= size
            del self._unread[each]
            each.drop()

    def read(self, connection: Connection) -> None:
        """Note that a caller has read all that was sent."""
        self._unread.pop(connection, None)

    def _rest(self, connection: Connection) -> None:
        self._idle[connection] = self._clock()
        self._idle_of[connection.address][connection] = None

    def _evict(self, candidates: Iterable[Connection], but: Connection, *, is_pressing: bool) -> None:
        victim = next((each for each in candidates if each is not but), None)
        if victim is not None and (is_pressing or self._clock() - self._idle[victim] >= _SPARED_S):
            self.closed(victim)
            victim.drop()

    def _forget_idle(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._unproven.pop(connection, None)
        own = self._idle_of.get(connection.address)
        if own is not None:
            own.pop(connection, None)
            if not own:
                del self._idle_of[connection.address]

    def _forget_busy(self, connection: Connection) -> None:
        if connection in self._busy:
            del self._busy[connection]
            self._busy_of[connection.address] -= 1
            if not self._busy_of[connection.address]:
                del self._busy_of[connection.address]


def _is_local(connection: Connection) -> bool:
    """Whether it comes from this machine; `limits.address_of` makes `::` of `::1`."""
    return connection.address.startswith("127.") or connection.address in ("::", "")
