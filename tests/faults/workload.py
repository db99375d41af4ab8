"""All operations of the queue on a real repository, at random; as a program, with a record of what reaches the disk.

`python -m tests.faults.workload DATABASE HISTORY` writes to HISTORY, pickled, each operation of SQLite on its files,
and among them an `ack` for each verb that has returned, with the digest of the whole database as it was then.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import pickle
import random
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from cesar.api.models import Job, JobStatus
from cesar.api.repository import JobRepository
from cesar.api.storage import sqlite_engine
from cesar.api.storage.location import DatabaseLocation
from cesar.errors import DatabaseFull, DatabaseUnavailable
from cesar.transcript import Chunk, Segment
from tests.faults.power import Op, interpose

REFUSALS = ((13, DatabaseFull), (10, DatabaseUnavailable), (1034, DatabaseUnavailable))
"""SQLITE_FULL, SQLITE_IOERR, SQLITE_IOERR_FSYNC."""
LONGEST_TEXT = 200_000
_STATE = (
    "SELECT * FROM jobs ORDER BY seq",
    "SELECT * FROM job_events ORDER BY id",
    "SELECT * FROM job_chunks ORDER BY job_seq, start",
)


def digest(ask: Callable[[str], Iterable[Any]]) -> str:
    """Return a digest of all jobs, events and chunks; `ask` takes a SELECT."""
    return hashlib.sha256(repr([[tuple(row) for row in ask(sql)] for sql in _STATE]).encode()).hexdigest()


async def digest_of(repository: JobRepository) -> str:
    return await repository.database.read(lambda connection: digest(connection.exec_driver_sql))


class Workload:
    """A submitter and a worker that share a database file, and do one random operation at a time."""

    def __init__(self, path: Path, chance: random.Random) -> None:
        self._path = path
        self._chance = chance
        self._jobs: list[str] = []
        self._held: Job | None = None
        self._at = 0
        self._new()

    def _new(self) -> None:
        self.submitter = JobRepository(self._path, allow_network_fs=True)
        self.worker = JobRepository(self._path, allow_network_fs=True, retry_delay_s=0)

    async def open(self) -> None:
        await self.submitter.connect()
        await self.worker.connect()

    async def close(self) -> None:
        await self.submitter.close()
        await self.worker.close()
        self._held = None

    async def reopen(self) -> None:
        """Close everything, which moves the log into the database, and open it again."""
        await self.close()
        self._new()
        await self.open()

    async def do(self) -> None:
        """Do a random operation that is possible at present: one transaction at most."""
        anybody: list[Callable[[], Awaitable[object]]] = [
            self.submit,
            self.submit,
            self.cancel,
            self.retry,
            self.delete,
        ]
        worker: list[Callable[[], Awaitable[object]]] = [self.claim]
        if self._held is not None:
            worker = [self.beat, self.checkpoint, self.checkpoint, self.checkpoint, self.finish, self.finish]
            worker += [self.resume, self.break_off, self.fail, self.release]
        await self._chance.choice(self._chance.choice([anybody, worker, worker]))()

    async def submit(self) -> None:
        job = Job(audio_path=f"/recordings/{len(self._jobs)}.wav", priority=self._chance.randint(0, 2))
        await self.submitter.create(job)
        self._jobs.append(job.id)

    async def cancel(self) -> None:
        if self._jobs:
            await self.submitter.request_cancel(self._chance.choice(self._jobs))

    async def retry(self) -> None:
        over = [
            job.id for job in await self.submitter.list_all() if job.status in (JobStatus.ERROR, JobStatus.CANCELLED)
        ]
        if over:
            await self.submitter.retry(self._chance.choice(over))

    async def delete(self) -> None:
        over = [job.id for job in await self.submitter.list_all() if job.status.is_final]
        if len(over) > 10:
            gone = self._chance.choice(over)
            await self.submitter.delete(gone)
            self._jobs.remove(gone)

    async def claim(self) -> None:
        self._held = await self.worker.get_next_queued()

    async def resume(self) -> None:
        self._at = len(await self.worker.resume(self._its_job(), "the same work"))

    async def beat(self) -> None:
        await self.worker.heartbeat(self._its_job())

    async def checkpoint(self) -> None:
        self._at += 1
        segment = Segment(self._at, self._at + 1, self._text())
        await self.worker.checkpoint(self._its_job(), Chunk(self._at, self._at + 1, (segment,), ()))

    async def finish(self) -> None:
        job = self._its_job()
        job.status, job.result_text, job.detected_language = JobStatus.COMPLETED, self._text(), "en"
        await self.worker.update(job)
        self._held = None

    async def break_off(self) -> None:
        job = self._its_job()
        job.status, job.error_code, job.error_message = JobStatus.ERROR, "bad_audio", self._text()
        await self.worker.update(job)
        self._held = None

    async def fail(self) -> None:
        await self.worker.retry_later(self._its_job())
        self._held = None

    async def release(self) -> None:
        await self.worker.release(self._its_job())
        self._held = None

    async def prune(self) -> None:
        await self.submitter.prune(timedelta())

    def _its_job(self) -> Job:
        """A copy: a failing operation must not leave half of its changes in ours."""
        assert self._held is not None
        return self._held.model_copy()

    def _text(self) -> str:
        return self._chance.randbytes(self._chance.randint(1, LONGEST_TEXT // 2)).hex()


async def record(path: Path, verbs: int, chance: random.Random) -> list[Op]:
    """Run the workload, reopened once; return all disk operations and the acknowledgements."""
    history: list[Op] = []

    def note(op: Op) -> int:
        history.append(op)
        return 0

    interpose(note)
    load = Workload(path, chance)
    await load.open()
    for number in range(verbs):
        if number == verbs * 3 // 4:
            await load.reopen()
        await load.do()
        ids = [job.id for job in await load.submitter.list_all()]
        history.append(Op("ack", await digest_of(load.submitter), number, json.dumps(ids).encode()))
    await load.close()
    return history


class BrokenDisk:
    """Refuses SQLite's operations from the nth on until it is repaired."""

    def __init__(self) -> None:
        self.mend()

    def mend(self) -> None:
        self._good, self._error, self.refused = 10**9, 0, 0

    def break_after(self, good: int, error: int) -> None:
        self._good, self._error = good, error

    def before(self, op: Op) -> int:
        self._good -= op.kind != "sync folder"  # that is only told, it can't be refused
        if self._good >= 0 or op.kind == "sync folder":
            return 0
        self.refused += 1
        return self._error


