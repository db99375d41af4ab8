"""Whatever fits the interface's description, or just doesn't, is answered as the description says, and never by a 5xx.

A real server, with keys; the requests are made up by schemathesis, always the same ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok

from cesar.api.http.app import create_app
from cesar.api.models import Job, JobStatus
from cesar.api.queue.api_keys import KeyRing, Scope
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.settings.config import Settings
from tests.api.support import PATIENCE_S, WAYS, chunk
from tests.support.media import silence, write_wav

pytestmark = pytest.mark.slow

EXAMPLES = 30
"""For each operation."""
SEED = 20261124
NOT_HELD = {
    "positive_data_acceptance",  # a made-up model, address or file is refused, as no description can say
    "negative_data_rejection",  # a parameter that nobody asked for is let pass
    "use_after_free",  # stateful
    "ensure_resource_availability",  # stateful
    "object_level_authorization",  # stateful; tests/api/http/middleware/test_auth.py has it
}
ENDLESS = {"/events", "/v1/audio/transcriptions", "/v1/audio/translations"}
"""The first has no end, the others wait for a worker, and there is none."""
FINISHED = (JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED)

load_all_checks()
HELD = [check for name in CHECKS.get_all_names() if name not in NOT_HELD for check in CHECKS.get_by_names([name])]


def description() -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return create_app(Settings(data_dir=Path(folder)), with_worker=False).openapi()


SCHEMA = schemathesis.openapi.from_dict(description())
OPERATIONS: list[Any] = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]
EACH_OPERATION = pytest.mark.parametrize(
    "operation",
    [operation for operation in OPERATIONS if operation.path not in ENDLESS],
    ids=lambda operation: operation.label,
)


@dataclass(frozen=True)
class Running:
    """A service that is running."""

    url: str
    token: str
    job_ids: tuple[str, ...]
    """Jobs that are over, one of each kind."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run a service in a thread of its own."""
    folder = tmp_path_factory.mktemp("data")
    app = create_app(
        Settings(data_dir=folder, model="tiny", require_key=True, requests_per_minute=10**9), with_worker=False
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        token, job_ids = asyncio.run(prepare(folder))
        yield Running(f"http://127.0.0.1:{listening.getsockname()[1]}", token, job_ids)
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


async def prepare(folder: Path) -> tuple[str, tuple[str, ...]]:
    """Make a key, and a job that is over in each way there is."""
    store = AudioStore(folder / "audio")
    repository = JobRepository(folder / "cesar.db", audio=store)
    await repository.connect()
    try:
        _, token = await KeyRing(repository.database).create("fuzz", [Scope.ADMIN])
        ids = [await finish(repository, store, status, folder) for status in FINISHED]
    finally:
        await repository.close()
    return token, tuple(ids)


async def finish(repository: JobRepository, store: AudioStore, status: JobStatus, folder: Path) -> str:
    content = write_wav(folder / f"{status}.wav", silence(1.0)).read_bytes()
    upload = await repository.new_upload()
    upload.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    kept: dict[str, Any] = {
        "audio_path": str(store.path_of(digest)),
        "audio_digest": digest,
        "audio_bytes": len(content),
    }
    job = await repository.create(Job(name=f"{status}.wav", model_size="tiny", **kept), upload=upload)
    for step in WAYS[status]:
        if step is JobStatus.COMPLETED:
            await repository.checkpoint(job, chunk(0.0, 1.0, "Some words."))
            job.result_text, job.detected_language = "Some words.", "en"
        job.status = step
        await repository.update(job)
    return job.id


@EACH_OPERATION
def test_generated_requests_get_documented_responses(operation: Any, running: Running):
    is_of_a_job = "{job_id}" in operation.path
    jobs = st.sampled_from(running.job_ids) if is_of_a_job else st.none()
    cases = [operation.as_strategy(generation_mode=mode) for mode in GenerationMode]

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=st.one_of(*cases), job_id=st.none() | jobs)
    def check(case: Any, job_id: str | None) -> None:
        left_out = (
            {"not_a_server_error"} if operation.path == "/health" else set()
        )  # jobs are queued, and no worker runs
        if job_id is not None:
            case.path_parameters["job_id"] = job_id
        headers = {"Authorization": f"Bearer {running.token}"}
        answer = case.call(base_url=running.url, headers=headers, timeout=PATIENCE_S)
        case.validate_response(answer, checks=[it for it in HELD if it.__name__ not in left_out], headers=headers)

    check()


def test_every_operation_is_tested():
    """Guards the test above."""
    assert {operation.path for operation in OPERATIONS} == set(description()["paths"])
    assert len(HELD) >= 8
