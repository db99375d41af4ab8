"""Processes that claim and finish jobs of one database concurrently, as fast as they can."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cesar.api.models import Job
from tests.faults.clerk import ClerkProcess
from tests.faults.jobs import submit
from tests.faults.support import all_over, faults_found, rows

pytestmark = pytest.mark.slow


def test_racing_processes_claim_each_job_once_and_in_order(
    tmp_path: Path, rng: random.Random, rounds: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    for claimers, jobs in ((2, rounds(40, 1500)), (8, rounds(80, 2000)), (32, rounds(0, 1500))):
        if jobs:
            note(f"jobs raced for by {claimers}", jobs, **race(tmp_path / f"{claimers}.db", claimers, jobs, rng))


def race(database: Path, claimers: int, jobs: int, rng: random.Random) -> dict[str, Any]:
    acknowledged = submit(database, *[Job(audio_path="a.wav", priority=rng.randint(-1, 1)) for _ in range(jobs)])
    with ExitStack() as stack:
        clerks = [stack.enter_context(ClerkProcess(database)) for _ in range(claimers)]
        for clerk in clerks:
            clerk.wait_until_ready()
        begun = time.monotonic()
        for clerk in clerks:
            clerk.tell("race")
        told = [clerk.answer() for clerk in clerks]
        seconds = time.monotonic() - begun
    assert [error for answer in told for error in answer["errors"]] == []
    claims = [claim for answer in told for claim in answer["claims"]]
    assert sorted(seq for seq, _ in claims) == list(range(1, jobs + 1))
    for answer in told:
        assert answer["claims"] == sorted(answer["claims"], key=place_in_queue)
    in_order = rows(database, "SELECT seq, priority FROM job_events e JOIN jobs ON seq = job_seq "
                              "WHERE after = 'processing' ORDER BY e.id")  # fmt: skip
    assert [list(row) for row in in_order] == sorted(claims, key=place_in_queue)
    assert faults_found(database, acknowledged) == []
    assert all_over(database)
    shares = [len(answer["claims"]) for answer in told]
    return {"smallest_share": min(shares), "largest_share": max(shares), "per_second": round(jobs / seconds)}


def place_in_queue(claim: list[int]) -> tuple[int, int]:
    seq, priority = claim
    return -priority, seq


def test_a_late_claimer_is_not_starved_by_busy_ones(tmp_path: Path) -> None:
    """The write lock is polled; no process may wait for it as long as its timeout."""
    database = tmp_path / "queue.db"
    submit(database, *[Job(audio_path="a.wav") for _ in range(150)])
    with ExitStack() as stack:
        clerks = [stack.enter_context(ClerkProcess(database)) for _ in range(3)]
        for clerk in clerks:
            clerk.wait_until_ready()
        for clerk in clerks[:2]:
            clerk.tell("race")
        waits = []
        while not all_over(database):
            begun = time.monotonic()
            job = clerks[2].ask("claim")
            waits.append(time.monotonic() - begun)
            if job is not None:
                assert clerks[2].ask("write", job=job, verb="finish") is None
    assert max(waits) < 5, f"{os.cpu_count()} cores"
    assert faults_found(database, []) == []
