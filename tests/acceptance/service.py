"""A real `cesar serve` for acceptance tests: started, asked over HTTP, killed, started again at the same place."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from tests.acceptance.conftest import PROGRAM, Program
from tests.faults.support import wait_until

PATIENCE_S = 120.0


@dataclass
class Service:
    """The service in a process of its own. Its log goes to a file, so that no pipe can fill up."""

    program: Program
    options: tuple[object, ...]
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    client: httpx.Client = field(default_factory=httpx.Client)

    @property
    def log(self) -> Path:
        return self.program.folder / "serve.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, program: Path = PROGRAM) -> None:
        """Start it, at the same port as before, and wait until it listens."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [str(program), "serve", "--port", str(self.port), *map(str, self.options)],
                cwd=self.program.folder,
                env=self.program.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: "Listening on " in self.log.read_text() or self.process.poll() is not None, PATIENCE_S)  # type: ignore[union-attr]
        assert "Listening on " in self.log.read_text(), self.log.read_text()
        address = self.log.read_text().partition("Listening on ")[2].split()[0]
        self.port = int(address.rpartition(":")[2])
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE_S)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; give its exit code."""
        assert self.process is not None
        self.client.close()
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """SIGKILL, as the kernel's OOM killer or `kill -9` would."""
        self.send(signal.SIGKILL)
        self.wait()

    def children(self) -> list[int]:
        """The process ids of the recognisers (Linux)."""
        assert self.process is not None
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*"):
            found += [int(pid) for pid in (task / "children").read_text().split()]
        return found

    def submit(self, recording: Path, **fields: object) -> dict[str, Any]:
        with recording.open("rb") as file:
            answer = self.client.post(
                "/transcribe",
                files={"file": (recording.name, file)},
                data={name: str(value) for name, value in fields.items()},
            )
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/jobs/{job_id}").raise_for_status().json()
        return found

    def is_over(self, job_id: str) -> bool:
        return self.job(job_id)["status"] in ("completed", "error", "cancelled")

    def result(self, job_id: str) -> dict[str, Any]:
        """Wait until the job is completed; give its transcript without what depends on the machine's speed."""
        wait_until(lambda: self.is_over(job_id), PATIENCE_S)
        assert self.job(job_id)["status"] == "completed", self.job(job_id)
        transcript = self.client.get(f"/jobs/{job_id}/transcript", params={"format": "json"}).raise_for_status().json()
        return {name: value for name, value in transcript.items() if name not in ("timings", "origin")}


@contextmanager
def serving(program: Program, *options: object) -> Iterator[Service]:
    """Run the service, on a folder of its own, for the length of a block; whatever is left of it is killed."""
    patient = {"CESAR_REQUESTS_PER_MINUTE": "1000000"}  # tests ask again and again whether something has come to pass
    environ = {**patient, **program.environ, "CESAR_DATA_DIR": str(program.folder / "data")}
    own = replace(program, environ=environ)
    service = Service(own, options)
    try:
        service.start()
        yield service
    finally:
        service.client.close()
        if service.process is not None:
            service.process.kill()
            service.process.wait()
