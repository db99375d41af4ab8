"""A worker in its own process: its output on standard error, and its shutdown by signals."""

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
from cesar.cli.logs import service_log
from cesar.cli.queue.local import LocalQueue, database_file
from cesar.cli.queue.tables import label
from cesar.cli.server.signals import SignalHandler, Watchdog, handle_signals
from cesar.cli.transcription.model_download import check_model
from cesar.cli.transcription.reporters import write_stderr

if TYPE_CHECKING:
    from cesar.settings.config import Settings

_REFRESH_INTERVAL_S = 0.25
_MAX_RECENT = 200
"""Number of recently claimed jobs whose names are kept."""
_WAITING = JobFilter(status=frozenset({JobStatus.QUEUED}))


async def run_worker(settings: Settings, *, until_empty: bool, watchdog: Watchdog) -> None:
    """Run jobs until a signal arrives or, with `until_empty`, until none is waiting."""
    file = database_file(settings)
    check_model(settings)
    jobs = _WorkerQueue(settings)
    worker = BackgroundWorker(jobs, settings=settings, grace_s=settings.shutdown_grace_s)
    if until_empty:
        jobs.when_empty = partial(_stop_if_idle, worker)

    async def stop(is_urgent: bool) -> None:
        report_stop(jobs.name_of(worker.current_job_id), settings.shutdown_grace_s, is_urgent=is_urgent)
        await worker.shutdown(now=is_urgent)

    handler = SignalHandler(stop, settings.shutdown_grace_s, watchdog)
    with service_log(settings.log_format, jobs.name_jobs), handle_signals(handler.on_signal):
        try:
            await jobs.connect_for_work()
            waiting = (await jobs.counts())[JobStatus.QUEUED]
            write_stderr(f"Taking jobs from {file}, {waiting} waiting. Ctrl-C to stop.")
            async with _progress_bar(lambda: jobs.recent_job(worker.current_job_id), settings.log_format):
                await worker.run()
        finally:
            await jobs.close()


async def _stop_if_idle(worker: BackgroundWorker) -> None:
    """Stop, unless recordings are being fetched: those jobs are no longer waiting."""
    if not worker.is_processing:
        await worker.shutdown()


@asynccontextmanager
async def _progress_bar(current_job: Callable[[], Job | None], log_format: str) -> AsyncIterator[None]:
    """Show a bar for the running job on a terminal, below the lines of the log."""
    if log_format != "text" or sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from cesar.cli.queue.watch import JobBar

    async def show() -> None:
        with closing(JobBar()) as bar:
            while True:
                bar.show(current_job())
                await asyncio.sleep(_REFRESH_INTERVAL_S)

    showing = asyncio.create_task(show())
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


def report_stop(name: str | None, grace_s: float, *, is_urgent: bool) -> None:
    """Report the effect of a signal; `name` is that of the running job, if there is one."""
    if is_urgent:
        write_stderr("stopping now")
    elif name is not None:
        write_stderr(f"finishing {name}, for up to {grace_s:g} s; interrupt again to stop now")


class _WorkerQueue(LocalQueue):
    """The queue as used by its worker: remembers the names of recent jobs, and notices when none is waiting."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.when_empty: Callable[[], Awaitable[None]] | None = None
        self._recent: OrderedDict[str, Job] = OrderedDict()

    async def get_next_queued(self, **wanted: Any) -> Job | None:
        job = await super().get_next_queued(**wanted)
        if job is not None:
            self._remember(job)
        elif self.when_empty is not None and not (await self.list_page(_WAITING, limit=1)).jobs:
            await self.when_empty()
        return job

    async def get_next_to_fetch(self, **wanted: Any) -> list[Job]:
        jobs = await super().get_next_to_fetch(**wanted)
        for job in jobs:
            self._remember(job)
        return jobs

    def recent_job(self, job_id: str | None) -> Job | None:
        """Return the job of that id if it was claimed recently."""
        return self._recent.get(job_id or "")

    def name_of(self, job_id: str | None) -> str | None:
        """Return the name of the job of that id if it was claimed recently."""
        job = self.recent_job(job_id)
        return None if job is None else job.name

    def name_jobs(self, message: str) -> str:
        """Replace job ids in a log message with the jobs' labels."""
        for job in self._recent.values():
            message = message.replace(f"job {job.id}", label(job))
        return message

    def _remember(self, job: Job) -> None:
        self._recent[job.id] = job
        if len(self._recent) > _MAX_RECENT:
            self._recent.popitem(last=False)
