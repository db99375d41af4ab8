"""How a worker handles failures of the work, of the database, and of anything else."""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec, patch

import pytest

from cesar.api.models import Job, JobStatus, utc_now
from cesar.api.queue.attempts import MAX_RETRIES
from cesar.api.repository import JobRepository
from cesar.api.worker import BackgroundWorker
from cesar.errors import (
    ChildCrashed,
    ChildKilled,
    DatabaseUnavailable,
    NotMedia,
    RecogniserNotStarted,
    RecognitionError,
    UnknownModel,
)
from tests.api.support import PATIENCE_S, Gate, WorkerCase, eventually


def failing(error: BaseException) -> Callable[[str, str], dict[str, str]]:
    """Work that always fails with this error."""

    def work(audio_path: str, model_size: str) -> dict[str, str]:
        raise error

    return work


def killed_by_the_system() -> ChildKilled:
    error = ChildKilled("the system killed it")
    error.is_transient = True
    return error


class TestFailedWork(WorkerCase):
    async def asyncSetUp(self) -> None:
        self.repository = await self.open(":memory:", clock=utc_now, retry_delay_s=0.002)

    async def outcome_of(self, work: Callable[[str, str], dict[str, str]]) -> Job:
        job = await self.queue()
        worker = self.start_worker_with(work)
        await self.wait_until_finished(job)
        await self.stop(worker)
        return await self.read(job)

    async def test_permanent_failures_end_the_job_at_once(self) -> None:
        for error, code, hint in (
            (NotMedia("it is a picture", hint="Take another."), "not_media", "Take another."),
            (UnknownModel("no such model", hint="See the list."), "unknown_model", "See the list."),
            (FileNotFoundError("/talk.wav is not there"), "internal", None),
            (ValueError("a bug"), "internal", None),
            (ChildCrashed("it crashed twice", hint="Convert it."), "native_crash", "Convert it."),
            (ChildKilled("it takes too much memory", hint="No."), "out_of_memory", "No."),
        ):
            job = await self.outcome_of(failing(error))
            assert (job.status, job.attempt, job.failures) == (JobStatus.ERROR, 1, 0)
            assert (job.error_message, job.error_code, job.error_hint) == (str(error), code, hint)
            assert job.completed_at is not None

    @pytest.mark.slow
    async def test_transient_failures_are_retried_and_then_end_the_job_with_their_code(self) -> None:
        for error, code in (
            (RecognitionError("it can't be started"), "recognition_failed"),
            (OSError(errno.ENOSPC, "No space left on device"), "internal"),
        ):
            job = await self.outcome_of(failing(error))
            assert (job.status, job.attempt, job.failures) == (JobStatus.ERROR, MAX_RETRIES + 1, MAX_RETRIES + 1)
            assert (job.error_message, job.error_code) == (str(error), code)
            assert (await self.reasons(job))[1::2] == ["claimed"] * (MAX_RETRIES + 1)
            assert (await self.reasons(job))[2::2] == ["to be retried"] * MAX_RETRIES + ["given up"]

    async def test_a_machine_that_cannot_start_the_recogniser_fails_no_job_and_keeps_their_order(self) -> None:
        jobs, broken, tried = [await self.queue(f"/{n}.wav") for n in range(3)], [True], list[str]()

        def work(audio_path: str, model_size: str) -> dict[str, str]:
            tried.append(audio_path)
            if broken:
                raise RecogniserNotStarted("no more processes", hint="Raise the limit.")
            return {"text": "At last.", "language": "en"}

        with patch("cesar.api.worker.backoff", lambda **_: iter(lambda: 0.001, None)):
            self.start_worker_with(work)
            await eventually(lambda: len(tried) > 2 * MAX_RETRIES)
            assert set(tried) == {"/0.wav"}  # the others need not be tried to know it
            broken.clear()
            for job in jobs:
                await self.wait_until_finished(job, allow_other_jobs=True)
        assert list(dict.fromkeys(tried)) == ["/0.wav", "/1.wav", "/2.wav"]
        for job in jobs:
            stored = await self.read(job)
            assert (stored.status, stored.failures, stored.error_code) == (JobStatus.COMPLETED, 0, None)

    async def test_a_waiting_job_says_that_the_recogniser_cannot_be_started(self) -> None:
        job = await self.queue()
        worker = self.start_worker_with(failing(RecogniserNotStarted("no more processes", hint="Raise the limit.")))

        async def says_so() -> bool:
            stored = await self.read(job)
            told = (stored.error_code, stored.error_message, stored.error_hint)
            return told == ("recogniser_not_started", "no more processes", "Raise the limit.")

        await eventually(says_so)
        await self.stop(worker)
        stored = await self.read(job)
        assert (stored.status, stored.failures, stored.lost) == (JobStatus.QUEUED, 0, 0)

    @pytest.mark.slow
    async def test_a_recogniser_killed_by_the_system_does_not_end_its_job(self) -> None:
        jobs = [await self.queue() for _ in range(3)]
        self.start_worker_with(failing(killed_by_the_system()))

        async def has_happened_often() -> bool:
            return min([(await self.read(job)).losses for job in jobs]) > MAX_RETRIES + 1

        await eventually(has_happened_often)
        for job in jobs:
            stored = await self.read(job)
            assert (stored.error_code, stored.failures) == ("out_of_memory", 0)
            assert not stored.status.is_final

    async def test_a_job_that_finally_succeeds_has_no_error(self) -> None:
        failures = [RecognitionError("it did not come up"), killed_by_the_system()]

        def work(audio_path: str, model_size: str) -> dict[str, str]:
            if failures:
                raise failures.pop()
            return {"text": "At last.", "language": "en"}

        job = await self.outcome_of(work)
        assert (job.status, job.attempt, job.result_text) == (JobStatus.COMPLETED, 3, "At last.")
        assert (job.error_code, job.error_message, job.error_hint) == (None, None, None)

    async def test_other_jobs_run_while_a_job_waits_for_its_retry(self) -> None:
        self.repository = await self.open(":memory:", clock=utc_now, retry_delay_s=600)
        bad, good = await self.queue("/bad.wav"), await self.queue("/good.wav")
        self.start_worker_with(Gate(is_open=True, errors={"/bad.wav": RecognitionError("it did not come up")}))
        await self.wait_until_finished(good)
        bad = await self.read(bad)
        assert (bad.status, bad.failures) == (JobStatus.QUEUED, 1)

    @pytest.mark.slow
    async def test_a_result_that_cannot_be_stored_fails_the_job_at_once(self) -> None:
        class Speechless(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        attempts: list[Any] = [
            lambda audio_path, model_size: None,
            lambda audio_path, model_size: {"text": "no language"},
            lambda audio_path, model_size: {"text": "\udcff", "language": "en"},
            failing(ValueError("\udcff")),
            failing(Speechless()),
        ]
        for work in attempts:
            job = await self.queue()
            worker = self.start_worker_with(work)
            await self.comes_to_rest(job)
            assert (await self.read(job)).status is JobStatus.ERROR
            await self.stop(worker)

    async def comes_to_rest(self, job: Job) -> None:
        """Wait until the job has been claimed and is no longer being processed."""

        async def was_tried() -> bool:
            return (await self.read(job)).attempt > 0 and not any(worker.is_processing for worker in self.running)

        await eventually(was_tried)

    async def test_a_cancelled_error_from_the_work_fails_the_job_and_not_the_worker(self) -> None:
        for error in (asyncio.CancelledError(), concurrent.futures.CancelledError()):
            bad, good = await self.queue("/bad.wav"), await self.queue("/good.wav")
            worker = self.start_worker_with(Gate(is_open=True, errors={"/bad.wav": error}))
            await self.comes_to_rest(bad)
            assert (await self.read(bad)).status is JobStatus.ERROR
            await self.wait_until_finished(good)
            await self.stop(worker)


class TestFailingDatabase(WorkerCase):
    """Another connection holds the real file's lock while the database should fail."""

    in_memory = False

    def setUp(self) -> None:
        super().setUp()
        self.enterContext(patch("cesar.api.storage.database.BUSY_TIMEOUT_S", 0.02))

    def lock_out(self) -> sqlite3.Connection:
        other = self.enterContext(closing(sqlite3.connect(self.file, isolation_level=None)))
        other.execute("BEGIN IMMEDIATE")
        return other

    async def test_an_outcome_is_written_once_the_database_is_available_again(self) -> None:
        picture = NotMedia("it is a picture")
        for errors, status in (({}, JobStatus.COMPLETED), ({"/talk.wav": picture}, JobStatus.ERROR)):
            gate = Gate(errors=errors)
            job = await self.queue()
            with self.assertLogs("cesar.api.worker", logging.ERROR):
                worker = self.start_worker_with(gate)
                await eventually(lambda: gate.begun)  # noqa: B023 - awaited here
                other = self.lock_out()
                gate.open()
                await eventually(lambda: worker._errors.logged_at)  # noqa: B023
                assert worker.is_processing
                other.rollback()
                await self.wait_until_finished(job)
            job = await self.read(job)
            assert (job.status, job.attempt) == (status, 1)
            await self.stop(worker)

    async def test_an_idle_worker_survives_an_unavailable_database(self) -> None:
        worker = self.start_worker_with(Gate(is_open=True))
        await self.repository.events()
        with self.assertLogs("cesar.api.worker", logging.ERROR):
            other = self.lock_out()
            await eventually(lambda: worker._errors.logged_at)
            other.rollback()
        await self.wait_until_finished(await self.queue())


class TestFailingLoop(WorkerCase):
    """Whatever `get_next_queued` raises, the worker continues. Here the repository is a mock."""

    def setUp(self) -> None:
        super().setUp()
        self.mock = create_autospec(JobRepository, instance=True)
        self.mock.get_next_to_fetch.return_value = []
        self.enterContext(patch("cesar.api.worker.backoff", lambda **_: iter(lambda: 0.001, None)))
        self.enterContext(patch("cesar.api.execution.backoff.backoff", lambda **_: iter(lambda: 0.001, None)))

    def employ_with(self, *answers: object) -> BackgroundWorker:
        """Start a worker whose repository returns or raises these, and then returns None for ever."""
        waiting = list(answers)

        def answer() -> object:
            found = waiting.pop(0) if waiting else None
            if isinstance(found, Exception):
                raise found
            return found

        self.mock.get_next_queued.side_effect = answer
        worker = BackgroundWorker(self.mock, 0.001)
        self.replace(worker, Gate(is_open=True))
        self.start(worker)
        return worker

    async def test_the_next_job_runs_after_any_error(self) -> None:
        job = Job(audio_path="/talk.wav")
        errors = [DatabaseUnavailable("away"), RuntimeError("a bug"), ConnectionResetError(), sqlite3.Error("odd")]
        with self.assertLogs("cesar.api.worker", logging.ERROR) as logs:
            self.employ_with(*errors, job)
            await eventually(lambda: job.status is JobStatus.COMPLETED)
        assert len(logs.output) == len(errors)
        assert [record.exc_info is None for record in logs.records] == [True, False, False, False]

    async def test_the_same_error_is_logged_once_a_minute(self) -> None:
        with self.assertLogs("cesar.api.worker", logging.ERROR) as logs:
            worker = self.employ_with(*[DatabaseUnavailable("away")] * 5, ValueError("a bug"))
            await eventually(lambda: self.mock.get_next_queued.await_count > 6)
            assert len(logs.output) == 2
            worker._errors.logged_at["DatabaseUnavailable"] -= 61  # a minute later
            self.mock.get_next_queued.side_effect = [DatabaseUnavailable("still away")]
            await eventually(lambda: len(logs.output) > 2)
        assert "still away" in logs.output[2]

    async def test_an_error_in_writing_the_outcome_does_not_end_the_worker(self) -> None:
        first, second = Job(audio_path="/first.wav"), Job(audio_path="/second.wav")
        self.mock.update.side_effect = [RuntimeError("a bug"), None, None]
        with self.assertLogs("cesar.api.worker", logging.ERROR):
            worker = self.employ_with(first, second)
            await eventually(lambda: second.status is JobStatus.COMPLETED)
            await eventually(lambda: not worker.is_processing)

    async def test_an_update_is_retried_while_the_database_is_unavailable(self) -> None:
        job = Job(audio_path="/talk.wav")
        away = DatabaseUnavailable("away")
        self.mock.update.side_effect = [away, away, None, away, None]
        with self.assertLogs("cesar.api.worker", logging.ERROR):
            worker = self.employ_with(job)
            await eventually(lambda: job.status is JobStatus.COMPLETED and not worker.is_processing)
        written = [call.args[0].status for call in self.mock.update.call_args_list]
        assert written == [JobStatus.PROCESSING] * 3 + [JobStatus.COMPLETED] * 2

    async def test_a_repository_whose_subscription_fails_is_polled(self) -> None:
        job = Job(audio_path="/talk.wav")
        self.mock.subscribe.side_effect = DatabaseUnavailable("away")
        self.employ_with(job)
        await eventually(lambda: job.status is JobStatus.COMPLETED)


def test_a_worker_survives_a_repository_closed_while_it_runs(tmp_path: Path) -> None:
    async def close_it() -> None:
        repository = JobRepository(tmp_path / "queue.db")
        await repository.connect()
        worker = BackgroundWorker(repository, 0.001)
        running = asyncio.create_task(worker.run())
        await repository.close()
        await eventually(lambda: worker._errors.logged_at)
        await worker.shutdown()
        await asyncio.wait_for(running, PATIENCE_S)

    asyncio.run(close_it())
