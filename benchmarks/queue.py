"""The cost of the queue, with jobs that do nothing: speed compared with other queues, wake-up time, bytes on disk.

`queue_growth` measures its operations on a full table, `overhead` what it adds to a real transcription. All data is
in a new folder in --folder, which must be on a real disk. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.overhead import write_minute
from benchmarks.postgres_server import PostgresServer, postgres
from benchmarks.queue_rivals import ON_POSTGRESQL, ON_SQLITE, Queue
from cesar import AudioTranscriber
from cesar.api import BackgroundWorker, Job, JobRepository, JobStatus
from cesar.transcript import Chunk

VERBS = ("submit", "claim", "finish")
_WARM_UP = 20
_JOBS_OF_A_WORKER = 60
_SUBMITTER = """
import asyncio, sys, time
from cesar.api import Job, JobRepository

async def submit():
    repository = JobRepository(sys.argv[1])
    await repository.connect()
    for _ in sys.stdin:
        await repository.create(Job(audio_path="/recordings/interview.m4a"))
        print(time.monotonic(), flush=True)

asyncio.run(submit())
"""

Make = Callable[[], Awaitable[Queue]]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the percentile of the values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


def in_ms(seconds: Sequence[float]) -> dict[str, float]:
    return {
        "n": len(seconds),
        "p50_ms": round(statistics.median(seconds) * 1000, 3),
        "p99_ms": round(percentile(seconds, 99) * 1000, 3),
    }


# Speed, compared with other queues


async def one_job(queue: Queue) -> tuple[float, ...]:
    """Process a job; return the seconds of each operation."""
    begun = time.perf_counter()
    await queue.submit()
    submitted = time.perf_counter()
    job = await queue.claim()
    claimed = time.perf_counter()
    await queue.finish(job)
    return submitted - begun, claimed - submitted, time.perf_counter() - claimed


async def time_verbs(queues: Sequence[Queue], count: int) -> dict[str, list[tuple[float, ...]]]:
    """Process jobs in all queues in alternation, so that other load affects all equally."""
    taken: dict[str, list[tuple[float, ...]]] = {queue.name: [] for queue in queues}
    for _ in range(_WARM_UP + count):
        for queue in random.sample(queues, len(queues)):
            taken[queue.name].append(await one_job(queue))
    return {name: jobs[_WARM_UP:] for name, jobs in taken.items()}


async def time_worker(queue: Queue, count: int) -> float:
    """Let the queue's own worker process all jobs; return the seconds from one start to the next."""
    for _ in range(count):
        await queue.submit()
    starts: list[float] = []
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def tick() -> None:
        starts.append(time.perf_counter())
        if len(starts) == count:
            loop.call_soon_threadsafe(over.set)

    working = asyncio.create_task(queue.work(tick))
    waiting = asyncio.create_task(over.wait())
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not waiting.done():
        await working
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    return (starts[-1] - starts[0]) / (count - 1)


async def time_workers(makers: Sequence[Make], rounds: int) -> dict[str, list[float]]:
    """Let every worker process its own queue in turn; return the seconds per job of each round."""
    taken: dict[str, list[float]] = {}
    for _ in range(rounds):
        for make in random.sample(makers, len(makers)):
            async with opened(make) as queue:
                if queue.has_worker:
                    taken.setdefault(queue.name, []).append(await time_worker(queue, _JOBS_OF_A_WORKER))
    return taken


