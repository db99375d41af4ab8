"""Delivers responses that are sent before the request body has been read, such as that an upload is too large.

Closing a connection with unread bytes resets it, and the client may lose the response that was on its way (RFC 9112,
section 9.6). So the response is sent, what still arrives is read and discarded for a while, and only then is the
connection closed. It takes no further requests.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LINGER_S = 2.0
_LINGER_BYTES = 16 * 2**20
"""More than can be in flight: a client that still sends does not listen."""
_END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class LingeringCloseMiddleware:
    """Lingers before closing where the request body was not read to its end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] == "http" and _has_body(Headers(scope=scope)):
            await _Exchange(receive, send).serve(self._app, scope)
        else:
            await self._app(scope, receive, send)


class _Exchange:
    """One request and its response."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_body_read = False
        self._closes_early = False

    async def serve(self, app: ASGIApp, scope: Scope) -> None:
        await app(scope, self._read, self._respond)

    async def _read(self) -> Message:
        message = await self._receive()
        self._is_body_read = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def _respond(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._is_body_read:
            self._closes_early = True
            MutableHeaders(scope=message)["Connection"] = "close"
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (is_last and self._closes_early):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                await self._discard()
        await self._send(_END)

    async def _discard(self) -> None:
        discarded = 0
        while not self._is_body_read and discarded < _LINGER_BYTES:
            message = await self._read()
            discarded += len(message.get("body", b""))


def _has_body(headers: Headers) -> bool:
    return headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers
