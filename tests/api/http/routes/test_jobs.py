"""Jobs over HTTP: who may see and change them, and what responses say about the queue."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

import pytest

from cesar.api.models import Job, JobStatus, utc_now
from cesar.api.queue.api_keys import Scope
from cesar.options import TranscribeOptions
from tests.api.http.support import ServiceCase, require_problem
from tests.api.support import chunk


class TestListing(ServiceCase):
    async def test_jobs_are_listed_newest_first_in_complete_pages(self) -> None:
        ids = [(await self.queue(name=f"{number}.wav")).id for number in range(5)]
        found, cursor, pages = [], None, 0
        while True:
            page = (await self.client.get("/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
            found += [job["id"] for job in page["jobs"]]
            cursor, pages = page["next_cursor"], pages + 1
            if cursor is None:
                break
        assert (found, pages) == (ids[::-1], 3)

    async def test_texts_are_listed_only_on_request(self) -> None:
        job = await self.complete_with("All of the text.")
        [listed] = (await self.client.get("/jobs")).json()["jobs"]
        [whole] = (await self.client.get("/jobs", params={"include": "text"})).json()["jobs"]
        assert (listed["text"], whole["text"]) == (None, "All of the text.")
        assert {**whole, "text": None} == listed
        assert (await self.client.get(f"/jobs/{job.id}")).json()["text"] == "All of the text."

    @pytest.mark.slow
    async def test_a_page_of_long_texts_ends_early_without_gaps(self) -> None:
        jobs = [await self.complete_with("Word. " * 200_000) for _ in range(8)]
        found: list[str] = []
        cursor, largest = "", 0
        while True:
            query = {"include": "text", "limit": "200"} | ({"cursor": cursor} if cursor else {})
            answer = await self.client.get("/jobs", params=query)
            largest = max(largest, len(answer.content))
            page = answer.json()
            found += [job["id"] for job in page["jobs"]]
            assert all(len(job["text"]) == len(("Word. " * 200_000).strip()) for job in page["jobs"])
            if page["next_cursor"] is None:
                break
            cursor = page["next_cursor"]
        assert found == [job.id for job in reversed(jobs)]
        assert largest < 5 * 2**20

    @pytest.mark.slow
    async def test_a_page_of_long_prompts_ends_early(self) -> None:
        for _ in range(80):
            await self.queue(options=TranscribeOptions(prompt="Names. " * 9000))
        answer = await self.client.get("/jobs", params={"limit": 200})
        assert len(answer.content) < 5 * 2**20
        assert answer.json()["next_cursor"] is not None

    async def complete_with(self, text: str) -> Job:
        job = await self.queue()
        job.status = JobStatus.PROCESSING
        await self.repository.update(job)
        job.status, job.result_text = JobStatus.COMPLETED, text.strip()
        await self.repository.update(job)
        return job

    async def test_jobs_are_filtered_by_several_statuses(self) -> None:
        jobs = {status: await self.queue_as(status) for status in JobStatus}
        query = {"status": ["error", "completed"]}
        listed = (await self.client.get("/jobs", params=query)).json()["jobs"]
        assert {job["id"] for job in listed} == {jobs[JobStatus.ERROR].id, jobs[JobStatus.COMPLETED].id}

    async def test_jobs_are_filtered_by_the_public_name_of_a_model(self) -> None:
        ours, _ = await self.queue(), await self.queue(model_size="base")
        listed = (await self.client.get("/jobs", params={"model": "words.json"})).json()["jobs"]
        assert [job["id"] for job in listed] == [ours.id]
        require_problem(await self.client.get("/jobs", params={"model": self.model}), 422, "unknown_model")

    async def test_jobs_are_filtered_by_text_in_the_name(self) -> None:
        job, _ = await self.queue(name="Käse-Talk 100%.wav"), await self.queue(name="else.wav")
        for text in ("KÄSE", "talk 1", "100%"):
            listed = (await self.client.get("/jobs", params={"name": text})).json()["jobs"]
            assert [found["id"] for found in listed] == [job.id], text

    async def test_jobs_are_filtered_by_time(self) -> None:
        job = await self.queue()
        before = (job.created_at - timedelta(seconds=1)).isoformat()
        after = (job.created_at + timedelta(seconds=1)).isoformat()
        for query, expected in (
            ({"created_after": before}, 1),
            ({"created_after": after}, 0),
            ({"created_before": after}, 1),
            ({"created_before": before}, 0),
        ):
            assert len((await self.client.get("/jobs", params=query)).json()["jobs"]) == expected

    async def test_invalid_filters_are_refused(self) -> None:
        for query in (
            {"limit": 0},
            {"limit": 201},
            {"status": "lost"},
            {"name": "\x00"},
            {"created_after": "yesterday"},
            {"created_after": "2030-05-17T12:00:00"},
            {"created_after": "0001-01-01T00:00:00+14:00"},
        ):
            require_problem(await self.client.get("/jobs", params=query), 422, "bad_option")
        require_problem(await self.client.get("/jobs", params={"cursor": "-1"}), 422, "queue_failed")


class TestOneJob(ServiceCase):
    async def test_an_unknown_job_is_404(self) -> None:
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")):
            answer = await self.client.request(method, f"/jobs/none{path}")
            require_problem(answer, 404, "job_not_found")

    async def test_a_queued_job_has_a_queue_position(self) -> None:
        first, second, urgent = await self.queue(), await self.queue(), await self.queue(priority=5)
        shown = [(await self.client.get(f"/jobs/{job.id}")).json() for job in (first, second, urgent)]
        assert [job["queue_position"] for job in shown] == [1, 2, 0]
        assert [job["eta_s"] for job in shown] == [None, None, None]

    @pytest.mark.slow
    async def test_a_job_has_an_estimate_once_the_throughput_is_known(self) -> None:
        await self.complete(seconds_of_sound=100, seconds_of_work=10)
        first, second = await self.queue(), await self.queue()
        shown = [(await self.client.get(f"/jobs/{job.id}")).json() for job in (first, second)]
        assert [round(job["eta_s"]) for job in shown] == [10, 20]
        listed = (await self.client.get("/jobs", params={"status": "queued"})).json()["jobs"]
        assert [round(job["eta_s"]) for job in listed] == [20, 10]

    async def test_a_running_job_has_progress_and_no_queue_position(self) -> None:
        await self.complete(seconds_of_sound=100, seconds_of_work=10)
        await self.queue()
        job = await self.repository.get_next_queued()
        assert job is not None
        job.phase, job.position, job.duration = "recognising", 30.0, 60.0
        await self.repository.checkpoint(job, chunk(0, 30))
        shown = (await self.client.get(f"/jobs/{job.id}")).json()
        assert (shown["status"], shown["progress"], shown["queue_position"]) == ("processing", 0.5, None)
        assert round(shown["eta_s"]) == 3

    @pytest.mark.slow
    async def test_a_finished_job_has_neither_position_nor_estimate(self) -> None:
        job = await self.queue_as(JobStatus.ERROR)
        shown = (await self.client.get(f"/jobs/{job.id}")).json()
        assert (shown["queue_position"], shown["eta_s"]) == (None, None)

    async def complete(self, *, seconds_of_sound: float, seconds_of_work: float) -> None:
        await self.queue()
        job = await self.repository.get_next_queued()
        assert job is not None
        job.duration = seconds_of_sound
        await self.repository.heartbeat(job)
        job.status, job.completed_at = JobStatus.COMPLETED, utc_now()
        job.started_at = job.completed_at - timedelta(seconds=seconds_of_work)
        await self.repository.update(job)

    async def test_a_jobs_error_has_no_paths_of_this_machine(self) -> None:
        told = {
            "config.json can't be read: [Errno 24] Too many open files: '/opt/lib/model/config.json'": "'a file'",
            "no directory found in ['/tmp', '/srv/jobs/x y']": "'/tmp', 'a file'",
            r"C:\models\base is damaged": "a file is damaged",
            "https://[::1]:80/a/b and https://example.org/a/b and either/or/both": "https://example.org/a/b and either",
        }
        for message, shown in told.items():
            job = await self.queue_as(JobStatus.PROCESSING)
            job.status, job.error_message, job.error_hint = JobStatus.ERROR, message, "See /opt/lib/model for more."
            await self.repository.update(job)
            error = (await self.client.get(f"/jobs/{job.id}")).json()["error"]
            assert shown in error["message"]
            assert error["hint"] == "See a file for more."


class TestDeleting(ServiceCase):
    async def test_deleting_a_job_deletes_its_recording(self) -> None:
        for status in (JobStatus.QUEUED, JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED):
            job = await self.queue_as(status)
            answer = await self.client.delete(f"/jobs/{job.id}")
            assert (answer.status_code, answer.content) == (204, b"")
            assert self.kept_files() == []
            assert (await self.client.get(f"/jobs/{job.id}")).status_code == 404

    async def test_deleting_a_job_keeps_a_shared_recording(self) -> None:
        first, second = await self.queue(), await self.queue()
        await self.client.delete(f"/jobs/{first.id}")
        assert len(self.kept_files()) == 1
        await self.client.delete(f"/jobs/{second.id}")
        assert self.kept_files() == []

    async def test_deleting_a_running_job_is_refused_with_a_hint(self) -> None:
        job = await self.queue_as(JobStatus.PROCESSING)
        problem = require_problem(await self.client.delete(f"/jobs/{job.id}"), 409, "illegal_move")
        assert "Cancel" in problem["hint"]
        assert len(self.kept_files()) == 1


class TestCancelling(ServiceCase):
    async def test_a_queued_job_is_cancelled_at_once(self) -> None:
        job = await self.queue()
        answer = await self.client.post(f"/jobs/{job.id}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")

    async def test_cancelling_a_running_job_asks_its_worker(self) -> None:
        job = await self.queue_as(JobStatus.PROCESSING)
        answer = await self.client.post(f"/jobs/{job.id}/cancel")
        assert (answer.status_code, answer.json()["status"], answer.json()["cancel_requested"]) == (
            *(200, "processing"),
            True,
        )

    async def test_cancelling_a_finished_job_changes_nothing(self) -> None:
        for status in (JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED):
            job = await self.queue_as(status)
            answer = await self.client.post(f"/jobs/{job.id}/cancel")
            assert (answer.status_code, answer.json()["status"]) == (200, status.value)


class TestRetrying(ServiceCase):
    async def test_a_failed_or_cancelled_job_is_queued_again(self) -> None:
        for status in (JobStatus.ERROR, JobStatus.CANCELLED):
            job = await self.queue_as(status)
            answer = await self.client.post(f"/jobs/{job.id}/retry")
            assert (answer.status_code, answer.json()["status"], answer.json()["error"]) == (200, "queued", None)

    async def test_retrying_any_other_job_is_refused(self) -> None:
        for status in (JobStatus.QUEUED, JobStatus.PROCESSING, JobStatus.COMPLETED):
            job = await self.queue_as(status)
            require_problem(await self.client.post(f"/jobs/{job.id}/retry"), 409, "illegal_move")
            assert (await self.read(job.id)).status is status


class TestJobsOfOthers(ServiceCase):
    overrides: ClassVar = {"require_key": True}

    async def test_jobs_of_others_are_404(self) -> None:
        ann, bob = await self.key("ann"), await self.key("bob")
        job = await self.submit(headers=ann)
        assert (await self.client.get("/jobs", headers=bob)).json()["jobs"] == []
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")):
            answer = await self.client.request(method, f"/jobs/{job['id']}{path}", headers=bob)
            require_problem(answer, 404, "job_not_found")
        assert [found["id"] for found in (await self.client.get("/jobs", headers=ann)).json()["jobs"]] == [job["id"]]

    async def test_an_admin_may_see_and_change_jobs_of_others(self) -> None:
        ann, admin = await self.key("ann"), await self.key("root", Scope.ADMIN)
        job = await self.submit(headers=ann)
        assert len((await self.client.get("/jobs", headers=admin)).json()["jobs"]) == 1
        assert (await self.client.delete(f"/jobs/{job['id']}", headers=admin)).status_code == 204

    async def test_jobs_of_others_count_in_the_queue_position(self) -> None:
        ann, bob = await self.key("ann"), await self.key("bob")
        await self.submit(headers=ann)
        assert (await self.submit(headers=bob))["queue_position"] == 1

    async def test_a_read_key_cannot_change_jobs(self) -> None:
        reader = await self.key("reader", Scope.READ)
        for method, path in (("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")):
            answer = await self.client.request(method, f"/jobs/x{path}", headers=reader)
            require_problem(answer, 403, "not_permitted")
