"""`cesar jobs watch`: follows a job by its events and progress, and reports them."""

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
"""Called with the current state of a job and its events since the last call."""


async def follow(queue: Queue, settings: Settings, id_prefix: str, on_update: OnUpdate) -> Job:
    """Report a job's updates until it is finished and return it; also report, once, why it is waiting."""
    job = await queue.find(id_prefix)
    is_reported, checked_at = False, -math.inf
    async for now, events in queue.updates(job.id):
        on_update(now, events)
        job = now
        if not is_reported and time.monotonic() - checked_at > _WAIT_CHECK_INTERVAL_S:
            is_reported, checked_at = await _report_wait(queue, settings, job), time.monotonic()
    return job


async def _report_wait(queue: Queue, settings: Settings, job: Job) -> bool:
    """Print that no worker is running, or why the recording is not being fetched; return whether it was printed."""
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
    """Yield the callback that prints updates: as JSON, as lines, or with a bar on a terminal."""
    if as_json:
        yield _JsonPrinter().update
    elif sys.stderr is None or not sys.stderr.isatty():
        yield _LinePrinter().update
    else:
        with closing(_BarPrinter()) as bar:
            yield bar.update


def raise_unless_completed(job: Job) -> None:
    """Raise the error of a failed job, and `Interrupted` for a cancelled one."""
    if job.status is JobStatus.CANCELLED:
        hint = f"`cesar jobs retry {short_id(job.id)}` resumes it."
        raise Interrupted(f"{job.name} was cancelled", hint=hint)
    if job.status is JobStatus.ERROR:
        kind = BY_CODE.get(job.error_code or "", RecognitionError)
        raise kind(job.error_message or "the job failed", hint=job.error_hint)


class _JsonPrinter:
    """Prints one JSON object per line whenever the job has changed."""

    def __init__(self) -> None:
        self._last = ""

    def update(self, job: Job, _events: Sequence[JobEvent]) -> None:
        line = json.dumps(job_to_dict(job))
        if line != self._last:
            write_stdout(f"{line}\n")
        self._last = line


class _LinePrinter:
    """Prints a line for every event and every tenth of the recording."""

    def __init__(self) -> None:
        self._tenths = 0

    def update(self, job: Job, events: Sequence[JobEvent]) -> None:
        _print_events(job, events)
        tenths = int(10 * job.progress)
        if tenths > self._tenths and job.status is JobStatus.PROCESSING:
            write_stderr(f"{job.name}: {tenths}0 %")
        self._tenths = tenths


class _BarPrinter:
    """Prints a line for every event, and shows a bar while the job is running."""

    def __init__(self) -> None:
        self._bar = JobBar()

    def update(self, job: Job, events: Sequence[JobEvent]) -> None:
        if events:
            self.close()
            _print_events(job, events)
        self._bar.show(job if job.status is JobStatus.PROCESSING else None)

    def close(self) -> None:
        """Restore the terminal."""
        self._bar.close()


class JobBar:
    """A progress bar for the running job, if there is one."""

    def __init__(self) -> None:
        self._bar: BarReporter | None = None
        self._job_id = ""

    def show(self, job: Job | None) -> None:
        """Show a job's progress, or no bar for None."""
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
        """Restore the terminal."""
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
