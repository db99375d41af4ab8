"""A process that executes commands on a repository, and the class that sends them.

One command a line comes on its standard input, one answer a line goes out, both JSON. It holds its claims without a
worker's heartbeats, so it can be stopped, killed and woken at any step.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from cesar.api.models import Job, JobStatus
from cesar.api.repository import JobRepository
from cesar.api.storage.recordings import AudioStore
from cesar.errors import CesarError
from cesar.transcript import Chunk
from tests.faults.support import ROOT


class ClerkProcess:
    """The test's side. Raises `EOFError` if a response was expected and the process has died."""

    def __init__(self, database: Path, *options: str, failpoint: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.clerk", str(database), *options],
            cwd=ROOT,
            env=os.environ | {"CESAR_FAILPOINT": failpoint},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def tell(self, do: str, **what: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    def ask(self, do: str, **what: Any) -> Any:
        self.tell(do, **what)
        return self.answer()

    def wait_until_ready(self) -> None:
        assert self.ask("nothing") is None

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


class Clerk:
    """The process's side: each method is a command."""

    def __init__(self, repository: JobRepository) -> None:
        self._repository = repository
        self._claimed: dict[str, Job] = {}

    async def nothing(self) -> None:
        """Acquire the owner's lock."""

    async def submit(self, **fields: Any) -> str:
        return (await self._repository.create(Job(**fields))).id

    async def upload(self, content: str) -> str:
        """Queue a job with its own recording, like an HTTP request."""
        store = self._repository.audio
        assert store is not None
        digest = hashlib.sha256(content.encode()).hexdigest()
        arrived = await self._repository.new_upload()
        arrived.write_text(content)
        job = Job(audio_path=str(store.path_of(digest)), audio_digest=digest)
        await self._repository.create(job, upload=arrived)
        arrived.unlink(missing_ok=True)
        return job.id

    async def delete(self, job: str) -> None:
        await self._repository.delete(job)

    async def prune(self) -> int:
        return await self._repository.prune(timedelta())

    async def sweep(self) -> list[int]:
        swept = await self._repository.sweep()
        return [swept.removed, swept.set_aside, len(swept.retained)]

    async def cancel(self, job: str) -> str:
        return (await self._repository.request_cancel(job)).status

    async def claim(self) -> str | None:
        job = await self._repository.get_next_queued()
        if job is None:
            return None
        self._claimed[job.id] = job
        return job.id

    async def write(self, job: str, verb: str) -> None:
        """Do to a claimed job what only the holder of its claim may do."""
        ours = self._claimed[job].model_copy()
        match verb:
            case "finish":
                ours.status, ours.result_text = JobStatus.COMPLETED, f"by attempt {ours.attempt}"
                await self._repository.update(ours)
            case "fail":
                ours.error_code, ours.error_message = "native_crash", "it crashed"
                await self._repository.retry_later(ours)
            case "checkpoint":
                await self._repository.checkpoint(ours, Chunk(0.0, 1.0, (), ()))
            case "resume":
                await self._repository.resume(ours, f"work of attempt {ours.attempt}")
            case "heartbeat" | "release":
                await getattr(self._repository, verb)(ours)

    async def race(self) -> dict[str, list[Any]]:
        """Claim and finish jobs as fast as possible, until there are none."""
        claims: list[list[int]] = []
        errors: list[str] = []
        while True:
            try:
                job = await self._repository.get_next_queued()
                if job is None:
                    return {"claims": claims, "errors": errors}
                claims.append([job.seq, job.priority])
                job.status = JobStatus.COMPLETED
                await self._repository.update(job)
            except CesarError as error:
                errors.append(f"{error.code}: {error}")


async def serve(arguments: argparse.Namespace) -> None:
    audio = None if arguments.audio is None else AudioStore(arguments.audio)
    repository = JobRepository(arguments.database, lease_ttl_s=arguments.lease_ttl_s, retry_delay_s=0.1, audio=audio)
    await repository.connect(for_recordings=audio is not None)
    clerk = Clerk(repository)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        try:
            answer = await getattr(clerk, command.pop("do"))(**command)
        except CesarError as error:
            answer = {"error": error.code}
        print(json.dumps(answer), flush=True)
    await repository.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("database", type=Path)
    parser.add_argument("--audio", type=Path)
    parser.add_argument("--lease-ttl-s", type=float, default=60.0)
    asyncio.run(serve(parser.parse_args()))
