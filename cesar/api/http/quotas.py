"""What a caller may take of what all share: a place in the queue before others, and room for recordings."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from cesar.api.repository import JobRepository
from cesar.config import Settings
from cesar.errors import NotPermitted, StorageLimitReached

if TYPE_CHECKING:
    from cesar.api.http.access import Caller  # it needs the service, which has quotas

_COUNTED_EVERY_S = 10.0
_MOST_CALLERS = 1000


def require_priority(caller: Caller, priority: int, settings: Settings) -> None:
    """Raise `NotPermitted` if a caller may not go before others so far."""
    most = settings.max_priority
    if priority > most and not caller.sees_all:
        hint = f"Ask for {most} at most, use a key with the scope admin, or have `max_priority` raised."
        raise NotPermitted(f"this API key may not ask for the priority {priority}", hint=hint)


class StoredBytes:
    """How much is kept for each caller; counted now and then, and what is handed in meanwhile is added."""

    def __init__(self, repository: JobRepository, clock: Callable[[], float] = time.monotonic) -> None:
        self._repository = repository
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, int]] = OrderedDict()

    async def require_room(self, caller: Caller, settings: Settings, size_bytes: int = 0, digest: str = "") -> None:
        """Raise `StorageLimitReached` if a caller's recordings would take more than they may with this one."""
        if caller.sees_all:
            return
        most = settings.max_stored_bytes - size_bytes
        counted_at, stored = self._known.get(caller.key_id, (-math.inf, 0))
        if self._clock() - counted_at >= _COUNTED_EVERY_S or stored > most:
            counted_at = self._clock()
            stored = await self._repository.stored_bytes(caller.key_id, besides=digest)
        if stored > most:
            raise StorageLimitReached(
                f"the recordings of this API key take {stored} bytes, and may take {settings.max_stored_bytes}"
            )
        self._remember(caller.key_id, counted_at, stored + size_bytes)

    def _remember(self, key_id: str, counted_at: float, stored: int) -> None:
        self._known[key_id] = counted_at, stored
        self._known.move_to_end(key_id)
        if len(self._known) > _MOST_CALLERS:
            self._known.popitem(last=False)
