"""Connections to `cesar serve`: one on which no request comes is closed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from cesar.cli.serving import Punctual, complain_once_a_minute

HEAD = b"GET / HTTP/1.1\r\nHost: cesar\r\n"


class Hasty(Punctual):
    headers_within_s = 0.2


async def _app(_scope: Any, _receive: Any, send: Any) -> None:
    await asyncio.sleep(2 * Hasty.headers_within_s)  # an answer may take its time
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(_app, http=Hasty, lifespan="off", log_config=None))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            server.should_exit = True
            await serving


@pytest.mark.parametrize("sent", [b"", b"GET", HEAD])
def test_a_connection_without_a_whole_request_is_closed(sent: bytes) -> None:
    async def silent() -> bytes:
        async with connected() as (reader, writer), asyncio.timeout(10):
            writer.write(sent)
            return await reader.read()

    assert asyncio.run(silent()) == b""


def test_each_request_on_a_connection_has_its_time() -> None:
    async def twice() -> list[bytes]:
        async with connected() as (reader, writer), asyncio.timeout(10):
            answers = []
            for _ in range(2):
                writer.write(HEAD + b"\r\n")
                answers.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(HEAD)
            return [*answers, await reader.read()]

    first, second, last = asyncio.run(twice())
    assert first.startswith(b"HTTP/1.1 204")
    assert second.startswith(b"HTTP/1.1 204")
    assert last == b""


def test_what_goes_wrong_again_and_again_in_the_loop_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def go_wrong() -> None:
        loop = asyncio.get_running_loop()
        complain_once_a_minute(loop)
        for _ in range(1000):
            loop.call_exception_handler({"message": "no more files", "exception": OSError(24, "Too many open files")})

    asyncio.run(go_wrong())
    [record] = caplog.records
    assert (record.name, record.levelname) == ("cesar.api", "ERROR")
    assert "Too many open files" in record.getMessage()
