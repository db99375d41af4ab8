"""A real server in the test's own event loop, for what is streamed, and a reader of its events (WHATWG HTML, 9.2.6)."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from tests.api.http.support import ServiceCase
from tests.api.support import PATIENCE_S


@dataclass(frozen=True)
class ReceivedEvent:
    """An event as it came."""

    kind: str
    data: dict[str, Any]
    last_id: str
    """What a browser would send as Last-Event-ID from now on."""
    has_id: bool


class LiveCase(ServiceCase):
    """Each test has a server; `client` talks to it over TCP."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(self.app, lifespan="off", log_config=None, ws="none", timeout_graceful_shutdown=1)
        self.server = _Server(config)
        self.serving = asyncio.create_task(self.server.serve(sockets=[listening]))
        self.addAsyncCleanup(self.stop_server)
        self.client = httpx.AsyncClient(base_url=self.url, timeout=PATIENCE_S, limits=httpx.Limits())
        self.addAsyncCleanup(self.client.aclose)

    async def stop_server(self) -> None:
        self.server.should_exit = True
        await self.service.stop()
        await self.serving

    async def events(
        self, path: str, last_id: str = "", headers: dict[str, str] | None = None
    ) -> AsyncGenerator[ReceivedEvent, None]:
        """Yield the events, until the server ends the stream."""
        wanted = {**({"Last-Event-ID": last_id} if last_id else {}), **(headers or {})}
        async with self.client.stream("GET", path, headers=wanted) as answer:
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(":")
                    fields[name] = value.removeprefix(" ")
                    continue
                last_id = fields.get("id", last_id)
                if "data" in fields:
                    yield ReceivedEvent(fields["event"], json.loads(fields["data"]), last_id, "id" in fields)
                fields = {}

    async def all_events(self, path: str, last_id: str = "") -> list[ReceivedEvent]:
        """Return all events until the server ends the stream."""
        return [told async for told in self.events(path, last_id)]

    async def stored_events(self, path: str, last_id: str = "") -> list[ReceivedEvent]:
        """Return only the events with an id."""
        return [told for told in await self.all_events(path, last_id) if told.has_id]

    async def first_stored(self, path: str, last_id: str = "") -> ReceivedEvent:
        """Return the first event with an id, and disconnect."""
        async with aclosing(self.events(path, last_id)) as events:
            async for told in events:
                if told.has_id:
                    return told
        raise AssertionError("the stream ended")


class _Server(uvicorn.Server):
    """Leaves the signals to the tests."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def until(events: AsyncGenerator[ReceivedEvent, None], kind: str, **data: Any) -> ReceivedEvent:
    """Read on until an event of that kind, and with these data, comes."""
    async with asyncio.timeout(PATIENCE_S):
        async for told in events:
            if told.kind == kind and data.items() <= told.data.items():
                return told
    raise AssertionError(f"no {kind} came")
