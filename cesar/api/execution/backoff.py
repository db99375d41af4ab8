"""Delays between retries, and retrying while the database is unavailable."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from cesar.errors import DatabaseError

T = TypeVar("T")


def backoff(initial_s: float = 0.1, max_s: float = 5.0) -> Iterator[float]:
    """Yield endless delays that double up to `max_s`, with jitter, so that many clients don't retry at once.

    (Full jitter: Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015; here from a half up.)
    """
    delay_s = initial_s
    while True:
        yield delay_s * random.uniform(0.5, 1)  # noqa: S311 - no secret
        delay_s = min(2 * delay_s, max_s)


async def retry_until_available(
    call: Callable[[], Awaitable[T]], report: Callable[[Exception], None] | None = None
) -> T:
    """Call, and call again while the database is unavailable. Each such error is reported."""
    delays = backoff()
    while True:
        try:
            return await call()
        except DatabaseError as error:
            if report is not None:
                report(error)
            await asyncio.sleep(next(delays))
