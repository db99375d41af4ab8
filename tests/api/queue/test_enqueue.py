"""Submitting with an idempotency key: repeated submissions create one job, and a different request is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from cesar.api.models import TRANSITIONS, Job, JobStatus
from cesar.api.storage.schema import jobs
from cesar.errors import IdempotencyConflict
from cesar.options import TranscribeOptions
from tests.api.support import QueueCase

REQUEST: dict[str, Any] = {
    "audio_path": "/talk.wav",
    "model_size": "small",
    "name": "Talk",
    "priority": 1,
    "options": TranscribeOptions(language="en"),
}
OTHERS: dict[str, Any] = {
    "audio_path": "/other.wav",
    "model_size": "tiny",
    "name": "Other",
    "priority": 2,
    "options": TranscribeOptions(language="de"),
    "no_cache": True,
}


class TestSubmittingInMemory(QueueCase):
    async def test_the_same_key_and_request_return_the_same_job(self) -> None:
        first = await self.queue(**REQUEST, idempotency_key="k")
        again = await self.queue(**REQUEST, idempotency_key="k")
        assert again == first
        assert await self.repository.list_all() == [first]
        assert await self.reasons(first) == ["submitted"]

    async def test_a_different_request_with_the_same_key_is_refused(self) -> None:
        first = await self.queue(**REQUEST, idempotency_key="k")
        for field, value in OTHERS.items():
            with pytest.raises(IdempotencyConflict, match="'k'"):
                await self.queue(**{**REQUEST, field: value}, idempotency_key="k")
        assert await self.repository.list_all() == [first]

    async def test_a_request_hashes_as_in_earlier_versions(self) -> None:
        """Otherwise a repeated submission would be refused after an update."""
        await self.queue(**REQUEST, idempotency_key="k")
        found = await self.repository.database.read(
            lambda c: c.execute(sa.select(jobs.c.idempotency_hash)).scalar_one()
        )
        assert found == "07955b97c0062361e38685b652dc6843f913f9381119d779f9828dfb936648ad"

    async def test_newer_options_are_part_of_the_request(self) -> None:
        await self.queue(**REQUEST, idempotency_key="k")
        for options in (TranscribeOptions(languages=("en", "de")), TranscribeOptions(language="en", track=2)):
            with pytest.raises(IdempotencyConflict):
                await self.queue(**{**REQUEST, "options": options}, idempotency_key="k")

    async def test_without_a_key_every_submission_creates_a_job(self) -> None:
        assert (await self.queue(**REQUEST)).id != (await self.queue(**REQUEST)).id

    async def test_different_keys_create_different_jobs(self) -> None:
        assert (await self.queue(idempotency_key="k")).id != (await self.queue(idempotency_key="K")).id

    async def test_a_repeated_submission_returns_the_jobs_progress(self) -> None:
        await self.queue(**REQUEST, idempotency_key="k")
        job = await self.claim()
        job.status, job.result_text = JobStatus.COMPLETED, "Done."
        await self.repository.update(job)
        assert (await self.queue(**REQUEST, idempotency_key="k")).result_text == "Done."

    async def test_the_key_of_a_deleted_job_is_free_again(self) -> None:
        first = await self.queue(idempotency_key="k")
        await self.repository.delete(first.id)
        assert (await self.queue("/other.wav", idempotency_key="k")).id != first.id

    async def test_concurrent_submissions_with_one_key_create_one_job(self) -> None:
        jobs = await asyncio.gather(*(self.queue(**REQUEST, idempotency_key="k") for _ in range(25)))
        assert len({job.id for job in jobs}) == 1
        assert len(await self.repository.list_all()) == 1

    async def test_a_job_may_be_created_in_any_status_with_a_valid_history(self) -> None:
        for status in JobStatus:
            job = await self.queue(status=status, result_text="Some text.")
            assert job.status is status
            assert await self.read(job) == job.model_copy(update={"claim": None})
            events = await self.repository.events(job.id)
            moves = [(event.before, event.after) for event in events]
            assert moves[0] == (None, JobStatus.QUEUED)
            assert moves[-1][1] is status
            assert all(after in TRANSITIONS[before] for before, after in moves if before is not None)
        assert (await self.claim()).result_text == "Some text."
        assert await self.repository.get_next_queued() is None

    async def test_the_same_job_may_be_submitted_again_by_its_key(self) -> None:
        job = await self.queue(idempotency_key="k")
        assert await self.repository.create(job) is job
        assert len(await self.repository.list_all()) == 1


class TestSubmittingToFile(TestSubmittingInMemory):
    in_memory = False

    async def test_a_remote_recording_is_stored_as_earlier_versions_did(self) -> None:
        address = "https://example.org/talk.mp3"
        job = await self.queue(None, source_url=address, idempotency_key="new")
        earlier = await self.queue(address, source_url=address, idempotency_key="old")
        assert self.sql("SELECT audio_path FROM jobs") == [(address,), (address,)]
        for stored in (await self.read(job), await self.read(earlier), await self.claim(), await self.claim()):
            assert (stored.audio_path, stored.source_url) == (None, address)
        assert (await self.queue(None, source_url=address, idempotency_key="old")).id == earlier.id

    async def test_one_key_creates_one_job_across_two_repositories(self) -> None:
        other = await self.open()

        async def submit(number: int) -> Job:
            repository = other if number % 2 else self.repository
            return await repository.create(Job(**REQUEST, idempotency_key="k"))

        jobs = await asyncio.gather(*map(submit, range(16)))
        assert len({job.id for job in jobs}) == 1
        assert len(await self.repository.list_all()) == 1
