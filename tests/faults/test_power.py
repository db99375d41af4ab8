"""Power loss: everything acknowledged is there when the power returns, and the database is undamaged.

This is a simulation. A real repository on a real SQLite file does all its verbs while every write, truncation, sync,
creation and deletion is recorded as SQLite asks for it (`power.interpose`). From that record the disk is rebuilt as a
cut at some point could leave it, by the assumptions that `disk.Disk` states, and opened by a new repository. So it
shows that Cesar and SQLite ask for what it takes, in the right order. It can't show that an operating system, a
controller or a disk does what it is asked for: one that says "synced" too early loses jobs whatever we do. The files
that Cesar itself makes beside the database (locks, copies before a migration) are not part of it.

The control runs the same with `synchronous=NORMAL`: it must lose jobs, else the simulation sees nothing.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import random
import shutil
import sqlite3
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from cesar.api.repository import JobRepository
from cesar.errors import DatabaseError
from tests.faults import power
from tests.faults.conftest import SEED
from tests.faults.disk import Disk
from tests.faults.power import Op
from tests.faults.support import ROOT, faults_found
from tests.faults.workload import digest, digest_of

pytestmark = pytest.mark.slow

EMPTY = digest(lambda _sql: [])
"""The digests of a database without jobs, and of one not created yet."""


@pytest.fixture(autouse=True)
def _watched() -> None:
    power.require()


@dataclass
class History:
    """The file operations, and the database's digest after each acknowledged operation."""

    ops: list[Op]

    def __post_init__(self) -> None:
        self.acks = [at for at, op in enumerate(self.ops) if op.kind == "ack"]
        main = next(op.path for op in self.ops if op.kind == "create")
        into_main = [at for at, op in enumerate(self.ops) if op.kind == "write" and op.path == main]
        self.checkpoints = [at for at in into_main if at > self.acks[0]]
        """Where pages were moved from the log into the database."""
        log = [
            op.kind
            for op in self.ops
            if op.path == f"{main}-wal" and (op.kind == "delete" or (op.kind, op.at) == ("write", 0))
        ]
        self.log_restarts = list(pairwise(log)).count(("write", "write"))
        """Return how often the log was restarted after all of it was in the database."""

    def cuts(self, count: int, chance: random.Random) -> list[int]:
        """Choose after how many operations the power goes: a third right after an acknowledgement, a third while the
        log is moved into the database, the rest anywhere.
        """
        weak = [at for first in self.checkpoints for at in range(first - 2, first + 3)] or self.acks
        anywhere = range(1, len(self.ops))
        return sorted(1 + chance.choice(chance.choice((self.acks, weak, anywhere))) for _ in range(count))

    def states_at(self, cut: int) -> tuple[set[str], list[str]]:
        """Give the digests that the database may have then, and the jobs that must be there.

        The state that was acknowledged last, or the one after it: that verb may have been done but for its answer.
        """
        done = bisect_right(self.acks, cut - 1)
        before = self.ops[self.acks[done - 1]] if done else None
        after = self.ops[self.acks[done]] if done < len(self.acks) else None
        allowed = {EMPTY if before is None else before.path, EMPTY if after is None else after.path}
        gone = set() if after is None else {*ids_of(before)} - {*ids_of(after)}
        return allowed, [job for job in ids_of(before) if job not in gone]


def ids_of(ack: Op | None) -> list[str]:
    return [] if ack is None else list(json.loads(ack.data))


def record(folder: Path, verbs: int, seed: str, *options: str) -> History:
    folder.mkdir()
    command = [sys.executable, "-m", "tests.faults.workload", str(folder / "queue.db"), str(folder / "history")]
    subprocess.run([*command, "--verbs", str(verbs), "--seed", seed, *options], cwd=ROOT, check=True)
    made = Op("create", str(folder / "queue.db"))  # by Cesar itself, for its owner alone, before SQLite opens it
    return History([made, *pickle.loads((folder / "history").read_bytes())])


def disks(history: History, cuts: list[int]) -> Iterator[tuple[int, Disk]]:
    """Replay the history; return the disk as it is at each cut."""
    disk = Disk()
    for begin, end in pairwise([0, *cuts]):
        for op in history.ops[begin:end]:
            disk.do(op)
        yield end, disk


def what_is_wrong(folder: Path, files: dict[str, bytes], history: History, cut: int) -> list[str]:
    """Put the surviving files into a new folder, open them with a new repository, and look for what is missing."""
    folder.mkdir()
    for path, content in files.items():
        (folder / Path(path).name).write_bytes(content)
    allowed, acknowledged = history.states_at(cut)
    try:
        found = asyncio.run(state_of(folder / "queue.db"))
        wrong = faults_found(folder / "queue.db", acknowledged)
    except (DatabaseError, sqlite3.DatabaseError) as error:
        return [f"cut {cut} of {len(history.ops)}: {error}"]
    if found not in allowed:
        wrong.append("the jobs are not as they were acknowledged")
    return [f"cut {cut} of {len(history.ops)}: {fault}" for fault in wrong]


async def state_of(database: Path) -> str:
    """Open a database as Cesar does; return its digest."""
    repository = JobRepository(database)
    await repository.connect()
    try:
        return await digest_of(repository)
    finally:
        await repository.close()


Cut = Callable[[History, int], tuple[list[str], int]]


@pytest.fixture
def cut_power(tmp_path: Path, rng: random.Random) -> Cut:
    """Cut the power at this many points, twice each; return what was wrong and at how many cuts."""

    def cut_power(history: History, count: int) -> tuple[list[str], int]:
        wrong, harmed = [], 0
        for number, (cut, disk) in enumerate(disks(history, history.cuts(count, rng))):
            for name, chance in (("dropped", None), ("torn", rng)):
                survivors = disk.after_power_cut(chance)
                found = what_is_wrong(tmp_path / f"{name}-{number}", survivors, history, cut)
                wrong += found
                harmed += bool(found)
                shutil.rmtree(tmp_path / f"{name}-{number}")
        return wrong, harmed

    return cut_power


@pytest.mark.parametrize("options", [(), ("--on-network",)], ids=["write-ahead log", "rollback journal"])
def test_acknowledged_writes_survive_a_power_cut(options, tmp_path, rounds, note, cut_power):
    history = record(tmp_path / "run", rounds(150, 600), f"{SEED}", *options)
    assert options or history.log_restarts > 0, "the log never filled: the workload is too small to tell"
    count = rounds(20, 500)
    wrong, harmed = cut_power(history, count)
    note(f"power cuts, {options}", 2 * count, harmed=harmed, log_restarts=history.log_restarts)
    assert wrong == []


def test_the_simulation_detects_jobs_lost_by_unflushed_commits(tmp_path, rounds, note, cut_power):
    history = record(tmp_path / "run", rounds(60, 300), f"{SEED}", "--synchronous", "NORMAL")
    count = rounds(8, 100)
    wrong, harmed = cut_power(history, count)
    note("power cuts, control with synchronous=NORMAL", 2 * count, harmed=harmed)
    assert harmed >= count / 2
    assert any("is lost" in fault for fault in wrong)
    assert not any("integrity" in fault for fault in wrong)
