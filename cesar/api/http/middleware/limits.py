"""How often each caller may ask, and how much they may send where no recording is expected."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cesar.errors import BodyStalled, TooManyRequests

MOST_CALLERS = 10_000
"""So many are remembered; who has not come for longest is forgotten first."""
_MOST_BYTES = 1024**2
_SMALL_BODY_WITHIN_S = 30.0
_FOR_RECORDINGS = frozenset({"/transcribe", "/v1/audio/transcriptions", "/v1/audio/translations"})
"""These read what is sent piece by piece, under a limit of their own."""


class RateLimit:
    """Lets each caller make so many requests a minute: a tenth of them at once, the rest evenly.

    (Token bucket: Turner, "New directions in communications", IEEE Communications Magazine, 1986.)
    """

    def __init__(self, requests_per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = requests_per_minute / 60
        self._burst = max(1.0, requests_per_minute / 10)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """What is left of each caller's burst, and when that was so; who came last is at the end."""

    def __len__(self) -> int:
        return len(self._buckets)

    def require(self, caller: str) -> None:
        """Count a request. Raises `TooManyRequests` with the time after which there is room again."""
        now = self._clock()
        left, at = self._buckets.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        self._buckets[caller] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        if left < 1:
            error = TooManyRequests("too many requests in a short time")
            error.retry_after_s = (1 - left) / self._per_second
            raise error


def address_of(host: str) -> str:
    """Give what a caller's address counts as: of IPv6 the network, as everybody has many addresses in one.

    "" for what is no address, as a proxy may send: all such callers are one.

    >>> address_of("2001:db8:1:2:3:4:5:6"), address_of("::ffff:192.0.2.1"), address_of("192.0.2.1")
    ('2001:db8:1:2::', '192.0.2.1', '192.0.2.1')
    """
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    if not isinstance(address, IPv6Address):
        return host
    return str(address.ipv4_mapped or ip_network((int(address), 64), strict=False).network_address)


class SmallBodies:
    """Refuses a body of more than 1 MiB, or of more than 30 s, where no recording is expected, without keeping it."""

    def __init__(self, app: ASGIApp, within_s: float = _SMALL_BODY_WITHIN_S) -> None:
        self._app = app
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http" or scope["path"] in _FOR_RECORDINGS:
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("Content-Length", "0")
        if announced.isdecimal() and int(announced[:20]) > _MOST_BYTES:
            raise _too_large()
        arrived, is_whole = 0, False
        deadline = asyncio.get_running_loop().time() + self._within_s

        async def receive_some() -> Message:
            nonlocal arrived, is_whole
            if is_whole:  # all that can come is that the caller goes
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyStalled(f"the body did not arrive within {self._within_s:g} s") from None
            arrived += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if arrived > _MOST_BYTES:
                raise _too_large()
            return message

        await self._app(scope, receive_some, send)


def _too_large() -> HTTPException:
    # Not an error of ours: the framework passes on its own kind only from where it reads a body.
    return HTTPException(413, f"the request has more than {_MOST_BYTES} bytes")
