"""`cesar jobs watch`: a job is followed by its events and its progress, and whoever watches is told."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from cesar.api.models import Job, JobEvent, JobStatus
from cesar.cli.queue.backend import warn_if_no_worker
from cesar.cli.queue.tables import describe_event, fetch_wait_reason, job_to_dict, short_id, summary, warnings_of
from cesar.cli.transcription.reporters import LineReporter, write_stderr
from cesar.cli.transcription.writing import write_stdout
from cesar.errors import BY_CODE, Interrupted, RecognitionError
from cesar.transcript import Progress

if TYPE_CHECKING:
    from cesar.cli.queue.backend import Queue
    from cesar.cli.transcription.progress import BarReporter
    from cesar.settings.config import Settings

_WAIT_CHECK_INTERVAL_S = 5.0
OnUpdate = Callable[[Job, Sequence[JobEvent]], None]
"""Hears how a job stands now, and what has happened to it since it was told of last."""


async def follow(queue: Queue, settings: Settings, id_prefix: str, on_update: OnUpdate) -> Job:
    """Tell of a job until it is over, and give it as it is then; and once, if nobody is there to do it."""
    job = await queue.find(id_prefix)
    is_reported, checked_at = False, -math.inf
    async for now, events in queue.updates(job.id):
        on_update(now, events)
        job = now
        if not is_reported and time.monotonic() - checked_at > _WAIT_CHECK_INTERVAL_S:
            is_reported, checked_at = await _report_wait(queue, settings, job), time.monotonic()
    return job


async def _report_wait(queue: Queue, settings: Settings, job: Job) -> bool:
    """Print that nobody is there to do a job, or to fetch its recording yet; return whether it was printed."""
    if await warn_if_no_worker(queue, settings, [job]):
        return True
    if job.status is not JobStatus.QUEUED or job.source_url is None:
        return False
    fetches = (await queue.fetches_before([job.id])).get(job.id)
    if fetches:
        write_stderr(f"{job.name}: {fetch_wait_reason(fetches)}")
    return bool(fetches)


@contextmanager
def update_printer(*, as_json: bool) -> Iterator[OnUpdate]:
    """Give who is told: a program, a terminal with a bar, or a log."""
    if as_json:
        yield _JsonPrinter().update
    elif sys.stderr is None or not sys.stderr.isatty():
        yield _LinePrinter().update
    else:
        with closing(_BarPrinter()) as bar:
            yield bar.update


def raise_unless_completed(job: Job) -> None:
    """Raise what a failed job failed with, and `Interrupted` for one that was cancelled."""
    if job.status is JobStatus.CANCELLED:
        hint = f"`cesar jobs retry {short_id(job.id)}` has it go on."
        raise Interrupted(f"{job.name} was cancelled", hint=hint)
    if job.status is JobStatus.ERROR:
        kind = BY_CODE.get(job.error_code or "", RecognitionError)
        raise kind(job.error_message or "the job failed", hint=job.error_hint)


class _JsonPrinter:
    """One JSON object a line, whenever the job is not as it was."""

    def __init__(self) -> None:
        self._last = ""

    def update(self, job: Job, _events: Sequence[JobEvent]) -> None:
        line = json.dumps(job_to_dict(job))
        if line != self._last:
            write_stdout(f"{line}\n")
        self._last = line


class _LinePrinter:
    """A line for every event, and for every tenth of the recording."""

    def __init__(self) -> None:
        self._tenths = 0

    def update(self, job: Job, events: Sequence[JobEvent]) -> None:
        _print_events(job, events)
        tenths = int(10 * job.progress)
        if tenths > self._tenths and job.status is JobStatus.PROCESSING:
            write_stderr(f"{job.name}: {tenths}0 %")
        self._tenths = tenths


class _BarPrinter:
    """A line for every event, and a bar while the job is at work."""

    def __init__(self) -> None:
        self._bar = JobBar()

    def update(self, job: Job, events: Sequence[JobEvent]) -> None:
        if events:
            self.close()
            _print_events(job, events)
        self._bar.show(job if job.status is JobStatus.PROCESSING else None)

    def close(self) -> None:
        """Give the terminal back as it was."""
        self._bar.close()


class JobBar:
    """A bar for the job that is at work, if there is one."""

    def __init__(self) -> None:
        self._bar: BarReporter | None = None
        self._job_id = ""

    def show(self, job: Job | None) -> None:
        """Show how far a job has come; none: no bar."""
        if job is None or job.id != self._job_id:
            self.close()
        if job is None:
            return
        if self._bar is None:
            from cesar.cli.transcription.progress import BarReporter

            self._bar, self._job_id = BarReporter(LineReporter(), job.options), job.id
            self._bar.started(job.name, 1, 1)
        self._bar.progressed(job.name, Progress(job.phase or "loading", job.position, job.duration))

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _print_events(job: Job, events: Sequence[JobEvent]) -> None:
    for event in events:
        what = (
            summary(job) if event.after is JobStatus.COMPLETED and job.status is event.after else describe_event(event)
        )
        write_stderr(f"{job.name}: {what}")
        if event.after is JobStatus.COMPLETED:
            for warning in warnings_of(job):
                write_stderr(f"cesar: {job.name}: warning: {warning}")
