"""Streams of server-sent events, for one job or for all of them.

Stored events are sent at once and in order; progress only when it has changed, at most twice a second.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Protocol

from starlette.responses import StreamingResponse
from starlette.types import Send

from cesar.api.execution.backoff import backoff
from cesar.api.http.live.hub import Hub
from cesar.api.http.live.sse import (
    PING,
    RETRY,
    DeletedView,
    EventBatch,
    ProgressView,
    event_batch,
    format_event,
    progress_of,
)
from cesar.api.http.middleware.revocation import KeyValidity, until_revoked
from cesar.api.http.schemas import event_view
from cesar.api.models import JobEvent, JobFilter, JobStatus, PageContent
from cesar.api.queries.cursor import Cursor
from cesar.api.repository import JobRepository
from cesar.errors import DatabaseError, Unauthorised

PING_EVERY_S = 15.0
PROGRESS_EVERY_S = 0.5
_CHUNKS_AT_ONCE = 10
_EVENTS_AT_ONCE = 100


class EventSource(Protocol):
    """A position in the history, and the events after it."""

    @property
    def job_id(self) -> str | None:
        """The job whose changes wake the stream; None: any job."""

    @property
    def preamble(self) -> bytes:
        """Bytes to send first."""

    @property
    def is_finished(self) -> bool:
        """Whether no more events can follow."""

    def pending(self) -> AsyncGenerator[bytes, None]:
        """Yield the events after the position, and advance it. Raises `DatabaseError`."""

    async def progress(self) -> bytes:
        """Return progress events if the progress has changed since the last ones. Raises `DatabaseError`."""


class JobEventSource:
    """The events of one job."""

    preamble = RETRY

    def __init__(self, hub: Hub, repository: JobRepository, job_id: str, after: Cursor) -> None:
        self.job_id = job_id
        self.is_finished = False
        self._hub = hub
        self._repository = repository
        self._cursor = after
        self._seen_version = -1
        self._latest: ProgressView | None = None
        self._last_sent: ProgressView | None = None

    async def pending(self) -> AsyncGenerator[bytes, None]:
        """Yield state changes, segments and the end."""
        while (version := self._hub.version(self.job_id)) != self._seen_version:
            cursor = self._cursor
            found = await self._hub.coalesce((self.job_id, cursor, version), lambda: self._read(cursor))  # noqa: B023 - awaited before it changes
            if found is None:
                self.is_finished = True
                yield format_event("deleted", DeletedView(job_id=self.job_id))
                return
            self._cursor, self._latest, self.is_finished = found.cursor, found.progress, found.is_finished
            if found.is_complete:
                self._seen_version = version
            if found.data:
                yield found.data
            if self.is_finished:
                return

    async def progress(self) -> bytes:
        """Return the job's progress or queue position, if it has changed."""
        if self._latest is None:
            return b""
        position = self._hub.queue_position(self.job_id) if self._latest.status is JobStatus.QUEUED else None
        current = self._latest.model_copy(update={"queue_position": position})
        if current == self._last_sent or (position is None and current.status is JobStatus.QUEUED):
            return b""
        self._last_sent = current
        return format_event("progress", current)

    async def _read(self, cursor: Cursor) -> EventBatch | None:
        return await read_batch(self._repository, self.job_id, cursor)


class AllJobsEventSource:
    """The events of all jobs of a submitter, or (None) of everyone's."""

    job_id = None
    is_finished = False

    def __init__(self, hub: Hub, repository: JobRepository, after: int, submitter: str | None) -> None:
        self.preamble = RETRY + f"id: {after}\n\n".encode()  # a client cut off before the first event resumes here
        self._hub = hub
        self._repository = repository
        self._after = after
        self._submitter = submitter
        self._seen_version = -1
        self._last_sent: dict[str, ProgressView] = {}

    async def pending(self) -> AsyncGenerator[bytes, None]:
        """Yield state changes."""
        while (version := self._hub.version(None)) != self._seen_version:
            after, latest = self._after, self._hub.last_event
            events = await self._hub.coalesce(
                ("events", self._submitter, after, version),
                lambda: self._read(after),  # noqa: B023 - awaited before they change
            )
            is_complete = len(events) < _EVENTS_AT_ONCE
            newest = events[-1].id if events else after
            self._after = max(newest, latest) if is_complete else newest  # skip the events of others
            if is_complete:
                self._seen_version = version
            if events:
                yield b"".join(format_event("status", event_view(event), event.id) for event in events)

    async def _read(self, after: int) -> list[JobEvent]:
        return await self._repository.events(after=after, limit=_EVENTS_AT_ONCE, submitter=self._submitter)

    async def progress(self) -> bytes:
        """Return the progress of running jobs, where it has changed."""
        at_work = JobFilter(status=frozenset({JobStatus.PROCESSING}), submitter=self._submitter)
        key = ("running", self._submitter, self._hub.version(None))
        page = await self._hub.coalesce(
            key, lambda: self._repository.list_page(at_work, content=PageContent(with_text=False))
        )
        current = {job.id: progress_of(job) for job in page.jobs}
        before, self._last_sent = self._last_sent, current
        return b"".join(
            format_event("progress", view) for job_id, view in current.items() if view != before.get(job_id)
        )


async def read_batch(repository: JobRepository, job_id: str, after: Cursor) -> EventBatch | None:
    """Return the events of a job since a cursor; None if there is no such job."""
    tail = await repository.tail(job_id, after, limit=_CHUNKS_AT_ONCE)
    return None if tail is None else event_batch(tail, after, _CHUNKS_AT_ONCE)


async def stream_events(source: EventSource, hub: Hub, stopping: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """Yield events as they happen, until the source is exhausted or the service stops.

    Yields nothing while the database is unavailable.
    """
    yield source.preamble
    delays = backoff()
    ping_at, progress_at = time.monotonic() + PING_EVERY_S, 0.0
    with hub.subscribe(source.job_id) as wake:
        while not stopping.is_set():
            wake.clear()
            try:
                async with aclosing(source.pending()) as pending:
                    async for events in pending:
                        yield events
                if source.is_finished:
                    return
                if (may_send_progress := time.monotonic() >= progress_at) and (progress := await source.progress()):
                    progress_at = time.monotonic() + PROGRESS_EVERY_S
                    yield progress
                if time.monotonic() >= ping_at:
                    ping_at = time.monotonic() + PING_EVERY_S
                    yield PING
            except DatabaseError:
                await _wait(wake, next(delays))
                continue
            delays = backoff()
            next_at = min(ping_at, math.inf if may_send_progress else progress_at)
            await _wait(wake, next_at - time.monotonic())


async def _wait(wake: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, timeout_s)):
            await wake.wait()


class EventStream(StreamingResponse):
    """A streaming response of events, whose source is closed when the client disconnects."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], validity: KeyValidity | None) -> None:
        events = _without_unauthorised(until_revoked(events, validity))
        # The header turns off nginx's buffering.
        super().__init__(events, headers={"X-Accel-Buffering": "no"})
        self._events = events

    async def stream_response(self, send: Send) -> None:
        """Send the events as they come."""
        async with aclosing(self._events):
            await super().stream_response(send)


async def _without_unauthorised(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the events, and end quietly when the caller's key is revoked: the next request gets the reason."""
    with suppress(Unauthorised):
        async with aclosing(events):
            async for event in events:
                yield event
