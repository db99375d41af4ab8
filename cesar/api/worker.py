"""`BackgroundWorker`: claims one job after another from the queue, transcribes it, and records the outcome.

The event loop stays free: a transcription runs in a thread, and the model in a child process of that thread. The
thread and the loop share one `JobRun`; the repository guarantees that no job is lost or done twice.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from cesar.api.execution import temporary_files
from cesar.api.execution.backoff import backoff
from cesar.api.execution.job_run import (
    JobRun,
    exception_of,
    is_transient,
    outcome_of,
    retrieve_exception,
    safe_message,
    was_killed,
)
from cesar.api.execution.throttled_log import ThrottledErrorLog
from cesar.api.execution.turns import Fetches, RecogniserTurns
from cesar.api.models import Job, JobStatus, utc_now
from cesar.api.queue.leases import LEASE_TTL_S, monotonic_clock
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.errors import CesarError, ClaimLost, DatabaseError, Interrupted, RecognitionError
from cesar.settings.config import Settings
from cesar.transcriber import AudioTranscriber

_CANCEL_POLL_S = 0.5
_REPORT_INTERVAL_S = 1.0
"""Interval of progress reports while a recording is fetched."""
_STOP_TIMEOUT_S = 10.0
_HEAD_START_S = 2.0
_MAX_FETCHES = 4
_FLUSH_TIMEOUT_S = 0.9
_MAX_BACKOFF_S = 30.0
_log = logging.getLogger(__name__)
_current_run: ContextVar[JobRun | None] = ContextVar("_current_run", default=None)
"""The run that a thread works for, however late the thread starts."""


class BackgroundWorker:
    """Processes the queue's jobs one at a time, in order, until it is shut down.

    poll_interval: seconds between polls of an empty queue; new jobs wake the worker sooner.
    settings: where models are and how to run them; by default those that `cesar.settings.config.load` returns.
    grace_s: seconds that a job may go on after `shutdown` before it is released.
    lease_ttl_s: seconds that a claim lasts without a heartbeat; by default the repository's.
    """

    def __init__(
        self,
        repository: JobRepository,
        poll_interval: float = 1.0,
        *,
        settings: Settings | None = None,
        grace_s: float = 8.0,
        lease_ttl_s: float | None = None,
    ) -> None:
        self.repository = repository
        self.poll_interval = poll_interval
        self._settings = settings
        self._grace_s = grace_s
        lease_s = getattr(repository, "lease_ttl_s", None) if lease_ttl_s is None else lease_ttl_s
        lease_s = lease_s if isinstance(lease_s, (int, float)) else LEASE_TTL_S
        self._heartbeat_interval_s = lease_s / 6
        self._self_fence_s = lease_s * 2 / 3
        self._shutdown_event = asyncio.Event()
        self._force_stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._current_job_id: str | None = None
        self._recogniser = RecogniserTurns()
        self._fetches = Fetches(_MAX_FETCHES if settings is None else settings.fetches_at_once)
        self._claiming = asyncio.Lock()
        """Held from checking for a free fetch slot until it is taken."""
        self._errors = ThrottledErrorLog(_log, "the worker continues after an error")

    @property
    def is_processing(self) -> bool:
        """Whether a job is being processed."""
        return self._current_job_id is not None or bool(self._fetches.tasks)

    @property
    def current_job_id(self) -> str | None:
        """The id of the job being processed: the one that has the recogniser, or else one being fetched."""
        return self._current_job_id or next(iter(self._fetches.ids), None)

    async def run(self) -> None:
        """Process jobs until `shutdown`; then return within the grace period and a second, whatever the work does."""
        _log.info("the worker starts")
        temporary_files.sweep(self._settings)
        working = asyncio.create_task(self._work())
        try:
            await self._shutdown_event.wait()
            await self._wait_for(working, self._force_stop, timeout_s=self._grace_s)
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
        await self._wait_for(working, timeout_s=_FLUSH_TIMEOUT_S)
        if not working.done():
            _log.error("the worker abandons its job: the database, or the work, does not respond")
            working.cancel()
            await asyncio.wait({working}, timeout=0.1)

    async def _work(self) -> None:
        fetching = [asyncio.create_task(self._repeat(self._fetch_next))] if self._keeps_recordings else []
        self._recogniser.is_dispatched = True
        try:
            await self._repeat(self._process_next)
            self._recogniser.stop_dispatching()
            await self.repository.unsubscribe(self._wake)
            await asyncio.gather(*fetching)
            if self._fetches.tasks:
                await asyncio.wait(set(self._fetches.tasks))
        finally:
            self._recogniser.stop_dispatching()
            for task in (*fetching, *self._fetches.tasks):
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
                await self._wait_for(self._shutdown_event, self._wake, timeout_s=next(delays))

    async def _process_next(self) -> None:
        """Once the recogniser is free, process the first job in queue order, whether queued or already fetched."""
        self._wake.clear()
        await self._wait_for(self._shutdown_event, self._recogniser.free)
        if self._shutdown_event.is_set():
            return
        first, settled = self._recogniser.first, None
        earlier: dict[str, Any] = {} if first is None else {"before": first}
        async with self._claiming:
            job = await self.repository.get_next_queued(**self._fetches.claim_limits, **earlier)
            if job is not None and self._must_fetch(job):
                settled = self._start_fetch(job)
        if settled is not None:  # a head start, so that jobs from fast servers keep their position
            events = (settled, self._recogniser.awaited, self._shutdown_event)
            await self._wait_for(*events, timeout_s=_HEAD_START_S)
        elif job is not None:
            await self._process_job(job)
        elif first is not None:
            self._recogniser.hand_over()
        else:
            events = (self._wake, self._recogniser.awaited, self._shutdown_event)
            await self._wait_for(*events, timeout_s=self.poll_interval)

    async def _fetch_next(self) -> None:
        """Start another fetch while a recording is recognised; otherwise `_process_next` does so, in queue order."""
        await self._wait_for(self._shutdown_event, self._recogniser.busy)
        if self._shutdown_event.is_set():
            return
        self._wake.clear()
        job = None
        async with self._claiming:
            limits = self._fetches.claim_limits
            if limits.get("may_fetch", True):
                job = await self.repository.get_next_to_fetch(**limits)
            if job is not None:
                self._start_fetch(job)
        if job is None:
            events = (self._wake, self._recogniser.free, self._shutdown_event)
            await self._wait_for(*events, timeout_s=self.poll_interval)

    @property
    def _keeps_recordings(self) -> bool:
        """Whether the repository stores recordings; otherwise nothing is fetched."""
        return isinstance(getattr(self.repository, "audio", None), AudioStore)

    def _must_fetch(self, job: Job) -> bool:
        """Whether the job's recording must be fetched."""
        store = getattr(self.repository, "audio", None)
        if job.source_url is None or not isinstance(store, AudioStore):
            return False
        return job.audio_digest is None or not store.path_of(job.audio_digest).exists()

    def _start_fetch(self, job: Job) -> asyncio.Event:
        """Start fetching a job's recording; return an event set when the job gets the recogniser, or is finished."""

        async def process() -> None:
            try:
                await self._process_job(job)
            except Exception as error:  # noqa: BLE001 - as in the loop
                self._errors.report(error)
            finally:
                self._wake.set()  # a fetch slot may be free

        return self._fetches.add(job, asyncio.create_task(process()))

    async def _subscribe(self) -> None:
        """Have new jobs wake the worker; this is only a hint, as it also polls."""
        try:
            await self.repository.subscribe(self._wake)
        except Exception as error:  # noqa: BLE001
            self._errors.report(error)

    async def _process_job(self, job: Job) -> None:
        """Process one claimed job until it is completed, failed, cancelled or released."""
        self._current_job_id = self._current_job_id if self._must_fetch(job) else job.id
        run = JobRun(job, self.repository)
        heartbeat: asyncio.Task[None] | None = None
        try:
            job.status = JobStatus.PROCESSING
            job.started_at = utc_now()
            await self._save(job)
            heartbeat = asyncio.create_task(self._keep_claim(run))
            _log.info("job %s starts (attempt %d)", job.id, job.attempt)
            await self._write_outcome(run, await self._transcribe(run))
        except ClaimLost as lost:
            run.stop("claim lost")
            _log.warning("%s; its work is discarded", lost)
        finally:
            if heartbeat is not None:
                heartbeat.cancel()  # stop it last, so that no worker takes a job that is still being written
            if self._current_job_id == job.id:
                self._current_job_id = None
            self._recogniser.release(job)

    async def _transcribe(self, run: JobRun) -> asyncio.Task[dict[str, str]]:
        """Run the work until it ends or is stopped; return its task, which may not be done."""
        _current_run.set(run)  # the thread gets a copy of this context
        task = asyncio.create_task(self._fetch_and_transcribe(run))
        task.add_done_callback(retrieve_exception)
        await self._wait_for(task, self._force_stop, run.stopped)
        if not task.done() and self._force_stop.is_set():
            run.stop("shutdown")
        await self._wait_for(task, timeout_s=_FLUSH_TIMEOUT_S / 2 if run.stop_reason == "shutdown" else _STOP_TIMEOUT_S)
        return task

    async def _fetch_and_transcribe(self, run: JobRun) -> dict[str, str]:
        """Fetch the recording if necessary; then run the transcription in a thread, when it is the job's turn."""
        job = run.job
        if must_fetch := self._must_fetch(job):
            store = self.repository.audio
            assert job.source_url is not None
            assert store is not None
            arrived = await run.fetch(job.source_url, store, self._settings)
            await self._until_written(lambda: self.repository.store_download(job, arrived))
            await asyncio.to_thread(store.remove_partial, job.id)
            if run.stopped.is_set():
                raise Interrupted("the work was stopped")
            job.phase = None
        await self._recogniser.acquire(job, run.stopped, is_next=not must_fetch)
        self._fetches.discard(job)
        self._wake.set()  # a fetch slot may be free
        self._current_job_id = job.id
        return await asyncio.to_thread(self._run_transcription, job.audio_path, job.model_size)  # by the transcriber

    async def _write_outcome(self, run: JobRun, task: asyncio.Task[dict[str, str]]) -> None:
        """Record the outcome of the job: finished work counts, even if it was to be stopped."""
        job = run.job
        error = exception_of(task)
        if run.stop_reason == "claim lost":
            raise ClaimLost(f"the claim on job {job.id} was lost")
        if task.done() and error is None:
            try:
                await self._complete(run, task.result())
            except (LookupError, TypeError, ValueError) as wrong:  # what can't be stored, such as a lone surrogate
                await self._fail(job, wrong)
        elif run.stop_reason == "cancelled":
            job.status, job.completed_at = JobStatus.CANCELLED, utc_now()
            await self._save(job)
            _log.info("job %s is cancelled", job.id)
        elif run.stop_reason is not None:
            job.status = JobStatus.QUEUED
            await self._until_written(lambda: self.repository.release(job))
            _log.info("job %s is released at %.0f s (%s)", job.id, job.position, run.stop_reason)
        else:
            assert error is not None
            await self._fail(job, error)

    async def _complete(self, run: JobRun, result: dict[str, str]) -> None:
        job = run.job
        job.status, job.completed_at = JobStatus.COMPLETED, utc_now()
        job.result_text = result["text"]
        job.detected_language = result["language"]
        job.outcome = run.outcome
        job.error_code = job.error_message = job.error_hint = None
        await self._save(job)
        _log.info("job %s is completed", job.id)
        if dropped_s := (job.outcome or {}).get("dropped_s"):
            _log.warning("job %s: %.1f s with speech gave no text; its warnings say why", job.id, dropped_s)

    async def _fail(self, job: Job, error: BaseException) -> None:
        job.result_text = job.detected_language = job.outcome = None
        job.error_message = safe_message(error)
        job.error_code = error.code if isinstance(error, CesarError) else CesarError.code
        job.error_hint = error.hint if isinstance(error, CesarError) else None
        if is_transient(error):
            queue_again = self.repository.requeue_killed if was_killed(error) else self.repository.retry_later
            await self._until_written(lambda: queue_again(job))
            _log.error("job %s failed and may be retried: %s", job.id, job.error_message)
            return
        job.status, job.completed_at = JobStatus.ERROR, utc_now()
        await self._save(job)
        unexpected = None if isinstance(error, (CesarError, OSError)) else error
        _log.error("job %s failed: %s", job.id, job.error_message, exc_info=unexpected)

    async def _save(self, job: Job) -> None:
        """Write the job's current state."""
        snapshot = job.model_copy()

        async def write() -> None:
            await self.repository.update(snapshot)

        await self._until_written(write)
        job.version, job.attempt, job.owner, job.claim = (
            snapshot.version,
            snapshot.attempt,
            snapshot.owner,
            snapshot.claim,
        )

    async def _until_written(self, write: Callable[[], Awaitable[object]]) -> None:
        """Write, retrying while the database is unavailable."""
        for delay_s in backoff():
            try:
                await write()
            except DatabaseError as error:
                self._errors.report(error)
                await asyncio.sleep(delay_s)
            else:
                return

    async def _keep_claim(self, run: JobRun) -> None:
        """Send heartbeats while the job runs; stop the work if it is cancelled or the claim can't be renewed."""
        renewed_at = monotonic_clock()
        while True:
            await asyncio.sleep(min(_CANCEL_POLL_S, self._heartbeat_interval_s / 2))
            requested_at = monotonic_clock()
            since_s = requested_at - renewed_at
            is_heartbeat_due = since_s >= self._heartbeat_interval_s or (
                run.has_unreported_bytes and since_s >= _REPORT_INTERVAL_S
            )
            call = self.repository.heartbeat if is_heartbeat_due else self.repository.is_cancel_requested
            try:
                if is_heartbeat_due:
                    run.mark_reported()
                is_cancelled = await asyncio.wait_for(call(run.job), self._heartbeat_interval_s / 2)
                renewed_at = requested_at if is_heartbeat_due else renewed_at
                if is_cancelled is True:
                    run.stop("cancelled")
            except ClaimLost:
                run.stop("claim lost")
            except Exception as error:  # noqa: BLE001 - the claim lasts a while; the next heartbeat may succeed
                self._errors.report(error)
            if monotonic_clock() - renewed_at > self._self_fence_s:
                run.stop("claim not kept")

    def _run_transcription(self, audio_path: str, model_size: str) -> dict[str, str]:
        """Transcribe a recording; runs in a thread."""
        run = _current_run.get()
        try:
            descriptor, output_path = tempfile.mkstemp(suffix=".txt", dir=temporary_files.folder_of(self._settings))
        except OSError as error:
            message = f"no temporary file can be created: {error}"
            raise RecognitionError(message, hint="Check the data folder.") from error
        os.close(descriptor)
        try:
            if self._settings is None:
                transcriber = AudioTranscriber(model_size=model_size)
            else:
                transcriber = AudioTranscriber(model_size=model_size, settings=self._settings)
            arguments = {} if run is None else run.transcribe_arguments(self._settings)
            result = transcriber.transcribe_file(audio_path, output_path, **arguments)
            if run is not None:
                run.require_same_recording()
                run.outcome = outcome_of(result)
            text = Path(output_path).read_text(encoding="utf-8").strip()
            return {"text": text, "language": result.get("language", "unknown")}
        finally:
            Path(output_path).unlink(missing_ok=True)

    @staticmethod
    async def _wait_for(*events: asyncio.Event | asyncio.Task[object], timeout_s: float | None = None) -> None:
        """Wait until an event is set or a task is done, at most for the timeout."""
        waits = {asyncio.create_task(event.wait()) if isinstance(event, asyncio.Event) else event for event in events}
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits.difference(events):
                wait.cancel()
