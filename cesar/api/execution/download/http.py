"""`open_response`: sends one request, to addresses resolved before, and translates errors into ours."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache

import httpx

from cesar.api.execution.download.address_policy import Address
from cesar.api.execution.download.head_limit import HeadLimit, LimitedTransport
from cesar.errors import FetchFailed, FetchRefused

_MAX_ADDRESSES = 4
_DISCONNECTS = ("Server disconnected", "peer closed connection", "peer unexpectedly closed connection")
"""Prefixes of httpx's messages about connections that closed early. Other protocol errors are permanent."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a server may take, in seconds."""

    connect_s: float = 10.0
    read_s: float = 30.0
    """How long a pause between two reads may last."""
    stall_s: float = 60.0
    """The time in which a response must begin, and `min_bytes` must arrive again and again."""
    min_bytes: int = 60 * 16 * 1024
    clock: Callable[[], float] = time.monotonic
    """The clock that measures `stall_s` while a response arrives."""


@asynccontextmanager
async def open_response(
    url: httpx.URL, addresses: Sequence[Address], headers: Mapping[str, str], timeouts: Timeouts
) -> AsyncIterator[httpx.Response]:
    """Request `url` from the first of these addresses that accepts a connection. Redirects are not followed.

    The host's name is still used in `Host` and for TLS, so the certificate must match it. No proxy and no cookies are
    used. Raises `FetchFailed` for errors while the response is read, and `FetchRefused` for what is not HTTP.
    """
    trusted = await asyncio.to_thread(_trusted_authorities)
    timeout = httpx.Timeout(timeouts.read_s, connect=timeouts.connect_s)
    limit = HeadLimit()
    transport = LimitedTransport(trusted, limit)
    with _translate_errors(url.host):
        async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout) as client:
            async with asyncio.timeout(timeouts.stall_s):
                response = await _first_response(client, url, addresses[:_MAX_ADDRESSES], headers)
            limit.is_lifted = True
            try:
                yield response
            finally:
                await response.aclose()


async def _first_response(
    client: httpx.AsyncClient, url: httpx.URL, addresses: Sequence[Address], headers: Mapping[str, str]
) -> httpx.Response:
    named_headers = {"Host": url.netloc.decode("ascii"), **headers}
    tls_name = {"sni_hostname": url.raw_host.decode("ascii").rstrip(".")}
    for address in addresses:
        direct_url = url.copy_with(host=str(address))
        request = client.build_request("GET", direct_url, headers=named_headers, extensions=tls_name)
        try:
            return await client.send(request, stream=True, follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if address == addresses[-1]:
                raise
    raise FetchFailed(f"{url.host} has no address")


@cache
def _trusted_authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()


@contextmanager
def _translate_errors(host: str) -> Iterator[None]:
    try:
        yield
    except (TimeoutError, httpx.TimeoutException):
        raise FetchFailed(f"{host} does not respond in time") from None
    except (httpx.InvalidURL, UnicodeError):  # httpx parses redirects even if it does not follow them
        raise _invalid_redirect(host) from None
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise FetchRefused(f"{host}: its certificate is not valid: {error}") from None
        raise FetchFailed(f"{host}: the connection failed: {error}") from None
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:
        if isinstance(error, httpx.RemoteProtocolError) and "location header" in str(error):
            raise _invalid_redirect(host) from None
        if isinstance(error, httpx.RemoteProtocolError) and not str(error).startswith(_DISCONNECTS):
            raise FetchRefused(f"{host}: its response is not valid HTTP: {error}") from None  # or too long
        raise FetchFailed(f"{host}: the connection broke: {error or type(error).__name__}") from None


def _invalid_redirect(host: str) -> FetchRefused:
    return FetchRefused(f"{host} redirects to an invalid address")
