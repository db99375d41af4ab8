"""`Connections`: the open connections, their limits, and which is closed first.

A new connection is always accepted. Beyond the limits, the longest-idle connection is closed instead, so that nobody
can lock others out by connections alone. Connections that have never sent a request go first.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

MAX_UNSENT_BYTES = 48 * 2**20
"""Limit of the unsent bytes of all responses, which wait for clients that do not read."""
_GRACE_S = 1.0
"""A connection this young is closed only beyond twice the limit: its request may be on its way."""


class Connection(Protocol):
    """What the table needs of a connection."""

    @property
    def address(self) -> str:
        """The client's address or network; "" if unknown."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes of its responses that have not left the process."""

    def drop(self) -> None:
        """Close it at once, discarding unsent bytes."""


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The connection limits."""

    total: int
    per_address: int
    """Loopback is exempt: a proxy connects from there."""


class Connections:
    """The open connections. To be called from the event loop's thread only."""

    def __init__(self, limits: ConnectionLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._idle: OrderedDict[Connection, float] = OrderedDict()
        """Connections without a complete request, and since when; the longest-idle first."""
        self._unproven: OrderedDict[Connection, None] = OrderedDict()
        """Those of them that have never sent a request."""
        self._idle_by_address: defaultdict[str, OrderedDict[Connection, None]] = defaultdict(OrderedDict)
        self._busy: dict[Connection, None] = {}
        self._busy_by_address: Counter[str] = Counter()
        self._blocked: OrderedDict[Connection, None] = OrderedDict()
        """Those with unsent bytes, the longest-blocked first."""

    def __len__(self) -> int:
        return len(self._idle) + len(self._busy)

    def opened(self, connection: Connection) -> None:
        """Add a connection, and close the longest-idle one if there are too many."""
        self._add_idle(connection)
        self._unproven[connection] = None
        own = self._idle_by_address[connection.address]
        own_count = len(own) + self._busy_by_address[connection.address]
        if own_count > self.limits.per_address and not _is_local(connection):
            own_unproven = (each for each in own if each in self._unproven)
            self._evict(chain(own_unproven, own), connection, is_urgent=own_count > 2 * self.limits.per_address)
        elif len(self) > self.limits.total:
            self._evict(chain(self._unproven, self._idle), connection, is_urgent=len(self) > 2 * self.limits.total)

    def request_started(self, connection: Connection) -> None:
        """Record that a request has started."""
        if connection not in self._busy:
            self._remove_idle(connection)
            self._busy[connection] = None
            self._busy_by_address[connection.address] += 1

    def request_finished(self, connection: Connection) -> None:
        """Record that its request has been answered."""
        if connection in self._busy:
            self._remove_busy(connection)
            self._add_idle(connection)

    def closed(self, connection: Connection) -> None:
        """Remove a connection."""
        self._remove_idle(connection)
        self._remove_busy(connection)
        self._blocked.pop(connection, None)

    def is_overloaded(self, connection: Connection) -> bool:
        """Whether too many requests are in progress, counting this connection's."""
        own = self._busy_by_address[connection.address]
        return len(self._busy) > self.limits.total or (not _is_local(connection) and own > self.limits.per_address)

    def write_blocked(self, connection: Connection) -> None:
        """Record that a client does not read; drop the longest-blocked ones if too many bytes are unsent."""
        self._blocked[connection] = None
        unsent = {each: each.unsent_bytes for each in self._blocked}
        excess = sum(unsent.values()) - MAX_UNSENT_BYTES
        for each, size in unsent.items():
            if excess <= 0 or each is connection:
                return
            excess -= size
            del self._blocked[each]
            each.drop()

    def write_drained(self, connection: Connection) -> None:
        """Record that a client has read everything that was sent."""
        self._blocked.pop(connection, None)

    def _add_idle(self, connection: Connection) -> None:
        self._idle[connection] = self._clock()
        self._idle_by_address[connection.address][connection] = None

    def _evict(self, candidates: Iterable[Connection], exclude: Connection, *, is_urgent: bool) -> None:
        victim = next((each for each in candidates if each is not exclude), None)
        if victim is not None and (is_urgent or self._clock() - self._idle[victim] >= _GRACE_S):
            self.closed(victim)
            victim.drop()

    def _remove_idle(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._unproven.pop(connection, None)
        own = self._idle_by_address.get(connection.address)
        if own is not None:
            own.pop(connection, None)
            if not own:
                del self._idle_by_address[connection.address]

    def _remove_busy(self, connection: Connection) -> None:
        if connection in self._busy:
            del self._busy[connection]
            self._busy_by_address[connection.address] -= 1
            if not self._busy_by_address[connection.address]:
                del self._busy_by_address[connection.address]


def _is_local(connection: Connection) -> bool:
    """Whether it comes from this machine; `limits.client_network` turns `::1` into `::`."""
    return connection.address.startswith("127.") or connection.address in ("::", "")
