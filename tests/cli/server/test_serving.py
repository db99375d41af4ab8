"""Connections to `cesar serve`: idle ones are closed, and closed ones are freed at once."""

from __future__ import annotations

import asyncio
import functools
import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import uvicorn

from cesar.api.http.server.connections import ConnectionLimits, Connections
from cesar.api.http.server.fair_queue import FairQueue
from cesar.api.http.server.protocol import GuardedProtocol, Timeouts
from cesar.api.repository import JobRepository
from cesar.cli.server.serving import raise_file_limit, serve, throttle_loop_errors
from cesar.cli.server.signals import Watchdog
from cesar.cli.transcription.model_download import check_model
from cesar.errors import ModelNotInstalled, UnknownModel
from cesar.settings.config import load

HEAD = b"GET / HTTP/1.1\r\nHost: cesar\r\n"
LIMITS = ConnectionLimits(total=100, per_address=100)
TIMEOUTS = Timeouts(head_s=0.2, unread_s=0.2)


async def _app(_scope: Any, _receive: Any, send: Any) -> None:
    await asyncio.sleep(2 * TIMEOUTS.head_s)  # a response may take longer
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@asynccontextmanager
async def connected(
    app: Any = _app, protocol: Callable[..., GuardedProtocol] = GuardedProtocol
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        protocol = functools.partial(protocol, connections=Connections(LIMITS), queue=FairQueue(), timeouts=TIMEOUTS)
        config = uvicorn.Config(app, http=protocol, lifespan="off", log_config=None, access_log=False)  # type: ignore[arg-type]
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()
            server.should_exit = True
            await serving


@pytest.mark.parametrize("sent", [b"", b"GET", HEAD])
def test_a_connection_without_a_complete_request_is_closed(sent: bytes) -> None:
    async def silent() -> bytes:
        async with connected() as (reader, writer), asyncio.timeout(60):
            writer.write(sent)
            return await reader.read()

    assert asyncio.run(silent()) == b""


def test_each_request_on_a_connection_has_its_own_timeout() -> None:
    async def twice() -> list[bytes]:
        async with connected() as (reader, writer), asyncio.timeout(60):
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


def test_empty_lines_between_requests_do_not_keep_a_connection_open() -> None:
    async def blank() -> bytes:
        async with connected() as (reader, writer), asyncio.timeout(60):
            writer.write(HEAD + b"\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\r\n")  # ends uvicorn's own wait for the next request
            return await reader.read()

    assert asyncio.run(blank()) == b""


def test_a_response_that_is_not_read_is_aborted_and_its_request_is_disconnected() -> None:
    async def unread() -> None:
        ended = asyncio.Event()

        async def endless(_scope: Any, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            try:
                while (await _receive_now(_receive)) is None:
                    await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            finally:
                ended.set()

        async with connected(endless) as (_reader, writer), asyncio.timeout(60):
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(HEAD + b"\r\n")
            await ended.wait()

    asyncio.run(unread())


async def _receive_now(receive: Any) -> Any:
    """Return the next message for a request without waiting, or None."""
    try:
        async with asyncio.timeout(0):
            message = await receive()
    except TimeoutError:
        return None
    return message if message["type"] == "http.disconnect" else None


def test_the_wait_for_the_last_bytes_of_a_response_is_limited() -> None:
    """The request has ended by then, and the remaining bytes are in the server's buffer."""

    async def unread() -> None:
        connections = Connections(LIMITS)

        async def large(_scope: Any, _receive: Any, send: Any) -> None:
            headers = [(b"content-length", b"%d" % 2**25), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": bytes(2**25)})

        with socket.create_server(("127.0.0.1", 0)) as listening:
            protocol = functools.partial(GuardedProtocol, connections=connections, queue=FairQueue(), timeouts=TIMEOUTS)
            config = uvicorn.Config(large, http=protocol, lifespan="off", log_config=None, access_log=False)  # type: ignore[arg-type]
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            with socket.create_connection(listening.getsockname()) as caller:
                caller.sendall(HEAD + b"\r\n")
                async with asyncio.timeout(60):
                    while len(connections) == 0:
                        await asyncio.sleep(0)
                    while len(connections) > 0:
                        await asyncio.sleep(0.01)
            server.should_exit = True
            await serving

    asyncio.run(unread())


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("sent", "is_reset"),
    [
        pytest.param(b"", False, id="nothing sent"),
        pytest.param(b"nonsense\r\n\r\n", False, id="not HTTP"),
        pytest.param(HEAD + b"X: " + b"a" * 40_000, False, id="endless headers"),
        pytest.param(HEAD + b"Connection: close\r\n\r\n", False, id="a request"),
        pytest.param(HEAD + b"\r\n", True, id="a request whose caller breaks off"),
        pytest.param(HEAD + b"\r\n" + HEAD + b"\r\n" + HEAD, True, id="pipelined requests whose caller breaks off"),
        pytest.param(HEAD + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", False, id="an offer to upgrade"),
    ],
)
def test_a_closed_connection_is_freed_without_garbage_collection(sent: bytes, is_reset: bool) -> None:
    """Collecting the cycles of thousands of dead connections would stop all requests for 0.1 s."""
    made: list[weakref.ref[object]] = []

    class Watched(GuardedProtocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
            super().connection_made(transport)
            made.extend((weakref.ref(self), weakref.ref(transport)))

    async def connect_and_leave() -> None:
        async with connected(protocol=Watched) as (reader, writer), asyncio.timeout(60):
            writer.write(sent)
            if is_reset:
                while not made:
                    await asyncio.sleep(0)
                writer.transport.abort()
            else:
                await reader.read()
                writer.close()
            while any(each() is not None for each in made):
                await asyncio.sleep(0.01)

    with without_garbage_collection():
        asyncio.run(connect_and_leave())
    assert len(made) == 2


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_limit() -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
    try:
        most = raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most == min(before[1], 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_repeated_errors_in_the_event_loop_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def go_wrong() -> None:
        loop = asyncio.get_running_loop()
        throttle_loop_errors(loop)
        for _ in range(1000):
            loop.call_exception_handler({"message": "no more files", "exception": OSError(24, "Too many open files")})

    asyncio.run(go_wrong())
    [record] = caplog.records
    assert (record.name, record.levelname) == ("cesar.api", "ERROR")
    assert "Too many open files" in record.getMessage()


# The model


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "options", "messages"),
    [
        ("serve", ["--port", "0", "--model", "lrge-v3"], "Did you mean large-v3"),
        ("serve", ["--port", "0", "--model", "large-v3", "--offline"], "cesar models import"),
        ("serve", ["--port", "0", "--model", "./nowhere"], "nowhere"),
        ("worker", ["--offline"], "cesar models import"),
    ],
)
def test_a_missing_model_ends_the_command_before_it_starts(command, options, messages, cesar, monkeypatch):
    monkeypatch.setenv("CESAR_MODEL", "large-v3")
    done = cesar(command, *options, text=True)
    assert done.returncode == 4
    [line] = done.stderr.splitlines()
    assert messages in line


def test_a_worker_leaves_a_downloadable_model_to_the_job_that_needs_it(environ):
    check_model(replace(load(), model="large-v3"))
    with pytest.raises(ModelNotInstalled):
        check_model(replace(load(), model="large-v3", offline=True))
    with pytest.raises(UnknownModel):
        check_model(replace(load(), model="nonsense"))


def test_it_says_where_it_listens_once_the_sweep_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    messages: list[str] = []
    sweep = JobRepository.sweep

    async def note_and_sweep(repository: JobRepository) -> object:
        messages.append(capsys.readouterr().err)
        return await sweep(repository)

    async def start_and_stop() -> None:
        serving = asyncio.create_task(
            serve(load({"data_dir": str(tmp_path), "port": 0}), with_worker=False, watchdog=Watchdog())
        )
        async with asyncio.timeout(60):
            while not messages or "Listening on" not in "".join(messages):
                await asyncio.sleep(0.01)
                messages.extend([capsys.readouterr().err] if messages else [])
            serving.cancel()  # a signal would start the watchdog, which ends this process some time later
            with suppress(asyncio.CancelledError):
                await serving

    with patch.object(JobRepository, "sweep", note_and_sweep):
        asyncio.run(start_and_stop())
    assert "Listening on" not in messages[0]
