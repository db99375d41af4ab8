"""`JobRun`: one run of a job, in the event loop: how far it is, and why it should stop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Literal, TypeVar

from cesar.api.execution.backoff import backoff
from cesar.api.models import Job, JobProgress
from cesar.errors import ClaimLost, DatabaseError, Interrupted
from cesar.transcript import Progress

T = TypeVar("T")
V = TypeVar("V")
StopReason = Literal["cancelled", "claim lost", "claim not kept", "shutdown"]
_log = logging.getLogger(__name__)


class JobRun:
    """One run of a job. It belongs to the event loop; only `post`, `call` and `should_stop` are for other threads."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.progress = JobProgress.of(job)
        self.details: Mapping[str, Any] | None = None
        """The transcript without its text, once it is complete."""
        self.stopped = asyncio.Event()
        self.stop_reason: StopReason | None = None
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()

    def snapshot(self) -> Job:
        """Return a copy of the job with its current progress, for the queue."""
        return self.job.model_copy(update=asdict(self.progress))

    def report(self, reported: Progress) -> None:
        """Note the recogniser's progress. A resumed run passes finished chunks again, and loads the model first."""
        self.progress = replace(
            self.progress,
            phase=reported.phase,
            position=max(self.progress.position, reported.position),
            duration=reported.duration or self.progress.duration,
        )

    def resume_at(self, position: float) -> None:
        """Note that everything before this second is done."""
        self.progress = replace(self.progress, position=position)

    def finish(self, details: Mapping[str, Any]) -> None:
        """Note what is known about the finished transcript, without its text."""
        self.details = details

    def stop(self, reason: StopReason) -> None:
        """Stop the work by killing the child. The first reason counts."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.stopped.set()
            self._stop.set()

    # For the thread that does the work

    def should_stop(self) -> bool:
        """Whether the work should stop."""
        return self._stop.is_set()

    def post(self, note: Callable[[V], None], value: V) -> None:
        """Post a value to the event loop, which gets it before anything posted or called later."""
        self._loop.call_soon_threadsafe(note, value)

    def call(self, operation: Callable[[Job], Awaitable[T]]) -> T:
        """Run an operation of the queue on the job in the event loop, retrying while the database is unavailable.

        Raises `Interrupted` when stopped.
        """

        async def attempt() -> T:
            return await operation(self.snapshot())

        for delay_s in backoff():
            try:
                return asyncio.run_coroutine_threadsafe(attempt(), self._loop).result()
            except ClaimLost:
                self._loop.call_soon_threadsafe(self.stop, "claim lost")
                raise Interrupted("the claim was lost") from None
            except DatabaseError as error:
                _log.warning("job %s is waiting for the database: %s", self.job.id, error)
            if self._stop.wait(delay_s):
                break
        raise Interrupted("the work was stopped")
