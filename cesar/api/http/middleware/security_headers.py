"""What every answer carries for safety, which web sites may call, and answers to HEAD."""

from __future__ import annotations

from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cesar.settings.config import Settings

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""An answer that says otherwise itself keeps its own."""


class SafeHeaders:
    """Adds the headers to whatever is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""

        async def send_safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_safe if scope["type"] == "http" else send)


class HeadAsGet:
    """Answers HEAD as GET would be answered, without what comes after the headers, which is not even made."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        asked = {**scope, "method": "GET"}

        async def send_headers(message: Message) -> None:
            scope.update({name: asked[name] for name in asked.keys() & {"route"}})  # the layers around count by it
            await send(message)
            if message["type"] == "http.response.start":
                await send({"type": "http.response.body"})
                raise _HeadersSentError

        with suppress(_HeadersSentError):
            await self._app(asked, receive, send_headers)


class _HeadersSentError(Exception):
    """Nothing else of this answer is wanted."""


def add_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Let the pages of the sites in the settings call, if there are any."""
    if not settings.cors_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID"],
        expose_headers=[
            "Location",
            "Retry-After",
            "X-Cesar-Job",
            "X-Cesar-Warnings",
            "X-Cesar-Partial",
            "X-Request-Id",
            "ETag",
            "Content-Range",
            "Content-Disposition",
        ],
    )
