"""A server for testing clients: it sends given bytes, and hangs up after each response."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_MAX_KEPT_BYTES = 1 << 20


@dataclass
class Hangups:
    """The address of the server, and the requests it received."""

    url: str
    requests: list[str] = field(default_factory=list)
    """The head of each request and the beginning of its body."""

    @property
    def lines(self) -> list[str]:
        """The first line of each request."""
        return [request.splitlines()[0] for request in self.requests]

    def header(self, number: int, name: str) -> str | None:
        """Return a header of the request with that number."""
        found = re.search(rf"^{name}: (.*)\r$", self.requests[number], re.IGNORECASE | re.MULTILINE)
        return found[1] if found else None


@contextmanager
def answering(*answers: bytes) -> Iterator[Hangups]:
    """Answer one request after another, then stop listening. An empty response just hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = Hangups(f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread = threading.Thread(target=_answer_all, args=(listening, server, answers))
        thread.start()
        try:
            yield server
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()
            thread.join()


def _answer_all(listening: socket.socket, server: Hangups, answers: Sequence[bytes]) -> None:
    with suppress(OSError):
        for answer in answers:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                server.requests.append(_read(connection))
                connection.sendall(answer)
        listening.close()


def _read(connection: socket.socket) -> str:
    kept, come, block = b"", 0, bytearray(1 << 16)
    wanted: float = float("inf")
    while come < wanted:
        count = connection.recv_into(block)
        if not count:
            break
        come += count
        kept += bytes(block[:count]) if len(kept) < _MAX_KEPT_BYTES else b""
        if wanted == float("inf") and b"\r\n\r\n" in kept:
            head = kept.partition(b"\r\n\r\n")[0]
            found = _LENGTH.search(head)
            wanted = len(head) + 4 + (int(found[1]) if found else 0)
    return kept.decode("utf-8", "replace")


def answer(status: int = 200, body: object = None, *, kind: str = "application/json", **headers: str) -> bytes:
    """Return a response; a body that is not text is encoded as JSON."""
    content = (body if isinstance(body, str) else json.dumps(body)).encode()
    fields = {"Content-Type": kind, "Content-Length": str(len(content)), "Connection": "close"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Something\r\n{head}\r\n".encode() + content


def problem(status: int, code: str, **headers: str) -> bytes:
    """Return a problem response with that code."""
    body = {"title": "No", "status": status, "detail": "it can't be", "code": code, "hint": "Do this."}
    return answer(status, body, kind="application/problem+json", **headers)


def stream(text: str) -> bytes:
    """Return an event stream that breaks off after that text."""
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{text}".encode()
