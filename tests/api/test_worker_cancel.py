"""Work that must end early: cancelled, or its claim lost."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import patch

from cesar.api.models import LEASE_TTL_S, Job, JobStatus
from cesar.api.worker import BackgroundWorker
from cesar.errors import Interrupted
from tests.api.support import NO_MODEL, PATIENCE_S, Clocks, WorkerCase, eventually


class Obedient:
    """A transcriber that works until it is stopped or told to finish."""

    def __init__(self, model_size: str) -> None:
        self.begun: list[str] = []
        self.stopped: list[str] = []
        self.is_through = False

    def transcribe_file(self, input_path: str, output_path: str, **wishes: Any) -> dict[str, Any]:
        self.begun.append(input_path)
        deadline = time.monotonic() + PATIENCE_S
        while not self.is_through:
            if wishes["should_stop"]():
                self.stopped.append(input_path)
                raise Interrupted("stopped")
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return {"language": "en"}


class TestCancelling(WorkerCase):
    def setUp(self) -> None:
        super().setUp()
        self.transcriber = Obedient("")
        self.enterContext(patch("cesar.api.worker.AudioTranscriber", lambda model_size: self.transcriber))

    def start_worker(self, **options: Any) -> BackgroundWorker:
        worker = BackgroundWorker(self.repository, 0.01, **options)
        self.start(worker)
        return worker

    async def queue_one(self, audio_path: str) -> Job:
        return await self.queue(audio_path, model_size=NO_MODEL)

    async def test_a_cancelled_waiting_job_never_starts(self) -> None:
        first, second = await self.queue_one("/first.wav"), await self.queue_one("/second.wav")
        self.start_worker()
        await eventually(lambda: self.transcriber.begun)
        await self.repository.request_cancel(second.id)
        self.transcriber.is_through = True
        await self.wait_until_finished(first, second)
        assert self.transcriber.begun == ["/first.wav"]
        assert (await self.read(second)).status is JobStatus.CANCELLED

    async def test_cancelling_stops_the_work_and_the_next_job_runs(self) -> None:
        first, second = await self.queue_one("/first.wav"), await self.queue_one("/second.wav")
        self.start_worker()
        await eventually(lambda: self.transcriber.begun)
        await self.repository.request_cancel(first.id)
        await eventually(lambda: self.transcriber.begun == ["/first.wav", "/second.wav"])
        job = await self.read(first)
        assert (job.status, job.result_text) == (JobStatus.CANCELLED, None)
        assert job.completed_at is not None
        assert self.transcriber.stopped == ["/first.wav"]
        self.transcriber.is_through = True
        await self.wait_until_finished(second)

    async def test_work_that_does_not_stop_is_abandoned(self) -> None:
        first, second = await self.queue("/first.wav"), await self.queue("/second.wav")
        with patch("cesar.api.worker._STOP_TIMEOUT_S", 0.1):
            self.start_worker_with(self.gate)
            await eventually(lambda: self.gate.begun)
            await self.repository.request_cancel(first.id)
            await eventually(lambda: self.gate.begun == ["/first.wav", "/second.wav"])
            cancelled = await self.read(first)
            assert cancelled.status is JobStatus.CANCELLED
            self.gate.open()
            await self.wait_until_finished(second)
        await asyncio.get_running_loop().shutdown_default_executor()
        assert await self.read(first) == cancelled

    async def test_a_late_thread_does_not_write_into_the_next_job(self) -> None:
        threads, may_begin = ThreadPoolExecutor(1), threading.Event()
        self.addCleanup(may_begin.set)
        asyncio.get_running_loop().set_default_executor(threads)
        threads.submit(may_begin.wait, PATIENCE_S)
        first, second = await self.queue_one("/first.wav"), await self.queue_one("/second.wav")
        with patch("cesar.api.worker._STOP_TIMEOUT_S", 0.1):
            worker = self.start_worker()
            await eventually(lambda: worker.current_job_id == first.id)
            await self.repository.request_cancel(first.id)
            await eventually(lambda: worker.current_job_id == second.id)
        may_begin.set()
        await eventually(lambda: "/second.wav" in self.transcriber.begun)
        self.transcriber.is_through = True
        await self.wait_until_finished(second)
        assert self.transcriber.stopped == ["/first.wav"]

    async def test_a_finished_job_stays_finished(self) -> None:
        job = await self.queue_one("/talk.wav")
        self.transcriber.is_through = True
        self.start_worker()
        await self.wait_until_finished(job)
        assert (await self.repository.request_cancel(job.id)).status is JobStatus.COMPLETED

    async def test_work_finished_before_it_noticed_the_cancel_counts(self) -> None:
        job = await self.queue("/talk.wav")
        self.start_worker_with(self.gate)
        await eventually(lambda: self.gate.begun)
        await self.repository.request_cancel(job.id)
        self.gate.open()
        await self.wait_until_finished(job)
        job = await self.read(job)
        assert job.status in (JobStatus.COMPLETED, JobStatus.CANCELLED)
        assert (job.result_text is not None) == (job.status is JobStatus.COMPLETED)

    async def test_a_shutdown_stops_the_work_and_releases_the_job(self) -> None:
        job = await self.queue_one("/talk.wav")
        worker = self.start_worker(grace_s=0)
        await eventually(lambda: self.transcriber.begun)
        await worker.shutdown()
        await asyncio.wait_for(self.running[worker], PATIENCE_S)
        assert self.transcriber.stopped == ["/talk.wav"]
        assert (await self.read(job)).status is JobStatus.QUEUED


class TestLostClaims(TestCancelling):
    """Another repository, whose monotonic clock the test moves, reclaims the job. (Its tests run on a file, too.)"""

    in_memory = False

    async def take_away(self) -> Job:
        clocks = Clocks()
        other = await self.open(clock=clocks.wall, monotonic=clocks.monotonic)
        deadline = time.monotonic() + PATIENCE_S
        while (job := await other.get_next_queued()) is None:
            assert time.monotonic() < deadline
            clocks.advance(LEASE_TTL_S / 4)
        return job

    async def test_a_lost_claim_stops_the_work_and_discards_its_result(self) -> None:
        job = await self.queue_one("/talk.wav")
        with self.assertLogs("cesar.api.worker", logging.WARNING) as logs:
            worker = self.start_worker()
            await eventually(lambda: self.transcriber.begun)
            taken = await self.take_away()
            await eventually(lambda: not worker.is_processing)
        assert self.transcriber.stopped == ["/talk.wav"]
        assert "its work is discarded" in logs.output[-1]
        stored = await self.read(job)
        assert (stored.status, stored.owner, stored.attempt) == (JobStatus.PROCESSING, taken.owner, 2)

    async def test_a_late_result_is_discarded(self) -> None:
        job = await self.queue("/talk.wav")
        worker = self.start_worker_with(self.gate)
        await eventually(lambda: self.gate.begun)
        taken = await self.take_away()
        self.gate.open()
        await eventually(lambda: not worker.is_processing)
        stored = await self.read(job)
        assert (stored.status, stored.owner, stored.result_text) == (JobStatus.PROCESSING, taken.owner, None)

    async def test_the_worker_continues_with_other_jobs_after_a_lost_claim(self) -> None:
        await self.queue("/first.wav")
        worker = self.start_worker_with(self.gate)
        await eventually(lambda: self.gate.begun)
        await self.take_away()
        second = await self.queue("/second.wav")
        self.gate.open()
        await self.wait_until_finished(second)
        assert not worker.is_processing

    async def test_work_stops_before_a_claim_that_cannot_be_renewed_expires(self) -> None:
        self.repository = await self.open(lease_ttl_s=3.0)
        job = await self.queue_one("/talk.wav")
        clocks = Clocks()
        with patch("cesar.api.execution.claim_keeper.monotonic_clock", clocks.monotonic):
            worker = self.start_worker()
            await eventually(lambda: self.transcriber.begun)
            go_on = self.hold_writes()
            clocks.advance(2.9)  # less than the lease
            await eventually(lambda: self.transcriber.stopped)
        go_on()
        await eventually(lambda: len(self.transcriber.begun) == 2)
        assert (await self.reasons(job))[-2:] == ["released", "claimed"]
        self.transcriber.is_through = True
        await self.wait_until_finished(job)
        assert not worker.is_processing
