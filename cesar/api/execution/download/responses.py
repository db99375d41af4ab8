"""What a response's headers say about a recording: redirects, whether it can be media, how to request the rest.

Everything here is pure.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from cesar.api.execution.download.partial_file import Source
from cesar.errors import AddressRefused, FetchFailed, FetchRefused

_REDIRECTS = {301, 302, 303, 307, 308}
_TRANSIENT_STATUSES = {408, 425, 429}
"""Client errors that may be temporary, in addition to all statuses from 500."""
_HTML_TYPES = {"text/html", "application/xhtml+xml"}


def redirect_target(url: httpx.URL, response: httpx.Response) -> httpx.URL | None:
    """Return the target of a redirect; None if the response is not a redirect.

    Raises `AddressRefused` for a redirect from https to http, and `FetchRefused` for an invalid target.
    """
    if response.status_code not in _REDIRECTS or "Location" not in response.headers:
        return None
    try:
        target_url = url.join(response.headers["Location"])
    except (httpx.InvalidURL, ValueError):
        raise FetchRefused(f"{url.host} redirects to an invalid address") from None
    if url.scheme == "https" and target_url.scheme == "http":
        raise AddressRefused(f"{url.host} redirects from https to http", hint="Give an address that stays on https.")
    return target_url


def require_media(url: httpx.URL, response: httpx.Response) -> None:
    """Raise `FetchRefused`, or `FetchFailed` if it may be temporary, unless the response can be a recording."""
    status = response.status_code
    if status >= 500 or status in _TRANSIENT_STATUSES:
        raise FetchFailed(f"{url.host}: {_describe_status(status)}")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise FetchRefused(f"{url.host}: {_describe_status(status)}")
    if response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        raise FetchRefused(f"{url.host} sends the file compressed, though that was not requested")  # it may be a bomb
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() in _HTML_TYPES:
        raise FetchRefused(f"{url.host}: the address is a web page, not a recording")


def content_length(response: httpx.Response) -> int | None:
    """Return the announced length in bytes; None if there is none, or it is invalid."""
    header = response.headers.get("Content-Length", "")
    is_valid = re.fullmatch(r"\d{1,18}", header, re.ASCII) and "Transfer-Encoding" not in response.headers
    return int(header) if is_valid else None


def total_from_range(response: httpx.Response, source: Source, size: int) -> int | None:
    """Return the total size in bytes if a 206 response continues from `size` to the end; None otherwise."""
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", response.headers.get("Content-Range", ""), re.ASCII)
    if found is None:
        return None
    first, last, total = map(int, found.groups())
    is_rest = first == size and last + 1 == total and source.total in (None, total)
    tag = response.headers.get("ETag", source.validator)
    is_same = tag == source.validator or not (source.validator or "").startswith('"')
    return total if is_rest and is_same else None


def validator_of(response: httpx.Response) -> str | None:
    """Return a strong validator: an ETag, or a date at least a second old (RFC 9110, 8.8.2.2); else None."""
    tag, changed, sent = (response.headers.get(name, "") for name in ("ETag", "Last-Modified", "Date"))
    if tag.startswith('"'):
        return str(tag)
    try:
        age = parsedate_to_datetime(sent) - parsedate_to_datetime(changed)
    except (ValueError, TypeError):
        return None
    return str(changed) if age.total_seconds() >= 1 else None


def stable_address(url: httpx.URL) -> str:
    """Return a URL without its query, which may be signed for each request, and may be a secret."""
    return str(url.copy_with(query=None, fragment=None))


def _describe_status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
