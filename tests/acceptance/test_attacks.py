"""One client against the rest: raw sockets against a real `cesar serve`, which keeps answering in bounded memory.

No latency is asserted here: `benchmarks/attacks.py` measures it.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.acceptance.conftest import Program
from tests.acceptance.service import PATIENCE_S, Service, serving
from tests.faults.support import wait_until

pytestmark = pytest.mark.slow
MAX_GROWTH_BYTES = 60 * 2**20
FLOOD_BYTES = 64 * 2**20
HOST = b"Host: localhost\r\n"
CHUNKED_UPLOAD = (
    b"POST /transcribe HTTP/1.1\r\n"
    + HOST
    + b"Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n"
)
RECORDING_PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
CONNECTIONS = 100


@pytest.fixture(scope="module")
def service(program_in: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    program = program_in(tmp_path_factory.mktemp("attacked"))  # type: ignore[operator]
    limits = {"CESAR_MAX_CONNECTIONS": str(CONNECTIONS), "CESAR_MAX_CONNECTIONS_PER_ADDRESS": str(CONNECTIONS)}
    limited = Program({**program.environ, **limits}, program.folder)
    with serving(limited, "--no-worker", "--log-format", "json") as running:
        running.client.get("/openapi.json").raise_for_status()  # whatever is made once is made
        yield running


def memory_of(service: Service) -> int:
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@contextmanager
def bounded(service: Service) -> Iterator[None]:
    """Check that memory grows little in the block, and that the service answers after it."""
    before = memory_of(service)
    yield
    assert memory_of(service) - before < MAX_GROWTH_BYTES
    assert service.client.get("/livez").status_code == 200


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), PATIENCE_S)


def flood(service: Service, beginning: bytes, unit: bytes) -> bytes:
    """Send the same bytes repeatedly until the connection is closed; return what was received."""
    with closing(connect(service)) as caller:
        try:
            caller.sendall(beginning)
            for _ in range(FLOOD_BYTES // len(unit)):
                caller.sendall(unit)
        except OSError:  # the service has closed the connection
            pass
        return received(caller)


def received(caller: socket.socket) -> bytes:
    answer = bytearray()
    try:
        while part := caller.recv(65536):
            answer += part
    except ConnectionError:
        pass
    return bytes(answer)


@pytest.mark.parametrize(
    ("beginning", "unit"),
    [
        pytest.param(b"GET /livez HTTP/1.1\r\n" + HOST, b"X-A: " + b"a" * 8000 + b"\r\n", id="endless headers"),
        pytest.param(b"GET /livez HTTP/1.1\r\n" + HOST + b"X-A: ", b"a" * 65536, id="one endless header"),
        pytest.param(b"GET /livez HTTP/1.1\r\n" + HOST, b"a:\r\n" * 8192, id="many small headers"),
        pytest.param(b"GET /livez HTTP/1.1\r\n" + HOST + b"a", b"a" * 65536, id="an endless header's name"),
        pytest.param(b"GET /livez HTTP/1.0\r\n", b"Cookie: a=b\r\n" * 5000, id="HTTP/1.0"),
        pytest.param(b"GET /", b"%41" * 20_000, id="an endless address"),
        pytest.param(b"", b"\r\n" * 30_000, id="empty lines before a request"),
        pytest.param(CHUNKED_UPLOAD + b"3\r\n--x\r\n0\r\n", b"X-A: " + b"a" * 8000 + b"\r\n", id="endless trailers"),
        pytest.param(CHUNKED_UPLOAD + b"3\r\n--x\r\n0\r\nX-A: ", b"a" * 65536, id="one endless trailer"),
        pytest.param(CHUNKED_UPLOAD + b"3;", b"a" * 65536, id="an endless chunk extension"),
        pytest.param(CHUNKED_UPLOAD, b"0" * 65536, id="a chunk size of zeros without end"),
    ],
)
def test_endless_heads_are_refused_with_431_and_not_stored(service: Service, beginning: bytes, unit: bytes) -> None:
    with bounded(service):
        answer = flood(service, beginning, unit)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert b"application/problem+json" in head
    assert b"head_too_large" in body


@pytest.mark.parametrize(
    "sent",
    [
        b"GETGETGETGET" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",  # TLS on a plain port
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: example.org\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /health HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /health HTTP/1.1\nHost: localhost\n\n",
        b"GET /health HTTP/1.1\r\n" + HOST + b"X-A: b\r\n c\r\n\r\n",
        b"GET /health HTTP/2.0\r\n" + HOST + b"\r\n",
        b"GET http://example.org/health HTTP/1.1\r\n" + HOST + b"\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED_UPLOAD + b"FFFFFFFFFFFFFFFFFFFF\r\n",
        CHUNKED_UPLOAD + b"1\r\n-\r\n" * 100_000,
    ],
)
def test_invalid_http_gets_400_as_a_problem(service: Service, sent: bytes) -> None:
    with closing(connect(service)) as caller:
        caller.sendall(sent)
        caller.shutdown(socket.SHUT_WR)
        answer = received(caller)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"bad_request" in answer


def test_expect_gets_an_interim_response_except_in_http_1_0(service: Service) -> None:
    answers = []
    for version in (b"1.1", b"1.0"):
        with closing(connect(service)) as caller:
            head = b"POST /transcribe/url HTTP/" + version + b"\r\n" + HOST + b"Content-Type: application/json\r\n"
            caller.sendall(head + b"Connection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n{}")
            answers.append(received(caller).split()[1])
    assert answers == [b"100", b"422"]


def test_endless_nonsense_logs_few_lines_all_in_json(
    service: Service,
) -> None:
    before = len(service.log.read_text().splitlines())
    for _ in range(200):
        with closing(connect(service)) as caller:
            caller.sendall(b"nonsense\r\n\r\n")
            received(caller)
        with closing(connect(service)) as caller:
            caller.sendall(b"GET /livez HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            assert received(caller).startswith(b"HTTP/1.1 200 ")
    lines = service.log.read_text().splitlines()[before:]
    assert len(lines) < 10
    assert all(line.startswith("{") for line in lines)
    assert not any("install" in line for line in lines)


def test_endless_pipelined_requests_are_not_stored(service: Service) -> None:
    with bounded(service), ExitStack() as open_ones:
        for _ in range(40):
            caller = open_ones.enter_context(closing(connect(service)))
            caller.settimeout(0.2)
            with suppress(OSError):  # nobody takes it any more
                caller.sendall((b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n") * 20_000)


def test_a_few_pipelined_requests_are_all_answered(service: Service) -> None:
    with closing(connect(service)) as caller:
        caller.sendall((b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n") * 5)
        answer = b""
        while answer.count(b"alive") < 5:
            answer += caller.recv(65536)
    assert answer.count(b"HTTP/1.1 200 OK") == 5


def test_idle_connections_beyond_the_limit_lock_nobody_out(service: Service) -> None:
    with bounded(service), ExitStack() as open_ones:
        idle = [open_ones.enter_context(closing(connect(service))) for _ in range(4 * CONNECTIONS)]
        assert service.client.get("/livez").status_code == 200
        assert service.client.get("/jobs").status_code == 200
        idle[0].settimeout(PATIENCE_S)
        assert received(idle[0]) == b""  # the longest-waiting one was closed


def test_requests_beyond_the_limit_get_503_and_livez_still_answers(service: Service) -> None:
    with bounded(service), ExitStack() as open_ones:
        for _ in range(CONNECTIONS):
            stream = open_ones.enter_context(closing(connect(service)))
            stream.sendall(b"GET /events HTTP/1.1\r\n" + HOST + b"\r\n")
            assert stream.recv(12) == b"HTTP/1.1 200"
        answer = service.client.get("/jobs")
        assert (answer.status_code, answer.json()["code"]) == (503, "service_overloaded")
        assert "Retry-After" in answer.headers
        assert service.client.get("/livez").status_code == 200
    wait_until(lambda: service.client.get("/jobs").status_code == 200, PATIENCE_S)


def test_a_stream_ends_with_its_connection_even_if_another_request_waits(service: Service) -> None:
    """So many are abandoned that they would fill every slot if they were still in progress."""
    for _ in range(CONNECTIONS + 10):
        with closing(connect(service)) as caller:
            caller.sendall(b"GET /events HTTP/1.1\r\n" + HOST + b"\r\nGET /livez HTTP/1.1\r\n" + HOST + b"\r\n")
            assert caller.recv(12) == b"HTTP/1.1 200"
    wait_until(lambda: service.client.get("/jobs").status_code == 200, PATIENCE_S)


def test_a_trailer_is_a_header_of_neither_this_request_nor_the_next(service: Service) -> None:
    """httptools gives the last trailer of a request to the next one; behind a proxy that may be another caller's."""
    with closing(connect(service)) as caller:
        head = b"POST /transcribe/url HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        caller.sendall(head + b"2\r\n{}\r\n0\r\nX-A: 1\r\nAuthorization: Bearer cesar_wrong\r\n\r\n")
        assert caller.recv(12) == b"HTTP/1.1 422"
        caller.sendall(b"GET /jobs HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert b"HTTP/1.1 200" in received(caller)


def test_a_new_client_does_not_wait_for_every_busy_one(service: Service) -> None:
    """Counted in what is read of uploads meanwhile, not in seconds: those depend on the machine."""
    with ExitStack() as open_ones:
        uploads = Uploads(service, open_ones, CONNECTIONS - 10)
        with uploads.under_way():
            wait_until(lambda: uploads.sent_bytes > len(uploads) * 2**20, PATIENCE_S)
            for _ in range(5):
                before = uploads.sent_bytes
                assert service.client.get("/livez").status_code == 200
                assert uploads.sent_bytes - before < len(uploads) * 64 * 1024


class Uploads:
    """Many uploads at once, each as fast as the service takes it."""

    def __init__(self, service: Service, open_ones: ExitStack, count: int) -> None:
        self.sent_bytes = 0
        self._is_over = threading.Event()
        self._callers = [open_ones.enter_context(closing(connect(service))) for _ in range(count)]
        for caller in self._callers:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
            caller.sendall(CHUNKED_UPLOAD + b"%x\r\n%b\r\n" % (len(RECORDING_PART), RECORDING_PART))
            caller.setblocking(False)

    def __len__(self) -> int:
        return len(self._callers)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        sending = threading.Thread(target=self._send)
        sending.start()
        try:
            yield
        finally:
            self._is_over.set()
            sending.join()

    def _send(self) -> None:
        content = memoryview(b"8\r\nabcdefgh\r\n" * 5000)
        at = [0] * len(self)
        while not self._is_over.is_set():
            _, ready, _ = select.select([], self._callers, [], 0.1)
            for caller in ready:
                number = self._callers.index(caller)
                with suppress(BlockingIOError):
                    sent = caller.send(content[at[number] :])
                    at[number] = (at[number] + sent) % len(content)
                    self.sent_bytes += sent
