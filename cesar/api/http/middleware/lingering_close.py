"""Lets a client hear an answer that comes before it has sent all, such as that its upload is too large.

Whoever closes a connection with bytes on it that were not read resets it, and the client may lose the answer that was
on its way (RFC 9112, section 9.6). So the answer is sent, what still comes is read and dropped for a while, and only
then is the connection closed. Nothing else may come on it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LINGER_S = 2.0
_LINGER_BYTES = 16 * 2**20
"""More than can be on its way: who still sends does not listen."""
_END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class Parting:
    """Ends requests so whose body was not read to its end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] == "http" and _has_body(Headers(scope=scope)):
            await _Exchange(receive, send).serve(self._app, scope)
        else:
            await self._app(scope, receive, send)


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_read = False
        self._breaks_off = False

    async def serve(self, app: ASGIApp, scope: Scope) -> None:
        await app(scope, self._read, self._answer)

    async def _read(self) -> Message:
        message = await self._receive()
        self._is_read = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def _answer(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self._is_read:
            self._breaks_off = True
            MutableHeaders(scope=message)["Connection"] = "close"
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if not (is_last and self._breaks_off):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                await self._drop()
        await self._send(_END)

    async def _drop(self) -> None:
        dropped = 0
        while not self._is_read and dropped < _LINGER_BYTES:
            message = await self._read()
            dropped += len(message.get("body", b""))


def _has_body(headers: Headers) -> bool:
    return headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers
