"""Whether the service says truly how it is."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from cesar.api.http.app import create_app
from cesar.api.http.monitoring.metrics import Metrics
from cesar.api.http.monitoring.monitor import SAMPLE_TIMEOUT_S, Monitor
from cesar.api.models import JobStatus
from cesar.settings.config import Settings
from tests.api.http.support import ServiceCase, require_problem
from tests.api.support import Clocks, eventually

PLENTY = 10**18


class HealthCase(ServiceCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.clocks = Clocks()
        await self.service.monitor.stop()
        self.service.monitor = Monitor(self.repository, self.data_dir, Metrics(), self.clocks.monotonic)
        await self.service.monitor.start()
        self.addAsyncCleanup(self.service.monitor.stop)

    async def health(self, *, after_s: float = 1.0) -> tuple[int, dict[str, Any]]:
        """Ask how the service is, some time later by the monitor's clock."""
        self.clocks.advance(after_s)
        answer = await self.client.get("/health")
        return answer.status_code, answer.json()


class TestHealth(HealthCase):
    async def test_a_service_configured_without_a_worker_is_healthy_without_one(self):
        status, told = await self.health()
        assert (status, told["status"], told["worker"], told["reasons"]) == (200, "ok", "stopped", [])

    async def test_health_reports_the_queue(self):
        await self.queue()
        await self.queue_as(JobStatus.ERROR)
        worker_task = await self.queue_as(JobStatus.PROCESSING)
        _, told = await self.health()
        details = told["details"]
        assert details["jobs"] == {"queued": 1, "processing": 1, "completed": 0, "error": 1, "cancelled": 0}
        assert details["at_work"] == 1
        assert 0 <= details["oldest_queued_s"] < 60
        assert 0 <= details["heartbeat_age_s"] < 60
        assert details["disk_free_bytes"] > 0
        assert told["worker"] == "running"
        assert worker_task.id not in str(told)
        assert str(self.folder) not in str(told)

    async def test_a_stalled_job_is_reported(self):
        job = await self.queue()
        claimed = await self.repository.get_next_queued()
        assert claimed is not None
        limit_s = self.settings.stall_timeout_s + 60
        assert (await self.health())[0] == 200
        assert (await self.health(after_s=limit_s - 1))[0] == 200
        status, told = await self.health(after_s=2)
        assert (status, told["reasons"]) == (503, ["no_progress"])
        claimed.position = 12.5
        await self.repository.heartbeat(claimed)
        assert (await self.health())[0] == 200
        assert job.id == claimed.id

    async def test_heartbeats_alone_are_not_progress(self):
        await self.queue()
        claimed = await self.repository.get_next_queued()
        assert claimed is not None
        await self.health()
        for _ in range(10):
            await self.repository.heartbeat(claimed)
            status, told = await self.health(after_s=self.settings.stall_timeout_s / 5)
        assert (status, told["reasons"]) == (503, ["no_progress"])

    async def test_waiting_jobs_that_no_worker_claims_are_reported(self):
        await self.queue()
        assert (await self.health())[0] == 200
        assert (await self.health(after_s=59))[0] == 200
        status, told = await self.health(after_s=2)
        assert (status, told["reasons"]) == (503, ["jobs_ignored"])
        await self.repository.get_next_queued()
        assert (await self.health())[0] == 200

    async def test_a_missing_database_is_reported(self):
        file = self.data_dir / "cesar.db"
        file.rename(self.folder / "elsewhere.db")
        status, told = await self.health()
        assert (status, told["reasons"], told["details"]) == (503, ["database_away"], None)
        answer = await self.client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "database_away"})
        (self.folder / "elsewhere.db").rename(file)
        assert (await self.health())[0] == 200
        assert (await self.client.get("/readyz")).status_code == 200

    def hold_reads(self) -> threading.Event:
        """Keep the reading thread busy until the event is set."""
        may_go_on = threading.Event()
        self.addCleanup(may_go_on.set)
        self.repository.database._reading.submit(may_go_on.wait)
        return may_go_on

    async def test_a_database_that_does_not_answer_does_not_delay_health(self):
        may_go_on = self.hold_reads()
        begun = time.monotonic()
        answers = await asyncio.gather(*(self.health() for _ in range(20)))
        assert {(status, *told["reasons"]) for status, told in answers} == {(503, "database_away")}
        assert (await self.client.get("/livez")).status_code == 200
        assert SAMPLE_TIMEOUT_S * 0.9 <= time.monotonic() - begun < 60
        may_go_on.set()

        async def is_well() -> bool:
            return (await self.health())[0] == 200

        await eventually(is_well)

    @pytest.mark.slow
    async def test_a_locked_database_is_reported(self):
        with closing(sqlite3.connect(self.data_dir / "cesar.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

            async def is_told_of() -> bool:
                status, told = await self.health(after_s=5)
                return (status, told["reasons"]) == (503, ["database_not_writable"])

            await eventually(is_told_of)
            assert (await self.client.get("/readyz")).status_code == 503
            other.execute("ROLLBACK")
        assert (await self.health(after_s=5))[0] == 200

    async def test_requests_waiting_for_the_same_lock_fail_together(self):
        sent = {"file": ("talk.wav", b"sound")}
        with closing(sqlite3.connect(self.data_dir / "cesar.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            begun = time.monotonic()
            answers = await asyncio.gather(*(self.client.post("/transcribe", files=sent) for _ in range(40)))
            assert time.monotonic() - begun < 60  # one after the other they would take two minutes
        assert {answer.status_code for answer in answers} == {503}
        assert {answer.json()["code"] for answer in answers} == {"database_unavailable"}
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)
        await self.submit()

    async def test_an_unwritable_folder_of_recordings_is_reported(self):
        incoming = self.settings.audio_dir / "incoming"
        shutil.rmtree(incoming)
        incoming.write_bytes(b"no folder")
        status, told = await self.health(after_s=5)
        assert (status, told["reasons"]) == (503, ["recordings_not_writable"])
        assert (await self.client.get("/readyz")).json() == {"status": "recordings_not_writable"}
        incoming.unlink()
        assert (await self.health(after_s=5))[0] == 200

    async def test_a_system_out_of_threads_is_reported(self):
        with patch("threading.Thread.start", side_effect=RuntimeError("can't start new thread")):
            status, told = await self.health(after_s=5)
            assert (status, told["reasons"]) == (503, ["no_threads"])
        assert (await self.health(after_s=5))[0] == 200

    @pytest.mark.slow
    async def test_damage_stops_all_writes_until_repaired(self):
        for number in range(30):
            await self.queue(name=f"{number} " + "talk" * 2000)
        await self.repository.database.truncate_wal()
        file = self.data_dir / "cesar.db"
        with file.open("r+b") as spoiled:
            size = file.stat().st_size
            for begin in range(4096, size, 3 * 4096):
                spoiled.seek(begin)
                spoiled.write(b"\xaa" * 4096)
        await self.repository.database.check_integrity(2**30)
        status, told = await self.health()
        assert (status, told["reasons"][0]) == (503, "database_damaged")
        assert (await self.client.get("/readyz")).json() == {"status": "database_damaged"}
        answer = await self.client.post("/transcribe", files={"file": ("talk.wav", b"sound")})
        require_problem(answer, 503, "database_damaged")
        assert int(answer.headers["Retry-After"]) > 0

    async def test_a_nearly_full_disk_is_reported(self):
        usage = shutil.disk_usage(self.folder)._replace(free=self.settings.min_free_bytes - 1)
        with patch("shutil.disk_usage", return_value=usage):
            status, told = await self.health()
        assert (status, told["reasons"]) == (503, ["disk_nearly_full"])
        assert (await self.health())[0] == 200

    @pytest.mark.slow
    async def test_health_answers_at_once_under_load(self):
        await asyncio.gather(*(self.client.get("/health") for _ in range(100)))
        may_go_on = self.hold_reads()
        assert (await self.health(after_s=0.2))[0] == 200, "from what was seen just now"
        assert (await self.health())[0] == 503, "nobody reads the database"
        may_go_on.set()


class TestTheWorker(ServiceCase):
    @pytest.mark.slow
    async def test_a_running_worker_and_a_stopped_one_are_reported(self):
        app = create_app(Settings(model=self.model, data_dir=self.folder / "other"))
        client = await self.connect(app)
        async with app.router.lifespan_context(app):
            answer = await client.get("/health")
            assert (answer.status_code, answer.json()["worker"]) == (200, "running")
            service = app.state.service
            await service.worker.shutdown(now=True)
            await service.worker_task
            answer = await client.get("/health")
            assert (answer.status_code, answer.json()["worker"]) == (503, "stopped")
            assert answer.json()["reasons"] == ["worker_stopped"]


class TestReadiness(ServiceCase):
    async def test_a_service_is_ready_from_start_up_to_shutdown(self):
        app = create_app(Settings(model=self.model, data_dir=self.folder / "other"), with_worker=False)
        client = await self.connect(app)

        async def readiness() -> tuple[int, str]:
            answer = await client.get("/readyz")
            return answer.status_code, answer.json()["status"]

        assert await readiness() == (503, "starting")
        assert (await client.get("/health")).json()["reasons"] == ["starting"]
        async with app.router.lifespan_context(app):
            assert await readiness() == (200, "ready")
            await app.state.service.stop()
            assert await readiness() == (503, "stopping")
            assert (await client.get("/livez")).json() == {"status": "alive"}
        assert (await client.get("/livez")).status_code == 200


class TestModels(ServiceCase):
    async def test_models_are_listed_without_their_paths(self):
        answer = await self.client.get("/models")
        models = {model["name"]: model for model in answer.json()["models"]}
        assert models["tiny"]["languages"] == "multilingual"
        assert models["base.en"]["languages"] == "en"
        assert models["base"]["size_bytes"] > 10**8
        assert models["base"]["licence"] == "MIT"
        assert str(self.folder) not in answer.text
        assert str(Path.home()) not in answer.text
        assert [name for name, model in models.items() if model["default"]] == ["words.json"]


class TestTheDefaultModel(ServiceCase):
    async def test_the_default_model_is_marked(self):
        app = await self.start(Settings(model="tiny", data_dir=self.folder / "other"))
        models = (await (await self.connect(app)).get("/models")).json()["models"]
        assert [model["name"] for model in models if model["default"]] == ["tiny"]
