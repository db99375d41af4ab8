"""How responses are interpreted that a real server would rarely send."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cesar.api.execution.download.partial_file import Source
from cesar.api.execution.download.responses import (
    content_length,
    redirect_target,
    stable_address,
    total_from_range,
    validator_of,
)
from cesar.errors import AddressRefused, FetchRefused

URL = httpx.URL("https://media.example/talks/1.mp3?key=hidden")
BEGUN = Source("https://media.example/talks/1.mp3", '"one"', 500)


def answer(status: int = 200, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("2.mp3", "https://media.example/talks/2.mp3"),
        ("/2.mp3", "https://media.example/2.mp3"),
        ("//other.example/2.mp3", "https://other.example/2.mp3"),
        ("https://other.example/", "https://other.example/"),
    ],
)
def test_a_redirect_is_relative_to_its_url(location: str, leads_to: str) -> None:
    assert redirect_target(URL, answer(302, location=location)) == httpx.URL(leads_to)


@pytest.mark.parametrize("status", [200, 206, 300, 304, 404])
def test_only_redirect_statuses_have_a_target(status: int) -> None:
    assert redirect_target(URL, answer(status, location="/2.mp3")) is None
    assert redirect_target(URL, answer(302)) is None


def test_a_redirect_from_https_to_http_is_refused() -> None:
    with pytest.raises(AddressRefused, match="from https to http"):
        redirect_target(URL, answer(301, location="http://media.example/talks/1.mp3"))
    assert (
        redirect_target(httpx.URL("http://media.example/"), answer(301, location="https://media.example/")) is not None
    )


@pytest.mark.parametrize("location", ["https://host:port/", "https://[::1", "https://1.2.3.999/"])
def test_a_redirect_to_an_invalid_address_is_refused(location: str) -> None:
    with pytest.raises(FetchRefused):
        redirect_target(URL, answer(302, location=location))


def test_only_a_valid_content_length_is_used() -> None:
    assert content_length(answer(content_length="500")) == 500
    for told in ("-1", "5e3", "٣", "", "9" * 40, "1, 2"):
        assert content_length(httpx.Response(200, headers=[(b"Content-Length", told.encode())])) is None
    assert content_length(answer(content_length="500", transfer_encoding="chunked")) is None


def test_a_range_must_continue_the_same_recording_to_its_end() -> None:
    assert total_from_range(answer(206, content_range="bytes 100-499/500"), BEGUN, 100) == 500
    assert total_from_range(answer(206, content_range="bytes 100-499/500", etag='"one"'), BEGUN, 100) == 500
    for wrong in ("bytes 99-499/500", "bytes 100-498/500", "bytes 100-599/600", "bytes 100-499/*", "items 100-499/500"):
        assert total_from_range(answer(206, content_range=wrong), BEGUN, 100) is None
    assert total_from_range(answer(206, content_range="bytes 100-499/500", etag='"two"'), BEGUN, 100) is None


def test_only_strong_validators_are_used() -> None:
    old, now = "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:01 GMT"
    assert validator_of(answer(etag='"one"', last_modified=old, date=now)) == '"one"'
    assert validator_of(answer(etag='W/"one"', last_modified=old, date=now)) == old
    assert validator_of(answer(last_modified=now, date=now)) is None
    assert validator_of(answer(last_modified=old)) is None
    assert validator_of(answer(last_modified="yesterday", date=now)) is None
    assert validator_of(answer(last_modified="Mon, 01 Jan 2024 00:00:00 -0000", date=now)) is None


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=40))
def test_malformed_headers_are_harmless(text: str) -> None:
    raw = [(name, text.encode("latin-1")) for name in (b"Content-Length", b"Content-Range", b"ETag", b"Date")]
    told = httpx.Response(206, headers=[*raw, (b"Last-Modified", text.encode("latin-1"))])
    content_length(told)
    validator_of(told)
    total_from_range(told, BEGUN, 0)


def test_the_stable_address_has_no_query() -> None:
    assert (
        stable_address(URL) == stable_address(URL.copy_with(query=b"key=other")) == "https://media.example/talks/1.mp3"
    )
