"""Shared by the service's tests: the real application in its own folder, an in-process client, and keys.

    class TestSomething(ServiceCase):
        overrides = {"max_open_jobs": 3}

        async def test_a_behaviour(self):
            job = await self.submit(b"RIFF...", name="talk.wav", priority=3)
            answer = await self.client.get(f"/jobs/{job['id']}")

The application's worker is off: `self.work()` makes one, with the scripted engine, and ends it with the test. Tests
that do so start a child process; put `pytestmark = pytest.mark.slow` into their module.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from unittest import IsolatedAsyncioTestCase

import httpx
from fastapi import FastAPI

from cesar.api.http.app import create_app
from cesar.api.http.dependencies import Service
from cesar.api.models import Job, JobStatus
from cesar.api.queue.api_keys import Scope
from cesar.api.repository import JobRepository
from cesar.api.worker import BackgroundWorker
from cesar.settings.config import Settings
from tests.api.support import WAYS, eventually, without_debugging
from tests.runner.support import AUDIO, write_script

JFK = AUDIO / "jfk.m4a"
"""11 s of speech: one chunk."""
PROBLEM = "application/problem+json"


class ServiceCase(IsolatedAsyncioTestCase):
    """Each test has a running application without a worker, and a client for it."""

    overrides: ClassVar[Mapping[str, Any]] = {}
    """Settings that are not the defaults."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory(prefix="cesar-test-")))
        self.model = write_script(self.folder / "words.json")
        """The scripted model, which is the service's default; callers call it `words.json`."""
        self.data_dir = self.folder / "data"

    async def asyncSetUp(self) -> None:
        without_debugging()
        self.settings = Settings(**{"model": self.model, "data_dir": self.data_dir, **self.overrides})
        self.app = await self.start(self.settings)
        self.client = await self.connect(self.app)

    async def start(self, settings: Settings) -> FastAPI:
        """Start an application; it is stopped when the test is over."""
        app = create_app(settings, with_worker=False)
        await self.enterAsyncContext(app.router.lifespan_context(app))
        return app

    async def connect(self, app: FastAPI, **options: Any) -> httpx.AsyncClient:
        """Return a client for an application; it raises unexpected errors instead of returning a 500."""
        transport = httpx.ASGITransport(app=app)
        return await self.enterAsyncContext(
            httpx.AsyncClient(transport=transport, **{"base_url": "http://cesar", **options})
        )

    @property
    def service(self) -> Service:
        service: Service = self.app.state.service
        return service

    @property
    def repository(self) -> JobRepository:
        return self.service.repository

    async def key(self, name: str, *scopes: Scope) -> dict[str, str]:
        """Make an API key (by default one that reads and submits); give the header that shows it."""
        _, token = await self.service.keys.create(name, scopes or (Scope.READ, Scope.SUBMIT))
        return {"Authorization": f"Bearer {token}"}

    async def submit(
        self,
        content: bytes = b"not really sound",
        *,
        name: str = "talk.wav",
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> dict[str, Any]:
        """Hand in a recording over HTTP; give the job. It must be taken."""
        response = await self.client.post(
            "/transcribe", files={"file": (name, content)}, data={k: str(v) for k, v in fields.items()}, headers=headers
        )
        assert response.status_code == 202, response.text
        job: dict[str, Any] = response.json()
        return job

    async def queue(self, content: bytes = b"not really sound", **fields: Any) -> Job:
        """Put a job into the queue directly, with a recording that Cesar keeps."""
        digest = hashlib.sha256(content).hexdigest()
        upload = await self.repository.new_upload()
        upload.write_bytes(content)
        kept = {"audio_path": str(self.service.audio.path_of(digest)), "audio_digest": digest}
        told = {"name": "talk.wav", "model_size": self.model, "audio_bytes": len(content)}
        job = await self.repository.create(Job(**{**told, **kept, **fields}), upload=upload)
        upload.unlink(missing_ok=True)
        return job

    async def queue_as(self, status: JobStatus, **fields: Any) -> Job:
        """Queue a job and bring it to that status, by legal moves."""
        job = await self.queue(**fields)
        for step in WAYS[status]:
            job.status = step
            await self.repository.update(job)
        return job

    async def read(self, job_id: str) -> Job:
        """Read a job from the queue; it must be there."""
        job = await self.repository.get(job_id)
        assert job is not None
        return job

    async def work(self) -> BackgroundWorker:
        """Run a worker on the queue until the test ends."""
        worker = BackgroundWorker(self.repository, poll_interval=0.05, settings=self.settings, grace_s=1.0)
        running = asyncio.create_task(worker.run())

        async def stop() -> None:
            await worker.shutdown(now=True)
            await running

        self.addAsyncCleanup(stop)
        return worker

    async def wait_until_finished(self, *job_ids: str) -> None:
        """Wait until these jobs are over."""

        async def are_over() -> bool:
            return all([(await self.read(job_id)).status.is_final for job_id in job_ids])

        await eventually(are_over)

    def kept_files(self) -> list[Path]:
        """All files in the folder of recordings, also those that are on their way."""
        return [path for path in self.settings.audio_dir.rglob("*") if path.is_file() and path.suffix != ".json"]


def require_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is a problem with this code; return it."""
    assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM), response.text
    problem: dict[str, Any] = response.json()
    assert (problem["status"], problem["code"]) == (status, code), problem
    assert problem["detail"], problem
    assert problem["hint"], problem
    return problem
