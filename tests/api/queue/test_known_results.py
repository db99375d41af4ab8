"""What is known when a job is submitted: its result, open jobs, its key; and what deleting it removes."""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cesar.api.models import Job, JobStatus
from cesar.api.queue.enqueue import SubmissionPolicy
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.errors import IdempotencyConflict, TooManyJobs
from tests.api.support import QueueCase, chunk

KEY = "f" * 64
ONE = chunk(0, 10, "One.")
TWO = chunk(10, 20, "Two.")


class StoreCase(QueueCase):
    in_memory = False

    def setUp(self) -> None:
        super().setUp()
        self.store = AudioStore(self.folder / "audio")

    async def open(self, db: str | Path | None = None, **options: Any) -> JobRepository:
        return await super().open(db, **{"audio": self.store, **options})

    async def submit(
        self,
        content: bytes = b"sound",
        *,
        policy: SubmissionPolicy = SubmissionPolicy(),  # noqa: B008 - frozen
        **fields: Any,
    ) -> Job:
        """Submit a job as the service does, with a recording just uploaded."""
        digest = hashlib.sha256(content).hexdigest()
        upload = await self.repository.new_upload()
        upload.write_bytes(content)
        job = Job(audio_path=str(self.store.path_of(digest)), audio_digest=digest, **fields)
        job = await self.repository.create(job, upload=upload, policy=policy)
        upload.unlink(missing_ok=True)
        return job

    def files(self) -> set[Path]:
        """Return all recordings, and files that may become one."""
        return {path for path in self.store.folder.rglob("*") if path.is_file() and path.suffix != ".json"}


class TestKnownResults(StoreCase):
    async def complete(self, **fields: Any) -> Job:
        """Complete a job with two chunks, under the fingerprint `KEY`."""
        await self.submit(**fields)
        job = await self.claim()
        await self.repository.resume(job, KEY)
        for piece in (ONE, TWO):
            job.position, job.duration = piece.end, 20.0
            await self.repository.checkpoint(job, piece)
        job.status, job.result_text, job.detected_language = JobStatus.COMPLETED, "One. Two.", "en"
        job.outcome = {"duration": 20.0, "timings": {"recognising": 1.0}}
        return await self.repository.update(job)

    async def test_a_job_whose_result_is_stored_is_completed_at_once(self) -> None:
        known = await self.complete()
        job = await self.read(await self.submit_known())
        assert (job.status, job.cached_from, job.attempt) == (JobStatus.COMPLETED, known.id, 1)
        assert (job.result_text, job.detected_language, job.duration) == ("One. Two.", "en", 20.0)
        assert job.outcome == known.outcome
        assert job.completed_at is not None
        assert await self.repository.chunks(job.id) == [ONE, TWO]
        assert await self.reasons(job) == ["submitted", "the result is known", "cached"]

    async def test_a_reused_result_survives_deleting_the_first_job(self) -> None:
        known = await self.complete()
        job = await self.submit_known()
        await self.repository.delete(known.id)
        assert (await self.read(job)).result_text == "One. Two."
        assert await self.repository.chunks(job.id) == [ONE, TWO]
        assert self.files() == {Path(job.location)}

    async def test_a_reused_result_can_be_reused_again(self) -> None:
        known = await self.complete()
        job = await self.submit_known()
        await self.repository.delete(known.id)
        assert (await self.submit_known()).cached_from == job.id

    async def test_no_result_is_reused_from_other_work_or_without_a_key(self) -> None:
        await self.complete()
        for policy in (SubmissionPolicy(result_key="e" * 64), SubmissionPolicy()):
            assert (await self.submit(policy=policy)).status is JobStatus.QUEUED

    async def test_no_result_is_reused_with_no_cache(self) -> None:
        await self.complete()
        job = await self.submit(policy=SubmissionPolicy(result_key=KEY), no_cache=True)
        assert (job.status, job.cached_from) == (JobStatus.QUEUED, None)

    async def test_no_result_is_reused_from_another_submitter(self) -> None:
        await self.complete(submitter="ann")
        assert (await self.submit_known(submitter="bob")).status is JobStatus.QUEUED
        assert (await self.submit_known(submitter="ann")).status is JobStatus.COMPLETED

    async def test_no_result_is_reused_from_an_unfinished_job(self) -> None:
        await self.submit()
        job = await self.claim()
        await self.repository.resume(job, KEY)
        assert (await self.submit_known()).status is JobStatus.QUEUED

    async def test_a_reused_result_does_not_count_for_throughput(self) -> None:
        known = await self.complete()
        await self.submit_known()
        assert [job.id for job in await self.repository.recent_outcomes("base")] == [known.id]

    async def submit_known(self, **fields: Any) -> Job:
        return await self.submit(policy=SubmissionPolicy(result_key=KEY), **fields)


