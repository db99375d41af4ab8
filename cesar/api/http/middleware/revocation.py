"""Ends responses that outlive the check of their caller's key when the key is revoked."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from starlette.requests import Request

from cesar.api.execution.backoff import retry_until_available
from cesar.api.http.dependencies import Service
from cesar.api.http.middleware.auth import Caller
from cesar.errors import Unauthorised

CHECK_INTERVAL_S = 0.8
"""How often a key is checked again; each result may be `api_keys.FRESH_S` old."""


class KeyValidity:
    """Whether a caller's key is still valid."""

    def __init__(self, check: Callable[[], Awaitable[bool]]) -> None:
        self._check = check
        self._checked_at = -math.inf

    async def require(self) -> None:
        """Raise `Unauthorised` if the key is no longer valid, from a check less than `CHECK_INTERVAL_S` old.

        Waits while the database is unavailable.
        """
        now = time.monotonic()
        if now - self._checked_at >= CHECK_INTERVAL_S:
            if not await retry_until_available(self._check):
                raise Unauthorised("the API key was revoked")
            self._checked_at = now

    async def wait_until_revoked(self) -> None:
        """Raise `Unauthorised` when the key is revoked."""
        while True:
            await self.require()
            await asyncio.sleep(CHECK_INTERVAL_S)


async def require_valid_key(request: Request, service: Service, caller: Caller) -> None:
    """Raise `Unauthorised` if a request's key was revoked while its body arrived, which may take hours."""
    if caller.key_id and await service.keys.find(_token_of(request)) is None:
        raise Unauthorised("the API key was revoked")


def key_validity(request: Request, service: Service, caller: Caller) -> KeyValidity | None:
    """Return the validity of a request's key; None for callers without one."""
    if not caller.key_id:
        return None
    token = _token_of(request)

    async def check() -> bool:
        return await service.keys.find(token) is not None

    return KeyValidity(check)


def _token_of(request: Request) -> str:
    return request.headers.get("Authorization", "").partition(" ")[2].strip()


async def until_revoked(
    parts: AsyncGenerator[bytes, None], validity: KeyValidity | None
) -> AsyncGenerator[bytes, None]:
    """Yield the parts of a response until the key is revoked; then raise `Unauthorised`.

    Each part waits for a recent check of the key, so this holds even if the machine is so busy that the watching task
    runs late.
    """
    async with aclosing(parts):
        revocation = None if validity is None else asyncio.create_task(validity.wait_until_revoked())
        try:
            while (part := await _next(parts, revocation)) is not None:
                if validity is not None:
                    await validity.require()
                yield part
        finally:
            if revocation is not None:
                await _cancel(revocation)


async def _next(parts: AsyncGenerator[bytes, None], revocation: asyncio.Task[None] | None) -> bytes | None:
    """Return the next part; None at the end. Raises what the other task raises, if that finishes first."""
    if revocation is None:
        return await anext(parts, None)
    next_part = asyncio.create_task(_anext(parts))
    try:
        await asyncio.wait({next_part, revocation}, return_when=asyncio.FIRST_COMPLETED)
        if revocation.done():
            revocation.result()
        return next_part.result()
    finally:
        await _cancel(next_part)


async def _anext(parts: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(parts, None)


async def _cancel(task: asyncio.Task[None] | asyncio.Task[bytes | None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
