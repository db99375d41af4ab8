"""Security headers, CORS, and responses to HEAD."""

from __future__ import annotations

from contextlib import suppress

from starlette.datastructures import MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cesar.settings.config import Settings

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Defaults: a response's own values win."""


class SecurityHeadersMiddleware:
    """Adds the security headers to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class HeadMiddleware:
    """Serves HEAD as GET, and stops the endpoint once it has sent the headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        get_scope = {**scope, "method": "GET"}

        async def send_headers(message: Message) -> None:
            scope.update(
                {name: get_scope[name] for name in get_scope.keys() & {"route"}}
            )  # the outer middleware counts requests by route
            await send(message)
            if message["type"] == "http.response.start":
                await send({"type": "http.response.body"})
                raise _HeadersSentError

        with suppress(_HeadersSentError):
            await self._app(get_scope, receive, send_headers)


class _HeadersSentError(Exception):
    """Stops the endpoint: the rest of the response is not needed."""


def add_cors(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Add CORS for the origins in the settings, if there are any."""
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