class TestOpenJobs(StoreCase):
    async def test_a_submitter_has_a_limit_of_unfinished_jobs(self) -> None:
        for _ in range(2):
            await self.submit(policy=SubmissionPolicy(max_open=2), submitter="ann")
        with pytest.raises(TooManyJobs):
            await self.submit(policy=SubmissionPolicy(max_open=2), submitter="ann")
        await self.submit(policy=SubmissionPolicy(max_open=2), submitter="bob")

    async def test_running_jobs_count_towards_the_limit_and_finished_ones_do_not(self) -> None:
        policy = SubmissionPolicy(max_open=1)
        for status in JobStatus:
            job = await self.submit(policy=policy, submitter=status)
            if status is JobStatus.CANCELLED:
                await self.repository.request_cancel(job.id)
            elif status is not JobStatus.QUEUED:
                claimed = await self.claim_of(job)
                if status.is_final:
                    claimed.status = status
                    await self.repository.update(claimed)
            if status.is_final:
                await self.submit(policy=policy, submitter=status)
            else:
                with pytest.raises(TooManyJobs):
                    await self.submit(policy=policy, submitter=status)

    async def test_a_refused_job_leaves_the_upload_alone(self) -> None:
        with pytest.raises(TooManyJobs):
            await self.submit(b"other", policy=SubmissionPolicy(max_open=0))
        assert [path.parent.name for path in self.files()] == ["incoming"]  # deleted by who made it

    async def test_a_repeated_request_is_not_counted_twice(self) -> None:
        policy = SubmissionPolicy(max_open=1)
        first, again = [await self.submit(policy=policy, idempotency_key="k") for _ in range(2)]
        assert first.id == again.id

    async def claim_of(self, job: Job) -> Job:
        job.status = JobStatus.PROCESSING
        return await self.repository.update(job)


class TestIdempotencyKeys(StoreCase):
    async def test_idempotency_keys_belong_to_their_submitter(self) -> None:
        ann, bob, nobody = [await self.submit(submitter=who, idempotency_key="k") for who in ("ann", "bob", "")]
        assert len({ann.id, bob.id, nobody.id}) == 3
        assert [(await self.read(job)).idempotency_key for job in (ann, bob, nobody)] == ["k"] * 3

    async def test_an_idempotency_key_of_another_request_is_refused(self) -> None:
        await self.submit(submitter="ann", idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            await self.submit(b"other", submitter="ann", idempotency_key="k")


class TestDeletingRecordings(StoreCase):
    async def test_deleting_the_last_job_deletes_the_recording(self) -> None:
        first, second = await self.submit(), await self.submit()
        await self.repository.delete(first.id)
        assert self.files() == {Path(second.location)}
        await self.repository.delete(second.id)
        assert self.files() == set()

    async def test_deleting_a_job_leaves_a_users_own_file_alone(self) -> None:
        own = self.folder / "talk.wav"
        own.write_bytes(b"sound")
        await self.repository.delete((await self.queue(str(own))).id)
        assert own.exists()

    async def test_pruning_deletes_the_recordings(self) -> None:
        job = await self.submit()
        await self.repository.request_cancel(job.id)
        self.clocks.advance(3600)
        assert await self.repository.prune(timedelta(minutes=1)) == 1
        assert self.files() == set()

    async def test_a_sweep_sets_aside_unneeded_files_and_deletes_uploads_of_dead_owners(self) -> None:
        kept = await self.submit()
        orphan = self.store.path_of("0" * 64)
        orphan.parent.mkdir(parents=True)
        orphan.write_bytes(b"nobody's")
        os.utime(orphan, (0, 0))
        (self.store.folder / "incoming" / f"{'d' * 32}-1").write_bytes(b"of the dead")
        ours = await self.repository.new_upload()
        ours.write_bytes(b"on its way")
        swept = await self.repository.sweep()
        assert (swept.removed, swept.set_aside) == (1, 1)
        [aside] = self.store.folder.glob("aside/*/*")
        assert aside.read_bytes() == b"nobody's"
        assert self.files() == {Path(kept.location), ours, aside}

    async def test_a_sweep_keeps_uploads_of_another_live_process(self) -> None:
        other = await self.open()
        theirs = await other.new_upload()
        theirs.write_bytes(b"on its way")
        assert (await self.repository.sweep()).removed == 0
        await other.close()
        assert (await self.repository.sweep()).removed == 1
        assert self.files() == set()
