"""The worker's contract, first with a mock repository, then with the real one on a real file.

More about the worker is in `tests/api/test_worker_*.py`.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from unittest import IsolatedAsyncioTestCase
from unittest.mock import AsyncMock, create_autospec, patch

from cesar.api import BackgroundWorker, Job, JobRepository, JobStatus, worker
from tests.api.support import Gate, QueueCase, eventually


def hear(audio_path: str, model_size: str) -> dict[str, str]:
    """Transcribe: fail for a recording whose name contains "missing"."""
    if "missing" in audio_path:
        raise FileNotFoundError(f"Audio file not found: {audio_path}")
    return {"text": f"{model_size} heard {audio_path}", "language": "en"}


def test_the_line_that_leaves_the_loop_names_the_transcriber() -> None:
    """Match the exact pattern of the worker's contract, on one line."""
    lines = Path(worker.__file__).read_text(encoding="utf-8").splitlines()
    [found] = [line for line in lines if re.search(r"asyncio\.to_thread.*transcrib", line)]
    assert "self._run_transcription" in found


class TestWorkerWithMock(IsolatedAsyncioTestCase):
    """The repository is a mock that returns the queued jobs, one per call, and then None."""

    def setUp(self) -> None:
        self.waiting: list[Job] = []
        self.repository = create_autospec(JobRepository, instance=True)
        self.repository.get_next_queued.side_effect = lambda: self.waiting.pop(0) if self.waiting else None
        self.repository.get_next_to_fetch.return_value = []
        self.repository.update.side_effect = lambda job: job
        self.gate = Gate()
        self.worker = BackgroundWorker(self.repository, poll_interval=0.01)
        self.replace_transcription(hear)
        self.running: asyncio.Task[None] | None = None

    async def asyncTearDown(self) -> None:
        self.gate.open()
        if self.running is not None:
            await self.worker.shutdown()
            await self.running

    def replace_transcription(self, transcribe: Callable[[str, str], dict[str, str]]) -> None:
        self.worker._run_transcription = transcribe  # type: ignore[method-assign, assignment]

    def queue(self, *audio_paths: str) -> list[Job]:
        jobs = [Job(audio_path=audio_path) for audio_path in audio_paths]
        self.waiting += jobs
        return jobs

    def start(self) -> None:
        self.running = asyncio.create_task(self.worker.run())

    async def finish(self, *jobs: Job) -> None:
        """Run the worker until these jobs are finished and released."""
        self.start()
        await eventually(lambda: all(job.status.is_final for job in jobs) and not self.worker.is_processing)

    def updates(self) -> list[Job]:
        return [call.args[0] for call in self.repository.update.call_args_list]

    async def test_worker_processes_queued_job(self) -> None:
        (job,) = self.queue("/talk.wav")
        seen: list[JobStatus] = []

        def update(updated: Job) -> Job:
            seen.append(updated.status)
            return updated

        self.repository.update.side_effect = update
        await self.finish(job)
        assert seen == [JobStatus.PROCESSING, JobStatus.COMPLETED]
        assert [update.status for update in self.updates()] == seen, "a look back must show the same"
        assert all(update.id == job.id for update in self.updates())
        assert (job.result_text, job.detected_language) == ("base heard /talk.wav", "en")
        assert job.started_at is not None
        assert job.completed_at is not None
        assert job.started_at <= job.completed_at

    async def test_worker_graceful_shutdown(self) -> None:
        self.start()
        await eventually(lambda: self.repository.get_next_queued.await_count)
        assert self.running is not None
        asked_at = time.monotonic()
        await self.worker.shutdown()
        await asyncio.wait_for(self.running, timeout=1)
        assert time.monotonic() - asked_at < 1
        assert self.worker._shutdown_event.is_set()

    async def test_worker_handles_transcription_error(self) -> None:
        (job,) = self.queue("/missing.wav")
        await self.finish(job)
        assert [update.status for update in self.updates()] == [JobStatus.PROCESSING, JobStatus.ERROR]
        assert job.error_message == "Audio file not found: /missing.wav"
        assert job.completed_at is not None
        assert job.result_text is None

    async def test_worker_fifo_order(self) -> None:
        jobs = self.queue("/first.wav", "/second.wav", "/third.wav")
        await self.finish(*jobs)
        completed = [update.id for update in self.updates() if update.status is JobStatus.COMPLETED]
        assert completed == [job.id for job in jobs]

    async def test_worker_is_processing_property(self) -> None:
        assert (self.worker.is_processing, self.worker.current_job_id) == (False, None)
        (job,) = self.queue("/talk.wav")
        self.replace_transcription(self.gate)
        self.start()
        await eventually(lambda: self.gate.begun)
        assert (self.worker.is_processing, self.worker.current_job_id) == (True, job.id)
        assert self.worker._current_job_id == job.id
        self.gate.open()
        await eventually(lambda: not self.worker.is_processing)
        assert self.worker.current_job_id is None
        assert job.status is JobStatus.COMPLETED

    async def test_worker_continues_after_error(self) -> None:
        bad, good = self.queue("/missing.wav", "/talk.wav")
        await self.finish(bad, good)
        assert (bad.status, good.status) == (JobStatus.ERROR, JobStatus.COMPLETED)

    async def test_multiple_jobs_queued(self) -> None:
        self.replace_transcription(self.gate)
        jobs = self.queue("/first.wav")
        self.start()
        await eventually(lambda: self.gate.begun)
        jobs += self.queue("/second.wav", "/third.wav")
        assert self.gate.begun == ["/first.wav"], "one at a time"
        self.gate.open()
        await eventually(lambda: all(job.status is JobStatus.COMPLETED for job in jobs))
        assert self.gate.begun == ["/first.wav", "/second.wav", "/third.wav"]


