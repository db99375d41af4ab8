"""A request id in every response under `/v1`, errors included: OpenAI's clients show it."""

from __future__ import annotations

from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPENAI_PREFIX = "/v1/"
"""OpenAI's endpoints."""
HEADER = "X-Request-Id"


class RequestIdMiddleware:
    """Adds the header `X-Request-Id`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http" or not scope["path"].startswith(OPENAI_PREFIX):
            await self._app(scope, receive, send)
            return

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = f"req_{uuid4().hex}"
            await send(message)

        await self._app(scope, receive, send_with_id)
