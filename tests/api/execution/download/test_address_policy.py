"""From where recordings may be fetched: no address leads into a private network, however it is written."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from unittest.mock import patch

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.api.execution.download.address_policy import (
    ANYWHERE,
    PUBLIC,
    is_public,
    require_address,
    resolve_allowed,
)
from cesar.api.execution.download.resolver import resolve
from cesar.errors import AddressRefused, FetchFailed, FetchRefused


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.255.255",
        "198.18.0.1",
        "192.0.2.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "2001:0:7f00:1:8000:63bf:3fff:fdd2",
    ],
)
def test_an_address_of_a_private_or_special_network_is_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize(
    "address", ["9.9.9.9", "100.63.255.255", "2620:fe::9", "::ffff:9.9.9.9", "64:ff9b::909:909", "2002:909:909::1"]
)
def test_a_globally_reachable_address_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_embedded_in_ipv6_is_as_public_as_itself(address: IPv4Address) -> None:
    number = int(address)
    mapped, nat64 = IPv6Address((0xFFFF << 32) | number), IPv6Address((0x64FF9B << 96) | number)
    six_to_four = IPv6Address((0x2002 << 112) | (number << 80) | 1)
    assert {is_public(clothed) for clothed in (mapped, nat64, six_to_four)} == {is_public(address)}


@given(st.ip_addresses(v=4), st.ip_addresses(v=4))
def test_a_teredo_address_is_public_if_its_server_and_its_client_are(server: IPv4Address, client: IPv4Address) -> None:
    assert is_public(teredo(server, client)) == (is_public(server) and is_public(client))


@pytest.mark.parametrize(
    ("server", "client", "expected"),
    [
        ("9.9.9.9", "8.8.8.8", True),
        ("9.9.9.9", "10.0.0.1", False),
        ("9.9.9.9", "169.254.169.254", False),
        ("127.0.0.1", "8.8.8.8", False),
    ],
)
def test_both_addresses_embedded_in_teredo_are_checked(server: str, client: str, expected: bool) -> None:
    address = teredo(IPv4Address(server), IPv4Address(client))
    assert address.teredo == (IPv4Address(server), IPv4Address(client))
    assert is_public(address) is expected


def teredo(server: IPv4Address, client: IPv4Address) -> IPv6Address:
    """Return a Teredo address (RFC 4380): the client's port and address are inverted."""
    port, flags = 40000, 0x8000
    inverted = (flags << 48) | ((port ^ 0xFFFF) << 32) | (int(client) ^ 0xFFFF_FFFF)
    return IPv6Address((0x2001_0000 << 96) | (int(server) << 64) | inverted)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "talk.wav",
        "//example.org/talk.wav",
        "ftp://example.org/talk.wav",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///talk.wav",
        "https://user@example.org/",
        "https://user:word@example.org/",
        "http://127.0.0.1@example.org/",
        "http://example.org:80@127.0.0.1/",
        "http://example.org\\@127.0.0.1/",
        "http://exa mple.org/",
        "http://example.org/\r\nHost: other",
        "http://example.org/\0",
        "http://example.org/\u202e",
        "http://example.org:0/",
        "http://example.org:99999/",
        "http://example.org:x/",
        "http://[::1/",
        "http://0177.0.0.1/",
        "http://" + "a" * 70 + ".é/",
        "http://example.org/" + "a" * 2048,
        "http://exämple.org/\udc80",
        "http://xn--/talk.wav",
        "http://xn--a/talk.wav",
        "http://xn--zzzzzzzzzzz99999.org/",
        "http://xn--ls8h.la/",
        "http://xn--\u00e4.org/",
    ],
)
def test_malformed_web_addresses_are_refused_even_if_all_hosts_are_allowed(url: str) -> None:
    with pytest.raises(AddressRefused):
        require_address(url, ANYWHERE)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "https://example.org:22/",
        "https://example.org:25/",
        "https://example.org:1023/",
    ],
)
def test_private_addresses_and_unusual_ports_are_refused_unless_they_are_allowed(url: str) -> None:
    with pytest.raises(AddressRefused):
        require_address(url, PUBLIC)
    require_address(url, ANYWHERE)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/talk.mp3",
        "HTTPS://Example.org:443/a%20b?x=1&y=%2F#there",
        "https://9.9.9.9:8443/talk.mp3",
        "https://bücher.example/talk.mp3",
    ],
)
def test_a_web_address_is_accepted(url: str) -> None:
    require_address(url, PUBLIC)


@given(st.text(max_size=60) | st.from_regex(r"https?://[^/]{0,30}/?.{0,20}"))
def test_any_text_is_accepted_or_refused_without_other_errors(text: str) -> None:
    try:
        require_address(text, PUBLIC)
    except AddressRefused:
        return
    assert httpx.URL(text).scheme in ("http", "https")


def found(url: str, *answers: str) -> list[str]:
    async def answer(host: str, port: int) -> tuple[str, ...]:
        return answers

    return [str(address) for address in asyncio.run(resolve_allowed(httpx.URL(url), PUBLIC, answer))]


def test_all_addresses_of_a_name_are_returned() -> None:
    assert found("https://example.org/", "9.9.9.9", "2620:fe::9") == ["9.9.9.9", "2620:fe::9"]


@pytest.mark.parametrize("private", ["127.0.0.1", "::ffff:10.0.0.1", "fe80::1%1"])
def test_a_name_with_any_private_address_is_refused(private: str) -> None:
    with pytest.raises(AddressRefused, match=r"example\.org") as refused:
        found("https://example.org/", "9.9.9.9", private)
    assert private not in str(refused.value)


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "017700000001", "127.1"])
def test_other_spellings_of_localhost_are_refused(host: str) -> None:
    with pytest.raises(AddressRefused):
        asyncio.run(resolve_allowed(httpx.URL(f"http://{host}/"), PUBLIC, resolve))


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), FetchRefused),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), FetchFailed),
        (UnicodeError("label too long"), AddressRefused),
    ],
)
def test_an_unknown_host_differs_from_a_failed_lookup(trouble: Exception, error: type[Exception]) -> None:
    async def fail(host: str, port: int) -> tuple[str, ...]:
        raise trouble

    with pytest.raises(error):
        asyncio.run(resolve_allowed(httpx.URL("http://example.org/"), PUBLIC, fail))


def test_name_resolution_has_a_timeout() -> None:
    async def hang(host: str, port: int) -> tuple[str, ...]:
        await asyncio.Event().wait()
        return ()

    with (
        patch("cesar.api.execution.download.address_policy._RESOLVE_TIMEOUT_S", 0.05),
        pytest.raises(FetchFailed, match="timed out"),
    ):
        asyncio.run(resolve_allowed(httpx.URL("http://example.org/"), PUBLIC, hang))
