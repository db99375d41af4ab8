"""`create_app`: assembles the service, and starts and stops the tasks that run beside the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

import cesar
from cesar.api.http import errors
from cesar.api.http.dependencies import Service
from cesar.api.http.live.hub import Hub
from cesar.api.http.middleware import request_id, stack
from cesar.api.http.middleware.limits import RateLimit
from cesar.api.http.monitoring.metrics import Metrics
from cesar.api.http.monitoring.monitor import Monitor
from cesar.api.http.openai import errors as openai_errors
from cesar.api.http.openai import routes as openai_routes
from cesar.api.http.routes import events, jobs, submissions, system, transcripts
from cesar.api.queue.api_keys import KeyRing
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.api.worker import BackgroundWorker
from cesar.loopback import is_loopback
from cesar.settings.config import Settings

_DESCRIPTION = """
Submit recordings, watch them being transcribed, and read the transcripts. Everything runs on this machine.

1. `POST /transcribe` with a file creates a job. Its id is in the response, its address in `Location`.
2. `GET /jobs/{id}/events` streams everything that happens to the job; or poll `GET /jobs/{id}`.
3. `GET /jobs/{id}/transcript?format=srt` returns the transcript; while the job is running, what has been recognised.

Errors are `application/problem+json` (RFC 9457) with a stable `code` and a `hint` that says what to do.
"""
_DATABASE_TIMEOUT_S = 3.0
"""How long a write waits for a busy database. It is short, so that callers get an error soon and retry."""


def create_app(settings: Settings, *, with_worker: bool = True) -> FastAPI:
    """Return the application. On start-up it opens the queue and, if `with_worker`, runs a worker."""
    repository = JobRepository(
        settings.database_location,
        allow_network_fs=settings.allow_network_fs,
        audio=AudioStore(settings.audio_dir),
        busy_timeout_s=_DATABASE_TIMEOUT_S,
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
        requires_key=requires_key(settings),
    )
    if with_worker:
        service.worker = BackgroundWorker(repository, settings=settings, grace_s=settings.shutdown_grace_s)
    app = FastAPI(
        title="Cesar",
        version=cesar.__version__,
        description=_DESCRIPTION,
        lifespan=_lifespan(service),
        docs_url=None,  # our own page loads nothing from the network, and is rendered once: see routes.system
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        responses=errors.RESPONSES,
        middleware=stack.middleware(service),
    )
    app.state.service = service
    errors.install(app, {request_id.OPENAI_PREFIX: openai_errors.error_response})
    for module in (submissions, jobs, transcripts, events, openai_routes, system):
        app.include_router(module.router)
    return app


def requires_key(settings: Settings) -> bool:
    """Whether callers need an API key: as configured, else unless the service listens on loopback only."""
    return not is_loopback(settings.host) if settings.require_key is None else settings.require_key


def _lifespan(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.repository.connect(for_recordings=True, check=True)
        try:
            await service.repository.sweep()
            await service.hub.start()
            await service.monitor.start()
            if service.worker is not None:
                service.worker_task = asyncio.create_task(service.worker.run())
            yield
        finally:
            await service.stop()
            if service.worker_task is not None:
                await asyncio.wait({service.worker_task})  # ends within its grace period, whatever the job is doing
            await service.hub.stop()
            await service.monitor.stop()
            await service.repository.close()

    return lifespan
