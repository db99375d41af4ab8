"""Heads that the parser accepts, and that servers and proxies read in different ways (RFC 9112).

Where they disagree about the host or the end of a request, one request can be smuggled in another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import httptools

_VERSIONS = ("1.0", "1.1")
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[\w.~%!$&'()*+,;=-]*)(:[0-9]*)?", re.ASCII)
"""uri-host [ ":" port ] (RFC 9110, section 7.2; RFC 3986, section 3.2.2)."""


def find_fault(version: str, headers: Sequence[tuple[bytes, bytes]], target: bytes) -> str | None:
    """Return what is wrong with the head of a request; None if nothing is. headers: with their names in lower case.

    >>> find_fault("1.1", [(b"host", b"localhost:5000")], b"/jobs")
    >>> find_fault("1.1", [], b"/jobs")
    'it has no Host header'
    """
    if version not in _VERSIONS:
        return f"HTTP/{version} is not supported"
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts and version == "1.1":
        return "it has no Host header"
    if len(hosts) > 1:
        return "it has several Host headers"
    if hosts and not _HOST.fullmatch(hosts[0]):
        return "its Host header is not a host"
    if hosts and not target.startswith(b"/") and _host_in(target) not in (None, _without_default(hosts[0].lower())):
        return "its Host header is not the host of its target"
    return _coding_fault(version, [value for name, value in headers if name == b"transfer-encoding"])


def _coding_fault(version: str, codings: Sequence[bytes]) -> str | None:
    if not codings:
        return None
    if version == "1.0":
        return "HTTP/1.0 has no transfer codings"
    if len(codings) > 1 or codings[0].strip().lower() != b"chunked":
        return "the only transfer coding supported is chunked"
    return None


def _host_in(target: bytes) -> bytes | None:
    """Return the host and port of an absolute target; None if it has no host."""
    try:
        url = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return None
    if not url.host:
        return None
    host: bytes = url.host.lower()
    host = b"[%s]" % host if b":" in host else host
    return _without_default(host if url.port is None else b"%s:%d" % (host, url.port))


def _without_default(host: bytes) -> bytes:
    return host.removesuffix(b":80").removesuffix(b":")
