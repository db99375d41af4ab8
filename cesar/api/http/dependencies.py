"""`Service`: what every endpoint works with. `app` creates one; endpoints get it through `ServiceDep`."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends
from starlette.requests import HTTPConnection

from cesar.api.http.live.hub import Hub
from cesar.api.http.middleware.limits import RateLimit
from cesar.api.http.monitoring.job_presenter import JobPresenter
from cesar.api.http.monitoring.metrics import Metrics
from cesar.api.http.monitoring.monitor import Monitor
from cesar.api.http.quotas import StorageQuota
from cesar.api.queue.api_keys import KeyRing
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.api.worker import BackgroundWorker
from cesar.settings.config import Settings


@dataclass(slots=True)
class Service:
    """The queue, the worker and the access rules of one application."""

    settings: Settings
    repository: JobRepository
    keys: KeyRing
    hub: Hub
    rate_limit: RateLimit
    metrics: Metrics
    monitor: Monitor
    requires_key: bool
    """Whether callers must present an API key."""
    worker: BackgroundWorker | None = None
    """None: other processes run the jobs."""
    worker_task: asyncio.Task[None] | None = None
    """The task that runs the worker."""
    disk: Executor = field(default_factory=lambda: ThreadPoolExecutor(4, thread_name_prefix="cesar-upload"))
    """The threads that write uploads, kept apart so that a slow disk holds up no other work."""
    job_presenter: JobPresenter = field(init=False)
    """Adds queue positions and estimates to jobs."""
    keep_alive_s: float = 15.0
    """How often bytes are sent to a waiting client, so that proxies keep the connection open."""
    storage_quota: StorageQuota = field(init=False)
    """How many bytes of recordings each caller may store."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service shuts down: no new work is accepted, and open streams are closed."""

    def __post_init__(self) -> None:
        self.job_presenter = JobPresenter(self.repository)
        self.storage_quota = StorageQuota(self.repository)

    @property
    def audio(self) -> AudioStore:
        """The store of uploaded recordings."""
        assert self.repository.audio is not None
        return self.repository.audio

    async def stop(self, *, now: bool = False) -> None:
        """Refuse new work, close open streams, let the worker finish (now: stop it at once). May be called again."""
        is_first = not self.stopping.is_set()
        self.stopping.set()
        self.hub.wake_all()
        if self.worker is not None and (is_first or now):
            await self.worker.shutdown(now=now)


def get_service(connection: HTTPConnection) -> Service:
    """Return the service of a request's application."""
    return cast("Service", connection.app.state.service)


async def _service(connection: HTTPConnection) -> Service:
    """Return the service; FastAPI would call a function that is not async in a thread."""
    return get_service(connection)


ServiceDep = Annotated[Service, Depends(_service)]
"""An endpoint's parameter that is the service."""
