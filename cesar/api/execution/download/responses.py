"""What a server's answer says of a recording: where it leads on to, whether it can be media, how the rest is asked for.

Pure: an answer's head goes in, a value or an error comes out.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from cesar.api.execution.download.partial_file import Origin
from cesar.errors import AddressRefused, FetchFailed, FetchRefused

_REDIRECTS = {301, 302, 303, 307, 308}
_MAY_PASS = {408, 425, 429}
"""Refusals that the other side does not mean for good, besides all from 500 up."""
_PAGES = {"text/html", "application/xhtml+xml"}


def following(url: httpx.URL, answer: httpx.Response) -> httpx.URL | None:
    """Say where an answer leads on to; None: it is itself what was asked for.

    Raises `AddressRefused` if it leads from https to http, `FetchRefused` if it leads nowhere.
    """
    if answer.status_code not in _REDIRECTS or "Location" not in answer.headers:
        return None
    try:
        leads_to = url.join(answer.headers["Location"])
    except (httpx.InvalidURL, ValueError):
        raise FetchRefused(f"{url.host}: it redirects to what is no address") from None
    if url.scheme == "https" and leads_to.scheme == "http":
        raise AddressRefused(f"{url.host}: it redirects from https to http", hint="Give an address that stays https.")
    return leads_to


def require_media(url: httpx.URL, answer: httpx.Response) -> None:
    """Raise `FetchRefused`, or `FetchFailed` if it may pass, for what can't be a recording."""
    status = answer.status_code
    if status >= 500 or status in _MAY_PASS:
        raise FetchFailed(f"{url.host}: {_named(status)}")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise FetchRefused(f"{url.host}: {_named(status)}")
    if answer.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        raise FetchRefused(f"{url.host}: it sends the file compressed, though asked not to")  # it may be a bomb
    if answer.headers.get("Content-Type", "").partition(";")[0].strip().lower() in _PAGES:
        raise FetchRefused(f"{url.host}: a web page is there, and no recording")


def length_of(answer: httpx.Response) -> int | None:
    """Give the length that is told, in bytes."""
    told = answer.headers.get("Content-Length", "")
    is_told = re.fullmatch(r"\d{1,18}", told, re.ASCII) and "Transfer-Encoding" not in answer.headers
    return int(told) if is_told else None


def total_of_rest(answer: httpx.Response, origin: Origin, size: int) -> int | None:
    """Give the whole's size in bytes, if an answer with status 206 goes on to its end from `size`, else None."""
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", answer.headers.get("Content-Range", ""), re.ASCII)
    if found is None:
        return None
    first, last, total = map(int, found.groups())
    is_rest = first == size and last + 1 == total and origin.total in (None, total)
    tag = answer.headers.get("ETag", origin.validator)
    is_same = tag == origin.validator or not (origin.validator or "").startswith('"')
    return total if is_rest and is_same else None


def validator_of(answer: httpx.Response) -> str | None:
    """Give what tells these bytes from any others: a strong ETag, or a date a second old (RFC 9110, 8.8.2.2)."""
    tag, changed, sent = (answer.headers.get(name, "") for name in ("ETag", "Last-Modified", "Date"))
    if tag.startswith('"'):
        return str(tag)
    try:
        age = parsedate_to_datetime(sent) - parsedate_to_datetime(changed)
    except (ValueError, TypeError):
        return None
    return str(changed) if age.total_seconds() >= 1 else None


def place_of(url: httpx.URL) -> str:
    """Give the address without its query, which may be signed anew for each request, and may be a secret."""
    return str(url.copy_with(query=None, fragment=None))


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
