"""`BackgroundWorker`: takes one job after the other from the queue, has it transcribed, writes down what became of it.

The event loop stays free: a transcription runs in a thread, and the model in a child process of that thread's. What
the thread and the loop share of a job is its `JobRun`; that no job is lost or done twice is the repository's doing.
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
from cesar.api.execution.job_run import JobRun, error_of, is_kill, is_transient, look_at, outcome_of, text_of
from cesar.api.execution.throttled_log import Complaints
from cesar.api.execution.turns import Fetches, Turns
from cesar.api.models import Job, JobStatus, utc_now
from cesar.api.queue.leases import LEASE_TTL_S, steady_clock
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.errors import CesarError, ClaimLost, DatabaseError, Interrupted, RecognitionError
from cesar.settings.config import Settings
from cesar.transcriber import AudioTranscriber

_CANCEL_POLL_S = 0.5
_TELL_EVERY_S = 1.0
"""How often to tell what has arrived of a recording that is fetched."""
_STOP_TIMEOUT_S = 10.0
_HEAD_START_S = 2.0
_MOST_FETCHES = 4
_LAST_WORDS_S = 0.9
_LONGEST_PAUSE_S = 30.0
_log = logging.getLogger(__name__)
_at_work: ContextVar[JobRun | None] = ContextVar("_at_work", default=None)
"""The job that a thread works for, however late the thread begins."""


class BackgroundWorker:
    """Processes the queue's jobs one at a time, in order, until it is shut down.

    poll_interval: how long to wait, in seconds, before an empty queue is asked again; new jobs wake the worker sooner.
    settings: where models are and how they are run; by default as `cesar.settings.config.load` finds them.
    grace_s: how long a job may go on after `shutdown` before it is given back, in seconds.
    lease_ttl_s: how long a claim lasts without a heartbeat, in seconds; by default as the repository says.
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
        self._beat_interval_s = lease_s / 6
        self._self_fence_s = lease_s * 2 / 3
        self._shutdown_event = asyncio.Event()
        self._hurry = asyncio.Event()
        self._wake = asyncio.Event()
        self._current_job_id: str | None = None
        self._turns = Turns()
        self._fetches = Fetches(_MOST_FETCHES if settings is None else settings.fetches_at_once)
        self._claiming = asyncio.Lock()
        """Held from looking whether there is room for a fetch until it counts."""
        self._complaints = Complaints(_log, "the worker goes on after an error")

    @property
    def is_processing(self) -> bool:
        """Whether a job is being processed now."""
        return self._current_job_id is not None or bool(self._fetches.tasks)

    @property
    def current_job_id(self) -> str | None:
        """Which job is being processed now: the one that has the recogniser, else one that is being fetched."""
        return self._current_job_id or next(iter(self._fetches.ids), None)

    async def run(self) -> None:
        """Process jobs until `shutdown`; then return within the grace time and a second, whatever the work does."""
        _log.info("the worker starts")
        temporary_files.sweep(self._settings)
        working = asyncio.create_task(self._work())
        try:
            await self._shutdown_event.wait()
            await self._wait_for(working, self._hurry, timeout_s=self._grace_s)
        except asyncio.CancelledError:
            self._shutdown_event.set()
            raise
        finally:
            self._hurry.set()
            await self._end(working)
            _log.info("the worker has stopped")

    async def shutdown(self, *, now: bool = False) -> None:
        """Ask the worker to stop: at once, with `now`; else a job at work has the grace time to end."""
        _log.info("the worker is asked to stop%s", " now" if now else "")
        self._shutdown_event.set()
        if now:
            self._hurry.set()

    async def _end(self, working: asyncio.Task[None]) -> None:
        """Give the work the time to write down how far it has come, and no more."""
        await self._wait_for(working, timeout_s=_LAST_WORDS_S)
        if not working.done():
            _log.error("the worker leaves its job as it is: the database, or the work, does not answer")
            working.cancel()
            await asyncio.wait({working}, timeout=0.1)

    async def _work(self) -> None:
        beside = [asyncio.create_task(self._again_and_again(self._fetch_beside))] if self._keeps_recordings else []
        self._turns.is_led = True
        try:
            await self._again_and_again(self._do_next)
            self._turns.end_lead()
            await self.repository.unsubscribe(self._wake)
            await asyncio.gather(*beside)
            if self._fetches.tasks:
                await asyncio.wait(set(self._fetches.tasks))
        finally:
            self._turns.end_lead()
            for task in (*beside, *self._fetches.tasks):
                task.cancel()

    async def _again_and_again(self, step: Callable[[], Awaitable[None]]) -> None:
        """Repeat a step until the worker is to stop, whatever goes wrong in one."""
        delays = backoff(longest_s=_LONGEST_PAUSE_S)
        while not self._shutdown_event.is_set():
            try:
                await self._listen()
                await step()
                delays = backoff(longest_s=_LONGEST_PAUSE_S)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next job must have its turn
                self._complaints.tell(error)
                await self._wait_for(self._shutdown_event, self._wake, timeout_s=next(delays))

    async def _do_next(self) -> None:
        """When the recogniser is free: do the first job in the queue's order, be it still there or fetched already."""
        self._wake.clear()
        await self._wait_for(self._shutdown_event, self._turns.free)
        if self._shutdown_event.is_set():
            return
        first, over = self._turns.first, None
        earlier: dict[str, Any] = {} if first is None else {"before": first}
        async with self._claiming:
            job = await self.repository.get_next_queued(**self._fetches.room, **earlier)
            if job is not None and self._must_fetch(job):
                over = self._begin_beside(job)
        if over is not None:  # it gets a moment's start, so that jobs from near addresses keep their place
            signs = (over, self._turns.awaited, self._shutdown_event)
            await self._wait_for(*signs, timeout_s=_HEAD_START_S)
        elif job is not None:
            await self._process_job(job)
        elif first is not None:
            self._turns.pass_on()
        else:
            signs = (self._wake, self._turns.awaited, self._shutdown_event)
            await self._wait_for(*signs, timeout_s=self.poll_interval)

    async def _fetch_beside(self) -> None:
        """While a recording is recognised: begin to fetch another. Otherwise `_do_next` does, in the queue's order."""
        await self._wait_for(self._shutdown_event, self._turns.taken)
        if self._shutdown_event.is_set():
            return
        self._wake.clear()
        job = None
        async with self._claiming:
            room = self._fetches.room
            if room.get("may_fetch", True):
                job = await self.repository.get_next_to_fetch(**room)
            if job is not None:
                self._begin_beside(job)
        if job is None:
            signs = (self._wake, self._turns.free, self._shutdown_event)
            await self._wait_for(*signs, timeout_s=self.poll_interval)

    @property
    def _keeps_recordings(self) -> bool:
        """Whether the queue has a place for recordings; without one nothing is fetched."""
        return isinstance(getattr(self.repository, "audio", None), AudioStore)

    def _must_fetch(self, job: Job) -> bool:
        """Whether the job's recording is to be fetched."""
        store = getattr(self.repository, "audio", None)
        if job.source_url is None or not isinstance(store, AudioStore):
            return False
        return job.audio_digest is None or not store.path_of(job.audio_digest).exists()

    def _begin_beside(self, job: Job) -> asyncio.Event:
        """Begin to fetch a job's recording, after which it waits for its turn; give what tells that it has that."""

        async def process() -> None:
            try:
                await self._process_job(job)
            except Exception as error:  # noqa: BLE001 - as in the loop
                self._complaints.tell(error)
            finally:
                self._wake.set()  # there is room for another

        return self._fetches.begin(job, asyncio.create_task(process()))

    async def _listen(self) -> None:
        """Have new jobs wake us; that is but a hint, as the queue is polled anyway."""
        try:
            await self.repository.subscribe(self._wake)
        except Exception as error:  # noqa: BLE001
            self._complaints.tell(error)

    async def _process_job(self, job: Job) -> None:
        """Take one claimed job to its end: completed, failed, cancelled, or given back."""
        self._current_job_id = self._current_job_id if self._must_fetch(job) else job.id
        run = JobRun(job, self.repository)
        keeping: asyncio.Task[None] | None = None
        try:
            job.status = JobStatus.PROCESSING
            job.started_at = utc_now()
            await self._record(job)
            keeping = asyncio.create_task(self._keep_claim(run))
            _log.info("job %s starts (attempt %d)", job.id, job.attempt)
            await self._conclude(run, await self._transcribe(run))
        except ClaimLost as lost:
            run.stop("claim lost")
            _log.warning("%s; its work is dropped", lost)
        finally:
            if keeping is not None:
                keeping.cancel()  # the last thing to stop, so that nobody takes what is still being written
            if self._current_job_id == job.id:
                self._current_job_id = None
            self._turns.leave(job)

    async def _transcribe(self, run: JobRun) -> asyncio.Task[dict[str, str]]:
        """Have the work done until it ends or is stopped; give its task, which may not be done."""
        _at_work.set(run)  # the thread gets a copy of this context
        task = asyncio.create_task(self._fetch_and_transcribe(run))
        task.add_done_callback(look_at)
        await self._wait_for(task, self._hurry, run.stopped)
        if not task.done() and self._hurry.is_set():
            run.stop("shutdown")
        await self._wait_for(task, timeout_s=_LAST_WORDS_S / 2 if run.stop_reason == "shutdown" else _STOP_TIMEOUT_S)
        return task

    async def _fetch_and_transcribe(self, run: JobRun) -> dict[str, str]:
        """Get the recording if it is elsewhere; then run the transcription in a thread, when it is the job's turn."""
        job = run.job
        if must_fetch := self._must_fetch(job):
            store = self.repository.audio
            assert job.source_url is not None
            assert store is not None
            arrived = await run.fetch(job.source_url, store, self._settings)
            await self._until_written(lambda: self.repository.keep_fetched(job, arrived))
            await asyncio.to_thread(store.remove_part, job.id)
            if run.stopped.is_set():
                raise Interrupted("the work was stopped")
            job.phase = None
        await self._turns.take(job, run.stopped, is_next=not must_fetch)
        self._fetches.end(job)
        self._wake.set()  # there may be room for another fetch
        self._current_job_id = job.id
        return await asyncio.to_thread(self._run_transcription, job.audio_path, job.model_size)  # by the transcriber

    async def _conclude(self, run: JobRun, task: asyncio.Task[dict[str, str]]) -> None:
        """Write down what became of the job: what was finished counts, even if it was to be stopped."""
        job = run.job
        error = error_of(task)
        if run.stop_reason == "claim lost":
            raise ClaimLost(f"the claim on job {job.id} was lost")
        if task.done() and error is None:
            try:
                await self._complete(run, task.result())
            except (LookupError, TypeError, ValueError) as wrong:  # what can't be stored, such as half a character
                await self._fail(job, wrong)
        elif run.stop_reason == "cancelled":
            job.status, job.completed_at = JobStatus.CANCELLED, utc_now()
            await self._record(job)
            _log.info("job %s is cancelled", job.id)
        elif run.stop_reason is not None:
            job.status = JobStatus.QUEUED
            await self._until_written(lambda: self.repository.release(job))
            _log.info("job %s is given back at %.0f s (%s)", job.id, job.position, run.stop_reason)
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
        await self._record(job)
        _log.info("job %s is completed", job.id)
        if dropped_s := (job.outcome or {}).get("dropped_s"):
            _log.warning("job %s: %.1f s with speech gave no text; its warnings say why", job.id, dropped_s)

    async def _fail(self, job: Job, error: BaseException) -> None:
        job.result_text = job.detected_language = job.outcome = None
        job.error_message = text_of(error)
        job.error_code = error.code if isinstance(error, CesarError) else CesarError.code
        job.error_hint = error.hint if isinstance(error, CesarError) else None
        if is_transient(error):
            queue_again = self.repository.put_back if is_kill(error) else self.repository.retry_later
            await self._until_written(lambda: queue_again(job))
            _log.error("job %s failed and may be tried again: %s", job.id, job.error_message)
            return
        job.status, job.completed_at = JobStatus.ERROR, utc_now()
        await self._record(job)
        unexpected = None if isinstance(error, (CesarError, OSError)) else error
        _log.error("job %s failed: %s", job.id, job.error_message, exc_info=unexpected)

    async def _record(self, job: Job) -> None:
        """Write a job as it is now."""
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
        """Write, again and again while the database is away."""
        for delay_s in backoff():
            try:
                await write()
            except DatabaseError as error:
                self._complaints.tell(error)
                await asyncio.sleep(delay_s)
            else:
                return

    async def _keep_claim(self, run: JobRun) -> None:
        """Beat while the job is at work, and stop the work when it is to be cancelled or the claim can't be kept."""
        kept_at = steady_clock()
        while True:
            await asyncio.sleep(min(_CANCEL_POLL_S, self._beat_interval_s / 2))
            asked_at = steady_clock()
            since_s = asked_at - kept_at
            is_due = since_s >= self._beat_interval_s or (run.has_arrivals and since_s >= _TELL_EVERY_S)
            ask = self.repository.heartbeat if is_due else self.repository.is_cancel_requested
            try:
                if is_due:
                    run.tell_arrivals()
                is_cancelled = await asyncio.wait_for(ask(run.job), self._beat_interval_s / 2)
                kept_at = asked_at if is_due else kept_at
                if is_cancelled is True:
                    run.stop("cancelled")
            except ClaimLost:
                run.stop("claim lost")
            except Exception as error:  # noqa: BLE001 - the claim lasts a while; the next beat may get through
                self._complaints.tell(error)
            if steady_clock() - kept_at > self._self_fence_s:
                run.stop("claim not kept")

    def _run_transcription(self, audio_path: str, model_size: str) -> dict[str, str]:
        """Transcribe a recording; runs in a thread."""
        run = _at_work.get()
        try:
            descriptor, output_path = tempfile.mkstemp(suffix=".txt", dir=temporary_files.folder_of(self._settings))
        except OSError as error:
            raise RecognitionError(f"no temporary file can be made: {error}", hint="Check the data folder.") from error
        os.close(descriptor)
        try:
            if self._settings is None:
                transcriber = AudioTranscriber(model_size=model_size)
            else:
                transcriber = AudioTranscriber(model_size=model_size, settings=self._settings)
            wishes = {} if run is None else run.wishes(self._settings)
            told = transcriber.transcribe_file(audio_path, output_path, **wishes)
            if run is not None:
                run.require_same_recording()
                run.outcome = outcome_of(told)
            text = Path(output_path).read_text(encoding="utf-8").strip()
            return {"text": text, "language": told.get("language", "unknown")}
        finally:
            Path(output_path).unlink(missing_ok=True)

    @staticmethod
    async def _wait_for(*signs: asyncio.Event | asyncio.Task[object], timeout_s: float | None = None) -> None:
        """Wait until an event is set or a task is done, for so long at most."""
        waits = {asyncio.create_task(sign.wait()) if isinstance(sign, asyncio.Event) else sign for sign in signs}
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits.difference(signs):
                wait.cancel()
