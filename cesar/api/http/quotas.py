"""What a caller may take of shared resources: priority in the queue, and storage for recordings."""

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
    from cesar.api.http.middleware.auth import Caller  # `auth` imports the service, which has quotas

_RECOUNT_INTERVAL_S = 10.0
_MAX_CALLERS = 1000


def require_priority(caller: Caller, priority: int, settings: Settings) -> None:
    """Raise `NotPermitted` if a caller may not use this priority."""
    limit = settings.max_priority
    if priority > limit and not caller.sees_all:
        hint = f"Ask for {limit} at most, use a key with the scope admin, or have `max_priority` raised."
        raise NotPermitted(f"this API key may not use priority {priority}", hint=hint)


@dataclass(slots=True)
class _Account:
    """The stored bytes of one caller."""

    counted_at: float = -math.inf
    stored: int = 0
    pending: int = 0
    """Accepted, but not stored yet."""
    created: int = 0
    """Number of jobs created."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class StorageQuota:
    """Enforces `max_stored_bytes` for each caller: recordings, requests and texts.

    Usage is recounted periodically; submissions in between are added.
    """

    def __init__(self, repository: JobRepository, clock: Callable[[], float] = time.monotonic) -> None:
        self._repository = repository
        self._clock = clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    @asynccontextmanager
    async def reserve(
        self, caller: Caller, settings: Settings, size_bytes: int = 0, digest: str = ""
    ) -> AsyncIterator[None]:
        """Reserve storage for a recording while its job is created, also against the caller's concurrent uploads.

        Raises `StorageLimitReached` if this job would exceed the caller's limit.
        """
        if caller.sees_all:
            yield
            return
        account = self._account_of(caller.key_id)
        async with account.lock:
            await self._require_room(account, caller, settings, size_bytes, digest)
            account.pending += size_bytes
        try:
            yield
            account.stored += size_bytes
            account.created += 1
        finally:
            account.pending -= size_bytes

    async def _require_room(
        self, account: _Account, caller: Caller, settings: Settings, size_bytes: int, digest: str
    ) -> None:
        limit = settings.max_stored_bytes - size_bytes
        is_old = self._clock() - account.counted_at >= _RECOUNT_INTERVAL_S
        if is_old or account.stored + account.pending > limit:
            await self._recount(account, caller, digest)
        if account.stored + account.pending > limit:
            raise StorageLimitReached(
                f"the jobs of this API key take {account.stored} of {settings.max_stored_bytes} bytes"
            )

    async def _recount(self, account: _Account, caller: Caller, digest: str) -> None:
        """Count what is stored: again, if a job was created meanwhile, which may be missing."""
        created = -1
        while account.created != created:
            created, account.counted_at = account.created, self._clock()
            account.stored = await self._repository.stored_bytes(caller.key_id, besides=digest)

    def _account_of(self, key_id: str) -> _Account:
        account = self._accounts.setdefault(key_id, _Account())
        self._accounts.move_to_end(key_id)
        if len(self._accounts) > _MAX_CALLERS:
            self._accounts.popitem(last=False)
        return account
