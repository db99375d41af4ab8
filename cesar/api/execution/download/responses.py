"""What a server's answer says of a recording: where it leads on to, whether it can be media, how the rest is asked for.

Pure: an answer's head goes in, a value or an error comes out.
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
"""Refusals that the other side does not mean for good, besides all from 500 up."""
_HTML_TYPES = {"text/html", "application/xhtml+xml"}


def redirect_target(url: httpx.URL, response: httpx.Response) -> httpx.URL | None:
    """Say where an answer leads on to; None: it is itself what was asked for.

    Raises `AddressRefused` if it leads from https to http, `FetchRefused` if it leads nowhere.
    """
    if response.status_code not in _REDIRECTS or "Location" not in response.headers:
        return None
    try:
        target_url = url.join(response.headers["Location"])
    except (httpx.InvalidURL, ValueError):
        raise FetchRefused(f"{url.host}: it redirects to what is no address") from None
    if url.scheme == "https" and target_url.scheme == "http":
        raise AddressRefused(f"{url.host}: it redirects from https to http", hint="Give an address that stays https.")
    return target_url


def require_media(url: httpx.URL, response: httpx.Response) -> None:
    """Raise `FetchRefused`, or `FetchFailed` if it may pass, for what can't be a recording."""
    status = response.status_code
    if status >= 500 or status in _TRANSIENT_STATUSES:
        raise FetchFailed(f"{url.host}: {_describe_status(status)}")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise FetchRefused(f"{url.host}: {_describe_status(status)}")
    if response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        raise FetchRefused(f"{url.host}: it sends the file compressed, though asked not to")  # it may be a bomb
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() in _HTML_TYPES:
        raise FetchRefused(f"{url.host}: a web page is there, and no recording")


def content_length(response: httpx.Response) -> int | None:
    """Give the length that is told, in bytes."""
    header = response.headers.get("Content-Length", "")
    is_valid = re.fullmatch(r"\d{1,18}", header, re.ASCII) and "Transfer-Encoding" not in response.headers
    return int(header) if is_valid else None


def total_from_range(response: httpx.Response, source: Source, size: int) -> int | None:
    """Give the whole's size in bytes, if an answer with status 206 goes on to its end from `size`, else None."""
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", response.headers.get("Content-Range", ""), re.ASCII)
    if found is None:
        return None
    first, last, total = map(int, found.groups())
    is_rest = first == size and last + 1 == total and source.total in (None, total)
    tag = response.headers.get("ETag", source.validator)
    is_same = tag == source.validator or not (source.validator or "").startswith('"')
    return total if is_rest and is_same else None


def validator_of(response: httpx.Response) -> str | None:
    """Give what tells these bytes from any others: a strong ETag, or a date a second old (RFC 9110, 8.8.2.2)."""
    tag, changed, sent = (response.headers.get(name, "") for name in ("ETag", "Last-Modified", "Date"))
    if tag.startswith('"'):
        return str(tag)
    try:
        age = parsedate_to_datetime(sent) - parsedate_to_datetime(changed)
    except (ValueError, TypeError):
        return None
    return str(changed) if age.total_seconds() >= 1 else None


def stable_address(url: httpx.URL) -> str:
    """Give the address without its query, which may be signed anew for each request, and may be a secret."""
    return str(url.copy_with(query=None, fragment=None))


def _describe_status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
