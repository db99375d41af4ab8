"""Streams of server-sent events: who follows a job, or all of them, and the pace at which they are told.

What is stored is told at once, and in order; progress only when it has changed, and twice a second at most.
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
from cesar.api.http.live.sse import PING, RETRY, DeletedView, News, ProgressView, news_of, progress_of, written
from cesar.api.http.middleware.revocation import Welcome, while_welcome
from cesar.api.http.schemas import event_view
from cesar.api.models import JobEvent, JobFilter, JobStatus, PageContent
from cesar.api.queue.cursor import Cursor
from cesar.api.repository import JobRepository
from cesar.errors import DatabaseError, Unauthorised

PING_EVERY_S = 15.0
PROGRESS_EVERY_S = 0.5
_CHUNKS_AT_ONCE = 10
_EVENTS_AT_ONCE = 100


class Follower(Protocol):
    """Somebody's place in what happens, and how they are told of what comes after it."""

    @property
    def job_id(self) -> str | None:
        """Whose changes wake them; None: any job's."""

    @property
    def greeting(self) -> bytes:
        """What is sent first."""

    @property
    def is_over(self) -> bool:
        """Whether nothing else can come."""

    def news(self) -> AsyncGenerator[bytes, None]:
        """Give the events after the place, and move it. Raises `DatabaseError`."""

    async def progress(self) -> bytes:
        """Give the events that tell of progress, if it is not as it was told before. Raises `DatabaseError`."""


class JobFollower:
    """Somebody who follows one job."""

    greeting = RETRY

    def __init__(self, hub: Hub, repository: JobRepository, job_id: str, after: Cursor) -> None:
        self.job_id = job_id
        self.is_over = False
        self._hub = hub
        self._repository = repository
        self._cursor = after
        self._seen = -1
        self._now: ProgressView | None = None
        self._told: ProgressView | None = None

    async def news(self) -> AsyncGenerator[bytes, None]:
        """Tell of state changes and segments, and of the end."""
        while (number := self._hub.number_of(self.job_id)) != self._seen:
            cursor = self._cursor
            found = await self._hub.shared((self.job_id, cursor, number), lambda: self._read(cursor))  # noqa: B023 - awaited before it changes
            if found is None:
                self.is_over = True
                yield written("deleted", DeletedView(job_id=self.job_id))
                return
            self._cursor, self._now, self.is_over = found.cursor, found.progress, found.is_over
            if found.is_whole:
                self._seen = number
            if found.written:
                yield found.written
            if self.is_over:
                return

    async def progress(self) -> bytes:
        """Tell how far the job has come, or how many go before it."""
        if self._now is None:
            return b""
        position = self._hub.position_of(self.job_id) if self._now.status is JobStatus.QUEUED else None
        now = self._now.model_copy(update={"queue_position": position})
        if now == self._told or (position is None and now.status is JobStatus.QUEUED):
            return b""
        self._told = now
        return written("progress", now)

    async def _read(self, cursor: Cursor) -> News | None:
        return await read_news(self._repository, self.job_id, cursor)


class EverythingFollower:
    """Somebody who follows all jobs that they may see: all of a submitter's, or (None) everybody's."""

    job_id = None
    is_over = False

    def __init__(self, hub: Hub, repository: JobRepository, after: int, submitter: str | None) -> None:
        self.greeting = RETRY + f"id: {after}\n\n".encode()  # who breaks off before anything happens goes on from here
        self._hub = hub
        self._repository = repository
        self._after = after
        self._submitter = submitter
        self._seen = -1
        self._told: dict[str, ProgressView] = {}

    async def news(self) -> AsyncGenerator[bytes, None]:
        """Tell of state changes."""
        while (number := self._hub.number_of(None)) != self._seen:
            after, horizon = self._after, self._hub.last_event
            events = await self._hub.shared(
                ("events", self._submitter, after, number),
                lambda: self._read(after),  # noqa: B023 - awaited before they change
            )
            is_whole = len(events) < _EVENTS_AT_ONCE
            newest = events[-1].id if events else after
            self._after = max(newest, horizon) if is_whole else newest  # others' events need not be passed again
            if is_whole:
                self._seen = number
            if events:
                yield b"".join(written("status", event_view(event), event.id) for event in events)

    async def _read(self, after: int) -> list[JobEvent]:
        return await self._repository.events(after=after, limit=_EVENTS_AT_ONCE, submitter=self._submitter)

    async def progress(self) -> bytes:
        """Tell how far the jobs at work have come."""
        at_work = JobFilter(status=frozenset({JobStatus.PROCESSING}), submitter=self._submitter)
        key = ("at work", self._submitter, self._hub.number_of(None))
        page = await self._hub.shared(
            key, lambda: self._repository.list_page(at_work, content=PageContent(with_text=False))
        )
        now = {job.id: progress_of(job) for job in page.jobs}
        before, self._told = self._told, now
        return b"".join(written("progress", view) for job_id, view in now.items() if view != before.get(job_id))


async def read_news(repository: JobRepository, job_id: str, after: Cursor) -> News | None:
    """Give what has happened to a job since a cursor; None if there is no such job."""
    tail = await repository.tail(job_id, after, limit=_CHUNKS_AT_ONCE)
    return None if tail is None else news_of(tail, after, _CHUNKS_AT_ONCE)


async def told(follower: Follower, hub: Hub, stopping: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """Tell a follower of everything, as it happens, until it is over or the service stops.

    While the database is away, nothing is told.
    """
    yield follower.greeting
    delays = backoff()
    ping_at, progress_at = time.monotonic() + PING_EVERY_S, 0.0
    with hub.watching(follower.job_id) as wake:
        while not stopping.is_set():
            wake.clear()
            try:
                async with aclosing(follower.news()) as news:
                    async for events in news:
                        yield events
                if follower.is_over:
                    return
                if (has_waited := time.monotonic() >= progress_at) and (progress := await follower.progress()):
                    progress_at = time.monotonic() + PROGRESS_EVERY_S
                    yield progress
                if time.monotonic() >= ping_at:
                    ping_at = time.monotonic() + PING_EVERY_S
                    yield PING
            except DatabaseError:
                await _set(wake, next(delays))
                continue
            delays = backoff()
            next_at = min(ping_at, math.inf if has_waited else progress_at)
            await _set(wake, next_at - time.monotonic())


async def _set(wake: asyncio.Event, timeout_s: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, timeout_s)):
            await wake.wait()


class EventStream(StreamingResponse):
    """An answer that is a stream of events; when the client goes, so does who follows for it."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None], welcome: Welcome | None) -> None:
        events = _ended_quietly(while_welcome(events, welcome))
        # The header keeps nginx from collecting what is to be seen at once.
        super().__init__(events, headers={"X-Accel-Buffering": "no"})
        self._events = events

    async def stream_response(self, send: Send) -> None:
        """Send the events as they come."""
        async with aclosing(self._events):
            await super().stream_response(send)


async def _ended_quietly(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Give the events, and nothing else when the caller's key is revoked: whoever asks again is told why."""
    with suppress(Unauthorised):
        async with aclosing(events):
            async for written in events:
                yield written
