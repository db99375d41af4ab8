"""What a run exchanges between its thread and the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from cesar.api.execution.job_run import JobRun
from cesar.api.execution.recording import SourceFile
from cesar.api.execution.run_context import RunContext
from cesar.api.models import Job, JobProgress
from cesar.errors import DatabaseUnavailable, Interrupted, RecordingChanged
from cesar.settings.config import Settings, load
from cesar.transcript import Chunk, Progress
from tests.api.support import NO_MODEL, QueueCase, chunk


class TestRun(QueueCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.settings: Settings = load()
        await self.queue(model_size=NO_MODEL)
        self.job = await self.claim()
        self.start()

    def start(self) -> None:
        """Start a run of the job."""
        self.run_ = JobRun(self.job)
        recording = SourceFile.of(self.job.location)
        self.context = RunContext(self.run_.snapshot(), recording, self.settings, self.repository, self.run_)

    async def argument(self, name: str) -> Any:
        """Return what the transcriber gets under this name."""
        arguments = await asyncio.to_thread(self.context.transcribe_arguments)
        return arguments[name]

    async def test_the_first_reason_to_stop_counts_and_the_thread_sees_it(self) -> None:
        should_stop: Callable[[], bool] = await self.argument("should_stop")
        assert not should_stop()
        self.run_.stop("cancelled")
        self.run_.stop("shutdown")
        assert (self.run_.stop_reason, self.run_.stopped.is_set(), should_stop()) == ("cancelled", True, True)

    async def test_the_begin_mark_is_durable_before_the_thread_continues(self) -> None:
        on_begin: Callable[[], None] = await self.argument("on_begin")
        await asyncio.to_thread(on_begin)
        stored = await self.repository.get(self.job.id)
        assert stored is not None
        assert (stored.begun, stored.attempt) == (1, 1)

    async def test_a_finished_chunk_is_durable_before_the_thread_continues(self) -> None:
        on_chunk: Callable[[Chunk], None] = await self.argument("on_chunk")
        await asyncio.to_thread(on_chunk, chunk(0, 5))
        assert await self.repository.chunks(self.job.id) == [chunk(0, 5)]

    async def test_progress_never_decreases(self) -> None:
        on_progress: Callable[[Progress], None] = await self.argument("on_progress")
        for position in (0.0, 7.0, 3.0, 8.0, 1.0):
            await asyncio.to_thread(on_progress, Progress("recognising", position, 10.0))
        assert self.run_.progress == JobProgress("recognising", 8.0, 10.0)
        assert self.run_.snapshot().position == 8.0

    async def test_the_thread_changes_no_job(self) -> None:
        before = self.job.model_copy()
        on_progress: Callable[[Progress], None] = await self.argument("on_progress")
        await asyncio.to_thread(on_progress, Progress("recognising", 7.0, 10.0))
        await asyncio.to_thread(self.context.finish, {"audio_duration": 10.0})
        assert self.run_.details is not None
        assert self.run_.details["duration"] == 10.0
        assert self.job == self.context.job == before

    async def test_the_length_found_by_an_earlier_attempt_is_kept_while_the_model_loads(self) -> None:
        self.job.duration = 10.0
        self.start()
        on_progress: Callable[[Progress], None] = await self.argument("on_progress")
        await asyncio.to_thread(on_progress, Progress("loading", 0.0, None))
        assert self.run_.progress == JobProgress("loading", 0.0, 10.0)

    async def test_an_unreadable_recording_has_no_finished_chunks(self) -> None:
        assert await self.argument("done") == []

    async def test_no_model_is_fetched_for_a_missing_recording(self) -> None:
        with patch("cesar.api.execution.run_context.find_engine") as find_engine:
            assert await self.argument("done") == []
        find_engine.assert_not_called()

    async def test_a_chunk_without_a_claim_stops_the_work(self) -> None:
        on_chunk: Callable[[Chunk], None] = await self.argument("on_chunk")
        await self.repository.release(self.job.model_copy())
        with pytest.raises(Interrupted):
            await asyncio.to_thread(on_chunk, chunk(0, 5))
        assert self.run_.stop_reason == "claim lost"
        assert await self.repository.chunks(self.job.id) == []

    async def test_a_chunk_waits_for_an_unavailable_database(self) -> None:
        on_chunk: Callable[[Chunk], None] = await self.argument("on_chunk")
        checkpoint, troubles = self.repository.checkpoint, [DatabaseUnavailable("away"), DatabaseUnavailable("away")]

        async def fail_twice(job: Job, finished: Chunk) -> None:
            if troubles:
                raise troubles.pop()
            await checkpoint(job, finished)

        with (
            self.assertLogs("cesar.api.execution.job_run", logging.WARNING) as logs,
            patch.object(self.repository, "checkpoint", fail_twice),
        ):
            await asyncio.to_thread(on_chunk, chunk(0, 5))
        assert len(logs.output) == 2
        assert await self.repository.chunks(self.job.id) == [chunk(0, 5)]

    async def test_waiting_for_the_database_can_be_stopped(self) -> None:
        on_chunk: Callable[[Chunk], None] = await self.argument("on_chunk")

        async def fail(*_: object) -> None:
            self.run_.stop("shutdown")
            raise DatabaseUnavailable("away")

        with (
            self.assertLogs("cesar.api.execution.job_run", logging.WARNING),
            patch.object(self.repository, "checkpoint", fail),
            pytest.raises(Interrupted),
        ):
            await asyncio.to_thread(on_chunk, chunk(0, 5))

    def make_recording(self) -> Path:
        """Give the job an existing recording and model."""
        recording, script = self.folder / "talk.wav", self.folder / "script.json"
        recording.write_bytes(b"sound")
        script.write_text("{}")
        self.job.audio_path, self.job.model_size = str(recording), f"scripted:{script}"
        self.start()
        return recording

    async def test_a_recording_replaced_meanwhile_stops_the_work(self) -> None:
        recording = self.make_recording()
        on_chunk: Callable[[Chunk], None] = await self.argument("on_chunk")
        await asyncio.to_thread(on_chunk, chunk(0, 5))
        (self.folder / "new.wav").write_bytes(b"other")
        (self.folder / "new.wav").replace(recording)
        with pytest.raises(RecordingChanged, match=r"talk\.wav"):
            await asyncio.to_thread(on_chunk, chunk(5, 9))
        with pytest.raises(RecordingChanged):
            self.context.finish({})
        assert await self.repository.chunks(self.job.id) == [chunk(0, 5)]

    async def test_a_recording_deleted_meanwhile_is_read_to_its_end(self) -> None:
        recording = self.make_recording()
        on_chunk: Callable[[Chunk], None] = await self.argument("on_chunk")
        recording.unlink()
        await asyncio.to_thread(on_chunk, chunk(0, 5))
        self.context.finish({})
        assert await self.repository.chunks(self.job.id) == [chunk(0, 5)]

    async def test_a_lost_claim_is_noticed_when_the_work_is_resumed(self) -> None:
        self.make_recording()
        await self.repository.release(self.job.model_copy())
        with pytest.raises(Interrupted):
            await self.argument("done")

    async def test_chunks_finished_by_an_earlier_attempt_are_passed_to_the_next(self) -> None:
        for expected in ([], [chunk(0, 5), chunk(5, 9)]):
            self.make_recording()
            assert await self.argument("done") == expected
            assert self.run_.progress.position == (expected[-1].end if expected else 0)
            for finished in (chunk(0, 5), chunk(5, 9)):
                await self.repository.checkpoint(self.job, finished)
            await self.repository.release(self.job)
            self.job = await self.claim()
