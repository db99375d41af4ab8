"""Support for tests of `cesar jobs`: a queue whose jobs can be put into any state, and a pseudo-terminal."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cesar.api.models import Job, JobStatus
from cesar.api.repository import JobRepository
from tests.api.support import WAYS, chunk

T = TypeVar("T")
_RESULT_FIELDS = ("result_text", "outcome", "error_message", "error_code", "error_hint")
"""Fields that are written with a job's last transition."""


@dataclass(frozen=True)
class Queue:
    """The queue that the program uses, to read it and to put its jobs into any state."""

    file: Path

    def do(self, work: Callable[[JobRepository], Awaitable[T]]) -> T:
        async def opened() -> T:
            repository = JobRepository(self.file)
            try:
                await repository.connect()
                return await work(repository)
            finally:
                await repository.close()

        return asyncio.run(opened())

    def add(self, status: JobStatus = JobStatus.QUEUED, **fields: Any) -> Job:
        """Queue a job and bring it to that status."""
        result = {name: fields.pop(name) for name in _RESULT_FIELDS if name in fields}

        async def make(repository: JobRepository) -> Job:
            job = await repository.create(Job(**{"audio_path": "/there/talk.mp3", **fields}))
            for step in WAYS[status]:
                job.status = step
                for name, value in result.items() if step is status else ():
                    setattr(job, name, value)
                await repository.update(job)
            return job

        return self.do(make)

    def completed_with(self, text: str) -> Job:
        """Queue a job and complete it with one chunk of this text."""

        async def make(repository: JobRepository) -> Job:
            await repository.create(Job(audio_path="/there/talk.mp3"))
            job = await repository.get_next_queued()
            assert job is not None
            await repository.checkpoint(job, chunk(0.0, 10.0, text))
            job.status, job.result_text, job.outcome = JobStatus.COMPLETED, text, {"duration": 10.0}
            return await repository.update(job)

        return self.do(make)

    def fill(self, names: Mapping[str, str]) -> list[Job]:
        """Queue a job for each id and name."""

        async def make(repository: JobRepository) -> list[Job]:
            jobs = [Job(audio_path="/there/talk.mp3", id=id_, name=name) for id_, name in names.items()]
            return [await repository.create(job) for job in jobs]

        return self.do(make)

    def jobs(self) -> list[Job]:
        return self.do(lambda repository: repository.list_all()) if self.file.exists() else []

    def read(self, job: Job) -> Job:
        found = self.do(lambda repository: repository.get(job.id))
        assert found is not None
        return found

    @contextmanager
    def running_job(self, **fields: Any) -> Iterator[Job]:
        """Keep a job claimed by another worker, with two chunks done."""
        claimed, may_end = threading.Event(), threading.Event()
        jobs: list[Job] = []

        async def hold(repository: JobRepository) -> None:
            await repository.create(Job(**{"audio_path": "/there/talk.mp3", **fields}))
            job = await repository.get_next_queued()
            assert job is not None
            job.phase, job.position, job.duration = "recognising", 20.0, 40.0
            await repository.checkpoint(job, chunk(0.0, 9.0, "One."))
            await repository.checkpoint(job, chunk(12.0, 20.0, "Two."))
            jobs.append(job)
            claimed.set()
            await asyncio.to_thread(may_end.wait, 60)

        holder = threading.Thread(target=self.do, args=(hold,))
        holder.start()
        try:
            assert claimed.wait(60)
            yield jobs[0]
        finally:
            may_end.set()
            holder.join()


NO_WORKER = "cesar: no worker is running, so waiting jobs will not run: start one with `cesar worker`\n"
"""The warning if jobs are waiting and no worker is running."""


def no_worker_at(url: str) -> str:
    """Return the same warning for a service."""
    hint = "run `cesar worker` beside it, or `cesar serve` without --no-worker"
    return f"cesar: the service at {url} has no worker, so waiting jobs will not run: {hint}\n"


def only_line(errors: str) -> str:
    """Return the only line of standard error."""
    [line] = errors.splitlines()
    return line


def run_on_terminal(*arguments: str, typed: bytes = b"") -> tuple[int, str]:
    """Run the program on a pseudo-terminal; return its exit code and what the terminal shows."""
    primary, terminal = os.openpty()
    command = [sys.executable, "-m", "cesar", *arguments]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as program:
        os.close(terminal)
        os.write(primary, typed)
        with io.FileIO(primary) as screen:
            shown = b"".join(read_until_closed(screen))
        return program.wait(timeout=60), shown.decode()


def read_until_closed(screen: io.FileIO) -> Iterator[bytes]:
    """Yield a pseudo-terminal's output until its last user has closed it, which Linux reports as an error."""
    while True:
        try:
            part = screen.read(65536)
        except OSError:
            return
        if not part:
            return
        yield part
