"""`GuardedProtocol`: HTTP/1.1 as uvicorn and httptools speak it, with limits on what one connection may take.

Here are the limits that hold before there is a request, and after its answer: bytes of a head, of trailers, of what is
not read; time for a head, and for reading an answer. What a request may do is limited in `layers`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from cesar.api.execution.throttled_log import ThrottledLog
from cesar.api.http.errors import told_of, written
from cesar.api.http.middleware.auth import PUBLIC, SAFE_METHODS
from cesar.api.http.middleware.limits import address_of
from cesar.api.http.middleware.security_headers import SAFE
from cesar.api.http.server.connections import Connections
from cesar.api.http.server.fair_loop import fairness_of
from cesar.api.http.server.fair_queue import FairQueue
from cesar.errors import BadRequest, HeadTooLarge, ServiceError, ServiceOverloaded

MOST_HEAD_BYTES: Final = 32 * 1024
"""Of the request line with the headers, or of trailers, or between two parts of a chunked body."""
MOST_HEADERS: Final = 128
MOST_PIPELINED: Final = 8
"""How many requests may wait on one connection for the answer to the first."""
_READ_BYTES = 16 * 1024
"""As much is read at once, so that callers take turns: asyncio's 256 KiB are a tenth of a second of small chunks."""
_FRAMING_BYTES = 64 * 1024
"""A chunked body may have as much framing as content, and this besides: chunks of a byte cost as much as large ones."""
_PIECE_BYTES = 16 * 1024
"""The parser gets no more at once, so that what it gathers can be limited."""
_LINGER_S = 2.0
"""How long a refused caller may go on sending, so that it hears why (RFC 9112, 9.6)."""
_PROBES: Final = frozenset({"/livez", "/readyz"})
"""Asked by whoever decides whether the service still lives: these never wait behind other requests."""
_log = logging.getLogger(__name__)
_rejections = ThrottledLog(_log)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a caller may take."""

    head_s: float = 20.0
    """From the connection, or the last answer, to the end of the next head."""
    unread_s: float = 30.0
    """In that time `least_read_bytes` of an answer must be read, or all of it."""
    least_read_bytes: int = 30 * 1024


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
        self.app = _unless_crowded(self.app, self)
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
        """How much of the body was framing, beyond its content."""
        self._is_too_large = self._has_enough = False
        self._is_chunked = self._needs_new_parser = False
        self._is_deaf = False
        """Whether what still comes is dropped."""

    @property
    def unsent_bytes(self) -> int:
        """How much of the answers waits in this process."""
        return self.transport.get_write_buffer_size()

    @property
    def is_crowded(self) -> bool:
        """Whether more requests are under way than may be."""
        return self._table.is_crowded(self)

    def drop(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # be told of whatever a caller has not read
        if hasattr(transport, "max_size"):  # asyncio's own transport over a socket
            transport.max_size = _READ_BYTES
        if fairness := fairness_of(self.loop):
            fairness.forget(transport.get_extra_info("socket").fileno())
        self.address = address_of(self.client[0]) if self.client else ""
        self._await_head()
        self._table.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every request that its caller is gone, not only the newest, as uvicorn does."""
        self._stop_head_timer()
        self._stop_read_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._table.closed(self)
        self._abandon()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # which uvicorn does only for connections that end well
        self._release()

    def _release(self) -> None:
        """Drop the references that form cycles, so that a closed connection is freed at once.

        Left to the garbage collector, tens of thousands of dead objects come together, and the pass that frees them
        stops every other request for a tenth of a second or more.
        """
        if hasattr(self.transport, "_read_ready_cb"):  # asyncio's transport keeps a method of its own
            self.transport._read_ready_cb = None  # noqa: SLF001 - there is no public way to free it
        self.transport = self.flow = self.cycle = self.scope = None  # type: ignore[assignment]
        self.app = _closed

    def data_received(self, data: bytes) -> None:
        """Parse what has come, piece by piece, unless nothing else is wanted."""
        self._unset_keepalive_if_required()
        for start in range(0, len(data), _PIECE_BYTES):
            if self._is_deaf or self.transport.is_closing():
                return
            self._parse(data[start : start + _PIECE_BYTES])

    def _parse(self, piece: bytes) -> None:
        self._bytes_without_body += len(piece)
        if not self._is_head:
            self._framing_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:  # another protocol is offered, which nobody has to take (RFC 9110, 7.8)
            self._close_after_answers()
        except httptools.HttpParserError as error:
            if self._has_enough:
                self._close_after_answers()
            else:
                self._refuse(_head_too_large() if self._is_too_large else _malformed(error))
        else:
            if self._bytes_without_body > MOST_HEAD_BYTES:
                self._refuse(_head_too_large())
            elif self._framing_bytes > _FRAMING_BYTES:
                self._refuse(BadRequest("the body comes in chunks that are too small", hint="Send larger chunks."))
            elif self._needs_new_parser:
                self._renew_parser()

    def _renew_parser(self) -> None:
        """Forget the last trailer, which httptools would add to the headers of the next request."""
        self._needs_new_parser = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def on_message_begin(self) -> None:
        """Begin a request, unless too many wait already: then the connection is closed after their answers."""
        if len(self.pipeline) >= MOST_PIPELINED or self._needs_new_parser:
            self._has_enough = True
            raise _RefusedError
        super().on_message_begin()
        self._is_head = True
        self._head_bytes = self._headers = 0
        self._await_head()

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header. Trailers are dropped: a request that is checked already must not change."""
        self._headers += 1
        self._count(len(name) + len(value) + len(b": \r\n"))
        if self._is_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, unless it names two hosts: servers and proxies differ on which counts (RFC 9112, 3.2)."""
        if sum(name == b"host" for name, _ in self.headers) > 1:
            raise _RefusedError
        self._stop_head_timer()
        self._is_head = False
        self._head_bytes = self._headers = self._bytes_without_body = 0
        self._framing_bytes = 0
        self._is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._bytes_without_body = 0
        self._framing_bytes = max(0, self._framing_bytes - 2 * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; another may follow."""
        self._bytes_without_body = 0
        self._needs_new_parser = self._is_chunked
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request; uvicorn's own timer ends with the first byte that comes, whatever it is."""
        self._running = None
        self._table.rests(self)
        self._await_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the caller to read."""
        super().pause_writing()
        if self._read_timer is None:
            self._await_reader()
        self._table.unread(self)

    def resume_writing(self) -> None:
        """Go on: the caller has read everything."""
        self._stop_read_timer()
        self._table.read(self)
        super().resume_writing()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._table.began(self)
        if cycle.scope["path"] in _PROBES:
            super()._start_asgi_task(cycle, app)
        else:
            self._queue.run(self.address, partial(self._start, cycle, app))

    def _start(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start a request, unless nobody waits for its answer any more and it changes nothing."""
        if not (cycle.disconnected and cycle.scope["method"] in SAFE_METHODS):
            super()._start_asgi_task(cycle, app)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MOST_HEAD_BYTES or self._headers > MOST_HEADERS:
            self._is_too_large = True
            raise _RefusedError

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._timeouts.head_s, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._running is None:
            self.transport.close()
        elif self._is_head:  # half a request behind one that is still being answered
            self._close_after_answers()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _await_reader(self) -> None:
        unsent = self.unsent_bytes
        self._read_timer = self.loop.call_later(self._timeouts.unread_s, self._require_reading, unsent)

    def _require_reading(self, unsent_before: int) -> None:
        self._read_timer = None
        if self.unsent_bytes > unsent_before - self._timeouts.least_read_bytes:
            _rejections.info("unread", "a caller does not read its answer: the connection is closed")
            self.drop()
        else:
            self._await_reader()

    def _close_after_answers(self) -> None:
        """Answer what has come, hear nothing else, and close the connection."""
        self._is_deaf = True
        if self._running is None:
            self.transport.close()
        else:
            self.cycle.keep_alive = False  # the newest; those before it keep the connection

    def _refuse(self, error: ServiceError) -> None:
        """Answer a request that can't be served, and close the connection."""
        _rejections.info(error.code, f"a request is refused before it is read: {error.message}")
        running = self._running
        if running is not None and not running.more_body:  # what is wrong belongs to a later request
            self._close_after_answers()
            return
        self._is_deaf = True
        has_begun = running is not None and running.response_started
        self._abandon()
        if has_begun:
            self.transport.close()
            return
        self.transport.write(_written(error))
        self.transport.write_eof()
        self._linger_timer = self.loop.call_later(_LINGER_S, self.transport.abort)

    def _abandon(self) -> None:
        """Tell the requests that there is nobody to answer."""
        waiting = [cycle for cycle, _ in self.pipeline]
        self.pipeline.clear()
        for cycle in [self._running, *waiting]:
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.waiting_for_100_continue = False
                cycle.message_event.set()
        self.flow.resume_writing()


class _RefusedError(Exception):
    """The parser is to stop."""


async def _closed(_scope: Any, _receive: Any, _send: Any) -> None:
    """Serve nothing."""


def _unless_crowded(app: Any, connection: GuardedProtocol) -> Any:
    """Serve only what is open to all while too many requests are under way."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        if connection.is_crowded and scope["path"] not in PUBLIC:
            answer = written(told_of(ServiceOverloaded("too many requests are under way")))
            answer.headers["Connection"] = "close"
            await answer(scope, receive, send)
        else:
            await app(scope, receive, send)

    return serve


def _head_too_large() -> HeadTooLarge:
    return HeadTooLarge(f"the headers have more than {MOST_HEAD_BYTES} bytes, or are more than {MOST_HEADERS}")


def _malformed(error: httptools.HttpParserError) -> BadRequest:
    reason = "" if isinstance(error, httptools.HttpParserCallbackError) else f": {error}"
    return BadRequest(f"the request is not valid HTTP{reason}", hint="Send HTTP/1.1.")


def _written(error: ServiceError) -> bytes:
    return _answer(type(error), error.message, error.hint)  # type: ignore[arg-type]  # a class can be hashed


@lru_cache(maxsize=64)
def _answer(kind: type[ServiceError], message: str, hint: str) -> bytes:
    """Write a refusal down, once for all who get it: it may be asked for without end."""
    answer = written(told_of(kind(message, hint=hint)))
    for name, value in {**SAFE, "Connection": "close"}.items():
        answer.headers[name] = value
    status = b"HTTP/1.1 %d %s\r\n" % (answer.status_code, _PHRASES[answer.status_code])
    return status + _lines(answer.raw_headers) + b"\r\n" + bytes(answer.body)


_PHRASES = {400: b"Bad Request", 431: b"Request Header Fields Too Large"}


def _lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%s: %s\r\n" % item for item in headers)
