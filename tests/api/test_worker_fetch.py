"""Jobs with a remote recording: fetching is a phase of the job, stopped and resumed like the others."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from cesar.api.models import LEASE_TTL_S, Job, JobStatus
from cesar.api.queue.claims import QueueRank
from cesar.api.storage.recordings import AudioStore
from cesar.api.worker import BackgroundWorker
from cesar.settings.config import Settings, load
from tests.api.media_server import MediaServer
from tests.api.support import PATIENCE_S, Clocks, Gate, WorkerCase, eventually

pytestmark = pytest.mark.slow

BODY = bytes(range(251)) * 2000
HALF = 4 * 64 * 1024
"""About half of it, in whole blocks."""


class FetchingWorkerCase(WorkerCase):
    """A queue that stores recordings, and a server that has one."""

    in_memory = False

    def setUp(self) -> None:
        super().setUp()
        self.server = self.enterContext(MediaServer(BODY))
        self.store = AudioStore(self.folder / "audio")
        self.settings = self.settings_with()
        self.gate.open()

    async def asyncSetUp(self) -> None:
        self.repository = await self.open(audio=self.store)

    def settings_with(self, **changes: Any) -> Settings:
        return load({"data_dir": self.folder, "allow_private_urls": True, "min_free_bytes": 1, **changes})

    def start_worker(self, **options: Any) -> BackgroundWorker:
        return self.start_worker_with(self.gate, **{"settings": self.settings, **options})

    async def queue_fetch(self, **fields: Any) -> Job:
        return await self.queue(None, source_url=self.server.url, **fields)

    async def wait_until_half_fetched(self, job: Job) -> None:
        """Wait until half of the recording is reported."""
        await eventually(lambda: self.server.asked)

        async def is_seen() -> bool:
            return (await self.read(job)).fetched_bytes == HALF

        await eventually(is_seen)

    def incoming(self) -> list[Path]:
        return list((self.folder / "audio/incoming").glob("*"))


class TestFetching(FetchingWorkerCase):
    async def test_a_recording_is_fetched_stored_and_transcribed_from_the_store(self) -> None:
        job = await self.queue_fetch(name="A talk")
        self.start_worker()
        await self.wait_until_finished(job)
        job, kept = await self.read(job), self.store.path_of(self.server.digest)
        assert (job.status, job.audio_digest, job.audio_path) == (JobStatus.COMPLETED, self.server.digest, str(kept))
        assert (job.fetched_bytes, job.audio_bytes, job.name) == (len(BODY), len(BODY), "A talk")
        assert self.gate.begun == [str(kept)]
        assert kept.read_bytes() == BODY
        assert self.incoming() == []

    async def test_download_progress_is_visible_while_a_recording_arrives(self) -> None:
        self.server.hold_at = HALF
        job = await self.queue_fetch()
        changed = asyncio.Event()
        await self.repository.subscribe(changed, to_changes=True)
        self.start_worker()
        await self.wait_until_half_fetched(job)
        job = await self.read(job)
        assert (job.status, job.phase, job.audio_bytes) == (JobStatus.PROCESSING, "fetching", len(BODY))
        assert changed.is_set()
        self.server.go_on()
        await self.wait_until_finished(job)

    async def test_a_recording_fetched_by_two_jobs_is_stored_once(self) -> None:
        jobs = [await self.queue_fetch(), await self.queue_fetch()]
        self.start_worker()
        await self.wait_until_finished(*jobs)
        assert [path.name for path in (self.folder / "audio").glob("*/*")] == [self.server.digest]
        assert self.incoming() == []

    async def test_a_recording_stored_by_an_earlier_attempt_is_not_fetched_again(self) -> None:
        self.gate = Gate(is_open=True, errors={str(self.store.path_of(self.server.digest)): OSError(5, "broken")})
        job = await self.queue_fetch()
        self.start_worker()
        await self.wait_until_finished(job)
        await self.repository.retry(job.id)
        await self.wait_until_finished(job)
        assert (len(self.gate.begun), len(self.server.asked)) == (2, 1)

    async def test_a_stored_recording_that_was_deleted_is_fetched_again(self) -> None:
        self.gate = Gate(is_open=True, errors={str(self.store.path_of(self.server.digest)): OSError(5, "broken")})
        job = await self.queue_fetch()
        self.start_worker()
        await self.wait_until_finished(job)
        self.store.remove(self.server.digest)
        await self.repository.retry(job.id)
        await self.wait_until_finished(job)
        assert (len(self.gate.begun), len(self.server.asked)) == (2, 2)
        assert self.store.path_of(self.server.digest).read_bytes() == BODY


class TestWithoutStore(WorkerCase):
    async def test_a_remote_recording_is_an_error_where_none_can_be_stored(self) -> None:
        job = await self.queue(None, source_url="http://127.0.0.1/a.wav")
        self.start_worker_with(self.gate)
        await self.wait_until_finished(job)
        job = await self.read(job)
        assert (job.status, job.error_code) == (JobStatus.ERROR, "queue_failed")
        assert self.gate.begun == []


class TestFailures(FetchingWorkerCase):
    async def test_a_permanent_refusal_fails_at_once_and_leaves_no_file(self) -> None:
        self.server.statuses = {"/talk.wav": 404}
        job = await self.queue_fetch()
        self.start_worker()
        await self.wait_until_finished(job)
        job = await self.read(job)
        assert (job.status, job.error_code, job.attempt) == (JobStatus.ERROR, "fetch_refused", 1)
        assert job.error_message == "127.0.0.1: 404 Not Found"
        assert (self.gate.begun, self.incoming()) == ([], [])

    async def test_a_temporary_failure_is_retried_from_where_it_stopped(self) -> None:
        self.server.cuts = [HALF]
        job = await self.queue_fetch()
        self.start_worker()

        async def is_to_be_retried() -> bool:
            return "to be retried" in await self.reasons(job)

        await eventually(is_to_be_retried)
        assert (await self.read(job)).error_code == "fetch_failed"
        await self.repository.sweep()
        self.clocks.advance(60)
        await self.wait_until_finished(job)
        job = await self.read(job)
        assert (job.status, job.audio_digest) == (JobStatus.COMPLETED, self.server.digest)
        assert self.server.ranges == [None, f"bytes={HALF}-"]

    async def test_a_private_address_is_refused_unless_it_is_allowed(self) -> None:
        job = await self.queue_fetch()
        self.start_worker(settings=self.settings_with(allow_private_urls=False))
        await self.wait_until_finished(job)
        assert (await self.read(job)).error_code == "address_refused"
        assert self.server.asked == []

    async def test_nothing_is_fetched_offline(self) -> None:
        job = await self.queue_fetch()
        self.start_worker(settings=self.settings_with(offline=True))
        await self.wait_until_finished(job)
        job = await self.read(job)
        assert (job.error_code, job.error_hint) == ("address_refused", "Start it without `--offline`.")
        assert self.server.asked == []

    async def test_a_recording_that_is_too_large_is_refused(self) -> None:
        job = await self.queue_fetch()
        self.start_worker(settings=self.settings_with(max_upload_bytes=1000))
        await self.wait_until_finished(job)
        assert (await self.read(job)).error_code == "fetch_refused"

    async def test_a_nearly_full_disk_delays_the_fetch(self) -> None:
        job = await self.queue_fetch()
        self.start_worker(settings=self.settings_with(min_free_bytes=10**18))

        async def is_to_be_retried() -> bool:
            return (await self.read(job)).error_code == "disk_full"

        await eventually(is_to_be_retried)
        assert (await self.read(job)).status is JobStatus.QUEUED


class TestBesideRecognition(FetchingWorkerCase):
    """Other jobs run while a recording is being fetched."""

    def setUp(self) -> None:
        super().setUp()
        self.server.hold_at = HALF

    async def test_a_slow_server_delays_no_other_job(self) -> None:
        slow, others = await self.queue_fetch(), [await self.queue(f"/{number}.wav") for number in range(3)]
        worker = self.start_worker()
        await self.wait_until_finished(*others, allow_other_jobs=True)
        assert ((await self.read(slow)).status, (await self.read(slow)).phase) == (JobStatus.PROCESSING, "fetching")
        assert (worker.is_processing, worker.current_job_id) == (True, slow.id)
        self.server.go_on()
        await self.wait_until_finished(slow)
        assert self.gate.begun == [*(other.audio_path for other in others), str(self.store.path_of(self.server.digest))]
        assert (await self.read(slow)).attempt == 1
        assert not worker.is_processing

    async def test_the_number_of_concurrent_fetches_is_limited(self) -> None:
        slow = [await self.queue_fetch(submitter=f"key {number}") for number in range(4)]
        last = await self.queue("/last.wav")
        self.start_worker(settings=self.settings_with(fetches_at_once=3))
        await self.wait_until_finished(last, allow_other_jobs=True)
        assert [(await self.read(job)).status for job in slow] == [JobStatus.PROCESSING] * 3 + [JobStatus.QUEUED]
        self.server.go_on()
        await self.wait_until_finished(*slow)

    async def test_one_submitter_cannot_take_every_fetch_slot(self) -> None:
        greedy = [await self.queue_fetch(submitter="greedy") for _ in range(5)]
        modest = await self.queue_fetch(submitter="modest")
        last = await self.queue("/last.wav")
        self.start_worker()
        await self.wait_until_finished(last, allow_other_jobs=True)
        assert [(await self.read(job)).status for job in greedy] == [JobStatus.PROCESSING] * 3 + [JobStatus.QUEUED] * 2
        assert (await self.read(modest)).status is JobStatus.PROCESSING
        self.server.go_on()
        await self.wait_until_finished(modest, *greedy)

    async def test_fetched_recordings_are_recognised_one_at_a_time_in_queue_order(self) -> None:
        jobs = [await self.queue_fetch(submitter=str(number), priority=number == 2) for number in range(3)]
        self.gate = Gate()
        busy = await self.queue("/busy.wav")
        self.start_worker()
        await eventually(lambda: self.gate.begun == ["/busy.wav"])
        self.server.go_on()

        async def are_fetched() -> bool:
            return all([(await self.read(job)).audio_digest for job in jobs])

        await eventually(are_fetched)
        self.gate.open()
        await self.wait_until_finished(busy, *jobs)
        ends = [(await self.read(job)).completed_at for job in (jobs[2], jobs[0], jobs[1])]
        assert ends == sorted(ends, key=str)
        assert self.gate.most_at_once == 1

    async def test_a_recording_that_arrives_at_once_keeps_its_position(self) -> None:
        self.enterContext(patch("cesar.api.worker._HEAD_START_S", PATIENCE_S))  # a busy machine is not a fault
        self.server.go_on()
        fetched, other = await self.queue_fetch(), await self.queue("/other.wav")
        self.start_worker()
        await self.wait_until_finished(fetched, other)
        assert self.gate.begun == [str(self.store.path_of(self.server.digest)), "/other.wav"]

    async def test_a_fetch_that_misses_its_deadline_fails_and_keeps_the_partial_file(self) -> None:
        job = await self.queue_fetch()
        self.start_worker(settings=self.settings_with(fetch_timeout_s=0.5))
        await self.wait_until_finished(job)
        told = await self.read(job)
        assert (told.status, told.error_code, told.attempt) == (JobStatus.ERROR, "fetch_too_slow", 1)
        assert told.error_message == "127.0.0.1: the fetch took longer than 0.5 s"
        self.server.go_on()
        await self.repository.retry(job.id)
        await self.wait_until_finished(job)
        assert self.server.ranges == [None, f"bytes={HALF}-"]

    async def test_a_job_that_waits_for_its_turn_can_be_cancelled(self) -> None:
        self.server.go_on()
        self.gate = Gate()
        busy, job = await self.queue("/busy.wav"), await self.queue_fetch()
        self.server.hold_at = HALF
        self.start_worker()
        await eventually(lambda: self.gate.begun)
        await self.repository.request_cancel(job.id)
        await self.wait_until_finished(job, allow_other_jobs=True)
        assert (await self.read(job)).status is JobStatus.CANCELLED
        self.gate.open()
        await self.wait_until_finished(busy)


class TestDuringRecognition(FetchingWorkerCase):
    """Recordings are fetched while another is recognised, however long that takes; the queue's order is kept."""

    def setUp(self) -> None:
        super().setUp()
        self.gate = Gate()

    async def recognise_one(self, **options: Any) -> Job:
        """Keep a worker busy with a recording until the gate is opened."""
        busy = await self.queue("/busy.wav")
        self.start_worker(**options)
        await eventually(lambda: self.gate.begun == ["/busy.wav"])
        return busy

    async def are_fetched(self, *jobs: Job) -> None:
        async def are_here() -> bool:
            return all([(await self.read(job)).audio_digest for job in jobs])

        await eventually(are_here)

    @property
    def fetched_path(self) -> str:
        return str(self.store.path_of(self.server.digest))

    async def test_a_fetch_starts_while_another_recording_is_recognised(self) -> None:
        busy = await self.recognise_one()
        fetched = await self.queue_fetch()
        await self.are_fetched(fetched)
        assert (await self.read(fetched)).status is JobStatus.PROCESSING
        assert self.gate.begun == ["/busy.wav"]
        self.gate.open()
        await self.wait_until_finished(busy, fetched)
        assert (self.gate.begun, self.gate.most_at_once) == (["/busy.wav", self.fetched_path], 1)
        assert (await self.read(fetched)).attempt == 1

    async def test_a_fetched_recording_waits_for_an_earlier_job_that_is_still_in_the_queue(self) -> None:
        busy = await self.recognise_one()
        earlier, fetched = await self.queue("/earlier.wav"), await self.queue_fetch()
        await self.are_fetched(fetched)
        later = await self.queue("/later.wav")
        self.gate.open()
        await self.wait_until_finished(busy, earlier, fetched, later)
        assert self.gate.begun == ["/busy.wav", "/earlier.wav", self.fetched_path, "/later.wav"]

    async def test_a_more_urgent_job_goes_before_a_fetched_recording(self) -> None:
        busy = await self.recognise_one()
        fetched = await self.queue_fetch()
        await self.are_fetched(fetched)
        urgent = await self.queue("/urgent.wav", priority=1)
        self.gate.open()
        await self.wait_until_finished(busy, fetched, urgent)
        assert self.gate.begun == ["/busy.wav", "/urgent.wav", self.fetched_path]

    async def test_recordings_waiting_for_the_recogniser_take_a_fetch_slot(self) -> None:
        """Otherwise a worker would hoard the queue's recordings on its disk, out of reach of other workers."""
        busy = await self.recognise_one(settings=self.settings_with(fetches_at_once=2))
        jobs = [await self.queue_fetch(submitter=str(number)) for number in range(4)]
        await self.are_fetched(*jobs[:2])
        assert [(await self.read(job)).status for job in jobs[2:]] == [JobStatus.QUEUED] * 2
        self.gate.open()
        await self.wait_until_finished(busy, *jobs)
        assert [(await self.read(job)).status for job in jobs] == [JobStatus.COMPLETED] * 4

    async def test_a_failed_fetch_frees_its_slot(self) -> None:
        self.server.statuses = {"/talk.wav": 404}
        busy = await self.recognise_one(settings=self.settings_with(fetches_at_once=1))
        jobs = [await self.queue_fetch() for _ in range(3)]
        await self.wait_until_finished(*jobs, allow_other_jobs=True)
        assert [(await self.read(job)).error_code for job in jobs] == ["fetch_refused"] * 3
        self.gate.open()
        await self.wait_until_finished(busy)

    async def test_a_shutdown_releases_jobs_that_wait_with_fetched_recordings(self) -> None:
        busy = await self.queue("/busy.wav")
        worker = self.start_worker(grace_s=0.01)
        await eventually(lambda: self.gate.begun)
        fetched = await self.queue_fetch()
        await self.are_fetched(fetched)
        await worker.shutdown()
        await asyncio.wait_for(self.running[worker], PATIENCE_S)
        for job in (busy, fetched):
            stored = await self.read(job)
            assert (stored.status, stored.failures, (await self.reasons(job))[-1]) == (JobStatus.QUEUED, 0, "released")
        self.gate.open()

    async def test_two_workers_never_fetch_the_same_recording_at_once(self) -> None:
        busy = await self.recognise_one()
        other = await self.open(audio=self.store)
        jobs = [await self.queue_fetch(submitter=str(number)) for number in range(3)]
        await self.are_fetched(*jobs)
        assert await other.get_next_queued() is None
        assert await other.get_next_to_fetch() == []
        self.gate.open()
        await self.wait_until_finished(busy, *jobs)
        assert {(await self.read(job)).attempt for job in jobs} == {1}


