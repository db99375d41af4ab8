"""Answers that outlive the moment at which their caller's key was looked up end when it is revoked."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from starlette.requests import Request

from cesar.api.execution.backoff import backoff
from cesar.api.http.dependencies import Service
from cesar.api.http.middleware.auth import Caller
from cesar.errors import DatabaseError, Unauthorised

ASK_EVERY_S = 0.8
"""So often it is asked whether a key still holds; the answer may be `keys.FRESH_S` old."""


class Welcome:
    """Whether a caller's key still holds."""

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self._ask = ask
        self._asked_at = -math.inf

    async def require(self) -> None:
        """Raise `Unauthorised` if it does not, by what was asked less than `ASK_EVERY_S` ago.

        While the database is away, it waits.
        """
        delays = backoff()
        while (now := time.monotonic()) - self._asked_at >= ASK_EVERY_S:
            try:
                holds = await self._ask()
            except DatabaseError:
                await asyncio.sleep(next(delays))
                continue
            if not holds:
                raise Unauthorised("the API key was revoked")
            self._asked_at = now
            return

    async def end(self) -> None:
        """Raise `Unauthorised` when the key is revoked."""
        while True:
            await self.require()
            await asyncio.sleep(ASK_EVERY_S)


def welcome_of(request: Request, service: Service, caller: Caller) -> Welcome | None:
    """Return what says whether the key of a request still holds; None for callers who need none."""
    if not caller.key_id:
        return None
    token = request.headers.get("Authorization", "").partition(" ")[2].strip()

    async def ask() -> bool:
        return await service.keys.find(token) is not None

    return Welcome(ask)


async def while_welcome(parts: AsyncGenerator[bytes, None], welcome: Welcome | None) -> AsyncGenerator[bytes, None]:
    """Give the parts of an answer. When the key is revoked, no other is given: raises `Unauthorised`.

    Each part waits until the key was asked for not long ago, so this holds also where the machine is so busy that the
    watch itself comes late.
    """
    async with aclosing(parts):
        ending = None if welcome is None else asyncio.create_task(welcome.end())
        try:
            while (part := await _next(parts, ending)) is not None:
                if welcome is not None:
                    await welcome.require()
                yield part
        finally:
            if ending is not None:
                await _finish(ending)


async def _next(parts: AsyncGenerator[bytes, None], ending: asyncio.Task[None] | None) -> bytes | None:
    """Give the next part; None at the end. Raises what the other task raises, if that is first."""
    if ending is None:
        return await anext(parts, None)
    coming = asyncio.create_task(_following(parts))
    try:
        await asyncio.wait({coming, ending}, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            ending.result()
        return coming.result()
    finally:
        await _finish(coming)


async def _following(parts: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(parts, None)


async def _finish(task: asyncio.Task[None] | asyncio.Task[bytes | None]) -> None:
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