async def withstand(path: Path, verbs: int, chance: random.Random) -> dict[str, Any]:
    """Run the workload on a disk that breaks and is repaired with every operation; return what was wrong."""
    disk = BrokenDisk()
    interpose(disk.before)
    load = Workload(path, chance)
    await load.open()
    refused, wrong = 0, []
    for number in range(verbs):
        before = await digest_of(load.submitter)
        error, kind = chance.choice(REFUSALS)
        disk.break_after(chance.randrange(40), error)
        try:
            await load.do()
        except Exception as raised:  # noqa: BLE001 - any is to be told of
            refused += 1
            if type(raised) is not kind:
                wrong.append(f"verb {number}: error {error} of SQLite became {raised!r}")
            if await digest_of(load.submitter) != before:
                wrong.append(f"verb {number} was refused, and yet something has changed")
        disk.mend()
        await load.do()  # must succeed, on the same connections
    await load.close()
    return {"refused": refused, "wrong": wrong}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("database", type=Path)
    parser.add_argument("history", type=Path)
    parser.add_argument("--verbs", type=int, default=100)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--break", action="store_true", dest="breaks", help="break the disk; HISTORY is what was wrong")
    parser.add_argument("--synchronous", default="", help="overrule what Cesar asks SQLite for")
    parser.add_argument("--on-network", action="store_true", help="have Cesar think that there is no shared memory")
    asked = parser.parse_args()
    if asked.synchronous:
        rules = sqlite_engine._writer_pragmas
        sqlite_engine._writer_pragmas = lambda location, busy_timeout_s: (
            *rules(location, busy_timeout_s),
            f"synchronous={asked.synchronous}",
        )
    if asked.on_network:
        DatabaseLocation.is_on_network = property(lambda location: True)  # type: ignore[method-assign, assignment]
    if asked.breaks:
        asked.history.write_text(
            json.dumps(asyncio.run(withstand(asked.database, asked.verbs, random.Random(asked.seed))))
        )
        return
    history = asyncio.run(record(asked.database, asked.verbs, random.Random(asked.seed)))
    asked.history.write_bytes(pickle.dumps(history))


if __name__ == "__main__":
    main()
