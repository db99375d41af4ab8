"""`GuardedProtocol`: uvicorn's HTTP/1.1 on httptools, with limits for each connection.

These limits hold before there is a request and after its response: the bytes of heads, trailers and unread responses;
the time for a head, and for reading a response. `middleware/` limits what a request may do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, NoReturn

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from cesar.api.execution.throttled_log import ThrottledLog
from cesar.api.http.errors import problem_json, problem_response
from cesar.api.http.middleware.auth import PUBLIC_PATHS, SAFE_METHODS
from cesar.api.http.middleware.limits import client_network
from cesar.api.http.middleware.security_headers import SECURITY_HEADERS
from cesar.api.http.server.connections import Connections
from cesar.api.http.server.fair_loop import fair_selector_of
from cesar.api.http.server.fair_queue import FairQueue
from cesar.api.http.server.head import find_fault
from cesar.errors import BadRequest, HeadTooLarge, ServiceError, ServiceOverloaded

MAX_HEAD_BYTES: Final = 32 * 1024
"""Of the request line with the headers, of trailers, or between two parts of a chunked body."""
MAX_HEADERS: Final = 128
MAX_PIPELINED: Final = 8
"""How many requests may wait on one connection for the response to the first."""
_READ_BYTES = 16 * 1024
"""Size of one read, so that clients take turns: asyncio's 256 KiB are a tenth of a second of small chunks."""
_FRAMING_BYTES = 64 * 1024
"""A chunked body may have as much framing as content, plus this: one-byte chunks cost as much as large ones."""
_PIECE_BYTES = 16 * 1024
"""Size of the pieces fed to the parser, so that what it collects can be limited."""
_LINGER_S = 2.0
"""How long a refused client may keep sending, so that it receives the reason (RFC 9112, 9.6)."""
_PROBE_PATHS: Final = frozenset({"/livez", "/readyz"})
"""Liveness and readiness probes never wait behind other requests."""
_log = logging.getLogger(__name__)
_rejections = ThrottledLog(_log)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a client may take."""

    head_s: float = 20.0
    """From the connection, or the last response, to the end of the next head."""
    unread_s: float = 30.0
    """In this time `min_read_bytes` of a response must be read, or all of it."""
    min_read_bytes: int = 30 * 1024


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        *args: Any,
        connections: Connections,
        queue: FairQueue,
        timeouts: Timeouts = Timeouts(),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        self.app = _shed_load(self.app, self)
        self.address = ""
        self._table = connections
        self._queue = queue
        self._timeouts = timeouts
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._is_head = True
        self._head_bytes = self._headers = 0
        self._bytes_without_body = 0
        self._framing_bytes = 0
        """Bytes of framing in the body, beyond its content."""
        self._is_pipeline_full = False
        self._rejection: BadRequest | HeadTooLarge | None = None
        """Why the parser was stopped; None: it stopped by itself."""
        self._is_chunked = self._needs_new_parser = False
        self._ignores_input = False
        """Whether further input is discarded."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes of responses waiting in this process."""
        return self.transport.get_write_buffer_size()

    @property
    def is_overloaded(self) -> bool:
        """Whether too many requests are in progress."""
        return self._table.is_overloaded(self)

    def drop(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start waiting for the first request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # be notified of every byte that a client has not read
        if hasattr(transport, "max_size"):  # asyncio's own transport over a socket
            transport.max_size = _READ_BYTES
        if fairness := fair_selector_of(self.loop):
            fairness.forget(transport.get_extra_info("socket").fileno())
        self.address = client_network(self.client[0]) if self.client else ""
        self._start_head_timer()
        self._table.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify every request that its client has disconnected; uvicorn notifies only the newest."""
        self._stop_head_timer()
        self._stop_read_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._table.closed(self)
        self._abandon()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn does this only for connections that end cleanly
        self._release()

    def _release(self) -> None:
        """Drop the references that form cycles, so that a closed connection is freed at once.

        Left to the garbage collector, tens of thousands of dead objects accumulate, and the pass that frees them
        stops every other request for a tenth of a second or more.
        """
        if hasattr(self.transport, "_read_ready_cb"):  # asyncio's transport holds a bound method of itself
            self.transport._read_ready_cb = None  # noqa: SLF001 - there is no public way to free it
        self.transport = self.flow = self.cycle = self.scope = None  # type: ignore[assignment]
        self.app = _closed

    def data_received(self, data: bytes) -> None:
        """Parse the data piece by piece, unless input is discarded."""
        self._unset_keepalive_if_required()
        for start in range(0, len(data), _PIECE_BYTES):
            if self._ignores_input or self.transport.is_closing():
                return
            self._parse(data[start : start + _PIECE_BYTES])

    def _parse(self, piece: bytes) -> None:
        self._bytes_without_body += len(piece)
        if not self._is_head:
            self._framing_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except (
            httptools.HttpParserUpgrade
        ):  # the client offers another protocol, which a server may ignore (RFC 9110, 7.8)
            self._close_after_answers()
        except httptools.HttpParserError as error:
            if self._is_pipeline_full:
                self._close_after_answers()
            else:
                self._refuse(self._rejection or _malformed(error))
        else:
            if self._bytes_without_body > MAX_HEAD_BYTES:
                self._refuse(_head_too_large())
            elif self._framing_bytes > _FRAMING_BYTES:
                self._refuse(BadRequest("the body comes in chunks that are too small", hint="Send larger chunks."))
            elif self._needs_new_parser:
                self._renew_parser()

    def _renew_parser(self) -> None:
        """Replace the parser: httptools would add the last trailer to the next request's headers."""
        self._needs_new_parser = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def on_message_begin(self) -> None:
        """Start a request, unless too many are waiting: then the connection is closed after their responses."""
        if len(self.pipeline) >= MAX_PIPELINED or self._needs_new_parser:
            self._is_pipeline_full = True
            raise _RefusedError
        super().on_message_begin()
        self._is_head = True
        self._head_bytes = self._headers = 0
        self._start_head_timer()

    def on_url(self, url: bytes) -> None:
        """Receive a part of the request target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Receive a header. Trailers are dropped: a request must not change once it has been checked."""
        self._headers += 1
        self._count(len(name) + len(value) + len(b": \r\n"))
        if self._is_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the response, unless a proxy could read the head in another way than this service does."""
        version = self.parser.get_http_version()
        if fault := find_fault(version, self.headers, self.url):
            self._reject(BadRequest(f"the request is not valid HTTP: {fault}", hint="Send HTTP/1.1."))
        if version == "1.0":
            self.expect_100_continue = False  # such clients do not know interim responses (RFC 9110, 10.1.1)
        self._stop_head_timer()
        self._is_head = False
        self._head_bytes = self._headers = self._bytes_without_body = 0
        self._framing_bytes = 0
        self._is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Receive a part of the body."""
        self._bytes_without_body = 0
        self._framing_bytes = max(0, self._framing_bytes - 2 * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Finish a request; another may follow."""
        self._bytes_without_body = 0
        self._needs_new_parser = self._is_chunked
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn's own timer stops at the first byte, whatever it is."""
        self._running = None
        self._table.request_finished(self)
        self._start_head_timer()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Start waiting for the client to read."""
        super().pause_writing()
        if self._read_timer is None:
            self._start_read_timer()
        self._table.write_blocked(self)

    def resume_writing(self) -> None:
        """Continue: the client has read everything."""
        self._stop_read_timer()
        self._table.write_drained(self)
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._table.request_started(self)
        if cycle.scope["path"] in _PROBE_PATHS:
            super()._start_asgi_task(cycle, app)
        else:
            self._queue.run(self.address, partial(self._start, cycle, app))

    def _start(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start a request, unless its client has gone and it changes nothing."""
        if not (cycle.disconnected and cycle.scope["method"] in SAFE_METHODS):
            super()._start_asgi_task(cycle, app)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES or self._headers > MAX_HEADERS:
            self._reject(_head_too_large())

    def _reject(self, error: BadRequest | HeadTooLarge) -> NoReturn:
        """Stop the parser, and refuse the request with this error."""
        self._rejection = error
        raise _RefusedError

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._timeouts.head_s, self._on_head_timeout)

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if self._running is None:
            self.transport.close()
        elif self._is_head:  # half a request behind one that is in progress
            self._close_after_answers()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _start_read_timer(self) -> None:
        unsent = self.unsent_bytes
        self._read_timer = self.loop.call_later(self._timeouts.unread_s, self._on_read_timeout, unsent)

    def _on_read_timeout(self, unsent_before: int) -> None:
        self._read_timer = None
        if self.unsent_bytes > unsent_before - self._timeouts.min_read_bytes:
            _rejections.info("unread", "a client does not read its response: the connection is closed")
            self.drop()
        else:
            self._start_read_timer()

    def _close_after_answers(self) -> None:
        """Answer the requests received so far, ignore further input, and close the connection."""
        self._ignores_input = True
        if self._running is None:
            self.transport.close()
        else:
            self.cycle.keep_alive = False  # the newest request; earlier ones keep the connection open

    def _refuse(self, error: ServiceError) -> None:
        """Answer a request that can't be served, and close the connection."""
        _rejections.info(error.code, f"a request was refused before it was read: {error.message}")
        running = self._running
        if running is not None and not running.more_body:  # the error belongs to a later request
            self._close_after_answers()
            return
        self._ignores_input = True
        has_begun = running is not None and running.response_started
        self._abandon()
        if has_begun:
            self.transport.close()
            return
        self.transport.write(_error_bytes(error))
        self.transport.write_eof()
        self._linger_timer = self.loop.call_later(_LINGER_S, self.transport.abort)

    def _abandon(self) -> None:
        """Notify the requests that their client has disconnected."""
        waiting = [cycle for cycle, _ in self.pipeline]
        self.pipeline.clear()
        for cycle in [self._running, *waiting]:
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.waiting_for_100_continue = False
                cycle.message_event.set()
        self.flow.resume_writing()


class _RefusedError(Exception):
    """Stops the parser."""


async def _closed(_scope: Any, _receive: Any, _send: Any) -> None:
    """Serve nothing."""


def _shed_load(app: Any, connection: GuardedProtocol) -> Any:
    """Serve only the public paths while too many requests are in progress."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if connection.is_overloaded and scope["path"] not in PUBLIC_PATHS:
            answer = problem_json(problem_response(ServiceOverloaded("too many requests are in progress")))
            answer.headers["Connection"] = "close"
            await answer(scope, receive, send)
        else:
            await app(scope, receive, send)

    return serve


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(
        f"the request has more than {MAX_HEAD_BYTES} bytes of headers, or more than {MAX_HEADERS} headers"
    )


def _malformed(error: httptools.HttpParserError) -> BadRequest:
    reason = "" if isinstance(error, httptools.HttpParserCallbackError) else f": {error}"
    return BadRequest(f"the request is not valid HTTP{reason}", hint="Send HTTP/1.1.")


def _error_bytes(error: ServiceError) -> bytes:
    return _cached_error_bytes(type(error), error.message, error.hint)  # type: ignore[arg-type]  # a class can be hashed


@lru_cache(maxsize=64)
def _cached_error_bytes(kind: type[ServiceError], message: str, hint: str) -> bytes:
    """Return a refusal as bytes, cached: clients can provoke it endlessly."""
    answer = problem_json(problem_response(kind(message, hint=hint)))
    for name, value in {**SECURITY_HEADERS, "Connection": "close"}.items():
        answer.headers[name] = value
    status = b"HTTP/1.1 %d %s\r\n" % (answer.status_code, _PHRASES[answer.status_code])
    return status + _header_bytes(answer.raw_headers) + b"\r\n" + bytes(answer.body)


_PHRASES = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}


def _header_bytes(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%s: %s\r\n" % item for item in headers)
