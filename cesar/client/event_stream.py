"""Server-sent events (WHATWG HTML, 9.2): read as they come, over as many connections as it takes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from cesar.client.connection import RETRY_DELAYS_S, Connection

_MEDIA_TYPE = "text/event-stream"
_NO_CONTENT = 204
"""Nothing comes after the event that was told of as the last."""
FINAL_EVENTS = frozenset({"end", "deleted"})
"""The events after which none come."""
_RECONNECT_DELAYS_S = (0.25, 0.5, 1.0, 2.0, 4.0, *[5.0] * 11)
"""The delays before each attempt to connect again: a minute, which is enough for a service to be started anew."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that has happened to a job."""

    id: str
    """What to go on after; "" if the service gave none."""
    kind: str
    """`status`, `segment`, `progress`, `reset`, `end` or `deleted`."""
    data: dict[str, Any]


def stream_events(connection: Connection, path: str, after: str | None) -> Iterator[Event]:
    """Give the events, going on after a broken connection, until one of `FINAL_EVENTS` has come.

    Raises `ServiceUnreachable`, at once if no connection was ever made, and what the service answers.
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
    """Read events from a stream; None stands for a comment, by which a service shows that it is there.

    Lines end with a line feed, with or without a carriage return before it; no other character ends one.
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
    """Give whole lines; str.splitlines would end them at marks that may stand in a text."""
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
