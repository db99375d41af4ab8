"""`KeepAliveResponse`: a response that may take long, over a connection that is kept alive meanwhile.

The status is undecided until the first part, or the first keep-alive bytes, are sent: errors before that get an
ordinary error response.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cesar.api.http import errors
from cesar.api.http.openai.errors import NO_RETRY
from cesar.errors import CesarError, DatabaseError, JobNotFound, ServiceError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResponseMode:
    """How a response is sent."""

    media_type: str
    is_single_part: bool = True
    """Whether there is only one part, so that its length is known."""
    keep_alive_bytes: bytes | None = None
    """Meaningless bytes that keep the connection alive; None: the format has none, and the client waits in silence."""
    encode_failure: Callable[[Request, CesarError], bytes] | None = None
    """Encodes a failure after the response has started; None: it can't, and the connection is closed."""


class KeepAliveResponse(Response):
    """Sends parts as they come. Stops waiting when the client disconnects; the job continues."""

    def __init__(
        self, parts: AsyncGenerator[bytes, None], mode: ResponseMode, headers: Mapping[str, str], keep_alive_s: float
    ) -> None:
        super().__init__(headers=headers, media_type=mode.media_type)
        del self.headers["Content-Length"]
        self._own_headers = headers
        self._parts = parts
        self._mode = mode
        self._keep_alive_s = keep_alive_s if mode.keep_alive_bytes is not None else None
        self._has_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response (ASGI)."""
        disconnect = asyncio.create_task(_until_disconnect(receive))
        try:
            async with aclosing(self._parts):
                while (part := await self._next(disconnect, send)) is not None and not disconnect.done():
                    await self._send(send, part)
            if not disconnect.done():
                await self._send(send, b"", is_last=True)
        except CesarError as error:
            await self._fail(error, scope, receive, send)
        finally:
            await _cancel(disconnect)
        if disconnect.done() and not disconnect.cancelled():
            _log.info("a client disconnected; its job continues")

    async def _next(self, disconnect: asyncio.Task[None], send: Send) -> bytes | None:
        """Return the next part when it comes; None at the end, or if the client has gone."""
        next_part = asyncio.create_task(_anext(self._parts))
        try:
            while not (next_part.done() or disconnect.done()):
                await asyncio.wait(
                    {next_part, disconnect}, timeout=self._keep_alive_s, return_when=asyncio.FIRST_COMPLETED
                )
                if not (next_part.done() or disconnect.done()):
                    await self._send(send, self._mode.keep_alive_bytes or b"")
            return None if disconnect.done() else next_part.result()
        finally:
            await _cancel(next_part)

    async def _send(self, send: Send, part: bytes, *, is_last: bool = False) -> None:
        if not self._has_started:
            self._has_started = True
            self.headers.update(self._own_headers)  # the first part may have added headers
            if self._mode.is_single_part and part != self._mode.keep_alive_bytes:
                self.headers["Content-Length"] = str(len(part))
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": part, "more_body": not is_last})

    async def _fail(self, error: CesarError, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if not self._has_started:
            response = errors.error_response(request, error)
            response.headers.update(self._own_headers)
            if not _is_transient(error):
                response.headers.update(NO_RETRY)
            await response(scope, receive, send)
        elif self._mode.encode_failure is not None:
            await self._send(send, self._mode.encode_failure(request, error), is_last=True)
        else:  # the client sees a truncated response, retries, and then gets the error
            _log.info("a response was cut off, as its job failed: %s", error.code)


def _is_transient(error: CesarError) -> bool:
    """Whether the same request may succeed soon. A failed job has been retried as often as makes sense."""
    return isinstance(error, (DatabaseError, JobNotFound, ServiceError))


async def _anext(parts: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(parts, None)


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(task: asyncio.Task[object] | asyncio.Task[None]) -> None:
    """Cancel a task whose outcome has been seen or no longer matters."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
