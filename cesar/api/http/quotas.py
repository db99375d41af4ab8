"""What a caller may take of what all share: a place in the queue before others, and room for recordings."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cesar.api.repository import JobRepository
from cesar.errors import NotPermitted, StorageLimitReached
from cesar.settings.config import Settings

if TYPE_CHECKING:
    from cesar.api.http.middleware.auth import Caller  # it needs the service, which has quotas

_COUNTED_EVERY_S = 10.0
_MOST_CALLERS = 1000


def require_priority(caller: Caller, priority: int, settings: Settings) -> None:
    """Raise `NotPermitted` if a caller may not go before others so far."""
    most = settings.max_priority
    if priority > most and not caller.sees_all:
        hint = f"Ask for {most} at most, use a key with the scope admin, or have `max_priority` raised."
        raise NotPermitted(f"this API key may not ask for the priority {priority}", hint=hint)


@dataclass(slots=True)
class _Account:
    """What is known of one caller's recordings."""

    counted_at: float = -math.inf
    stored: int = 0
    coming: int = 0
    """What was let in and is not stored yet."""
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)


class StoredBytes:
    """How much is kept for each caller; counted now and then, and what is handed in meanwhile is added."""

    def __init__(self, repository: JobRepository, clock: Callable[[], float] = time.monotonic) -> None:
        self._repository = repository
        self._clock = clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    @asynccontextmanager
    async def room_for(
        self, caller: Caller, settings: Settings, size_bytes: int = 0, digest: str = ""
    ) -> AsyncIterator[None]:
        """Keep room for a recording while its job is created, whatever else the caller hands in at the same time.

        Raises `StorageLimitReached` if their recordings would take more than they may with this one.
        """
        if caller.sees_all:
            yield
            return
        account = self._account_of(caller.key_id)
        async with account.counting:
            await self._require_room(account, caller, settings, size_bytes, digest)
            account.coming += size_bytes
        try:
            yield
            account.stored += size_bytes
        finally:
            account.coming -= size_bytes

    async def _require_room(
        self, account: _Account, caller: Caller, settings: Settings, size_bytes: int, digest: str
    ) -> None:
        most = settings.max_stored_bytes - size_bytes
        is_old = self._clock() - account.counted_at >= _COUNTED_EVERY_S
        if is_old or account.stored + account.coming > most:
            counted_at = self._clock()
            account.stored = await self._repository.stored_bytes(caller.key_id, besides=digest)
            account.counted_at = counted_at
        if account.stored + account.coming > most:
            raise StorageLimitReached(
                f"the recordings of this API key take {account.stored} bytes, and may take {settings.max_stored_bytes}"
            )

    def _account_of(self, key_id: str) -> _Account:
        account = self._accounts.setdefault(key_id, _Account())
        self._accounts.move_to_end(key_id)
        if len(self._accounts) > _MOST_CALLERS:
            self._accounts.popitem(last=False)
        return account
