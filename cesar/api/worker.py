"""`BackgroundWorker`: claims jobs from the queue, transcribes them one at a time, and records their outcomes.

The event loop stays free: a transcription runs in a thread, and the model in a child process of that thread. The
parts of a run are in `cesar.api.execution`; the repository guarantees that no job is lost or done twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from pathlib import Path

from cesar.api.execution import temporary_files
from cesar.api.execution.backoff import backoff, retry_until_available
from cesar.api.execution.claim_keeper import claim_kept
from cesar.api.execution.job_run import JobRun
from cesar.api.execution.outcomes import Cancelled, Completed, Failed, Outcome, Released, outcome_of, was_killed
from cesar.api.execution.recording import SourceFile, fetch_recording
from cesar.api.execution.run_context import RunContext
from cesar.api.execution.throttled_log import ThrottledErrorLog
from cesar.api.execution.turns import Fetches, RecognitionTurns
from cesar.api.execution.waiting import wait_for_any
from cesar.api.models import Job, JobStatus, utc_now
from cesar.api.repository import JobRepository
from cesar.errors import CesarError, ClaimLost, RecogniserNotStarted
from cesar.settings.config import Settings
from cesar.transcriber import AudioTranscriber

_STOP_TIMEOUT_S = 10.0
_HEAD_START_S = 2.0
_FLUSH_TIMEOUT_S = 0.9
_MAX_BACKOFF_S = 30.0
_log = logging.getLogger(__name__)
_context: ContextVar[RunContext | None] = ContextVar("_context", default=None)
"""What `_run_transcription` needs beside its arguments; None if it is called by itself.

