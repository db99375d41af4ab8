"""`create_app`: puts the service together, and starts and ends what runs beside the requests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_address

from fastapi import FastAPI

import cesar
from cesar.api.http import errors
from cesar.api.http.dependencies import Service
from cesar.api.http.live.hub import Hub
from cesar.api.http.middleware import request_id, stack
from cesar.api.http.middleware.limits import RateLimit
from cesar.api.http.monitoring.metrics import Metrics
from cesar.api.http.monitoring.monitor import Monitor
from cesar.api.http.openai import errors as openai_problems
from cesar.api.http.openai import routes as openai_routes
from cesar.api.http.routes import events, jobs, submissions, system, transcripts
from cesar.api.queue.api_keys import KeyRing
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.api.worker import BackgroundWorker
from cesar.settings.config import Settings

_ABOUT = """
Hand in recordings, watch them being transcribed, read the texts; everything happens on this machine.

1. `POST /transcribe` with a file gives a job. Its id is in the answer, its address in `Location`.
2. `GET /jobs/{id}/events` tells of everything that happens to it, as it happens; or ask `GET /jobs/{id}` now and then.
3. `GET /jobs/{id}/transcript?format=srt` gives the text, also while the job is at work: then as far as it has come.

Errors are `application/problem+json` (RFC 9457) with a stable `code` and a `hint` that says what to do.
"""
_PATIENCE_S = 3.0
"""How long a write waits for another program that keeps the database busy: callers are told soon, and ask again."""
_log = logging.getLogger(__name__)


def create_app(settings: Settings, *, with_worker: bool = True) -> FastAPI:
    """Make the application; when it is started, it opens the queue and (with_worker) works on it."""
    repository = JobRepository(
        settings.database_place,
        allow_network_fs=settings.allow_network_fs,
        audio=AudioStore(settings.audio_dir),
        busy_timeout_s=_PATIENCE_S,
    )
    metrics = Metrics()
    service = Service(
        settings=settings,
        repository=repository,
        keys=KeyRing(repository.database),
        hub=Hub(repository),
        rate_limit=RateLimit(settings.requests_per_minute),
        metrics=metrics,
        monitor=Monitor(repository, settings.data_dir, metrics),
        needs_key=needs_key(settings),
    )
    if with_worker:
        service.worker = BackgroundWorker(repository, settings=settings, grace_s=settings.shutdown_grace_s)
    app = FastAPI(
        title="Cesar",
        version=cesar.__version__,
        description=_ABOUT,
        lifespan=_lifespan(service),
        docs_url=None,  # ours asks nothing of the network, and is written once: see routes.system
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        responses=errors.RESPONSES,
    )
    app.state.service = service
    errors.install(app, {request_id.PREFIX: openai_problems.answer})
    stack.install(app, service)
    for module in (submissions, jobs, transcripts, events, openai_routes, system):
        app.include_router(module.router)
    return app


def needs_key(settings: Settings) -> bool:
    """Whether callers need an API key: as it is set, else unless nobody but this machine can call."""
    return not is_loopback(settings.host) if settings.require_key is None else settings.require_key


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _lifespan(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.repository.connect(for_recordings=True, check=True)
        try:
            await service.repository.sweep()
            await service.hub.start()
            await service.monitor.start()
            if service.worker is not None:
                service.working = asyncio.create_task(service.worker.run())
            yield
        finally:
            await service.stop()
            if service.working is not None:
                await asyncio.wait({service.working})  # within its grace time, whatever the work does
            await service.hub.stop()
            await service.monitor.stop()
            await service.repository.close()

    return lifespan
