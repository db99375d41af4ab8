"""The metrics for Prometheus."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from cesar.api.models import Job, JobStatus
from cesar.errors import ClaimLost
from tests.api.http.support import ServiceCase
from tests.api.support import chunk, eventually


class TestMetrics(ServiceCase):
    async def metrics(self) -> dict[tuple[str, ...], float]:
        """Read the metrics: value by name and label values, in the order of the labels' names."""
        await asyncio.sleep(0)
        self.service.monitor._sampled_at = -1e9  # look anew
        answer = await self.client.get("/metrics")
        assert answer.status_code == 200
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    async def claim(self) -> Job:
        job = await self.repository.get_next_queued()
        assert job is not None
        return job

    async def complete(self, **fields: Any) -> Job:
        await self.queue(**fields)
        job = await self.claim()
        job.status, job.result_text = JobStatus.COMPLETED, "the secret words"
        return await self.repository.update(job)

    async def test_jobs_are_counted_by_status(self):
        await self.queue_as(JobStatus.CANCELLED)
        await self.queue()
        found = await self.metrics()
        assert {name[1]: value for name, value in found.items() if name[0] == "cesar_jobs"} == {
            "queued": 1,
            "processing": 0,
            "completed": 0,
            "error": 0,
            "cancelled": 1,
        }
        assert 0 < found["cesar_queue_oldest_seconds",] < 60

    @pytest.mark.slow
    async def test_transitions_are_counted_once_by_reason(self):
        await self.complete()
        for _ in range(2):
            found = await self.metrics()
            changes = {name[1:]: value for name, value in found.items() if name[0] == "cesar_transitions_total"}
            assert changes == {
                ("new", "submitted", "queued"): 1,
                ("queued", "claimed", "processing"): 1,
                ("processing", "completed", "completed"): 1,
            }

    async def test_waiting_and_processing_times_of_jobs_are_measured(self):
        await self.queue(duration=100.0)
        job = await self.claim()
        job.duration = 100.0
        await self.repository.heartbeat(job)
        earlier = text("UPDATE job_events SET at = datetime(at, :shift) WHERE after = :after")

        def shift(connection):
            connection.execute(earlier, {"shift": "-30 seconds", "after": "queued"})
            connection.execute(earlier, {"shift": "-20 seconds", "after": "processing"})

        await self.repository.database.write("shift", shift)
        job.status, job.result_text = JobStatus.COMPLETED, ""
        await self.repository.update(job)
        found = await self.metrics()
        assert found["cesar_job_wait_seconds_sum",] == pytest.approx(10, abs=1.5)
        assert found["cesar_job_run_seconds_sum",] == pytest.approx(20, abs=5)
        assert found["cesar_realtime_factor_sum",] == pytest.approx(0.2, abs=0.05)
        assert found["cesar_realtime_factor_count",] == 1

    async def test_transitions_before_start_up_are_not_counted(self):
        await self.complete()
        other = await self.start(self.settings)
        answer = await (await self.connect(other)).get("/metrics")
        assert "cesar_transitions_total{" not in answer.text
        assert 'cesar_jobs{status="completed"} 1.0' in answer.text

    async def test_lost_claims_are_counted(self):
        await self.queue()
        job = await self.claim()
        await self.repository.release(job)
        with pytest.raises(ClaimLost):
            await self.repository.heartbeat(job)
        assert (await self.metrics())["cesar_fenced_writes_total",] == 1

    async def test_takeovers_are_counted_by_reason(self):
        await self.queue()
        job = await self.claim()

        def orphan(connection):
            connection.execute(text("UPDATE jobs SET owner = 'gone'"))

        await self.repository.database.write("orphan", orphan)
        again = await self.claim()
        assert again.id == job.id
        assert (await self.metrics())["cesar_takeovers_total", "worker died"] == 1

    async def test_writes_checkpoints_and_the_write_ahead_log_are_measured(self):
        await self.queue()
        job = await self.claim()
        before = await self.metrics()
        await self.repository.checkpoint(job, chunk(0.0, 5.0, "Some words."))
        after = await self.metrics()
        assert after["cesar_db_commit_seconds_count",] == before["cesar_db_commit_seconds_count",] + 1
        assert before["cesar_checkpoint_bytes",] == 0
        assert 50 < after["cesar_checkpoint_bytes",] < 1000
        assert after["cesar_wal_bytes",] > 0
        assert 0 <= after["cesar_heartbeat_age_seconds",] < 60

    async def test_the_lag_of_the_event_loop_is_measured(self):
        async def is_measured() -> bool:
            return (await self.metrics())["cesar_loop_lag_seconds_count",] > 0

        await eventually(is_measured)

    async def test_requests_are_counted_by_route_not_by_path(self):
        for path in ("/jobs/one", "/jobs/two", "/no/such/thing", "/no/other/thing"):
            await self.client.get(path)
        await self.client.head("/livez")
        await self.client.request("FROBNICATE", "/livez")
        await self.client.get("/models", headers={"Host": "evil.example"})
        found = await self.metrics()
        counts = {name[1:]: value for name, value in found.items() if name[0] == "cesar_http_requests_total"}
        assert counts["GET", "/jobs/{job_id}", "404"] == 2
        assert counts["GET", "other", "404"] == 2
        assert counts["GET", "other", "403"] == 1
        assert counts["HEAD", "/livez", "200"] == 1
        assert counts["other", "/livez", "405"] == 1
        assert found["cesar_http_request_seconds_count", "GET", "/jobs/{job_id}"] == 2
        assert found["cesar_http_open_requests",] == 1  # this one

    async def test_metrics_contain_nothing_about_single_jobs(self):
        job = await self.complete(name="secret.wav", created_at=(await self.queue()).created_at - timedelta(days=1))
        await self.metrics()
        answer = await self.client.get("/metrics")
        for secret in ("secret", "words", job.id, str(self.folder)):
            assert secret not in answer.text

    async def test_metrics_come_in_the_accepted_format(self):
        assert (await self.client.get("/metrics")).headers["content-type"].startswith("text/plain")
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        answer = await self.client.get("/metrics", headers=accept)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")
