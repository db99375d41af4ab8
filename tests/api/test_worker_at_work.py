"""What a worker does with a job: the thread, the transcriber, the event loop meanwhile."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from cesar.api.execution import claim_keeper
from cesar.api.models import Job, JobStatus
from cesar.api.worker import BackgroundWorker
from cesar.errors import NotMedia
from tests.api.support import NO_MODEL, Gate, WorkerCase, eventually


class FakeTranscriber:
    """Replaces `AudioTranscriber`, and records how it was used."""

    made: list[dict[str, Any]]
    outputs: list[Path]

    def __init__(self, answer: dict[str, Any] | Exception, text: str = "What was said.\n") -> None:
        self.answer, self.text = answer, text
        self.made, self.outputs = [], []

    def __call__(self, *args: object, **named: object) -> FakeTranscriber:
        assert args == ()
        self.made.append(named)
        return self

    def transcribe_file(self, input_path: str, output_path: str, **_options: object) -> dict[str, Any]:
        self.outputs.append(Path(output_path))
        assert Path(output_path).exists()
        Path(output_path).write_text(self.text, encoding="utf-8")
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def installed(self) -> Any:
        return patch("cesar.api.worker.AudioTranscriber", self)


def _claim_keepers() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if claim_keeper.__file__ in repr(task)]


class TestTranscription(WorkerCase):
    """Tests of `_run_transcription` with a fake transcriber."""

    def transcribe(self, transcriber: FakeTranscriber) -> dict[str, str]:
        worker = BackgroundWorker(self.repository)
        with transcriber.installed():
            return worker._run_transcription("/talk.wav", "small")

    async def test_the_transcriber_gets_the_model_and_nothing_else(self) -> None:
        fake = FakeTranscriber({"language": "de"})
        assert self.transcribe(fake) == {"text": "What was said.", "language": "de"}
        assert fake.made == [{"model_size": "small"}]

    async def test_a_missing_language_is_unknown(self) -> None:
        assert self.transcribe(FakeTranscriber({}))["language"] == "unknown"

    async def test_text_in_any_script_is_read_completely(self) -> None:
        text = "Größe\n東京 🎙\n"
        assert self.transcribe(FakeTranscriber({}, text))["text"] == text.strip()

    async def test_the_temporary_file_is_a_text_file_and_is_removed(self) -> None:
        fake = FakeTranscriber({})
        with patch.object(tempfile, "tempdir", str(self.folder)):
            self.transcribe(fake)
            assert list(self.folder.iterdir()) == []
        (output,) = fake.outputs
        assert (output.parent, output.suffix) == (self.folder, ".txt")

    async def test_the_temporary_file_is_removed_also_after_an_error(self) -> None:
        fake = FakeTranscriber(NotMedia("it is a picture"))
        with patch.object(tempfile, "tempdir", str(self.folder)):
            with pytest.raises(NotMedia):
                self.transcribe(fake)
            assert list(self.folder.iterdir()) == []
        assert len(fake.outputs) == 1

    async def test_a_worker_completes_jobs_with_a_transcriber(self) -> None:
        told = {"language": "en", "audio_duration": 12.5, "warnings": ["it was loud"], "timings": {"total": 1.0}}
        job = await self.queue(model_size=NO_MODEL)
        with FakeTranscriber(told).installed():
            self.start(BackgroundWorker(self.repository, 0.01))
            await self.wait_until_finished(job)
        job = await self.read(job)
        assert (job.result_text, job.detected_language) == ("What was said.", "en")
        assert job.outcome is not None
        assert (job.outcome["duration"], job.outcome["warnings"]) == (12.5, ["it was loud"])


class TestAtWork(WorkerCase):
    async def test_the_event_loop_stays_responsive(self) -> None:
        def block(audio_path: str, model_size: str) -> dict[str, str]:
            while not turned.is_set():
                time.sleep(0.001)
            return {"text": "", "language": "en"}

        turned = threading.Event()
        self.addCleanup(turned.set)
        job = await self.queue()
        worker = self.start_worker_with(block)
        await eventually(lambda: worker.is_processing)
        for _ in range(200):
            await asyncio.sleep(0.001)
        assert (await self.read(job)).status is JobStatus.PROCESSING
        turned.set()
        await self.wait_until_finished(job)

    async def test_one_job_runs_at_a_time(self) -> None:
        gate = Gate(is_open=True)
        jobs = [await self.queue(f"/{number}.wav") for number in range(8)]
        self.start_worker_with(gate)
        await self.wait_until_finished(*jobs)
        assert gate.most_at_once == 1
        assert gate.begun == [job.audio_path for job in jobs]

    async def test_a_job_that_was_only_created_can_be_processed(self) -> None:
        job = await self.queue()
        worker = BackgroundWorker(self.repository)
        self.replace(worker, Gate(is_open=True))
        await worker._process_job(job)
        assert job.status is JobStatus.COMPLETED
        stored = await self.read(job)
        assert (stored.status, stored.result_text) == (JobStatus.COMPLETED, "the words of /talk.wav")
        assert (await self.reasons(job)) == ["submitted", "claimed by update", "completed"]
        assert not worker.is_processing

    async def test_nothing_keeps_running_after_a_job_has_finished(self) -> None:
        job = await self.queue()
        self.start_worker_with(self.gate)
        await eventually(lambda: self.gate.begun)
        assert len(_claim_keepers()) == 1
        self.gate.open()
        await self.wait_until_finished(job)
        assert _claim_keepers() == []

    async def test_silence_is_a_result(self) -> None:
        job = await self.queue()
        self.start_worker_with(lambda audio_path, model_size: {"text": "", "language": "unknown"})
        await self.wait_until_finished(job)
        job = await self.read(job)
        assert (job.status, job.result_text) == (JobStatus.COMPLETED, "")

    async def test_start_completion_failure_and_stop_are_logged(self) -> None:
        good, bad = await self.queue("/good.wav"), await self.queue("/bad.wav")

        def work(audio_path: str, model_size: str) -> dict[str, str]:
            if audio_path == bad.audio_path:
                raise NotMedia("it is a picture")
            return {"text": "", "language": "en"}

        with self.assertLogs("cesar.api.worker", logging.INFO) as logs:
            worker = self.start_worker_with(work)
            await self.wait_until_finished(good, bad)
            await self.stop(worker)
        told = [(record.levelname, record.getMessage()) for record in logs.records]
        assert told == [
            ("INFO", "the worker starts"),
            ("INFO", f"job {good.id} starts (attempt 1)"),
            ("INFO", f"job {good.id} is completed"),
            ("INFO", f"job {bad.id} starts (attempt 1)"),
            ("ERROR", f"job {bad.id} failed: it is a picture"),
            ("INFO", "the worker is asked to stop now"),
            ("INFO", "the worker has stopped"),
        ]
        assert all(record.exc_info is None for record in logs.records), "no traceback for a bad recording"

    async def test_a_bug_is_logged_with_its_traceback(self) -> None:
        def work(audio_path: str, model_size: str) -> dict[str, str]:
            raise ZeroDivisionError("by zero")

        job = await self.queue()
        with self.assertLogs("cesar.api.worker", logging.ERROR) as logs:
            self.start_worker_with(work)
            await self.wait_until_finished(job)
        assert logs.records[0].exc_info is not None
        assert (await self.read(job)).error_code == "internal"

    async def test_an_error_without_a_message_is_reported_by_its_type(self) -> None:
        def work(audio_path: str, model_size: str) -> dict[str, str]:
            raise NotImplementedError

        job = await self.queue()
        self.start_worker_with(work)
        await self.wait_until_finished(job)
        assert (await self.read(job)).error_message == "NotImplementedError"

    async def test_a_worker_finds_jobs_queued_before_it_started(self) -> None:
        jobs: list[Job] = [await self.queue() for _ in range(3)]
        self.start_worker_with(Gate(is_open=True))
        await self.wait_until_finished(*jobs)
