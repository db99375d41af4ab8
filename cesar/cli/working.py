"""One worker in a process of its own: what it says on standard error, and how signals end it."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cesar.api.models import Job, JobFilter, JobStatus, utc_now
from cesar.api.worker import BackgroundWorker
from cesar.cli.events import write_stderr
from cesar.cli.job_tables import label, show_time
from cesar.cli.local_queue import LocalQueue, database_file
from cesar.cli.logs import log_sent

if TYPE_CHECKING:
    from types import FrameType

    from cesar.config import Settings

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_OVERTIME_S = 5.0
"""How much longer than it was told to the process may take to end."""
_ENDED_BY_WATCHDOG = 70
_WAITING = JobFilter(status=frozenset({JobStatus.QUEUED}))


async def work(settings: Settings, *, until_empty: bool) -> None:
    """Do jobs until a signal comes or, with `until_empty`, until none is waiting."""
    file = database_file(settings)
    jobs = _WorkersQueue(settings)
    worker = BackgroundWorker(jobs, settings=settings, grace_s=settings.shutdown_grace_s)
    if until_empty:
        jobs.when_empty = worker.shutdown
    with _log_shown(jobs), _signals_heard(_Stopper(worker, jobs, settings.shutdown_grace_s).hear):
        try:
            await jobs.connect()
            waiting = (await jobs.counts())[JobStatus.QUEUED]
            write_stderr(f"Taking jobs from {file}, {waiting} waiting. Ctrl-C to stop.")
            await worker.run()
        finally:
            await jobs.close()


class _WorkersQueue(LocalQueue):
    """The queue as its worker uses it: knows what the job at work is called, and tells when none is waiting."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.latest: Job | None = None
        self.when_empty: Callable[[], Awaitable[None]] | None = None

    async def get_next_queued(self) -> Job | None:
        job = await super().get_next_queued()
        if job is not None:
            self.latest = job
        elif self.when_empty is not None and not (await self.list_page(_WAITING, limit=1)).jobs:
            await self.when_empty()
        return job


class _Stopper:
    """Hears signals: the first has the worker finish, the second has it stop."""

    def __init__(self, worker: BackgroundWorker, jobs: _WorkersQueue, grace_s: float) -> None:
        self._worker = worker
        self._jobs = jobs
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._watchdog = _Watchdog()
        self._count = 0
        self._stopping: asyncio.Task[None] | None = None

    def hear(self, _number: int, _frame: FrameType | None) -> None:
        """Leave word. This runs in the midst of whatever the main thread does, also if the loop is stuck."""
        self._count += 1
        self._watchdog.allow((self._grace_s if self._count == 1 else 0.0) + _OVERTIME_S)
        with suppress(RuntimeError):  # the loop is closed: there is nothing left to stop
            self._loop.call_soon_threadsafe(self._stop, self._count > 1)

    def _stop(self, is_urgent: bool) -> None:
        job = self._jobs.latest
        if is_urgent:
            write_stderr("stopping now")
        elif job is not None and self._worker.current_job_id == job.id:
            write_stderr(f"finishing {job.name}, up to {self._grace_s:g} s; again to stop now")
        self._stopping = self._loop.create_task(self._worker.shutdown(now=is_urgent))


class _Watchdog:
    """Ends the process if it does not end by itself in the time that it is given."""

    def __init__(self) -> None:
        self._deadlines: queue.SimpleQueue[float] = queue.SimpleQueue()
        threading.Thread(target=self._watch, name="cesar-watchdog", daemon=True).start()

    def allow(self, seconds: float) -> None:
        """Let the process have so many seconds more, at most. A signal handler may call it."""
        self._deadlines.put(time.monotonic() + seconds)

    def _watch(self) -> None:
        deadline = self._deadlines.get()
        while (left := deadline - time.monotonic()) > 0:
            with suppress(queue.Empty):
                deadline = min(deadline, self._deadlines.get(timeout=left))
        with suppress(OSError):
            os.write(2, b"cesar: the worker does not end: something in it is stuck. It is ended; no job is lost.\n")
        os._exit(_ENDED_BY_WATCHDOG)


@contextmanager
def _signals_heard(hear: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have the function called at every signal that asks to end, but for those that are ignored (as by nohup)."""
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


class _Log(logging.Handler):
    """Writes what the worker logs on standard error, and calls the job by its name."""

    def __init__(self, jobs: _WorkersQueue) -> None:
        super().__init__()
        self._jobs = jobs

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if job := self._jobs.latest:
            message = message.replace(f"job {job.id}", label(job))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        write_stderr(f"{show_time(utc_now())} {level}{message}")
        if record.exc_info and record.exc_info[1]:
            for line in "".join(traceback.format_exception(record.exc_info[1])).splitlines():
                write_stderr(line)


@contextmanager
def _log_shown(jobs: _WorkersQueue) -> Iterator[None]:
    """Show the job service's log, and nothing else that is logged."""
    service = logging.getLogger("cesar.api")
    handler, before = _Log(jobs), service.level
    service.addHandler(handler)
    service.setLevel(logging.INFO)
    try:
        with log_sent(to_stderr=False):
            yield
    finally:
        service.setLevel(before)
        service.removeHandler(handler)
