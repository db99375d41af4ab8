"""Protects a service without keys from web pages: a browser lets any page send requests to it.

Requests from pages of other sites are refused (Fetch Metadata, https://www.w3.org/TR/fetch-metadata/, and `Origin`),
and so are host names that an attacker's name server may point here (DNS rebinding: Jackson et al., ACM CCS 2007).
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cesar.errors import NotPermitted
from cesar.settings.config import Settings


class SameOriginMiddleware:
    """Refuses cross-origin requests and unknown host names. Raises `NotPermitted`."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._origins = frozenset(settings.cors_origins)
        self._hosts = frozenset({settings.host, *(urlsplit(origin).hostname or "" for origin in self._origins)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request (ASGI)."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            self._require_known_host(headers.get("Host", ""))
            self._require_same_origin(scope["method"], headers)
        await self._app(scope, receive, send)

    def _require_known_host(self, host: str) -> None:
        name = hostname_of(host)
        if name not in self._hosts and not cannot_be_rebound(name):
            raise NotPermitted(
                f"the service is not called {host[:100]!r}",
                hint="Use localhost or its address, add the name's origin to `cors_origins`, or have it require "
                "keys (`require_key`).",
            )

    def _require_same_origin(self, method: str, headers: Headers) -> None:
        origin = headers.get("Origin")
        if origin is not None:
            is_cross_origin = origin not in self._origins and origin.partition("://")[2] != headers.get("Host")
        else:
            is_cross_origin = headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
            is_cross_origin = is_cross_origin and not _is_link_navigation(method, headers)
        if is_cross_origin:
            raise NotPermitted(
                "pages of other web sites may not use the service", hint="Add its origin to `cors_origins`."
            )


def hostname_of(host: str) -> str:
    """Return the name or address in a Host header, without the port; "" if there is none.

    >>> hostname_of("LocalHost:5000"), hostname_of("[::1]:5000")
    ('localhost', '::1')
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def cannot_be_rebound(name: str) -> bool:
    """Whether no public name server answers for a name: an address, or a name without a dot.

    >>> [cannot_be_rebound(name) for name in ("127.0.0.1", "::1", "localhost", "localhost.evil.example")]
    [True, True, True, False]
    """
    try:
        ip_address(name)
    except ValueError:
        return bool(name) and ("." not in name or name.endswith(".localhost"))
    return True


def _is_link_navigation(method: str, headers: Headers) -> bool:
    """Whether the user follows a link: the page that has it learns nothing of the response."""
    return (
        method in ("GET", "HEAD")
        and headers.get("Sec-Fetch-Mode") == "navigate"
        and (headers.get("Sec-Fetch-Dest") == "document")
    )
