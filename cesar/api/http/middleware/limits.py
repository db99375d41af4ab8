"""Rate limits, and the limit of request bodies other than recordings."""

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

MAX_CALLERS = 10_000
"""How many callers are remembered; the least recent are forgotten first."""
_MAX_BODY_BYTES = 1024**2
_BODY_TIMEOUT_S = 30.0
_UPLOAD_PATHS = frozenset({"/transcribe", "/v1/audio/transcriptions", "/v1/audio/translations"})
"""These stream the body, and have a limit of their own."""


class RateLimit:
    """Limits the requests a minute of each caller: a tenth of them may come as a burst.

    (Token bucket: Turner, "New directions in communications", IEEE Communications Magazine, 1986.)
    """

    def __init__(self, requests_per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = requests_per_minute / 60
        self._burst = max(1.0, requests_per_minute / 10)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """The tokens left to each caller and when they were counted; the most recent caller comes last."""

    def __len__(self) -> int:
        return len(self._buckets)

    def require(self, caller: str) -> None:
        """Count a request. Raises `TooManyRequests` with the time until the next may come."""
        now = self._clock()
        left, at = self._buckets.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_second)
        self._buckets[caller] = (left - 1 if left >= 1 else left, now)
        if len(self._buckets) > MAX_CALLERS:
            self._buckets.popitem(last=False)
        if left < 1:
            error = TooManyRequests("too many requests in a short time")
            error.retry_after_s = (1 - left) / self._per_second
            raise error


def client_network(host: str) -> str:
    """Return the key under which an address is limited: for IPv6 its /64 network, as one client has many addresses.

    "" for a host that is not an address, as a proxy may send: all such callers share one limit.

    >>> client_network("2001:db8:1:2:3:4:5:6"), client_network("::ffff:192.0.2.1"), client_network("192.0.2.1")
    ('2001:db8:1:2::', '192.0.2.1', '192.0.2.1')
    """
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    if not isinstance(address, IPv6Address):
        return host
    return str(address.ipv4_mapped or ip_network((int(address), 64), strict=False).network_address)


class BodyLimitMiddleware:
    """Refuses bodies of more than 1 MiB, or that take more than 30 s, where no recording is expected."""

    def __init__(self, app: ASGIApp, timeout_s: float = _BODY_TIMEOUT_S) -> None:
        self._app = app
        self._timeout_s = timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http" or scope["path"] in _UPLOAD_PATHS:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("Content-Length", "0")
        if declared.isdecimal() and int(declared[:20]) > _MAX_BODY_BYTES:
            raise _too_large()
        arrived, is_complete = 0, False
        deadline = asyncio.get_running_loop().time() + self._timeout_s

        async def receive_limited() -> Message:
            nonlocal arrived, is_complete
            if is_complete:  # only a disconnect can follow
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyStalled(f"the body did not arrive within {self._timeout_s:g} s") from None
            arrived += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if arrived > _MAX_BODY_BYTES:
                raise _too_large()
            return message

        await self._app(scope, receive_limited, send)


def _too_large() -> HTTPException:
    # Starlette's exception, not ours: the framework lets only its own pass while it reads a body.
    return HTTPException(413, f"the request body has more than {_MAX_BODY_BYTES} bytes")
