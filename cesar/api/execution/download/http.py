"""`open_response`: asks one server, at addresses that were looked up before, and tells in our words what goes wrong."""

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
"""How httpx begins what it says of answers that end early. Any other breach of the protocol won't pass by itself."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a server may take, in seconds."""

    connect_s: float = 10.0
    read_s: float = 30.0
    """How long nothing may arrive."""
    stall_s: float = 60.0
    """In that time an answer must begin, and then `min_bytes` arrive each time."""
    min_bytes: int = 60 * 16 * 1024
    clock: Callable[[], float] = time.monotonic
    """What `stall_s` is measured by, while an answer comes."""


@asynccontextmanager
async def open_response(
    url: httpx.URL, addresses: Sequence[Address], headers: Mapping[str, str], timeouts: Timeouts
) -> AsyncIterator[httpx.Response]:
    """Ask for what is at `url`, at the first of these addresses that can be connected to. Nothing is redirected.

    The server keeps its name, in `Host` and for TLS: its certificate must be for that. No proxy and no cookies are
    used. Raises `FetchFailed` for what breaks while the response is read, `FetchRefused` for what is not HTTP.
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
    named = {"Host": url.netloc.decode("ascii"), **headers}
    tls_name = {"sni_hostname": url.raw_host.decode("ascii").rstrip(".")}
    for address in addresses:
        direct_url = url.copy_with(host=str(address))
        request = client.build_request("GET", direct_url, headers=named, extensions=tls_name)
        try:
            return await client.send(request, stream=True, follow_redirects=False)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            if address == addresses[-1]:
                raise
    raise FetchFailed(f"{url.host}: it has no address")


@cache
def _trusted_authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()


@contextmanager
def _translate_errors(host: str) -> Iterator[None]:
    try:
        yield
    except (TimeoutError, httpx.TimeoutException):
        raise FetchFailed(f"{host}: it does not answer in time") from None
    except (httpx.InvalidURL, UnicodeError):  # httpx reads where an answer leads, also if it is not to follow
        raise _invalid_redirect(host) from None
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise FetchRefused(f"{host}: its certificate is not valid: {error}") from None
        raise FetchFailed(f"{host}: there is no connection to it: {error}") from None
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:
        if isinstance(error, httpx.RemoteProtocolError) and "location header" in str(error):
            raise _invalid_redirect(host) from None
        if isinstance(error, httpx.RemoteProtocolError) and not str(error).startswith(_DISCONNECTS):
            raise FetchRefused(f"{host}: its answer is not valid HTTP: {error}") from None  # or its headers have no end
        raise FetchFailed(f"{host}: the connection broke: {error or type(error).__name__}") from None


def _invalid_redirect(host: str) -> FetchRefused:
    return FetchRefused(f"{host}: it redirects to what is no address")