class TestWorkerWithBareMock(IsolatedAsyncioTestCase):
    """Whatever else a bare `AsyncMock` returns, jobs run: their claims, which it lacks, say what is to be kept."""

    async def test_a_job_is_transcribed_and_completed(self) -> None:
        with NamedTemporaryFile(suffix=".wav") as recording, patch("cesar.api.worker.AudioTranscriber") as transcriber:
            recording.write(b"sound")
            recording.flush()
            transcriber.return_value.transcribe_file.side_effect = self.write_text
            job, repository = Job(audio_path=recording.name), AsyncMock()
            repository.get_next_queued.side_effect = [job, *[None] * 1000]
            running_worker = BackgroundWorker(repository, poll_interval=0.01)
            running = asyncio.create_task(running_worker.run())
            await eventually(lambda: job.status.is_final and not running_worker.is_processing)
            await running_worker.shutdown()
            await asyncio.wait_for(running, timeout=1)
        assert (job.status, job.result_text, job.detected_language) == (JobStatus.COMPLETED, "What was said.", "en")
        assert [call.args[0].status for call in repository.update.call_args_list] == [
            JobStatus.PROCESSING,
            JobStatus.COMPLETED,
        ]

    @staticmethod
    def write_text(_audio_path: str, output_path: str, **_more: object) -> dict[str, str]:
        Path(output_path).write_text("What was said.\n", encoding="utf-8")
        return {"language": "en"}


class TestWorkerWithRepository(QueueCase):
    """The same with the real repository; what is read back from it counts."""

    in_memory = False

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.gate = Gate()
        self.worker = BackgroundWorker(self.repository, poll_interval=0.05)
        self.replace_transcription(hear)
        self.running: asyncio.Task[None] | None = None

    async def asyncTearDown(self) -> None:
        self.gate.open()
        if self.running is not None:
            await self.worker.shutdown()
            await self.running

    def replace_transcription(self, transcribe: Callable[[str, str], dict[str, str]]) -> None:
        self.worker._run_transcription = transcribe  # type: ignore[method-assign, assignment]

    def start(self) -> None:
        self.running = asyncio.create_task(self.worker.run())

    async def finish(self) -> list[Job]:
        """Run the worker until every job is finished; return them, oldest first."""
        self.start()

        async def is_over() -> bool:
            jobs = await self.repository.list_all()
            return all(job.status.is_final for job in jobs) and not self.worker.is_processing

        await eventually(is_over)
        return list(reversed(await self.repository.list_all()))

    async def test_worker_processes_queued_job(self) -> None:
        await self.queue("/talk.wav", model_size="tiny")
        (job,) = await self.finish()
        assert job.status is JobStatus.COMPLETED
        assert (job.result_text, job.detected_language) == ("tiny heard /talk.wav", "en")
        assert job.started_at is not None
        assert job.completed_at is not None
        assert job.started_at <= job.completed_at
        states = [event.after for event in await self.repository.events(job.id)]
        assert states == [JobStatus.QUEUED, JobStatus.PROCESSING, JobStatus.COMPLETED]

    async def test_worker_graceful_shutdown(self) -> None:
        await self.finish()
        assert self.running is not None
        await self.worker.shutdown()
        await asyncio.wait_for(self.running, timeout=1)

    async def test_worker_handles_transcription_error(self) -> None:
        await self.queue("/missing.wav")
        (job,) = await self.finish()
        assert job.status is JobStatus.ERROR
        assert job.error_message == "Audio file not found: /missing.wav"
        assert job.completed_at is not None

    async def test_worker_fifo_order(self) -> None:
        queued = [await self.queue(f"/{name}.wav") for name in ("first", "second", "third")]
        await self.finish()
        events = await self.repository.events()
        completed = [event.job_id for event in events if event.after is JobStatus.COMPLETED]
        assert completed == [job.id for job in queued]

    async def test_worker_is_processing_property(self) -> None:
        self.replace_transcription(self.gate)
        job = await self.queue("/talk.wav")
        self.start()
        await eventually(lambda: self.gate.begun)
        assert (self.worker.is_processing, self.worker.current_job_id) == (True, job.id)
        assert (await self.read(job)).status is JobStatus.PROCESSING
        self.gate.open()
        await eventually(lambda: not self.worker.is_processing)
        assert self.worker.current_job_id is None
        assert (await self.read(job)).status is JobStatus.COMPLETED

    async def test_worker_continues_after_error(self) -> None:
        await self.queue("/missing.wav")
        await self.queue("/talk.wav")
        bad, good = await self.finish()
        assert (bad.status, good.status) == (JobStatus.ERROR, JobStatus.COMPLETED)

    async def test_multiple_jobs_queued(self) -> None:
        self.replace_transcription(self.gate)
        await self.queue("/first.wav")
        self.start()
        await eventually(lambda: self.gate.begun)
        await self.queue("/second.wav")
        await self.queue("/third.wav")
        counts = await self.repository.counts()
        assert (counts[JobStatus.PROCESSING], counts[JobStatus.QUEUED]) == (1, 2)
        assert self.gate.begun == ["/first.wav"], "one at a time"
        self.gate.open()
        await eventually(self.all_are_completed)
        assert self.gate.begun == ["/first.wav", "/second.wav", "/third.wav"]

    async def all_are_completed(self) -> bool:
        return all(job.status is JobStatus.COMPLETED for job in await self.repository.list_all())

    async def test_results_are_there_for_whoever_opens_the_file_next(self) -> None:
        job = await self.queue("/talk.wav")
        await self.finish()
        await self.worker.shutdown()
        await self.repository.close()
        later = JobRepository(self.file)
        await later.connect()
        found = await later.get(job.id)
        await later.close()
        assert found is not None
        assert found.result_text == "base heard /talk.wav"