Its two arguments are fixed: programs and tests replace the method with a function of exactly these. `asyncio.to_thread`
copies the context to the thread.
"""


class BackgroundWorker:
    """Recognises one job at a time, in queue order, until it is shut down; fetches the recordings of others meanwhile.

    poll_interval: seconds between polls of an empty queue; new jobs wake the worker sooner.
    settings: where models are and how to run them; by default those that `cesar.settings.config.load` returns.
    grace_s: seconds that a job may go on after `shutdown` before it is released.
    """

    def __init__(
        self,
        repository: JobRepository,
        poll_interval: float = 1.0,
        *,
        settings: Settings | None = None,
        grace_s: float = 8.0,
    ) -> None:
        self.repository = repository
        self.poll_interval = poll_interval
        self._settings = settings
        self._grace_s = grace_s
        self._shutdown_event = asyncio.Event()
        self._force_stop = asyncio.Event()
        self._wake = asyncio.Event()
        """Set when there may be a new job, or a free fetch slot."""
        self._current_job_id: str | None = None
        self._turns = RecognitionTurns()
        self._fetches = Fetches((Settings() if settings is None else settings).fetches_at_once)
        self._claiming = asyncio.Lock()
        """Held from checking for a free fetch slot until it is taken."""
        self._is_ready = True
        """Whether the machine could begin the previous job."""
        self._start_delays = backoff(initial_s=1.0, max_s=_MAX_BACKOFF_S)
        self._errors = ThrottledErrorLog(_log, "the worker continues after an error")

    @property
    def is_processing(self) -> bool:
        """Whether a job is being processed."""
        return self._current_job_id is not None or bool(self._fetches.tasks)

    @property
    def current_job_id(self) -> str | None:
        """The id of the job being processed: the one being recognised, or else one being fetched."""
        return self._current_job_id or next(iter(self._fetches.ids), None)

    async def run(self) -> None:
        """Process jobs until `shutdown`; then return within the grace period and a second, whatever the work does."""
        _log.info("the worker starts")
        temporary_files.sweep(self._settings)
        working = asyncio.create_task(self._work())
        try:
            await self._shutdown_event.wait()
            await wait_for_any(working, self._force_stop, timeout_s=self._grace_s)
        except asyncio.CancelledError:
            self._shutdown_event.set()
            raise
        finally:
            self._force_stop.set()
            await self._flush(working)
            _log.info("the worker has stopped")

    async def shutdown(self, *, now: bool = False) -> None:
        """Ask the worker to stop: at once with `now`; otherwise a running job has the grace period to finish."""
        _log.info("the worker is asked to stop%s", " now" if now else "")
        self._shutdown_event.set()
        if now:
            self._force_stop.set()

    async def _flush(self, working: asyncio.Task[None]) -> None:
        """Wait for the work to record its progress, for a limited time."""
        await wait_for_any(working, timeout_s=_FLUSH_TIMEOUT_S)
        if not working.done():
            _log.error("the worker abandons its job: the database, or the work, does not respond")
            working.cancel()
            await asyncio.wait({working}, timeout=0.1)

    async def _work(self) -> None:
        fetching = asyncio.create_task(self._repeat(self._fetch_next))
        self._turns.is_dispatched = True
        try:
            await self._repeat(self._process_next)
            self._turns.stop_dispatching()
            await self.repository.unsubscribe(self._wake)
            await fetching
            if self._fetches.tasks:
                await asyncio.wait(set(self._fetches.tasks))
        finally:
            self._turns.stop_dispatching()
            for task in (fetching, *self._fetches.tasks):
                task.cancel()

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step until the worker should stop, whatever goes wrong in it."""
        delays = backoff(max_s=_MAX_BACKOFF_S)
        while not self._shutdown_event.is_set():
            try:
                await self._subscribe()
                await step()
                delays = backoff(max_s=_MAX_BACKOFF_S)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next job must get its turn
                self._errors.report(error)
                await wait_for_any(self._shutdown_event, self._wake, timeout_s=next(delays))

    async def _process_next(self) -> None:
        """Once no job is being recognised, process the first in queue order, whether queued or already fetched."""
        await self._wait_until_ready()
        self._wake.clear()
        await wait_for_any(self._shutdown_event, self._turns.free)
        if self._shutdown_event.is_set():
            return
        first, settled = self._turns.first, None
        async with self._claiming:
            job = await self.repository.get_next_queued(**self._fetches.claim_limits(first))
            if job is not None and job.audio_path is None:
                settled = self._start_fetch(job)
        if settled is not None:  # a head start, so that jobs from fast servers keep their position
            await wait_for_any(settled, self._turns.awaited, self._shutdown_event, timeout_s=_HEAD_START_S)
        elif job is not None:
            await self._process_job(job)
        elif first is not None:
            self._turns.hand_over()
        else:
            events = (self._wake, self._turns.awaited, self._shutdown_event)
            await wait_for_any(*events, timeout_s=self.poll_interval)

    async def _wait_until_ready(self) -> None:
        """After a job that this machine could not begin, wait before the next try, longer each time."""
        if self._is_ready:
            self._start_delays = backoff(initial_s=1.0, max_s=_MAX_BACKOFF_S)
        else:
            await wait_for_any(self._shutdown_event, timeout_s=next(self._start_delays))

    async def _fetch_next(self) -> None:
        """Start other fetches while a recording is recognised; otherwise `_process_next` does so, in queue order."""
        await wait_for_any(self._shutdown_event, self._turns.busy)
        if self._shutdown_event.is_set():
            return
        self._wake.clear()
        started: list[asyncio.Event] = []
        async with self._claiming:
            if slots := self._fetches.free_slots:
                full = self._fetches.full_submitters
                jobs = await self.repository.get_next_to_fetch(limit=slots, no_fetch_for=full)
                started = [self._start_fetch(job) for job in jobs]
        if not started:
            events = (self._wake, self._turns.free, self._shutdown_event)
            await wait_for_any(*events, timeout_s=self.poll_interval)

    def _start_fetch(self, job: Job) -> asyncio.Event:
        """Start fetching a job's recording; return an event set when the job gets its turn, or is finished."""

        async def process() -> None:
            try:
                await self._process_job(job)
            except Exception as error:  # noqa: BLE001 - as in the loop
                self._errors.report(error)
            finally:
                self._wake.set()

        return self._fetches.add(job, asyncio.create_task(process()))

    async def _subscribe(self) -> None:
        """Subscribe to new jobs, which then wake the worker; only a hint, as it also polls."""
        try:
            await self.repository.subscribe(self._wake)
        except Exception as error:  # noqa: BLE001
            self._errors.report(error)

    async def _process_job(self, job: Job) -> None:
        """Process one claimed job until it is completed, failed, cancelled or released."""
        if job.audio_path is not None:
            self._current_job_id = job.id
        try:
            # A claimed job is PROCESSING already; this also claims one that was only read.
            job.status, job.started_at = JobStatus.PROCESSING, utc_now()
            await self._save(job)
            _log.info("job %s starts (attempt %d)", job.id, job.attempt)
            run = JobRun(job)
            async with claim_kept(run, self.repository, self._errors.report):
                await self._record(run, await self._perform(run))
        except ClaimLost as lost:
            _log.warning("%s; its work is discarded", lost)
        finally:
            if self._current_job_id == job.id:
                self._current_job_id = None
            self._turns.release(job)

    async def _perform(self, run: JobRun) -> Outcome:
        """Do the work until it ends or is stopped; if it does not respond to that, leave it to itself."""
        work = asyncio.create_task(self._fetch_and_transcribe(run))
        work.add_done_callback(_retrieve_exception)
        await wait_for_any(work, self._force_stop, run.stopped)
        if not work.done() and self._force_stop.is_set():
            run.stop("shutdown")
        await wait_for_any(work, timeout_s=_FLUSH_TIMEOUT_S / 2 if run.stop_reason == "shutdown" else _STOP_TIMEOUT_S)
        return outcome_of(run, work)

    async def _fetch_and_transcribe(self, run: JobRun) -> dict[str, str]:
        """Fetch the recording if necessary; then run the transcription in a thread, when it is the job's turn."""
        job = run.job
        audio_path, is_next = job.audio_path, True
        if audio_path is None:
            audio_path = await fetch_recording(run, self.repository, self._settings, self._errors.report)
            is_next = False
        await self._turns.acquire(job, run.stopped, is_next=is_next)
        self._fetches.discard(job)
        self._wake.set()
        self._current_job_id = job.id
        file = await asyncio.to_thread(SourceFile.of, audio_path)
        _context.set(RunContext(run.snapshot(), file, self._settings, self.repository, run))
        # A check of the worker's contract looks for the word transcriber on this line.
        return await asyncio.to_thread(self._run_transcription, audio_path, job.model_size)  # by the transcriber

    def _run_transcription(self, audio_path: str, model_size: str) -> dict[str, str]:
        """Transcribe a recording; runs in a thread."""
        context = _context.get()
        try:
            descriptor, output_path = tempfile.mkstemp(suffix=".txt", dir=temporary_files.folder_of(self._settings))
        except OSError as error:
            message = f"no temporary file can be created: {error}"
            raise RecogniserNotStarted(message, hint="Check the data folder.") from error
        os.close(descriptor)
        try:
            if self._settings is None:
                transcriber = AudioTranscriber(model_size=model_size)
            else:
                transcriber = AudioTranscriber(model_size=model_size, settings=self._settings)
            arguments = {} if context is None else context.transcribe_arguments()
            result = transcriber.transcribe_file(audio_path, output_path, **arguments)
            if context is not None:
                context.finish(result)
            text = Path(output_path).read_text(encoding="utf-8").strip()
            return {"text": text, "language": result.get("language", "unknown")}
        finally:
            Path(output_path).unlink(missing_ok=True)

    async def _record(self, run: JobRun, outcome: Outcome) -> None:
        """Write how the work on a job ended."""
        try:
            await self._write_outcome(run, outcome)
        except (LookupError, TypeError, ValueError) as error:  # what can't be stored, such as a lone surrogate
            if not isinstance(outcome, Completed):
                raise
            await self._write_outcome(run, Failed(error))

    async def _write_outcome(self, run: JobRun, outcome: Outcome) -> None:
        job = run.job
        self._is_ready = True
        for name, value in outcome.changes().items():
            setattr(job, name, value)
        match outcome:
            case Completed(details=details):
                await self._save(job)
                _log.info("job %s is completed", job.id)
                if dropped_s := (details or {}).get("dropped_s"):
                    _log.warning("job %s: %.1f s with speech gave no text; its warnings say why", job.id, dropped_s)
            case Failed(RecogniserNotStarted() as error):
                self._is_ready = False
                await retry_until_available(partial(self.repository.postpone, job), self._errors.report)
                self._errors.report(error)
            case Failed(error) if outcome.is_transient:
                queue_again = self.repository.requeue_killed if was_killed(error) else self.repository.retry_later
                await retry_until_available(partial(queue_again, job), self._errors.report)
                _log.error("job %s failed and may be retried: %s", job.id, outcome.message)
            case Failed(error):
                await self._save(job)
                unexpected = None if isinstance(error, (CesarError, OSError)) else error
                _log.error("job %s failed: %s", job.id, outcome.message, exc_info=unexpected)
            case Cancelled():
                await self._save(job)
                _log.info("job %s is cancelled", job.id)
            case Released(reason):
                await retry_until_available(partial(self.repository.release, job), self._errors.report)
                _log.info("job %s is released at %.0f s (%s)", job.id, run.progress.position, reason)

    async def _save(self, job: Job) -> None:
        """Write the job's current state: a copy of it, which no later change reaches."""
        written = job.model_copy()

        async def write() -> None:
            await self.repository.update(written)

        await retry_until_available(write, self._errors.report)
        job.refresh(written)


def _retrieve_exception(task: asyncio.Task[dict[str, str]]) -> None:
    """Retrieve the exception of work that may have been left to itself, so that asyncio doesn't log it."""
    if not task.cancelled():
        task.exception()
