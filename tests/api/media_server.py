"""A web server with one recording that misbehaves on request; it runs in a thread, on 127.0.0.1."""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.api.support import PATIENCE_S

NAME = "media.example"


class MediaServer:
    """What it has and how it is to behave may be changed at any time.

    etag: what it calls the recording's bytes; None: nothing. cuts: where it breaks off, one place for each request.
    hold_at: where it stops, until `go_on` is called. redirects, statuses: by path. headers: what else it says.
    """

    def __init__(self, body: bytes, tls: ssl.SSLContext | None = None) -> None:
        self.body = body
        self.etag: str | None = '"one"'
        self.cuts: list[int] = []
        self.hold_at: int | None = None
        self.redirects: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        self.headers: dict[str, str] = {}
        self.tells_length = True
        self.knows_ranges = True
        self.is_silent = False
        self.interim = b""
        """What it sends before each response."""
        self.block_bytes = 64 * 1024
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.sent_bytes = 0
        self._may_go_on = threading.Event()
        self._server = _Quiet(("127.0.0.1", 0), type("Handler", (_Handler,), {"media": self}))
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._may_go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/talk.wav"

    @property
    def named_url(self) -> str:
        """Its address by name; clients must resolve it."""
        return f"http://{NAME}:{self.port}/talk.wav"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    @property
    def ranges(self) -> list[str | None]:
        """The requested ranges."""
        return [headers.get("range") for _, headers in self.asked]

    def go_on(self) -> None:
        self.hold_at = None
        self._may_go_on.set()

    def wait(self) -> None:
        assert self._may_go_on.wait(PATIENCE_S)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True

    def handle_error(self, *_: Any) -> None:
        """Ignore disconnecting clients, which are normal here."""


class _Handler(BaseHTTPRequestHandler):
    media: MediaServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        media = self.media
        media.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if media.is_silent:
            media.wait()
        if self.path in media.redirects:
            self._say(302, {"Location": media.redirects[self.path], "Content-Length": "0"})
        elif self.path in media.statuses:
            self._say(media.statuses[self.path], {"Content-Length": "0"})
        else:
            self._send_media()

    def _send_media(self) -> None:
        media = self.media
        body, start = media.body, self._start()
        if start > len(body):
            self._say(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
            return
        headers = {"Content-Type": "audio/wav", "Accept-Ranges": "bytes", "Date": formatdate(usegmt=True)}
        if media.etag is not None:
            headers["ETag"] = media.etag
        if media.tells_length:
            headers["Content-Length"] = str(len(body) - start)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self._say(206 if start else 200, headers | media.headers)
        end = media.cuts.pop(0) if media.cuts else len(body)
        while start < end:
            if media.hold_at is not None and start >= media.hold_at:
                media.wait()
            block = body[start : min(end, start + media.block_bytes)]
            self.wfile.write(block)
            start += len(block)
            media.sent_bytes += len(block)

    def _start(self) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_same = self.headers.get("If-Range") in (self.media.etag, self.media.headers.get("Last-Modified"))
        return int(found[1]) if found and is_same and self.media.knows_ranges else 0

    def _say(self, status: int, headers: dict[str, str]) -> None:
        self.wfile.write(self.media.interim)
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
