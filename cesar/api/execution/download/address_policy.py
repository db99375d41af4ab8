"""From where recordings may be fetched: which addresses are taken, and what a host's name stands for.

A name is looked up once, and all that it stands for must be allowed. Who connects does so to what was looked up, never
to the name, so that no second answer can lead elsewhere (DNS rebinding).
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
"""Gives the addresses that a host and port stand for. Raises `socket.gaierror`."""
MAX_URL_LENGTH = 2048
_DEFAULT_PORTS = {"http": 80, "https": 443}
_FREE_PORTS = range(1024, 65536)
_RESOLVE_TIMEOUT_S = 10.0
_NAT64 = IPv6Network("64:ff9b::/96")
"""Where networks without IPv4 reach it (RFC 6052): its last 32 bits are the address meant."""


def is_public(address: Address) -> bool:
    """Whether anybody on the internet can reach it; of an IPv4 address inside of an IPv6 one, whether that is so.

    >>> is_public(ip_address("9.9.9.9")), is_public(ip_address("::ffff:127.0.0.1"))
    (True, False)
    """
    return all(_is_public(meant) for meant in _embedded_addresses(address))


def is_usual_port(port: int) -> bool:
    """Whether a web server may well listen there: 80, 443, or one above 1023; below are mail, DNS and their like."""
    return port in _DEFAULT_PORTS.values() or port in _FREE_PORTS


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What may be connected to."""

    allows_address: Callable[[Address], bool]
    allows_port: Callable[[int], bool]


PUBLIC = AddressPolicy(is_public, is_usual_port)
ANYWHERE = AddressPolicy(lambda _address: True, lambda port: 0 < port < 65536)


def policy_from(settings: Settings) -> AddressPolicy:
    """Say what the settings allow to be connected to."""
    return ANYWHERE if settings.allow_private_urls else PUBLIC


def require_address(url: str, policy: AddressPolicy = PUBLIC) -> None:
    """Raise `AddressRefused` unless recordings may be fetched from there, as far as can be told without a network.

    It must be http or https, name a host and no user, and be of 2048 letters at most. A name is not looked up here,
    so it may still be refused when it is (`resolve_allowed`).
    """
    if len(url) > MAX_URL_LENGTH:
        raise AddressRefused(f"the address has {len(url)} letters, more than {MAX_URL_LENGTH}")
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in url):
        raise AddressRefused("the address has a blank, a backslash or a control character in it")
    try:
        parsed = httpx.URL(url)
        host = parsed.host  # decoded only here: a name that begins with xn-- may be no name at all
    except (httpx.InvalidURL, ValueError) as error:
        raise AddressRefused(f"the address can't be read: {error}") from None
    if parsed.scheme not in _DEFAULT_PORTS:
        raise AddressRefused(f"the address begins with {parsed.scheme!r}, not with http or https")
    if not host:
        raise AddressRefused("the address names no host")
    if parsed.userinfo:
        raise AddressRefused(f"the address has a user's name before {host}", hint="Leave out what is before @.")
    if not policy.allows_port(port_of(parsed)):
        raise AddressRefused(f"{host}: no recording is fetched from port {port_of(parsed)}")
    literal = _literal(host)
    if literal is not None:
        _require_allowed(host, literal, policy)


async def resolve_allowed(url: httpx.URL, policy: AddressPolicy, resolve: Resolver) -> tuple[Address, ...]:
    """Look a host up, once; give all that it stands for, at least one.

    Raises `AddressRefused` if any of them is not allowed, `FetchRefused` if there is no such host, and `FetchFailed`
    if the lookup fails for now.
    """
    try:
        async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
            answers = await resolve(url.raw_host.decode("ascii"), port_of(url))
    except TimeoutError:
        raise FetchFailed(f"{url.host}: its address could not be found in time") from None
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise FetchRefused(f"there is no host {url.host}", hint="Check the address.") from None
        raise FetchFailed(f"{url.host}: its address could not be found: {error.strerror}") from None
    except UnicodeError:  # a name that DNS can't have
        raise AddressRefused(f"there can be no host {url.host}") from None
    found = tuple(ip_address(answer) for answer in answers)
    if not found:
        raise FetchFailed(f"{url.host}: it has no address")
    for address in found:
        _require_allowed(url.host, address, policy)
    return found


def port_of(url: httpx.URL) -> int:
    """Give the port that is meant, also where none is written."""
    return _DEFAULT_PORTS[url.scheme] if url.port is None else url.port


def _require_allowed(host: str, address: Address, policy: AddressPolicy) -> None:
    if not policy.allows_address(address):
        raise AddressRefused(f"{host} is not on the public internet")  # where it is, is nobody's business


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _embedded_addresses(address: Address) -> tuple[Address, ...]:
    """Give the addresses that one in IPv6's clothes leads to: IPv4-mapped, NAT64, 6to4, Teredo (server and client)."""
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
