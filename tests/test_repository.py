"""The repository's contract, in memory and in a file. The queue's other operations are tested in `tests/api`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from cesar.api import Job, JobRepository, JobStatus
from cesar.api.models import utc_now
from cesar.errors import DatabaseError, JobNotFound, QueueError
from cesar.options import TranscribeOptions
from tests.api.support import QueueCase

EVERYTHING: dict[str, Any] = {
    "audio_path": "/where/Größe 東京 🎙.wav",
    "model_size": "small.en",
    "name": "Interview №1",
    "options": TranscribeOptions(language="de", task="translate", prompt="Köln", start=1.5, end=60.25, beam_size=1),
    "priority": -7,
    "idempotency_key": "key 🔑",
}


class TestJobsInMemory(QueueCase):
    """Each test runs on a database in memory; the subclass below runs all of them on a file."""

    async def test_a_created_job_can_be_read_back_as_it_was(self) -> None:
        made = await self.repository.create(Job(**EVERYTHING))
        assert await self.read(made) == made
        for field, value in EVERYTHING.items():
            assert getattr(made, field) == value

    async def test_create_refreshes_the_given_job_and_returns_it(self) -> None:
        job = Job(audio_path="/talk.wav")
        assert await self.repository.create(job) is job
        assert job.seq == 1
        assert job == await self.read(job)

    async def test_get_returns_none_for_an_unknown_id(self) -> None:
        assert await self.repository.get("nobody") is None

    async def test_an_id_can_be_used_only_once(self) -> None:
        job = await self.queue()
        with pytest.raises(QueueError, match=job.id):
            await self.queue(id=job.id)
        assert len(await self.repository.list_all()) == 1

    async def test_an_empty_queue_returns_no_job(self) -> None:
        assert await self.repository.list_all() == []
        assert await self.repository.get_next_queued() is None

    async def test_list_all_returns_the_newest_first(self) -> None:
        queued = [await self.queue(f"/{n}.wav") for n in range(5)]
        assert await self.repository.list_all() == queued[::-1]

    async def test_the_oldest_is_claimed_first_and_each_job_once(self) -> None:
        queued = [await self.queue(f"/{n}.wav") for n in range(5)]
        claimed = [await self.claim() for _ in queued]
        assert [job.id for job in claimed] == [job.id for job in queued]
        assert await self.repository.get_next_queued() is None

    async def test_the_order_is_that_of_submission_whatever_the_clock(self) -> None:
        noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
        late = await self.queue("/late.wav", created_at=noon + timedelta(days=1))
        early = await self.queue("/early.wav", created_at=noon)
        assert [(await self.claim()).id, (await self.claim()).id] == [late.id, early.id]
        assert [job.id for job in await self.repository.list_all()] == [early.id, late.id]

    async def test_higher_priorities_go_first_and_equal_ones_in_order(self) -> None:
        for name, priority in (("low", -1), ("usual", 0), ("high", 5), ("also high", 5), ("also usual", 0)):
            await self.queue(name=name, priority=priority)
        claimed = [(await self.claim()).name for _ in range(5)]
        assert claimed == ["high", "also high", "usual", "also usual", "low"]

    async def test_a_claimed_job_is_processing_and_carries_its_claim(self) -> None:
        await self.queue()
        job = await self.claim()
        assert (job.status, job.attempt) == (JobStatus.PROCESSING, 1)
        assert job.claim is not None
        assert (job.claim.owner, job.claim.attempt) == (job.owner, 1)
        assert job.started_at == job.heartbeat_at == self.clocks.now
        stored = await self.read(job)
        assert stored.claim is None, "who only reads a job has no claim"
        assert stored == job.model_copy(update={"claim": None})

    async def test_an_unclaimed_job_can_be_set_processing_then_completed(self) -> None:
        job = await self.queue()
        job.status, job.started_at = JobStatus.PROCESSING, utc_now()
        assert await self.repository.update(job) is job
        assert (await self.read(job)).status is JobStatus.PROCESSING
        assert await self.repository.get_next_queued() is None
        job.status, job.completed_at = JobStatus.COMPLETED, utc_now()
        job.result_text, job.detected_language = "What was said.", "en"
        await self.repository.update(job)
        stored = await self.read(job)
        assert stored == job
        assert (stored.status, stored.result_text, stored.detected_language) == ("completed", "What was said.", "en")
        assert stored.owner is None

    async def test_an_error_is_written_with_all_its_details(self) -> None:
        await self.queue()
        job = await self.claim()
        job.status, job.completed_at = JobStatus.ERROR, utc_now()
        job.error_message, job.error_code, job.error_hint = "It broke.", "not_media", "Mend it."
        await self.repository.update(job)
        stored = await self.read(job)
        assert stored.status is JobStatus.ERROR
        assert (stored.error_message, stored.error_code, stored.error_hint) == ("It broke.", "not_media", "Mend it.")

    async def test_a_job_read_from_the_queue_can_be_changed_and_written(self) -> None:
        await self.queue()
        await self.claim()
        (job,) = await self.repository.list_all()
        job.status = JobStatus.COMPLETED
        await self.repository.update(job)
        assert (await self.read(job)).status is JobStatus.COMPLETED

    async def test_a_job_that_was_never_queued_cannot_be_updated(self) -> None:
        with pytest.raises(JobNotFound):
            await self.repository.update(Job(audio_path="/talk.wav"))

    async def test_times_are_read_back_as_the_same_moments_in_utc(self) -> None:
        local = datetime(2030, 7, 1, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=45)))
        job = await self.queue(created_at=local)
        created_at = (await self.read(job)).created_at
        assert created_at == local
        assert created_at.tzinfo is UTC

    async def test_any_text_is_stored_unchanged(self) -> None:
        await self.queue()
        job = await self.claim()
        job.status, job.result_text = JobStatus.COMPLETED, 'a\0b "c"\r\n\u2028 😀 ' + "long " * 200_000
        job.outcome = {"warnings": ["ü", None], "timings": {"decode": 0.25}}
        await self.repository.update(job)
        stored = await self.read(job)
        assert (stored.result_text, stored.outcome) == (job.result_text, job.outcome)

    async def test_two_concurrent_claims_get_two_jobs(self) -> None:
        queued = [await self.queue() for _ in range(20)]
        claimed = await asyncio.gather(*(self.claim() for _ in queued))
        assert sorted(job.seq for job in claimed) == [job.seq for job in queued]

    async def test_closing_twice_is_harmless(self) -> None:
        await self.repository.close()
        await self.repository.close()

    async def test_an_unopened_repository_raises(self) -> None:
        closed = JobRepository(":memory:")
        for call in (closed.list_all, closed.get_next_queued):
            with pytest.raises(DatabaseError, match="not open"):
                await call()
        await closed.close()


class TestJobsInFile(TestJobsInMemory):
    """What a file adds: persistence."""

    in_memory = False

    async def test_jobs_survive_a_restart(self) -> None:
        waiting, done = await self.queue("/waiting.wav"), await self.queue("/done.wav", priority=1)
        done = await self.claim()
        done.status, done.result_text = JobStatus.COMPLETED, "Done."
        await self.repository.update(done)
        await self.repository.close()
        self.repository = await self.open()
        assert await self.repository.list_all() == [done, waiting]
        assert (await self.claim()).id == waiting.id

    async def test_the_order_survives_a_restart(self) -> None:
        first = await self.queue()
        await self.repository.delete(first.id)
        await self.repository.close()
        self.repository = await self.open()
        assert (await self.queue()).seq == first.seq + 1, "a place in the queue is never given twice"

    async def test_a_job_with_a_model_no_longer_known_delays_no_other(self) -> None:
        old, new = await self.queue(), await self.queue()
        self.sql("UPDATE jobs SET model_size = 'gone' WHERE id = ?", old.id)
        assert [job.model_size for job in await self.repository.list_all()] == ["base", "gone"]
        job = await self.claim()
        assert job.model_size == "gone"
        job.status, job.error_code = JobStatus.ERROR, "unknown_model"
        await self.repository.update(job)
        assert (await self.claim()).id == new.id

    async def test_a_path_a_string_and_a_url_open_the_same_file(self) -> None:
        job = await self.queue()
        for db in (self.file, str(self.file), f"sqlite:///{self.file}"):
            other = await self.open(db)
            assert await other.get(job.id) == job

    async def test_every_database_in_memory_is_separate(self) -> None:
        one, two = await self.open(":memory:"), await self.open(":memory:")
        await one.create(Job(audio_path="/talk.wav"))
        assert await two.list_all() == []
