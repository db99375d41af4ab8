"""`Service`: what every endpoint works with. It is made once, in `app`, and found by each request."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import HTTPConnection

from cesar.api.http.live.hub import Hub
from cesar.api.http.middleware.limits import RateLimit
from cesar.api.http.monitoring.job_presenter import Outlook
from cesar.api.http.monitoring.metrics import Metrics
from cesar.api.http.monitoring.monitor import Monitor
from cesar.api.http.quotas import StoredBytes
from cesar.api.queue.api_keys import KeyRing
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.api.worker import BackgroundWorker
from cesar.settings.config import Settings


@dataclass(slots=True)
class Service:
    """The queue, who works on it, and who may use it."""

    settings: Settings
    repository: JobRepository
    keys: KeyRing
    hub: Hub
    rate_limit: RateLimit
    metrics: Metrics
    monitor: Monitor
    needs_key: bool
    """Whether callers must show an API key."""
    worker: BackgroundWorker | None = None
    """None: other processes do the work."""
    working: asyncio.Task[None] | None = None
    """The worker's run, while it lasts."""
    disk: Executor = field(default_factory=lambda: ThreadPoolExecutor(4, thread_name_prefix="cesar-upload"))
    """The threads that write uploads: others' work need not wait for a slow disk."""
    outlook: Outlook = field(init=False)
    """Shows jobs with what lies before them."""
    keep_alive_s: float = 15.0
    """So often something is sent to a caller who waits for an answer, before a proxy takes them for dead."""
    stored: StoredBytes = field(init=False)
    """How much is kept for each caller."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the service is asked to end: nothing new is begun, and open streams are closed."""

    def __post_init__(self) -> None:
        self.outlook = Outlook(self.repository)
        self.stored = StoredBytes(self.repository)

    @property
    def audio(self) -> AudioStore:
        """Where uploads are kept."""
        assert self.repository.audio is not None
        return self.repository.audio

    async def stop(self, *, now: bool = False) -> None:
        """Begin nothing new, close open streams, have the worker finish (now: stop at once). May be called again."""
        is_first = not self.stopping.is_set()
        self.stopping.set()
        self.hub.wake_all()
        if self.worker is not None and (is_first or now):
            await self.worker.shutdown(now=now)


def service_of(connection: HTTPConnection) -> Service:
    """Give the service that a request is for; a dependency of the endpoints."""
    return cast("Service", connection.app.state.service)
