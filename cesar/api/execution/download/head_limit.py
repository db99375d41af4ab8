"""`HeadLimit`: how many bytes a server may send before the body of its response.

httpcore limits each header block, but skips any number of interim responses (`100 Continue` and the like, RFC 9110,
15.2). A server that sends nothing else would keep the event loop parsing them, and every other client waiting.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

MAX_HEAD_BYTES = 64 * 1024
"""Maximum size of all interim responses and the final headers. Web servers and browsers allow less."""
_READ_BYTES = 4096
"""Maximum size of a read before the body, so that the event loop can serve others in between."""


@dataclass(slots=True)
class HeadLimit:
    """The number of bytes still allowed before the body."""

    bytes_left: int = MAX_HEAD_BYTES
    is_lifted: bool = False
    """Whether the body has begun, which is not limited here."""

    def count(self, size: int) -> None:
        """Count received bytes. Raises `httpcore.RemoteProtocolError` if there are too many."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise httpcore.RemoteProtocolError(f"more than {MAX_HEAD_BYTES} bytes before its body")


class LimitedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over limited connections, for one response."""

    def __init__(self, trusted: ssl.SSLContext, limit: HeadLimit) -> None:
        super().__init__(verify=trusted, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(ssl_context=trusted, network_backend=_Network(limit))


class _Network(httpcore.AnyIOBackend):
    """Opens limited connections."""

    def __init__(self, limit: HeadLimit) -> None:
        self._limit = limit

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        opened = await super().connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(opened, self._limit)


class _Stream(httpcore.AsyncNetworkStream):
    """A limited connection, with or without TLS."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, limit: HeadLimit) -> None:
        self._stream = stream
        self._limit = limit

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._limit.is_lifted:
            return await self._stream.read(max_bytes, timeout)
        content = await self._stream.read(min(max_bytes, _READ_BYTES), timeout)
        self._limit.count(len(content))
        return content

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout), self._limit)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
