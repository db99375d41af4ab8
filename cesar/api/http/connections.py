"""`Connections`: every open connection of the service, how many each address may have, and which is closed first.

A new connection is always accepted. Beyond the limits, the connection that has been waiting longest without a request
is closed instead: nobody can keep others out by connections alone. Those that have never sent a request go first.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Protocol

MOST_UNSENT_BYTES = 48 * 2**20
"""How much of all answers together may wait for callers who do not read."""


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
    """Also how many requests an address may have under way; loopback is exempt from that, as a proxy sits there."""


class Connections:
    """The open connections. All calls come from the event loop's thread."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        """Those without a whole request, the longest-waiting first."""
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
        if len(own) + self._busy_of[connection.address] > self.limits.per_address:
            self._evict(own, connection)
        elif len(self) > self.limits.total:
            self._evict(self._unproven if len(self._unproven) > 1 else self._idle, connection)

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
        is_local = connection.address.startswith(("127.", "::1")) or connection.address in ("::", "")
        own = self._busy_of[connection.address]
        return len(self._busy) > self.limits.total or (not is_local and own > self.limits.per_address)

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
        self._idle[connection] = None
        self._idle_of[connection.address][connection] = None

    def _evict(self, candidates: OrderedDict[Connection, None], but: Connection) -> None:
        others = [each for each in candidates if each is not but]
        victim = next((each for each in others if each in self._unproven), others[0] if others else None)
        if victim is not None:
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
