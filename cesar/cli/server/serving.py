"""The service in this process: its socket, its output on standard error, and its shutdown by signals."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import socket
import sys
from typing import TYPE_CHECKING, Any

import uvicorn

from cesar.api.execution.throttled_log import ThrottledErrorLog
from cesar.api.http.app import create_app
from cesar.api.http.server.connections import ConnectionLimits, Connections
from cesar.api.http.server.fair_loop import fair_selector_of
from cesar.api.http.server.fair_queue import FairQueue
from cesar.api.http.server.protocol import GuardedProtocol
from cesar.api.models import JobStatus
from cesar.cli.logs import SERVICE_LOGGER, service_log
from cesar.cli.queue.local import database_file
from cesar.cli.server.signals import SignalHandler, Watchdog, handle_signals
from cesar.cli.server.working import report_stop
from cesar.cli.transcription.model_download import ensure_model
from cesar.cli.transcription.reporters import write_stderr
from cesar.errors import UsageError
from cesar.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from cesar.api.http.dependencies import Service
    from cesar.settings.config import Settings

_REQUEST_GRACE_S = 3
_BACKLOG = 2048
_ACCEPT_BATCH_SIZE = 4
"""Keeps a flood of connections from starving requests: asyncio accepts up to its backlog in a row."""
_MAX_OPEN_FILES = 65_536
_RESERVED_FILES = 256


async def serve(settings: Settings, *, with_worker: bool, watchdog: Watchdog) -> None:
    """Answer requests and run jobs until a signal arrives."""
    database_file(settings)  # a queue in memory would end with the command
    if with_worker:
        ensure_model(settings, is_silent=False)
    app = create_app(settings, with_worker=with_worker)
    service: Service = app.state.service
    connections = Connections(_connection_limits(settings, raise_file_limit()))
    listening = _listen(settings)
    server = _Server(
        uvicorn.Config(
            app,
            http=functools.partial(GuardedProtocol, connections=connections, queue=FairQueue()),  # type: ignore[arg-type]  # uvicorn only calls it
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_REQUEST_GRACE_S,
            backlog=_ACCEPT_BATCH_SIZE,
        ),
        lambda: _print_startup(service, listening),
    )

    async def stop(is_urgent: bool) -> None:
        await _report_stop(service, is_urgent=is_urgent)
        server.should_exit = True
        await service.stop(now=is_urgent)

    handler = SignalHandler(stop, settings.shutdown_grace_s + _REQUEST_GRACE_S, watchdog)
    with listening, service_log(settings.log_format), handle_signals(handler.on_signal):
        throttle_loop_errors(asyncio.get_running_loop())
        await service.repository.connect(for_recordings=True, check=True)  # a database error is reported in one line
        try:
            await server.serve(sockets=[listening])
        finally:
            await service.repository.close()


def raise_file_limit() -> int:
    """Raise this process's limit on open files as far as the system allows; return the limit."""
    if sys.platform == "win32":
        return _MAX_OPEN_FILES
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= limit:
        return _MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (ValueError, OSError):  # macOS allows fewer than it reports
        return soft
    return limit


def _connection_limits(settings: Settings, max_files: int) -> ConnectionLimits:
    """Return limits that reserve open files for the database, recordings and recognisers."""
    total = max(1, min(settings.max_connections, max_files - _RESERVED_FILES, max_files // 2))
    if total < settings.max_connections:
        write_stderr(
            f"warning: at most {total} connections: the system allows this process {max_files} open files (ulimit -n)"
        )
    return ConnectionLimits(total, min(settings.max_connections_per_address, total))


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the command; `on_started` is awaited when it can answer requests."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and restore the listen backlog, which asyncio has reduced.

        All objects that exist by now stay. Freezing them spares the garbage collector half a million objects, whose
        traversal stopped everything for a tenth of a second each time.
        """
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        if fairness := fair_selector_of(asyncio.get_running_loop()):
            fairness.prefer_registered()  # the listening socket, and the one with which threads wake the loop
        for listening in sockets or ():
            listening.listen(_BACKLOG)
        if not self.should_exit:
            await self._on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def throttle_loop_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log errors of the event loop itself like all others, at most once a minute.

    Without this, asyncio logs thousands a second when a client connects and no more files can be opened.
    """
    errors = ThrottledErrorLog(logging.getLogger(SERVICE_LOGGER), "the service goes on after an error")

    def log_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        errors.report(error if isinstance(error, Exception) else RuntimeError(context["message"]))

    loop.set_exception_handler(log_error)


def _listen(settings: Settings) -> socket.socket:
    """Return a socket that listens on the address. Raises `UsageError` if the address is unavailable."""
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(
            family, socket.SOCK_STREAM, socket.IPPROTO_TCP
        )  # without the protocol, asyncio does not set TCP_NODELAY
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{settings.host} is not an address of this machine: {error}", hint="Check --host.") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        where = f"port {settings.port} of {settings.host}"
        raise UsageError(f"{where} is not available: {error.strerror}", hint="Choose another with --port.") from error
    listening.setblocking(False)
    return listening


async def _print_startup(service: Service, listening: socket.socket) -> None:
    settings = service.settings
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    write_stderr(f"Listening on http://{shown}:{port} (API: http://{shown}:{port}/docs)")
    waiting = (await service.repository.counts())[JobStatus.QUEUED]
    write_stderr(f"Queue: {database_file(settings)}, {waiting} waiting. Recordings: {settings.audio_dir}")
    if service.worker is None:
        write_stderr("Only answering requests: `cesar worker` runs the jobs.")
    if not service.requires_key and not is_loopback(settings.host):
        write_stderr("warning: anyone who can reach this address can use the service without an API key")
    if service.requires_key and not [key for key in await service.keys.list() if key.revoked_at is None]:
        write_stderr(
            "warning: there is no API key yet, so nobody can use the service: create one with `cesar keys create NAME`"
        )


async def _report_stop(service: Service, *, is_urgent: bool) -> None:
    job_id = service.worker.current_job_id if service.worker is not None else None
    job = await service.repository.get(job_id) if job_id is not None and not is_urgent else None
    report_stop(None if job is None else job.name, service.settings.shutdown_grace_s, is_urgent=is_urgent)
