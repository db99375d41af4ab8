"""The service in this process: where it listens, what it says on standard error, and how signals end it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import TYPE_CHECKING, Any, ClassVar

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cesar.api.complaints import Complaints
from cesar.api.http.app import create_app
from cesar.api.models import JobStatus
from cesar.cli.events import write_stderr
from cesar.cli.local_queue import database_file
from cesar.cli.logs import SERVICE, service_log_shown
from cesar.cli.stopping import Stopper, signals_heard
from cesar.cli.working import tell_of_stop
from cesar.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cesar.api.http.service import Service
    from cesar.config import Settings

_FINISH_REQUESTS_S = 3
_BACKLOG = 2048


async def serve(settings: Settings, *, with_worker: bool) -> None:
    """Answer requests, and do jobs, until a signal comes."""
    database_file(settings)  # a queue in memory would end with the command
    app = create_app(settings, with_worker=with_worker)
    service: Service = app.state.service
    listening = _listen(settings)
    server = _Server(
        uvicorn.Config(
            app,
            http=Punctual,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_FINISH_REQUESTS_S,
        )
    )

    async def stop(is_urgent: bool) -> None:
        await _say_stop(service, is_urgent=is_urgent)
        server.should_exit = True
        await service.stop(now=is_urgent)

    stopper = Stopper(stop, settings.shutdown_grace_s + _FINISH_REQUESTS_S)
    with listening, service_log_shown(settings.log_format), signals_heard(stopper.hear):
        complain_once_a_minute(asyncio.get_running_loop())
        await service.repository.connect(
            for_recordings=True, check=True
        )  # what is wrong with the database is told in one line
        try:
            await _say_where(service, listening)
            await server.serve(sockets=[listening])
        finally:
            await service.repository.close()


class Punctual(HttpToolsProtocol):
    """Closes a connection on which a request's headers do not come in time: each keeps a file open."""

    headers_within_s: ClassVar[float] = 20.0
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        """Begin to wait for the headers; those of the first request are waited for already."""
        super().on_message_begin()
        if self._waiting is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """Wait no longer."""
        self._wait_no_more()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.headers_within_s, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class _Server(uvicorn.Server):
    """Leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def complain_once_a_minute(loop: asyncio.AbstractEventLoop) -> None:
    """Have what goes wrong in the loop itself logged as all else is, and not thousands of times a second.

    So asyncio does when no more files can be opened, and a connection comes.
    """
    complaints = Complaints(logging.getLogger(SERVICE), "the service goes on after an error")

    def tell(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        complaints.tell(error if isinstance(error, Exception) else RuntimeError(context["message"]))

    loop.set_exception_handler(tell)


def _listen(settings: Settings) -> socket.socket:
    """Take the address. Raises `UsageError` if it can't be had."""
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # or asyncio sets no TCP_NODELAY
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{settings.host} is no address of this machine: {error}", hint="Check --host.") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        where = f"port {settings.port} of {settings.host}"
        raise UsageError(f"{where} can't be had: {error.strerror}", hint="Choose another with --port.") from error
    listening.setblocking(False)
    return listening


async def _say_where(service: Service, listening: socket.socket) -> None:
    settings = service.settings
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    write_stderr(f"Listening on http://{shown}:{port} (its interface: http://{shown}:{port}/docs)")
    waiting = (await service.repository.counts())[JobStatus.QUEUED]
    write_stderr(f"Queue: {database_file(settings)}, {waiting} waiting. Recordings: {settings.audio_dir}")
    if service.worker is None:
        write_stderr("Only answering: `cesar worker` does the jobs.")
    if not service.needs_key and not _is_only_here(settings):
        write_stderr("warning: anybody who can reach this address may use the service, without an API key")
    if service.needs_key and not [key for key in await service.keys.list() if key.revoked_at is None]:
        write_stderr("warning: there is no API key yet, so nobody can use it: `cesar keys create NAME` makes one")


def _is_only_here(settings: Settings) -> bool:
    from cesar.api.http.app import is_loopback

    return is_loopback(settings.host)


async def _say_stop(service: Service, *, is_urgent: bool) -> None:
    job_id = service.worker.current_job_id if service.worker is not None else None
    job = await service.repository.get(job_id) if job_id is not None and not is_urgent else None
    tell_of_stop(None if job is None else job.name, service.settings.shutdown_grace_s, is_urgent=is_urgent)
