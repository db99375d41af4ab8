"""`LongAnswer`: an answer that may be long in coming, over a connection that nobody is to take for dead.

Until the first part is there, or something has to be sent to keep the connection alive, the status is open: what goes
wrong by then is answered as any error is.
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
from cesar.api.http.openai.errors import NOT_AGAIN
from cesar.errors import CesarError, DatabaseError, JobNotFound, ServiceError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Manner:
    """How an answer is given."""

    media_type: str
    is_whole: bool = True
    """Whether there is one part only, so that its length can be told."""
    filler: bytes | None = None
    """What keeps the connection alive and means nothing; None: there is no such thing, and the answer comes late."""
    write_failure: Callable[[Request, CesarError], bytes] | None = None
    """How an answer that has begun tells that it fails; None: it can't, and the connection is cut."""


class LongAnswer(Response):
    """Sends parts as they come. When the caller goes, no part is waited for any more; the job goes on."""

    def __init__(
        self, parts: AsyncGenerator[bytes, None], manner: Manner, headers: Mapping[str, str], keep_alive_s: float
    ) -> None:
        super().__init__(headers=headers, media_type=manner.media_type)
        del self.headers["Content-Length"]
        self._own_headers = headers
        self._parts = parts
        self._manner = manner
        self._keep_alive_s = keep_alive_s if manner.filler is not None else None
        self._has_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer (ASGI)."""
        leaving = asyncio.create_task(_until_gone(receive))
        try:
            async with aclosing(self._parts):
                while (part := await self._next(leaving, send)) is not None and not leaving.done():
                    await self._send(send, part)
            if not leaving.done():
                await self._send(send, b"", is_last=True)
        except CesarError as error:
            await self._fail(error, scope, receive, send)
        finally:
            await _end(leaving)
        if leaving.done() and not leaving.cancelled():
            _log.info("a caller broke off; their job goes on")

    async def _next(self, leaving: asyncio.Task[None], send: Send) -> bytes | None:
        """Give the next part when it comes; None at the end, or if the caller is gone."""
        coming = asyncio.create_task(_following(self._parts))
        try:
            while not (coming.done() or leaving.done()):
                await asyncio.wait({coming, leaving}, timeout=self._keep_alive_s, return_when=asyncio.FIRST_COMPLETED)
                if not (coming.done() or leaving.done()):
                    await self._send(send, self._manner.filler or b"")
            return None if leaving.done() else coming.result()
        finally:
            await _end(coming)

    async def _send(self, send: Send, part: bytes, *, is_last: bool = False) -> None:
        if not self._has_begun:
            self._has_begun = True
            self.headers.update(self._own_headers)  # the first part may have brought more of them
            if self._manner.is_whole and part != self._manner.filler:
                self.headers["Content-Length"] = str(len(part))
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": part, "more_body": not is_last})

    async def _fail(self, error: CesarError, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if not self._has_begun:
            answer = errors.answer(request, error)
            answer.headers.update(self._own_headers)
            if not _may_pass(error):
                answer.headers.update(NOT_AGAIN)
            await answer(scope, receive, send)
        elif self._manner.write_failure is not None:
            await self._send(send, self._manner.write_failure(request, error), is_last=True)
        else:  # without its end the answer is broken: the caller asks again, and then the status is open
            _log.info("an answer is cut off, as its job has failed: %s", error.code)


def _may_pass(error: CesarError) -> bool:
    """Whether the same request may well succeed soon. A job that failed was tried as often as makes sense."""
    return isinstance(error, (DatabaseError, JobNotFound, ServiceError))


async def _following(parts: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(parts, None)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(task: asyncio.Task[object] | asyncio.Task[None]) -> None:
    """End a task, whose outcome has been seen or does not matter any more."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
