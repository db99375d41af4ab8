"""From where recordings may be fetched: which addresses are allowed, and how host names are resolved.

A name is resolved once, and all its addresses must be allowed. Connections go to the resolved addresses, never to the
name, so that a second answer can't lead elsewhere (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

from cesar.errors import AddressRefused, FetchFailed, FetchRefused
from cesar.settings.config import Settings

Address = IPv4Address | IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host and port. Raises `socket.gaierror`."""
MAX_URL_LENGTH = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FREE_PORTS = range(1024, 65536)
_RESOLVE_TIMEOUT_S = 10.0
_NAT64 = IPv6Network("64:ff9b::/96")
"""How networks without IPv4 reach it (RFC 6052): the last 32 bits are the IPv4 address."""


def is_public(address: Address) -> bool:
    """Whether an address is on the public internet, including every IPv4 address embedded in an IPv6 address.

    >>> is_public(ip_address("9.9.9.9")), is_public(ip_address("::ffff:127.0.0.1"))
    (True, False)
    """
    return all(_is_public(embedded) for embedded in _embedded_addresses(address))


def is_usual_port(port: int) -> bool:
    """Whether a port is usual for a web server: 80, 443, or above 1023; mail, DNS and the like are below."""
    return port in _DEFAULT_PORTS.values() or port in _FREE_PORTS


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """Which addresses and ports may be connected to."""

    allows_address: Callable[[Address], bool]
    allows_port: Callable[[int], bool]


PUBLIC = AddressPolicy(is_public, is_usual_port)
ANYWHERE = AddressPolicy(lambda _address: True, lambda port: 0 < port < 65536)


def policy_from(settings: Settings) -> AddressPolicy:
    """Return the policy that the settings define."""
    return ANYWHERE if settings.allow_private_urls else PUBLIC


def require_address(url: str, policy: AddressPolicy = PUBLIC) -> None:
    """Raise `AddressRefused` unless recordings may be fetched from a URL, as far as it shows without a network.

    It must be http or https, have a host but no user, and at most 2048 characters. A name is not resolved here, so it
    may still be refused by `resolve_allowed`.
    """
    if len(url) > MAX_URL_LENGTH:
        raise AddressRefused(f"the address has {len(url)} characters, more than {MAX_URL_LENGTH}")
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        raise AddressRefused("the address contains a space, a backslash or a control character")
    try:
        parsed = httpx.URL(url)
        host = parsed.host  # decoded only here: a name that begins with xn-- may be invalid
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefused(f"the address can't be parsed: {error}") from None
    if parsed.scheme not in _DEFAULT_PORTS:
        raise AddressRefused(f"the address begins with {parsed.scheme!r}, not with http or https")
    if not host:
        raise AddressRefused("the address has no host")
    if parsed.userinfo:
        raise AddressRefused(f"the address has a user name before {host}", hint="Leave out what is before @.")
    if not policy.allows_port(port_of(parsed)):
        raise AddressRefused(f"{host}: recordings can't be fetched from port {port_of(parsed)}")
    literal = _literal(host)
    if literal is not None:
        _require_allowed(host, literal, policy)


async def resolve_allowed(url: httpx.URL, policy: AddressPolicy, resolve: Resolver) -> tuple[Address, ...]:
    """Resolve a host, once; return all its addresses, at least one.

    Raises `AddressRefused` if any of them is not allowed, `FetchRefused` if there is no such host, and `FetchFailed`
    if the lookup fails for now.
    """
    try:
        async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
            answers = await resolve(url.raw_host.decode("ascii"), port_of(url))
    except TimeoutError:
        raise FetchFailed(f"{url.host}: name resolution timed out") from None
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise FetchRefused(f"there is no host {url.host}", hint="Check the address.") from None
        raise FetchFailed(f"{url.host}: name resolution failed: {error.strerror}") from None
    except UnicodeError:  # an invalid DNS name
        raise AddressRefused(f"{url.host} is not a valid host name") from None
    found = tuple(ip_address(answer) for answer in answers)
    if not found:
        raise FetchFailed(f"{url.host} has no address")
    for address in found:
        _require_allowed(url.host, address, policy)
    return found


def port_of(url: httpx.URL) -> int:
    """Return the port of a URL, by default that of its scheme."""
    return _DEFAULT_PORTS[url.scheme] if url.port is None else url.port


def _require_allowed(host: str, address: Address, policy: AddressPolicy) -> None:
    if not policy.allows_address(address):
        raise AddressRefused(f"{host} is not on the public internet")  # don't reveal where it is


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _embedded_addresses(address: Address) -> tuple[Address, ...]:
    """Return the addresses embedded in an IPv6 address: IPv4-mapped, NAT64, 6to4, Teredo (server and client)."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address in _NAT64:
        return (IPv4Address(int(address) & 0xFFFF_FFFF),)
    inner = address.ipv4_mapped or address.sixtofour
    return (inner,) if inner is not None else address.teredo or (address,)


def _is_public(address: Address) -> bool:
    is_special = (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or (isinstance(address, IPv6Address) and address.is_site_local)
    )
    return address.is_global and not is_special
