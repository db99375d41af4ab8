"""One worker in a process of its own: what it says on standard error, and how signals end it."""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import TYPE_CHECKING, Any

from cesar.api.models import Job, JobFilter, JobStatus
from cesar.api.worker import BackgroundWorker
from cesar.cli.queue.local import LocalQueue, database_file
from cesar.cli.queue.tables import label
from cesar.cli.server.logs import service_log_shown
from cesar.cli.server.signals import Stopper, signals_heard
from cesar.cli.transcription.model_download import require_model
from cesar.cli.transcription.reporters import write_stderr

if TYPE_CHECKING:
    from cesar.settings.config import Settings

_SHOW_EVERY_S = 0.25
_MOST_TAKEN = 200
"""How many of the jobs taken last are known by their names."""
_WAITING = JobFilter(status=frozenset({JobStatus.QUEUED}))


async def work(settings: Settings, *, until_empty: bool) -> None:
    """Do jobs until a signal comes or, with `until_empty`, until none is waiting."""
    file = database_file(settings)
    require_model(settings)
    jobs = _WorkersQueue(settings)
    worker = BackgroundWorker(jobs, settings=settings, grace_s=settings.shutdown_grace_s)
    if until_empty:
        jobs.when_empty = partial(_stop_unless_at_work, worker)

    async def stop(is_urgent: bool) -> None:
        tell_of_stop(jobs.at_work(worker.current_job_id), settings.shutdown_grace_s, is_urgent=is_urgent)
        await worker.shutdown(now=is_urgent)

    stopper = Stopper(stop, settings.shutdown_grace_s)
    with service_log_shown(settings.log_format, jobs.reword), signals_heard(stopper.hear):
        try:
            await jobs.connect_for_work()
            waiting = (await jobs.counts())[JobStatus.QUEUED]
            write_stderr(f"Taking jobs from {file}, {waiting} waiting. Ctrl-C to stop.")
            async with _bar_shown(lambda: jobs.named(worker.current_job_id), settings.log_format):
                await worker.run()
        finally:
            await jobs.close()


async def _stop_unless_at_work(worker: BackgroundWorker) -> None:
    """Stop, but not while recordings are being fetched: those jobs are not waiting any more."""
    if not worker.is_processing:
        await worker.shutdown()


@asynccontextmanager
async def _bar_shown(at_work: Callable[[], Job | None], log_format: str) -> AsyncIterator[None]:
    """Show a bar for the job at work, on a terminal; the log's lines go above it."""
    if log_format != "text" or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from cesar.cli.queue.watch import JobBar

    async def show() -> None:
        with closing(JobBar()) as bar:
            while True:
                bar.show(at_work())
                await asyncio.sleep(_SHOW_EVERY_S)

    showing = asyncio.create_task(show())
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


def tell_of_stop(name: str | None, grace_s: float, *, is_urgent: bool) -> None:
    """Say what a signal has brought about; `name` is what the job at work is called, if there is one."""
    if is_urgent:
        write_stderr("stopping now")
    elif name is not None:
        write_stderr(f"finishing {name}, up to {grace_s:g} s; again to stop now")


class _WorkersQueue(LocalQueue):
    """The queue as its worker uses it: knows what the job at work is called, and tells when none is waiting."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.when_empty: Callable[[], Awaitable[None]] | None = None
        self._taken: OrderedDict[str, Job] = OrderedDict()

    async def get_next_queued(self, **wanted: Any) -> Job | None:
        job = await super().get_next_queued(**wanted)
        if job is not None:
            self._note(job)
        elif self.when_empty is not None and not (await self.list_page(_WAITING, limit=1)).jobs:
            await self.when_empty()
        return job

    async def get_next_to_fetch(self, **wanted: Any) -> Job | None:
        job = await super().get_next_to_fetch(**wanted)
        if job is not None:
            self._note(job)
        return job

    def named(self, job_id: str | None) -> Job | None:
        """Return the job of that id, if it was taken a short while ago."""
        return self._taken.get(job_id or "")

    def at_work(self, job_id: str | None) -> str | None:
        """Give what the job of that id is called, if it was taken a short while ago."""
        job = self.named(job_id)
        return None if job is None else job.name

    def reword(self, message: str) -> str:
        """Call the jobs in a message of the log by their names."""
        for job in self._taken.values():
            message = message.replace(f"job {job.id}", label(job))
        return message

    def _note(self, job: Job) -> None:
        self._taken[job.id] = job
        if len(self._taken) > _MOST_TAKEN:
            self._taken.popitem(last=False)
