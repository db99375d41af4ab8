"""Uploads as nobody should send them, to a real server: what is wrong is refused, and nothing of it stays."""

from __future__ import annotations

import gzip
import hashlib
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import Program
from tests.acceptance.service import Service, serving
from tests.faults.support import wait_until

pytestmark = pytest.mark.slow

MIB = 2**20
LIMIT = 64 * MIB
HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="talk.wav"\r\n\r\n'
TAIL = b"\r\n--b--\r\n"
TYPE = b"Content-Type: multipart/form-data; boundary=b\r\n"


@pytest.fixture
def service(program: Program) -> Iterator[Service]:
    limited = replace(program, environ={**program.environ, "CESAR_MAX_UPLOAD_BYTES": str(LIMIT)})
    with serving(limited, "--no-worker") as running:
        yield running


@contextmanager
def connection(service: Service) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as peer:
        yield peer


def head(*lines: bytes) -> bytes:
    return b"POST /transcribe HTTP/1.1\r\nHost: cesar\r\n" + TYPE + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def answer_of(peer: socket.socket) -> tuple[int, dict[str, Any]]:
    """Read a whole response; return its status and body. The server must have kept or closed the connection."""
    got = b""
    while b"\r\n\r\n" not in got:
        more = peer.recv(65536)
        assert more, f"the connection ended after {got!r}"
        got += more
    headers, _, body = got.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in headers.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += peer.recv(65536)
    is_json = b"json" in headers.lower()
    return int(headers.split()[1]), json.loads(body) if is_json else {}


def push(service: Service, request: bytes, *, then_close: bool = False) -> tuple[int, dict[str, Any]]:
    """Send everything, whatever the server sends meanwhile, and return the response."""
    with connection(service) as peer:
        with suppress(ConnectionError):
            peer.sendall(request)
        if then_close:
            peer.shutdown(socket.SHUT_WR)
        return answer_of(peer)


def audio_files(service: Service) -> list[Path]:
    return [path for path in (service.program.folder / "data" / "audio").rglob("*") if path.is_file()]


def require_nothing_left(service: Service) -> None:
    wait_until(lambda: audio_files(service) == [])
    assert service.client.get("/jobs").json()["jobs"] == []
    assert "Traceback" not in service.log.read_text()


def memory_mib(service: Service) -> float:
    """The most memory that the server has ever had resident (Linux)."""
    assert service.process is not None
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


@pytest.mark.parametrize(
    "name",
    [b"../../../../tmp/evil", b"/etc/passwd", b"..\\..\\evil", b"a\x00b/../c", b"\xff\xfe", b"a" * 4000, b"%2e%2e%2fx"],
)
def test_no_name_becomes_a_path(service: Service, name: bytes) -> None:
    form = HEAD.replace(b"talk.wav", name) + b"sound" + TAIL
    status, told = push(service, head(b"Content-Length: %d" % len(form)) + form)
    assert status in (202, 400)
    [*stored] = audio_files(service)
    if status == 202:
        assert not {"/", "\\", "\0"} & set(told["name"])
        assert stored == [service.program.folder / "data" / "audio" / told["audio_sha256"][:2] / told["audio_sha256"]]
    else:
        require_nothing_left(service)


def test_a_gzip_bomb_is_refused_unpacked(service: Service) -> None:
    packed = gzip.compress(HEAD + bytes(1024 * MIB) + TAIL, compresslevel=1)
    before = memory_mib(service)
    status, told = push(service, head(b"Content-Encoding: gzip", b"Content-Length: %d" % len(packed)) + packed)
    assert (status, told["code"]) == (415, "unsupported_media_type")
    assert memory_mib(service) < before + 20
    require_nothing_left(service)


def test_a_client_that_reads_after_sending_everything_gets_the_413(service: Service) -> None:
    form = HEAD + bytes(LIMIT + 3 * MIB) + TAIL
    status, told = push(service, head(b"Content-Length: %d" % len(form)) + form)
    assert (status, told["code"]) == (413, "upload_too_large")
    require_nothing_left(service)


def test_a_length_that_is_too_large_is_refused_before_the_body_is_sent(service: Service) -> None:
    with connection(service) as peer:
        peer.sendall(head(b"Expect: 100-continue", b"Content-Length: 99999999999"))
        status, told = answer_of(peer)
    assert (status, told["code"]) == (413, "upload_too_large")
    require_nothing_left(service)


