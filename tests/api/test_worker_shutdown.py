"""Stopping a worker: it claims no more jobs, gives its job the grace period, and returns whatever the work does."""

from __future__ import annotations

import asyncio
import logging
import time
from unittest.mock import patch

import pytest

from cesar.api.models import JobStatus
from cesar.api.worker import _FLUSH_TIMEOUT_S as REAL_FLUSH_TIMEOUT_S
from cesar.api.worker import BackgroundWorker
from tests.api.support import PATIENCE_S, WorkerCase, eventually

SPARE_S = 1.0
"""What `run` may take beyond the grace period."""


class TestShutdown(WorkerCase):
    in_memory = False

    async def returns(self, worker: BackgroundWorker) -> None:
        """Wait until `run` returns, long before a poll or grace period that the test makes long has ended."""
        await asyncio.wait_for(self.running[worker], PATIENCE_S)

    async def test_a_worker_without_work_stops_at_once_however_rarely_it_polls(self) -> None:
        worker = self.start_worker_with(self.gate, poll_interval=600)
        await self.wait_until_subscribed()
        await worker.shutdown()
        await self.returns(worker)

    @pytest.mark.slow
    async def test_a_worker_stopped_before_it_ran_does_nothing(self) -> None:
        job = await self.queue()
        worker = BackgroundWorker(self.repository)
        await worker.shutdown()
        await asyncio.wait_for(worker.run(), PATIENCE_S)
        assert (await self.read(job)).status is JobStatus.QUEUED

    async def test_a_job_that_ends_within_the_grace_period_is_completed(self) -> None:
        job, waiting = await self.queue("/first.wav"), await self.queue("/second.wav")
        worker = self.start_worker_with(self.gate, grace_s=PATIENCE_S)
        await eventually(lambda: self.gate.begun)
        await worker.shutdown()
        await self.repository.events()
        assert worker.is_processing
        self.gate.open()
        await self.returns(worker)
        assert (await self.read(job)).status is JobStatus.COMPLETED
        assert (await self.read(waiting)).status is JobStatus.QUEUED, "no more jobs are claimed"
        assert self.gate.begun == ["/first.wav"]

    async def test_a_job_that_ignores_everything_is_released_after_the_grace_period(self) -> None:
        job = await self.queue()
        worker = self.start_worker_with(self.gate, grace_s=0.3)
        await eventually(lambda: self.gate.begun)
        await worker.shutdown()
        await self.returns(worker)
        stored = await self.read(job)
        assert (stored.status, stored.owner) == (JobStatus.QUEUED, None)
        assert (stored.failures, stored.lost, stored.error_message) == (0, 0, None)
        assert (await self.reasons(job))[-1] == "released"
        assert not worker.is_processing

    async def test_run_returns_within_a_second_of_the_grace_period_whatever_the_work_does(self) -> None:
        over_time = []
        with patch("cesar.api.worker._FLUSH_TIMEOUT_S", REAL_FLUSH_TIMEOUT_S):
            for number in range(1, 4):  # at best: a busy machine may delay any one try
                await self.queue()
                worker = self.start_worker_with(self.gate, grace_s=0.2)
                await eventually(lambda: len(self.gate.begun) == number)  # noqa: B023 - awaited here
                await worker.shutdown()
                asked_at = time.monotonic()
                await asyncio.wait_for(self.running[worker], PATIENCE_S)
                over_time.append(time.monotonic() - asked_at - 0.2)
        assert min(over_time) < SPARE_S

    async def test_late_results_of_an_abandoned_job_are_ignored(self) -> None:
        job = await self.queue()
        worker = self.start_worker_with(self.gate, grace_s=0)
        await eventually(lambda: self.gate.begun)
        await worker.shutdown()
        await self.returns(worker)
        before = await self.read(job)
        self.gate.open()
        await asyncio.get_running_loop().shutdown_default_executor()
        assert await self.read(job) == before

    async def test_shutdown_now_skips_the_grace_period(self) -> None:
        job = await self.queue()
        worker = self.start_worker_with(self.gate, grace_s=600)
        await eventually(lambda: self.gate.begun)
        await worker.shutdown(now=True)
        await self.returns(worker)
        assert (await self.read(job)).status is JobStatus.QUEUED

    async def test_shutdown_now_ends_a_grace_period_that_has_begun(self) -> None:
        job = await self.queue()
        worker = self.start_worker_with(self.gate, grace_s=600)
        await eventually(lambda: self.gate.begun)
        await worker.shutdown()
        await self.repository.events()
        await worker.shutdown(now=True)
        await self.returns(worker)
        assert (await self.read(job)).status is JobStatus.QUEUED

    async def test_a_cancelled_run_releases_its_job(self) -> None:
        job = await self.queue()
        worker = self.start_worker_with(self.gate, grace_s=600)
        await eventually(lambda: self.gate.begun)
        self.running[worker].cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.returns(worker)
        assert (await self.read(job)).status is JobStatus.QUEUED
        assert not worker.is_processing

    async def test_a_cancelled_idle_run_ends(self) -> None:
        worker = self.start_worker_with(self.gate, poll_interval=600)
        await self.wait_until_subscribed()
        self.running[worker].cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.returns(worker)

    @pytest.mark.slow
    async def test_the_claim_is_renewed_until_the_job_has_ended(self) -> None:
        self.repository = await self.open(self.folder / "other.db", lease_ttl_s=6)
        job = await self.queue()
        worker = self.start_worker_with(self.gate, grace_s=PATIENCE_S)
        await eventually(lambda: self.gate.begun)
        await worker.shutdown()
        for _ in range(2):
            self.clocks.advance(10)
            await eventually(self.beat_is_new)
        self.gate.open()
        await self.wait_until_finished(job)

    async def beat_is_new(self) -> bool:
        (job,) = await self.repository.list_all()
        return job.heartbeat_at == self.clocks.now

    async def test_an_unresponsive_database_does_not_prevent_a_shutdown(self) -> None:
        job = await self.queue()
        worker = self.start_worker_with(self.gate, grace_s=0.2)
        await eventually(lambda: self.gate.begun)
        go_on = self.hold_writes()
        with (
            patch("cesar.api.worker._FLUSH_TIMEOUT_S", REAL_FLUSH_TIMEOUT_S),
            self.assertLogs("cesar.api.worker", logging.ERROR) as logs,
        ):
            await worker.shutdown()
            await self.returns(worker)
            go_on()
        assert "abandons its job" in logs.output[-1]
        await self.repository.close()
        self.repository = await self.open()
        assert (await self.claim()).id == job.id, "whoever comes next goes on with it"

    async def test_a_stopped_worker_unsubscribes_from_the_repository(self) -> None:
        worker = self.start_worker_with(self.gate)
        await self.wait_until_subscribed()
        await worker.shutdown()
        await self.returns(worker)
        assert self.repository._notifier.on_new_job == set()
        assert self.repository._notifier.poller is None
