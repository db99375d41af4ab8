"""Jobs for the fault tests: recordings of any number of chunks, and workers and operations for a block."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cesar.api.models import Job
from cesar.api.repository import JobRepository
from cesar.pipeline.audio.decode import Recording
from tests.faults.support import ROOT, WorkerProcess, faults_found, is_alive, moment, rows, wait_until, write_script
from tests.support.media import AUDIO, Sound, silence, write_wav

T = TypeVar("T")

SENTENCE = AUDIO / "short-video.mp4"
"""2 s of speech: one chunk."""
_PAUSE_S = 3.2
"""Long enough that no chunk spans it."""
_START_S = 0.5
"""What `pace` takes on an idle machine."""


@cache
def _sentence() -> Sound:
    with closing(Recording(SENTENCE)) as recording:
        return np.concatenate(list(recording.blocks()))


def middle(chunk: int) -> float:
    """A second in the middle of a chunk of `write_sentences`."""
    return chunk * (len(_sentence()) / 16_000 + _PAUSE_S) + 1.0


def write_sentences(path: Path, count: int) -> str:
    """Write a recording of this many chunks: the same words over and over, with pauses between."""
    write_wav(path, np.concatenate([_sentence(), silence(_PAUSE_S)] * count))
    return str(path)


def model(folder: Path, *faults: dict[str, Any], word: str = "word", sentences: int = 80) -> str:
    """Return a scripted model that recognises another text in each sentence of a recording."""
    texts = {middle(number) - 0.3: f"{word.title()} {number}." for number in range(sentences)}
    return write_script(folder / f"{word}.json", texts, faults)


def ask(database: Path, verb: Callable[[JobRepository], Awaitable[T]]) -> T:
    """Open a repository and do something with it."""

    async def do() -> T:
        repository = JobRepository(database)
        await repository.connect()
        try:
            return await verb(repository)
        finally:
            await repository.close()

    return asyncio.run(do())


def cancel(database: Path, job: str) -> str:
    """Cancel a job; return the reported status."""
    return ask(database, lambda repository: repository.request_cancel(job)).status


def submit(database: Path, *jobs: Job) -> list[str]:
    """Queue jobs, in order; return their ids."""

    async def create(repository: JobRepository) -> list[str]:
        return [(await repository.create(job)).id for job in jobs]

    return ask(database, create)


def row_of(database: Path, job: str) -> dict[str, Any]:
    """Return a job's row."""
    [row] = rows(database, "SELECT * FROM jobs WHERE id = ?", job)
    return dict(row)


def chunks_of(database: Path, job: str) -> list[tuple[Any, ...]]:
    """Return a job's stored checkpoints: start, end, attempt, payload."""
    sql = (
        "SELECT start, end, c.attempt, payload FROM job_chunks c JOIN jobs ON seq = job_seq WHERE id = ? ORDER BY start"
    )
    return [tuple(row) for row in rows(database, sql, job)]


def history(database: Path, job: str) -> list[tuple[str, float]]:
    """Return the reasons of a job's events, with their times in seconds since 1970."""
    sql = "SELECT reason, at FROM job_events e JOIN jobs ON seq = job_seq WHERE jobs.id = ? ORDER BY e.id"
    return [(row["reason"], moment(row["at"])) for row in rows(database, sql, job)]


def reasons(database: Path, job: str) -> list[str]:
    return [reason for reason, _ in history(database, job)]


def is_over(database: Path, *jobs: str) -> bool:
    return all(row_of(database, job)["status"] in {"completed", "error", "cancelled"} for job in jobs)


def pace() -> float:
    """Return how many times slower this machine is now than an idle one; limits in seconds are multiplied by it."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import cesar.api.worker"], cwd=ROOT, check=True)
    return min(8.0, max(1.0, (time.monotonic() - begun) / _START_S))


def start(database: Path, *options: str, environ: dict[str, str] | None = None) -> WorkerProcess:
    """Start a worker whose temporary files are beside the database; a killed one leaves them behind."""
    return WorkerProcess(database, *options, environ={"TMPDIR": str(database.parent)} | (environ or {}))


@contextmanager
def working(database: Path, *options: str, environ: dict[str, str] | None = None) -> Iterator[WorkerProcess]:
    """A ready worker; killed at the end of the block if it is still running."""
    with start(database, *options, environ=environ) as worker:
        worker.wait_until_ready()
        yield worker


def killed(worker: WorkerProcess, unless: Callable[[], bool]) -> bool:
    """Wait until a worker has died, or the condition holds; return whether it has died."""
    wait_until(lambda: not worker.is_running or unless(), timeout_s=300)
    return not worker.is_running


def child_of(worker: WorkerProcess) -> int:
    """Wait until a worker has a recogniser, and return its process id."""
    found: list[int] = []

    def look() -> bool:
        with suppress(OSError):  # a thread or process that has just ended
            found[:] = worker.children()
            # Until then it is a copy of the worker, which waits for it: to stop it would stop both.
            return any(b"cesar.runner.child" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found)
        return False

    wait_until(look)
    return found[0]


def require_sound(database: Path, acknowledged: Iterable[str], *children: int) -> None:
    """Ask the oracle, and check that no recogniser is left."""
    assert faults_found(database, acknowledged) == []
    wait_until(lambda: not any(map(is_alive, children)))
