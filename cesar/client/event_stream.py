"""Server-sent events (WHATWG HTML, 9.2), read as they arrive, over as many connections as necessary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from cesar.client.connection import RETRY_DELAYS_S, Connection

_MEDIA_TYPE = "text/event-stream"
_NO_CONTENT = 204
"""Status if there is nothing after the last event received."""
FINAL_EVENTS = frozenset({"end", "deleted"})
"""Events that end the stream."""
_RECONNECT_DELAYS_S = (0.25, 0.5, 1.0, 2.0, 4.0, *[5.0] * 11)
"""Delays before each reconnection: a minute in all, which is enough for a restart of the service."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a job."""

    id: str
    """Where the stream can be resumed; "" if the service gave none."""
    kind: str
    """`status`, `segment`, `progress`, `reset`, `end` or `deleted`."""
    data: dict[str, Any]


def stream_events(connection: Connection, path: str, after: str | None) -> Iterator[Event]:
    """Yield the events up to one of `FINAL_EVENTS`, resuming after a broken connection.

    Raises `ServiceUnreachable`, soon if no connection was ever made, and the service's errors.
    """
    last_id, failures = after or "", 0
    delays: tuple[float, ...] = RETRY_DELAYS_S
    while True:
        broken = httpx.TransportError("the stream of events ended too early")
        try:
            with connection.stream(path, _headers(last_id)) as response:
                if response.status_code == _NO_CONTENT:
                    return
                if not response.headers.get("Content-Type", "").startswith(_MEDIA_TYPE):
                    raise connection.unexpected_response(response)
                for event in parse(response.iter_bytes()):
                    failures, delays = 0, _RECONNECT_DELAYS_S
                    if event is None:
                        continue
                    last_id = event.id or last_id
                    yield event
                    if event.kind in FINAL_EVENTS:
                        return
        except httpx.TransportError as error:
            broken = error
        if failures == len(delays):
            raise connection.unreachable(broken) from broken
        connection.sleep(delays[failures])
        failures += 1


def _headers(last_id: str) -> dict[str, str]:
    return {"Accept": _MEDIA_TYPE} | ({"Last-Event-ID": last_id} if last_id else {})


def parse(blocks: Iterable[bytes]) -> Iterator[Event | None]:
    """Yield the events in a stream; None stands for a comment, which a service sends as a keep-alive.

    Lines end with a line feed, optionally after a carriage return; no other character ends one.
    """
    event_id, kind, data = "", "", ""
    for line in _lines(blocks):
        if line.startswith(":"):
            yield None
        elif line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "id":
                    event_id = value
                case "event":
                    kind = value
                case "data":
                    data += value + "\n"
        else:
            if data:
                yield Event(event_id, kind or "message", json.loads(data))
            event_id, kind, data = "", "", ""


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    """Yield whole lines; str.splitlines would also split at characters that may occur in a text."""
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