async def speed(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Measure the operations, then the workers, in turn; ratios are medians of the ratios per job or round."""
    result: dict[str, Any] = {"jobs": count, "rounds of workers": rounds}
    async with AsyncExitStack() as stack:
        makers: list[Make] = [partial(_in_folder, kind, folder) for kind in ON_SQLITE]
        try:
            server = await stack.enter_async_context(postgres(folder / "postgres"))
            result["postgresql"] = await server.settings()
            makers += [partial(_on_server, kind, server) for kind in ON_POSTGRESQL]
        except (ImportError, OSError) as error:
            result["postgresql"] = f"did not run: {error}"
        queues = [await stack.enter_async_context(opened(make)) for make in makers]
        jobs = await time_verbs(queues, count)
        workers = await time_workers(makers, rounds)
    for queue in queues:
        name = queue.name
        result[name] = {"keeps": queue.keeps, "verbs": _verbs(jobs[name], jobs["cesar"])}
        if name in workers:
            result[name]["worker"] = _compared(workers[name], workers["cesar"])
    return result


@asynccontextmanager
async def opened(make: Make) -> AsyncIterator[Queue]:
    queue = await make()
    await queue.open()
    try:
        yield queue
    finally:
        await queue.close()


async def _in_folder(kind: Callable[[Path], Queue], folder: Path) -> Queue:
    return kind(Path(tempfile.mkdtemp(dir=folder)))


async def _on_server(kind: Callable[[str], Queue], server: PostgresServer) -> Queue:
    return kind(await server.new_database())


def _verbs(jobs: Sequence[tuple[float, ...]], cesars: Sequence[tuple[float, ...]]) -> dict[str, float]:
    verbs = {
        f"{verb}_ms": round(statistics.median(taken) * 1000, 3)
        for verb, taken in zip(VERBS, zip(*jobs, strict=True), strict=True)
    }
    return verbs | _compared([sum(job) for job in jobs], [sum(job) for job in cesars])


def _compared(seconds: Sequence[float], cesars: Sequence[float]) -> dict[str, float]:
    return {
        "jobs_per_s": round(1 / statistics.median(seconds), 1),
        "cesar_takes_times_as_long": round(statistics.median(a / b for a, b in zip(cesars, seconds, strict=True)), 2),
    }


# Waking up


async def wake(folder: Path, count: int) -> dict[str, Any]:
    """Measure the time from the commit of a submission to the start of the work, polling once a minute."""
    database = folder / "wake.db"
    repository = JobRepository(database)
    await repository.connect()
    worker = BackgroundWorker(repository, poll_interval=60)
    started: asyncio.Queue[float] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def transcribe(_audio_path: str, _model_size: str) -> dict[str, str]:
        loop.call_soon_threadsafe(started.put_nowait, time.monotonic())
        return {"text": "", "language": "en"}

    worker._run_transcription = transcribe  # type: ignore[method-assign,assignment]  # noqa: SLF001 - the contract's way
    working = asyncio.create_task(worker.run())
    same: list[float] = []
    for _ in range(count):
        await asyncio.sleep(random.uniform(0, 0.05))  # until it is idle again
        await repository.create(Job(audio_path="/recordings/interview.m4a"))
        committed = time.monotonic()
        same.append(await started.get() - committed)
    other = await _wake_from_another_process(database, started, count)
    await worker.shutdown()
    await working
    await repository.close()
    return {"same_process": in_ms(same), "another_process": in_ms(other)}


async def _wake_from_another_process(database: Path, started: asyncio.Queue[float], count: int) -> list[float]:
    """Measure the same with a submission by another process; processes share the monotonic clock."""
    pipe = asyncio.subprocess.PIPE
    submitter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SUBMITTER, str(database), stdin=pipe, stdout=pipe
    )
    assert submitter.stdin is not None
    assert submitter.stdout is not None
    seconds = []
    for _ in range(count):
        await asyncio.sleep(random.uniform(0, 0.5))  # at any time between two polls
        submitter.stdin.write(b"\n")
        committed = float(await submitter.stdout.readline())
        seconds.append(await started.get() - committed)
    submitter.stdin.close()
    await submitter.wait()
    return seconds


# Bytes


async def bytes_per_job(folder: Path, count: int) -> dict[str, Any]:
    """Finish jobs with the text and the chunks of a real recording of a minute; measure the file."""
    chunks: list[Chunk] = []
    transcript = AudioTranscriber("tiny.en").transcribe(write_minute(folder / "minute.wav"), on_chunk=chunks.append)
    database = folder / "bytes.db"
    maker = JobRepository(database)
    await maker.connect()
    await maker.close()
    empty = database.stat().st_size
    repository = JobRepository(database)
    await repository.connect()
    for number in range(count):
        await repository.create(Job(audio_path=f"/recordings/interview-{number}.m4a"))
        job = await repository.get_next_queued()
        assert job is not None
        await repository.resume(job, "f" * 64)
        for chunk in chunks:
            await repository.checkpoint(job, chunk)
        job.status, job.result_text, job.detected_language = JobStatus.COMPLETED, transcript.text, "en"
        job.outcome = {"duration": 60.0, "timings": dict(transcript.timings), "warnings": []}
        await repository.update(job)
    await repository.close()
    return {
        "jobs": count,
        "on_disk": round((database.stat().st_size - empty) / count),
        "of_it_chunks": _payload_bytes(database) // count,
        "of_it_text": len(transcript.text),
        "chunks_a_job": len(chunks),
        "empty_database": empty,
    }


def _payload_bytes(database: Path) -> int:
    connection = sqlite3.connect(database)
    total: int = connection.execute("SELECT sum(length(payload)) FROM job_chunks").fetchone()[0]
    connection.close()
    return total


def machine() -> dict[str, Any]:
    return {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "cores": os.cpu_count()}


async def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    parts: dict[str, Callable[[], Awaitable[Any]]] = {
        "speed": lambda: speed(folder, arguments.jobs, arguments.rounds),
        "wake": lambda: wake(folder, arguments.wakes),
        "bytes": lambda: bytes_per_job(folder, arguments.jobs),
    }
    return machine() | {name: await part() for name, part in parts.items() if name in arguments.only}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=["speed", "wake", "bytes"])
    parser.add_argument("--folder", type=Path, help="where to put the databases (the system's temporary folder)")
    parser.add_argument("--jobs", type=int, default=300, help="through the verbs of each queue")
    parser.add_argument("--rounds", type=int, default=9, help="of the workers")
    parser.add_argument("--wakes", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        Path(name).chmod(0o755)  # PostgreSQL may have to run as another user
        json.dump(asyncio.run(measure(arguments, Path(name))), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
