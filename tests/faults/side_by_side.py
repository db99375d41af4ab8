"""The real queue and its model, side by side: every operation is done in both, and afterwards both must agree.

Three workers are three repositories on one file, with clocks that the test moves.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import sqlalchemy as sa

from cesar.api.models import Job, JobEvent
from cesar.api.repository import JobRepository
from cesar.errors import QueueError
from tests.faults.model import LEASE_S, RETRY_DELAY, Queue
from tests.faults.support import faults_found

T = TypeVar("T")
SHM = Path("/dev/shm")
"""The database's folder, if there is one; `test_power` tests what reaches a disk."""
COMPARED = (
    *(
        "status",
        "owner",
        "attempt",
        "version",
        "failures",
        "lost",
        "begun",
        "losses",
        "priority",
        "position",
        "seq",
        "audio_path",
    ),
    *("run_after", "cancel_requested_at", "completed_at", "result_text", "error_code", "idempotency_key"),
)
HIDDEN = "SELECT id, beat, fingerprint FROM jobs ORDER BY seq"
ORPHANS = "PRAGMA foreign_key_check"
CHUNKS = "SELECT id, start, c.attempt FROM job_chunks c JOIN jobs ON seq = job_seq ORDER BY seq, start"


class SideBySide:
    """A queue of three workers, or one in memory, and its model."""

    in_memory: ClassVar[bool] = False
    happened: ClassVar[Counter[str]] = Counter()
    """The totals of all sequences."""
    reasons: ClassVar[set[str]] = set()
    """Of all possible transitions."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(dir=SHM if SHM.is_dir() else None))
        if not self.in_memory:
            (self.folder / "queue.db").write_bytes(empty_database())
        self.model = Queue()
        self.wall = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
        self.monotonic = 0.0
        self.acknowledged: set[str] = set()
        self.ids: list[str] = []
        self.claimed: list[Job] = []
        """Jobs as they were when they were claimed. Many of the claims are lost by now."""
        self.read_before: list[Job] = []
        self.workers = [self.opened(number) for number in range(1 if self.in_memory else 3)]

    def opened(self, number: int) -> JobRepository:
        repository = JobRepository(
            ":memory:" if self.in_memory else self.folder / "queue.db",
            lease_ttl_s=LEASE_S,
            retry_delay_s=RETRY_DELAY.total_seconds(),
            clock=lambda: self.wall,
            monotonic=lambda: self.steady_of(number),
        )
        self.run(repository.connect())
        return repository

    def steady_of(self, number: int) -> float:
        """Monotonic clocks of different machines start anywhere."""
        return self.monotonic + 1000 * number

    def teardown(self) -> None:
        for worker in self.workers:
            self.run(worker.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.get_loop().run_until_complete(coroutine)

    def at(self, number: int) -> tuple[JobRepository, str, float]:
        """Return a worker, its owner's name, and its monotonic clock."""
        number %= len(self.workers)
        return self.workers[number], self.workers[number]._owner.name, self.steady_of(number)

    def both(self, what: str, predicted: Callable[[], T], call: Coroutine[Any, Any, Any]) -> tuple[T, Any] | None:
        """Do it in the model and in reality: both must refuse in the same way, or both return something."""
        expected: T
        refusal: type[QueueError] | None = None
        try:
            expected = self.model.atomically(predicted)
        except QueueError as error:
            refusal = type(error)
        self.happened[what if refusal is None else f"{what}: {refusal.__name__}"] += 1
        given, refused = None, None
        try:
            given = self.run(call)
        except QueueError as error:
            refused = type(error)
        assert refused is refusal, f"{what} was refused as {refused}, expected was {refusal}"
        return None if refusal else (expected, given)

    def compare(self) -> None:
        """Check the whole database against the model."""
        expected = sorted(self.model.jobs.values(), key=lambda job: job.seq)
        found, events, told = self.run(self.look())
        assert [job.id for job in found] == [job.id for job in expected]
        for job, entry in zip(found, expected, strict=True):
            assert {name: getattr(job, name) for name in COMPARED} == {name: getattr(entry, name) for name in COMPARED}
        history: dict[str, list[Any]] = {job.id: [] for job in expected}
        for event in events:
            history[event.job_id].append((event.before, event.after, event.attempt, event.owner))
        assert history == {job.id: job.events for job in expected}
        self.reasons.update(event.reason for event in events)
        assert told[HIDDEN] == [(job.id, job.beat, job.fingerprint) for job in expected]
        kept = [(job.id, start, job.chunks[start][1]) for job in expected for start in sorted(job.chunks)]
        assert told[CHUNKS] == kept
        assert told[ORPHANS] == []

    def ask_the_oracle(self) -> None:
        database = self.folder / "queue.db"
        if self.in_memory:
            database.write_bytes(self.run(self.workers[0].database.read(_whole)))
        assert faults_found(database, self.acknowledged) == []

    async def look(self) -> tuple[tuple[Job, ...], list[JobEvent], dict[str, list[Any]]]:
        """Read everything: the repository's answers, and its internal columns."""

        def hidden(connection: sa.Connection) -> dict[str, list[Any]]:
            return {sql: [tuple(row) for row in connection.exec_driver_sql(sql)] for sql in (HIDDEN, CHUNKS, ORPHANS)}

        first, last = self.workers[0], self.workers[-1]
        page = await last.list_page(limit=1000, newest_first=False)
        return page.jobs, await first.events(limit=10_000), await first.database.read(hidden)


@cache
def empty_database() -> bytes:
    """Return a new database, copied instead of created for each sequence."""
    with tempfile.TemporaryDirectory() as folder:
        repository = JobRepository(Path(folder, "queue.db"))

        async def make() -> None:
            await repository.connect()
            await repository.close()

        asyncio.run(make())
        return Path(folder, "queue.db").read_bytes()


def _whole(connection: sa.Connection) -> bytes:
    """Return a database in memory as the file that it would be."""
    driver: Any = connection.connection.driver_connection
    return bytes(driver.serialize())