def test_a_body_without_a_length_is_refused_once_it_is_too_large(service: Service) -> None:
    chunk = b"%x\r\n" % MIB + bytes(MIB) + b"\r\n"
    with connection(service) as peer:
        with suppress(ConnectionError):
            peer.sendall(head(b"Transfer-Encoding: chunked") + b"%x\r\n" % len(HEAD) + HEAD + b"\r\n")
            for _ in range(LIMIT // MIB + 2):
                peer.sendall(chunk)
        status, told = answer_of(peer)
    assert (status, told["code"]) == (413, "upload_too_large")
    require_nothing_left(service)


def test_a_client_that_keeps_sending_is_cut_off(service: Service) -> None:
    chunk = b"%x\r\n" % MIB + bytes(MIB) + b"\r\n"
    sent = 0
    with connection(service) as peer, suppress(ConnectionError):
        peer.sendall(head(b"Transfer-Encoding: chunked") + b"%x\r\n" % len(HEAD) + HEAD + b"\r\n")
        while sent < 10 * LIMIT:
            peer.sendall(chunk)
            sent += MIB
    assert sent < 2 * LIMIT
    require_nothing_left(service)


@pytest.mark.parametrize("length", [b"-1", b"ten", b"1e3", b"99999999999999999999999999", b"5, 6", b"0x10"])
def test_an_invalid_length_is_a_bad_request(service: Service, length: bytes) -> None:
    status, _ = push(service, head(b"Content-Length: " + length) + HEAD + b"sound" + TAIL)
    assert status in (400, 413)
    require_nothing_left(service)


def test_a_length_that_is_too_short_truncates_the_form(service: Service) -> None:
    form = HEAD + b"sound" + TAIL
    status, told = push(service, head(b"Content-Length: %d" % (len(form) - 12), b"Connection: close") + form)
    assert (status, told["code"]) == (400, "bad_request")
    require_nothing_left(service)


def test_a_client_that_sends_less_than_announced_leaves_nothing(service: Service) -> None:
    with connection(service) as peer:
        peer.sendall(head(b"Content-Length: %d" % (50 * MIB)) + HEAD + bytes(20 * MIB))
        wait_until(lambda: [path for path in audio_files(service) if path.stat().st_size > 10 * MIB])
    require_nothing_left(service)


def test_slow_clients_delay_no_others(service: Service) -> None:
    with suppress(ConnectionError):
        peers = [socket.create_connection(("127.0.0.1", service.port), timeout=60) for _ in range(200)]
    try:
        for peer in peers:
            peer.sendall(head(b"Content-Length: 1000000") + HEAD)
        for _ in range(3):
            for peer in peers:
                peer.sendall(b"a")
            begun = time.monotonic()
            assert service.client.get("/jobs").status_code == 200
            assert time.monotonic() - begun < 30, "not once they are given up, after a minute"
        answer = service.client.post("/transcribe", files={"file": ("a.wav", bytes(5 * MIB))})
        assert answer.status_code == 202
        service.client.delete(answer.headers["Location"])
    finally:
        for peer in peers:
            peer.close()
    require_nothing_left(service)


def test_memory_does_not_grow_with_the_upload(service: Service) -> None:
    def send(mib: int) -> None:
        form = HEAD + bytes(mib * MIB) + TAIL
        status, told = push(service, head(b"Content-Length: %d" % len(form)) + form)
        assert (status, told["audio_bytes"]) == (202, mib * MIB)

    send(4)
    before = memory_mib(service)
    send(LIMIT // MIB)
    assert memory_mib(service) < before + 16


def test_twenty_concurrent_uploads_are_stored_unchanged(service: Service) -> None:
    contents = [bytes([number]) * (20 * MIB + number) for number in range(20)]

    def send(content: bytes) -> dict[str, Any]:
        answer = httpx.post(f"{service.url}/transcribe", files={"file": ("a.wav", content)}, timeout=120)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    service.client.get("/jobs")
    before = memory_mib(service)
    with ThreadPoolExecutor(20) as pool:
        jobs = list(pool.map(send, contents))
    stored = {path.name: path for path in audio_files(service)}
    for job, content in zip(jobs, contents, strict=True):
        digest = hashlib.sha256(content).hexdigest()
        assert job["audio_sha256"] == digest
        assert hashlib.sha256(stored[digest].read_bytes()).hexdigest() == digest
    assert len(stored) == 20
    assert memory_mib(service) < before + 100


def test_an_upload_interrupted_by_a_kill_leaves_nothing(service: Service) -> None:
    with connection(service) as peer:
        peer.sendall(head(b"Content-Length: %d" % (50 * MIB)) + HEAD + bytes(20 * MIB))
        wait_until(lambda: [path for path in audio_files(service) if path.stat().st_size > 10 * MIB])
        service.kill()
    assert len(audio_files(service)) == 1
    service.start()
    require_nothing_left(service)
