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
from cesar.cli.queue.backend import tell_if_nobody_works
from cesar.cli.queue.tables import as_plain, short_id, summary, told, waits_to_be_fetched, warnings_of
from cesar.cli.transcription.reporters import Lines, write_stderr
from cesar.cli.transcription.writing import write_stdout
from cesar.errors import BY_CODE, Interrupted, RecognitionError
from cesar.transcript import Progress

if TYPE_CHECKING:
    from cesar.cli.queue.backend import Queue
    from cesar.cli.transcription.progress import Bar
    from cesar.settings.config import Settings

_LOOK_EVERY_S = 5.0
Tell = Callable[[Job, Sequence[JobEvent]], None]
"""Hears how a job stands now, and what has happened to it since it was told of last."""


async def follow(queue: Queue, settings: Settings, beginning: str, tell: Tell) -> Job:
    """Tell of a job until it is over, and give it as it is then; and once, if nobody is there to do it."""
    job = await queue.find(beginning)
    is_told, looked_at = False, -math.inf
    async for now, events in queue.states(job.id):
        tell(now, events)
        job = now
        if not is_told and time.monotonic() - looked_at > _LOOK_EVERY_S:
            is_told, looked_at = await _tell_why_it_waits(queue, settings, job), time.monotonic()
    return job


async def _tell_why_it_waits(queue: Queue, settings: Settings, job: Job) -> bool:
    """Print that nobody is there to do a job, or to fetch its recording yet; return whether it was printed."""
    if await tell_if_nobody_works(queue, settings, [job]):
        return True
    if job.status is not JobStatus.QUEUED or job.source_url is None:
        return False
    fetches = (await queue.fetches_before([job.id])).get(job.id)
    if fetches:
        write_stderr(f"{job.name}: {waits_to_be_fetched(fetches)}")
    return bool(fetches)


@contextmanager
def watcher(*, as_json: bool) -> Iterator[Tell]:
    """Give who is told: a program, a terminal with a bar, or a log."""
    if as_json:
        yield _Json().tell
    elif sys.stderr is None or not sys.stderr.isatty():
        yield _Lines().tell
    else:
        with closing(_Bar()) as bar:
            yield bar.tell


def raise_unless_completed(job: Job) -> None:
    """Raise what a failed job failed with, and `Interrupted` for one that was cancelled."""
    if job.status is JobStatus.CANCELLED:
        hint = f"`cesar jobs retry {short_id(job.id)}` has it go on."
        raise Interrupted(f"{job.name} was cancelled", hint=hint)
    if job.status is JobStatus.ERROR:
        kind = BY_CODE.get(job.error_code or "", RecognitionError)
        raise kind(job.error_message or "the job failed", hint=job.error_hint)


class _Json:
    """One JSON object a line, whenever the job is not as it was."""

    def __init__(self) -> None:
        self._last = ""

    def tell(self, job: Job, _events: Sequence[JobEvent]) -> None:
        line = json.dumps(as_plain(job))
        if line != self._last:
            write_stdout(f"{line}\n")
        self._last = line


class _Lines:
    """A line for every event, and for every tenth of the recording."""

    def __init__(self) -> None:
        self._tenths = 0

    def tell(self, job: Job, events: Sequence[JobEvent]) -> None:
        _tell_events(job, events)
        tenths = int(10 * job.progress)
        if tenths > self._tenths and job.status is JobStatus.PROCESSING:
            write_stderr(f"{job.name}: {tenths}0 %")
        self._tenths = tenths


class _Bar:
    """A line for every event, and a bar while the job is at work."""

    def __init__(self) -> None:
        self._bar = JobBar()

    def tell(self, job: Job, events: Sequence[JobEvent]) -> None:
        if events:
            self.close()
            _tell_events(job, events)
        self._bar.show(job if job.status is JobStatus.PROCESSING else None)

    def close(self) -> None:
        """Give the terminal back as it was."""
        self._bar.close()


class JobBar:
    """A bar for the job that is at work, if there is one."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._job_id = ""

    def show(self, job: Job | None) -> None:
        """Show how far a job has come; none: no bar."""
        if job is None or job.id != self._job_id:
            self.close()
        if job is None:
            return
        if self._bar is None:
            from cesar.cli.transcription.progress import Bar

            self._bar, self._job_id = Bar(Lines(), job.options), job.id
            self._bar.started(job.name, 1, 1)
        self._bar.progressed(job.name, Progress(job.phase or "loading", job.position, job.duration))

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _tell_events(job: Job, events: Sequence[JobEvent]) -> None:
    for event in events:
        what = summary(job) if event.after is JobStatus.COMPLETED and job.status is event.after else told(event)
        write_stderr(f"{job.name}: {what}")
        if event.after is JobStatus.COMPLETED:
            for warning in warnings_of(job):
                write_stderr(f"cesar: {job.name}: warning: {warning}")