class TestClaims(FetchingWorkerCase):
    """Which job a worker claims from the queue."""

    async def test_get_next_to_fetch_claims_only_jobs_with_a_remote_recording(self) -> None:
        await self.queue("/here.wav", priority=2)
        kept, elsewhere, last = await self.queue_fetch(submitter="kept"), await self.queue_fetch(), await self.queue()
        assert [job.id for job in await self.repository.get_next_to_fetch(no_fetch_for={"kept"})] == [elsewhere.id]
        assert [job.id for job in await self.repository.get_next_to_fetch()] == [kept.id]
        assert await self.repository.get_next_to_fetch() == []
        assert (await self.read(last)).status is JobStatus.QUEUED

    async def test_get_next_to_fetch_claims_one_job_of_each_submitter_up_to_the_limit(self) -> None:
        jobs = [await self.queue_fetch(submitter=submitter) for submitter in ("one", "one", "two", "three", "four")]
        claimed = await self.repository.get_next_to_fetch(limit=3)
        assert [job.id for job in claimed] == [jobs[number].id for number in (0, 2, 3)]
        assert all(job.claim is not None for job in claimed)

    async def test_a_repository_that_stores_no_recordings_claims_none_to_fetch(self) -> None:
        await self.queue_fetch()
        other = await self.open()
        assert await other.get_next_to_fetch() == []

    async def test_before_claims_only_jobs_ahead_of_a_position(self) -> None:
        first, second = await self.queue("/first.wav"), await self.queue("/second.wav")
        assert await self.repository.get_next_queued(before=QueueRank(0, first.seq)) is None
        assert await self.repository.get_next_queued(before=QueueRank(1, second.seq)) is None
        urgent = await self.queue("/urgent.wav", priority=1)
        for expected in (urgent, first):
            claimed = await self.repository.get_next_queued(before=QueueRank(0, second.seq))
            assert claimed is not None
            assert claimed.id == expected.id
        assert await self.repository.get_next_queued(before=QueueRank(0, second.seq)) is None


