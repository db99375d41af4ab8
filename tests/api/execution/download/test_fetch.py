"""Downloads from real servers that misbehave: what arrives is correct, or there is an error."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import IsolatedAsyncioTestCase
from unittest.mock import patch

import pytest

from cesar.api.execution.download import http
from cesar.api.execution.download.address_policy import ANYWHERE, AddressPolicy, Resolver
from cesar.api.execution.download.fetch import FetchResult, Limits, fetch
from cesar.api.execution.download.http import Timeouts
from cesar.api.execution.download.resolver import resolve
from cesar.errors import AddressRefused, CesarError, DiskFull, FetchFailed, FetchRefused, Interrupted
from tests.api.media_server import NAME, MediaServer
from tests.api.support import PATIENCE_S, eventually

BODY = bytes(range(251)) * 2000
"""Half a megabyte without repetition, longer than one block."""
LIMITS = Limits(max_bytes=10**9, policy=ANYWHERE)
HERE = AddressPolicy(lambda address: address == ip_address("127.0.0.1"), lambda _port: True)
"""A policy under which only 127.0.0.1 is public."""


def standing_for(*addresses: str) -> tuple[Resolver, list[str]]:
    """Return a resolver with another address each time, and the list of its queries."""
    asked: list[str] = []

    async def answer(host: str, port: int) -> tuple[str, ...]:
        asked.append(host)
        return (addresses[len(asked) - 1],)

    return answer, asked


class FetchCase(IsolatedAsyncioTestCase):
    """A server with a recording, and a path to fetch it to."""

    def setUp(self) -> None:
        self.server = self.enterContext(MediaServer(BODY))
        self.folder = Path(self.enterContext(TemporaryDirectory(prefix="cesar-test-")))
        self.target = self.folder / "job.part"
        self.stopped = asyncio.Event()
        self.progress: list[tuple[int, int | None]] = []

    async def fetch(self, url: str | None = None, limits: Limits = LIMITS, resolve: Resolver = resolve) -> FetchResult:
        def on_progress(size: int, total: int | None) -> None:
            self.progress.append((size, total))

        fetching = fetch(url or self.server.url, self.target, limits, on_progress, self.stopped, resolve=resolve)
        return await asyncio.wait_for(fetching, PATIENCE_S)

    async def require(self, error: type[CesarError], match: str = ".", **how: object) -> CesarError:
        with pytest.raises(error, match=match) as raised:
            await self.fetch(**how)  # type: ignore[arg-type]
        return raised.value

    async def require_whole(self, **how: object) -> None:
        """Fetch it; check every byte."""
        fetched = await self.fetch(**how)  # type: ignore[arg-type]
        assert fetched == FetchResult(self.server.digest, len(self.server.body))
        assert self.target.read_bytes() == self.server.body

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


class TestWhole(FetchCase):
    async def test_a_recording_arrives_unchanged(self) -> None:
        await self.require_whole()
        assert (self.progress[0], self.progress[-1]) == ((0, len(BODY)), (len(BODY), len(BODY)))
        assert self.server.asked[0][1]["accept-encoding"] == "identity"

    async def test_a_recording_of_unknown_length_arrives(self) -> None:
        self.server.tells_length = False
        await self.require_whole()
        assert self.progress[-1] == (len(BODY), None)

    async def test_an_empty_file_arrives(self) -> None:
        self.server.body = b""
        await self.require_whole()

    async def test_a_complete_file_is_not_requested_again(self) -> None:
        await self.require_whole()
        await self.require_whole()
        assert len(self.server.asked) == 1

    async def test_no_proxy_is_used(self) -> None:
        with patch.dict(os.environ, {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"}):
            await self.require_whole()


ANSWER = b"HTTP/1.1 200 OK\r\n"
CHUNKED = ANSWER + b"Transfer-Encoding: chunked\r\n\r\n"


class TestAnswers(FetchCase):
    """Raw responses: invalid HTTP and endless headers are permanent failures; a broken connection may be retried."""

    async def answered(self, beginning: bytes, unit: bytes = b"") -> CesarError:
        """Fetch from a server that sends this, repeats the unit, and closes; return the error."""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            try:
                writer.write(beginning)
                for _ in range(2**24 // len(unit) if unit else 0):
                    writer.write(unit)
                    await writer.drain()
            except ConnectionError:
                pass
            finally:
                writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/talk.wav"
            return await self.require(CesarError, url=url)

    async def test_endless_headers_and_invalid_http_are_refused_permanently(self) -> None:
        for name, beginning, unit in (
            ("headers", ANSWER, b"X-A: " + b"a" * 8000 + b"\r\n"),
            ("many small headers", ANSWER, b"a:\r\n" * 2000),
            ("interim answers", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
            ("early hints", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n"),
            ("one header", ANSWER + b"X-A: ", b"a" * 65536),
            ("a status line", b"HTTP/1.1 200 ", b"a" * 65536),
            ("trailers", CHUNKED + b"3\r\nabc\r\n0\r\n", b"X-A: " + b"a" * 8000 + b"\r\n"),
            ("a chunk extension", CHUNKED + b"3;", b"a" * 65536),
            ("a chunk size", CHUNKED, b"0" * 65536),
            ("a chunk size that is no number", CHUNKED + b"zz\r\n", b""),
            ("two lengths", ANSWER + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", b""),
            ("another protocol", b"220 mail.example ESMTP\r\n\r\n", b""),
        ):
            with self.subTest(name):
                error = await self.answered(beginning, unit)
                assert type(error) is FetchRefused
                assert "its response is not valid HTTP" in str(error)
                assert self.left() == []

    async def test_a_few_interim_answers_are_passed_over(self) -> None:
        self.server.interim = b"HTTP/1.1 100 Continue\r\n\r\n" + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 20
        await self.require_whole()

    async def test_a_response_that_ends_early_may_be_retried(self) -> None:
        for name, beginning in (
            ("nothing", b""),
            ("half a head", ANSWER + b"X-A"),
            ("half a recording", ANSWER + b"Content-Length: 30\r\n\r\nabc"),
            ("half a chunk", CHUNKED + b"3\r\na"),
            ("no last chunk", CHUNKED + b"3\r\nabc\r\n"),
        ):
            with self.subTest(name):
                assert type(await self.answered(beginning)) is FetchFailed


class TestPinning(FetchCase):
    async def test_a_name_is_resolved_once_and_sent_to_the_server(self) -> None:
        answer, asked = standing_for("127.0.0.1")
        await self.require_whole(url=self.server.named_url, resolve=answer)
        assert asked == [NAME]
        assert self.server.asked[0][1]["host"] == f"{NAME}:{self.server.port}"

    async def test_a_name_that_later_resolves_elsewhere_is_checked_again(self) -> None:
        self.server.cuts = [100_000]
        answer, asked = standing_for("127.0.0.1", "127.0.0.2")
        limits = replace(LIMITS, policy=HERE)
        await self.require(FetchFailed, url=self.server.named_url, limits=limits, resolve=answer)
        await self.require(AddressRefused, url=self.server.named_url, limits=limits, resolve=answer)
        assert (len(asked), len(self.server.asked)) == (2, 1)

    async def test_the_next_address_is_tried_if_one_does_not_respond(self) -> None:
        async def both(host: str, port: int) -> tuple[str, ...]:
            return "::1", "127.0.0.1"  # the server does not listen on the first

        await self.require_whole(url=self.server.named_url, resolve=both)

    async def test_a_private_address_is_not_even_connected_to(self) -> None:
        for url in (self.server.url, f"http://[::ffff:127.0.0.1]:{self.server.port}/", self.server.named_url):
            answer, _ = standing_for("127.0.0.1")
            await self.require(AddressRefused, url=url, limits=replace(LIMITS, policy=Limits(1).policy), resolve=answer)
        for host in ("2130706433", "0x7f000001", "localhost"):
            url = f"http://{host}:{self.server.port}/"
            await self.require(AddressRefused, url=url, limits=Limits(10**9))
        assert self.server.asked == []


class TestRedirects(FetchCase):
    async def test_redirects_are_followed(self) -> None:
        self.server.redirects = {f"/{n}": f"/{n + 1}" for n in range(4)} | {"/4": self.server.url}
        await self.require_whole(url=f"http://127.0.0.1:{self.server.port}/0")

    async def test_the_number_of_redirects_is_limited(self) -> None:
        self.server.redirects = {"/talk.wav": "/talk.wav"}
        await self.require(FetchRefused, "redirects more than 5 times")
        assert len(self.server.asked) == 6

    async def test_a_redirect_to_an_address_that_is_not_allowed_is_refused(self) -> None:
        port = self.server.port
        for place in (
            f"http://127.0.0.2:{port}/",
            f"http://[::1]:{port}/",
            f"http://[::ffff:127.0.0.2]:{port}/",
            "http://10.0.0.1/",
            "http://169.254.169.254/latest/",
            f"http://user@127.0.0.1:{port}/talk.wav",
            "file:///etc/passwd",
            "ftp://127.0.0.1/talk.wav",
            "gopher://127.0.0.1/",
            "//127.0.0.3/",
        ):
            self.server.redirects = {"/talk.wav": place}
            await self.require(AddressRefused, limits=replace(LIMITS, policy=HERE))
        assert {path for path, _ in self.server.asked} == {"/talk.wav"}
        assert self.left() == []

    async def test_a_redirect_to_an_invalid_address_is_refused(self) -> None:
        for place in (
            "mailto:someone@example.org",
            "mailto:",
            "tel:+3112345",
            "urn:isbn:1",
            "data:audio/wav;base64,UklGRg==",
            "javascript:alert(1)",
            "http://xn--/",
            "https://xn--a.example/",
            "//xn--zzzzzzzzzzz99999/",
            "http://[::1",
        ):
            self.server.redirects = {"/talk.wav": place}
            with self.subTest(place), pytest.raises((AddressRefused, FetchRefused)) as refused:
                await self.fetch(limits=LIMITS)
            assert refused.value.hint
        assert self.left() == []

    async def test_the_target_of_a_redirect_is_resolved_and_checked(self) -> None:
        self.server.redirects = {"/talk.wav": f"http://other.example:{self.server.port}/there"}
        answer, asked = standing_for("127.0.0.1", "192.168.0.1")
        limits = replace(LIMITS, policy=HERE)
        await self.require(AddressRefused, "other", url=self.server.named_url, limits=limits, resolve=answer)
        assert asked == [NAME, "other.example"]


class TestRefusals(FetchCase):
    async def test_a_recording_that_is_too_long_is_refused_before_it_is_read(self) -> None:
        self.server.hold_at = 0
        await self.require(FetchRefused, "more than 1000 bytes", limits=replace(LIMITS, max_bytes=1000))
        assert self.left() == []

    async def test_a_recording_of_unknown_length_is_refused_once_it_is_too_long(self) -> None:
        self.server.tells_length, self.server.hold_at = False, 200_000
        await self.require(FetchRefused, "more than 100000 bytes", limits=replace(LIMITS, max_bytes=100_000))
        assert self.left() == []

    async def test_a_recording_of_exactly_the_maximum_length_is_accepted(self) -> None:
        await self.require_whole(limits=replace(LIMITS, max_bytes=len(BODY)))

    async def test_permanent_and_temporary_statuses_are_distinguished(self) -> None:
        for status in (204, 304, 400, 401, 403, 404, 410, 451, 599, 500, 503, 408, 425, 429):
            self.server.statuses = {"/talk.wav": status}
            await self.require(FetchFailed if status >= 500 or status in (408, 425, 429) else FetchRefused, str(status))

    async def test_a_web_page_is_refused(self) -> None:
        self.server.headers = {"Content-Type": "Text/HTML; charset=utf-8"}
        await self.require(FetchRefused, "a web page")

    async def test_a_compressed_response_is_refused(self) -> None:
        for coding in ("gzip", "br", "deflate, gzip"):
            self.server.headers = {"Content-Encoding": coding}
            await self.require(FetchRefused, "compressed")
        assert self.progress == []

    async def test_errors_name_the_host_and_neither_a_secret_nor_a_path(self) -> None:
        self.server.statuses = {"/talk.wav?key=hidden": 403}
        error = await self.require(FetchRefused, url=f"{self.server.url}?key=hidden")
        assert str(error) == "127.0.0.1: 403 Forbidden"

    async def test_nothing_is_written_to_a_full_disk(self) -> None:
        await self.require(DiskFull, limits=replace(LIMITS, min_free_bytes=10**18))
        assert self.target.stat().st_size == 0

    async def test_an_unwritable_path_is_not_revealed(self) -> None:
        self.target = self.folder / "nowhere" / "job.part"
        error = await self.require(FetchFailed)
        assert str(self.folder) not in str(error)


class TestGoingOn(FetchCase):
    async def test_a_broken_connection_resumes_where_it_broke(self) -> None:
        self.server.cuts = [100_000, 300_000]
        await self.require(FetchFailed)
        await self.require(FetchFailed)
        await self.require_whole()
        assert self.server.ranges == [None, "bytes=100000-", "bytes=300000-"]
        assert self.server.asked[-1][1]["if-range"] == '"one"'
        assert self.server.sent_bytes == len(BODY)

    async def test_a_broken_connection_resumes_at_once_after_much_progress(self) -> None:
        self.server.body = BODY * 8
        self.server.cuts = [1_500_000, 3_000_000]
        with patch("cesar.api.execution.download.fetch._RETRY_DELAY_S", 0):
            await self.require_whole()
        assert self.server.ranges == [None, "bytes=1500000-", "bytes=3000000-"]

    async def test_a_server_that_always_breaks_off_at_the_same_byte_is_given_up(self) -> None:
        self.server.body, self.server.knows_ranges = BODY * 8, False
        self.server.cuts = [1_500_000] * 9
        with patch("cesar.api.execution.download.fetch._RETRY_DELAY_S", 0):
            await self.require(FetchFailed)
        assert len(self.server.asked) == 2

    async def test_a_changed_recording_starts_over(self) -> None:
        self.server.cuts = [100_000]
        await self.require(FetchFailed)
        self.server.body, self.server.etag = BODY[::-1], '"two"'
        await self.require_whole()
        assert self.server.sent_bytes == 100_000 + len(BODY)

    async def test_a_recording_from_a_server_without_ranges_starts_over(self) -> None:
        self.server.cuts, self.server.knows_ranges = [100_000], False
        await self.require(FetchFailed)
        await self.require_whole()

    async def test_a_recording_without_a_validator_starts_over(self) -> None:
        for etag in (None, 'W/"weak"'):
            self.server.cuts, self.server.etag = [100_000], etag
            await self.require(FetchFailed)
            await self.require_whole()
            self.target.unlink()
        assert self.server.ranges == [None] * 4

    async def test_last_modified_validates_without_an_etag(self) -> None:
        self.server.cuts, self.server.etag = [100_000], None
        self.server.headers = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        await self.require(FetchFailed)
        await self.require_whole()
        assert self.server.ranges == [None, "bytes=100000-"]

    async def test_a_range_other_than_the_requested_one_is_not_used(self) -> None:
        total = len(BODY)
        for wrong in (f"bytes 0-{total - 1}/{total}", f"bytes 100000-200000/{total}", "bytes */9", "", "nonsense"):
            self.server.cuts, self.server.headers = [100_000], {}
            await self.require(FetchFailed)
            self.server.headers = {"Content-Range": wrong}
            await self.require_whole()
            assert self.server.ranges[-2:] == ["bytes=100000-", None]
            self.target.unlink()

    async def test_an_unsatisfiable_range_starts_over(self) -> None:
        self.server.cuts = [100_000]
        await self.require(FetchFailed)
        self.server.body = BODY[:10]
        await self.require_whole()
        assert self.server.ranges == [None, "bytes=100000-", None]

    async def test_a_recording_at_another_url_starts_over(self) -> None:
        self.server.cuts = [100_000]
        await self.require(FetchFailed)
        await self.require_whole(url=f"http://127.0.0.1:{self.server.port}/other.wav")
        assert self.server.ranges == [None, None]

    async def test_a_newly_signed_url_is_the_same_source(self) -> None:
        self.server.cuts = [100_000]
        await self.require(FetchFailed, url=f"{self.server.url}?signature=1")
        await self.require_whole(url=f"{self.server.url}?signature=2")
        assert self.server.ranges == [None, "bytes=100000-"]


class TestSlowServers(FetchCase):
    async def test_a_stop_takes_effect_while_nothing_arrives_and_keeps_the_partial_file(self) -> None:
        self.server.hold_at = 131_072
        task = asyncio.create_task(self.fetch())
        await eventually(lambda: self.progress and self.progress[-1][0] == 131_072)
        self.stopped.set()
        with pytest.raises(Interrupted):
            await asyncio.wait_for(task, PATIENCE_S)
        self.server.go_on()
        self.stopped.clear()
        await self.require_whole()
        assert self.server.ranges[-1] == "bytes=131072-"

    async def test_a_stop_takes_effect_before_there_is_a_response(self) -> None:
        self.server.is_silent = True
        task = asyncio.create_task(self.fetch())
        await eventually(lambda: self.server.asked)
        self.stopped.set()
        with pytest.raises(Interrupted):
            await asyncio.wait_for(task, PATIENCE_S)

    async def test_a_silent_server_times_out(self) -> None:
        self.server.is_silent = True
        for timeouts in (Timeouts(read_s=0.1), Timeouts(stall_s=0.1)):
            await self.require(FetchFailed, "in time", limits=replace(LIMITS, timeouts=timeouts))

    async def test_a_server_that_falls_silent_times_out(self) -> None:
        self.server.hold_at = 100_000
        for read_s in (0.2, 2.0, 20.0):  # a busy machine may need more than the shortest to say anything
            await self.require(FetchFailed, "in time", limits=replace(LIMITS, timeouts=Timeouts(read_s=read_s)))
            if self.progress:
                break
        assert self.progress[-1][0] >= 65_536

    async def test_a_server_that_sends_too_slowly_times_out(self) -> None:
        timeouts = Timeouts(min_bytes=10**9, clock=count(0.0, 61.0).__next__)
        await self.require(FetchFailed, "too slowly", limits=replace(LIMITS, timeouts=timeouts))
        enough = replace(timeouts, min_bytes=1)
        await self.require_whole(limits=replace(LIMITS, timeouts=enough))

    async def test_a_refused_connection_is_a_temporary_failure(self) -> None:
        with MediaServer(b"") as gone:
            url = gone.url
        await self.require(FetchFailed, "the connection failed", url=url)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for the server's name with its key, signed by itself."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    subject = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(file)]
    made = ["openssl", "req", "-x509", "-days", "2", *subject, *key, "-out", f"{file}.crt"]
    subprocess.run(made, check=True, capture_output=True)
    with file.open("ab") as both:
        both.write(Path(f"{file}.crt").read_bytes())
    return file


@contextmanager
def trusting(certificate: Path | None) -> Iterator[None]:
    http._trusted_authorities.cache_clear()
    with patch.dict(os.environ, {} if certificate is None else {"SSL_CERT_FILE": str(certificate)}):
        yield
    http._trusted_authorities.cache_clear()


def fetch_over_tls(certificate: Path, tmp_path: Path, *, host: str = NAME) -> FetchResult:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    names: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    answer, _ = standing_for("127.0.0.1")
    with MediaServer(BODY, tls) as server:
        url = f"https://{host}:{server.port}/talk.wav"
        done = fetch(url, tmp_path / "a.part", LIMITS, lambda *_: None, asyncio.Event(), resolve=answer)
        fetched = asyncio.run(done)
    assert names == [NAME]
    return fetched


def test_tls_certificates_are_checked_against_the_name(certificate, tmp_path):
    with trusting(certificate):
        assert fetch_over_tls(certificate, tmp_path).size == len(BODY)


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1"])
def test_a_certificate_for_another_name_is_refused(certificate, tmp_path, host):
    with trusting(certificate), pytest.raises(FetchRefused, match="certificate"):
        fetch_over_tls(certificate, tmp_path, host=host)


def test_an_untrusted_certificate_is_refused(certificate, tmp_path):
    with trusting(None), pytest.raises(FetchRefused, match="certificate"):
        fetch_over_tls(certificate, tmp_path)