class TestStopping(FetchingWorkerCase):
    def setUp(self) -> None:
        super().setUp()
        self.server.hold_at = HALF

    async def test_cancelling_stops_a_fetch_and_the_next_job_runs(self) -> None:
        job, other = await self.queue_fetch(), await self.queue("/other.wav")
        self.start_worker()
        await self.wait_until_half_fetched(job)
        await self.repository.request_cancel(job.id)
        await asyncio.wait_for(self.wait_until_finished(job, other), 10)
        assert (await self.read(job)).status is JobStatus.CANCELLED
        assert self.gate.begun == ["/other.wav"]

    async def test_a_shutdown_releases_a_fetching_job_and_the_next_worker_resumes_it(self) -> None:
        job = await self.queue_fetch()
        worker = self.start_worker(grace_s=0.01)
        await self.wait_until_half_fetched(job)
        await worker.shutdown()
        await asyncio.wait_for(self.running[worker], PATIENCE_S)
        assert (await self.reasons(job))[-1] == "released"
        assert len(self.incoming()) == 2
        self.server.go_on()
        self.start_worker()
        await self.wait_until_finished(job)
        job = await self.read(job)
        assert (job.audio_digest, job.failures) == (self.server.digest, 0)
        assert self.server.ranges == [None, f"bytes={HALF}-"]

    async def test_a_shutdown_waits_for_a_fetch_that_ends_soon(self) -> None:
        job = await self.queue_fetch()
        worker = self.start_worker(grace_s=PATIENCE_S)
        await self.wait_until_half_fetched(job)
        await worker.shutdown()
        self.server.go_on()
        await asyncio.wait_for(self.running[worker], PATIENCE_S)
        assert (await self.read(job)).status is JobStatus.COMPLETED

    async def test_a_lost_claim_ends_the_fetch_without_harm(self) -> None:
        job = await self.queue_fetch()
        with self.assertLogs("cesar.api.worker", logging.WARNING) as logs:
            worker = self.start_worker()
            await self.wait_until_half_fetched(job)
            taken = await self.take_away()
            await eventually(lambda: not worker.is_processing)
        assert "its work is discarded" in logs.output[-1]
        stored = await self.read(job)
        assert (stored.owner, stored.attempt, stored.audio_digest) == (taken.owner, 2, None)

    async def take_away(self) -> Job:
        clocks = Clocks()
        other = await self.open(clock=clocks.wall, monotonic=clocks.monotonic)
        while (taken := await other.get_next_queued()) is None:
            clocks.advance(LEASE_TTL_S / 4)
        return taken
