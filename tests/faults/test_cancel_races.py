"""Cancelling at the very moment at which a job is claimed, written or finished: the first commit wins."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from cesar.api.models import Job, JobStatus
from cesar.api.repository import JobRepository
from cesar.errors import ClaimLost
from tests.faults.clerk import ClerkProcess
from tests.faults.jobs import SENTENCE, history, is_over, model, require_sound, row_of, submit, working
from tests.faults.support import statuses, wait_until

pytestmark = pytest.mark.slow


def test_the_first_commit_wins_between_a_cancel_and_a_worker(tmp_path, rounds, rng, note):
    database = tmp_path / "queue.db"
    name = model(tmp_path)
    count = rounds(10, 200)
    outcomes: list[tuple[str, str]] = []
    jobs: list[str] = []
    usual_s = 0.05
    with ClerkProcess(database) as clerk, working(database) as worker:
        clerk.wait_until_ready()
        for number in range(count):
            [one] = submit(database, Job(audio_path=str(SENTENCE), model_size=name))
            if number:
                usual_s *= 1.3 if outcomes[-1][1] == "cancelled" else 1 / 1.3  # so that it is always close
                wait_for_chance(database, one, usual_s * rng.uniform(0.5, 1.5))
            told = clerk.ask("cancel", job=one)
            wait_until(partial(is_over, database, one))
            outcomes.append((told, row_of(database, one)["status"]))
            jobs.append(one)
        worker.drain()
    impossible = set(outcomes) - {
        ("cancelled", "cancelled"),
        ("processing", "cancelled"),
        ("processing", "completed"),
        ("completed", "completed"),
    }
    assert not impossible
    assert [row_of(database, each)["status"] for each in jobs] == [final for _, final in outcomes], "and it stays so"
    require_sound(database, jobs)
    figures = {f"{told}_then_{final}": outcomes.count((told, final)) for told, final in sorted(set(outcomes))}
    note("cancels that race with a worker", count, wrong=0, **figures)


def wait_for_chance(database: Path, one: str, seconds: float) -> None:
    """Wait this long after a job has started, or until it is finished."""
    wait_until(lambda: len(history(database, one)) > 1)
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > seconds or is_over(database, one))


T = TypeVar("T")
Act = Callable[[JobRepository, Job], Awaitable[object]]


def written(status: JobStatus) -> Act:
    async def write(repository: JobRepository, claimed: Job) -> None:
        claimed.status, claimed.result_text = status, "Done."
        await repository.update(claimed)

    return write


RACES: dict[str, tuple[Act, set[tuple[str, str]]]] = {
    "complete": (written(JobStatus.COMPLETED), {("processing", "completed"), ("completed", "completed")}),
    "fail": (written(JobStatus.ERROR), {("processing", "error"), ("error", "error")}),
    "cancel": (written(JobStatus.CANCELLED), {("processing", "cancelled"), ("cancelled", "cancelled")}),
    "release": (JobRepository.release, {("processing", "cancelled"), ("cancelled", "cancelled")}),
    "retry later": (JobRepository.retry_later, {("processing", "cancelled"), ("cancelled", "cancelled")}),
}
"""What a worker writes while the other process cancels, with the possible results and final states."""


async def at_the_same_time(tell: Callable[[], None], write: Awaitable[T], lead_s: float) -> T:
    """Signal the other process, and write this many seconds later, or earlier if negative."""
    if lead_s >= 0:
        tell()
        await asyncio.sleep(lead_s)
        return await write
    writing = asyncio.ensure_future(write)
    await asyncio.sleep(-lead_s)
    tell()
    return await writing


async def race_with_claim(repository: JobRepository, clerk: ClerkProcess, one: Job, lead_s: float) -> tuple[str, str]:
    """Cancel a waiting job in the other process while it is claimed here."""
    tell = partial(clerk.tell, "cancel", job=one.id)
    claimed = await at_the_same_time(tell, repository.get_next_queued(), lead_s)
    told = clerk.answer()
    assert (claimed is None) == (told == "cancelled")
    if claimed is not None:
        assert await repository.is_cancel_requested(claimed)
        await repository.release(claimed)
    return told, await final(repository, one)


async def race_with(
    act: Act, repository: JobRepository, clerk: ClerkProcess, one: Job, lead_s: float
) -> tuple[str, str]:
    """Cancel a running job in the other process while its worker writes here."""
    claimed = await repository.get_next_queued()
    assert claimed is not None
    assert claimed.id == one.id
    late = claimed.model_copy()
    await at_the_same_time(partial(clerk.tell, "cancel", job=one.id), act(repository, claimed), lead_s)
    told = clerk.answer()
    status = await final(repository, one)
    if status != "completed":
        late.status = JobStatus.COMPLETED
        with pytest.raises(ClaimLost):
            await repository.update(late)
    return told, status


async def final(repository: JobRepository, one: Job) -> str:
    read = await repository.get(one.id)
    assert read is not None
    return read.status.value


async def race(database: Path, clerk: ClerkProcess, count: int, rng: random.Random) -> list[tuple[str, str, str]]:
    repository = JobRepository(database)
    await repository.connect()
    outcomes: list[tuple[str, str, str]] = []
    usual_lead_s = 0.0
    for number in range(count):
        what = [*RACES, "claim"][number % (len(RACES) + 1)]
        one = await repository.create(Job(audio_path=f"/{number}.wav"))
        if outcomes:
            usual_lead_s += 0.001 if is_write_first(outcomes[-1]) else -0.001  # so that it is always close
        lead_s = usual_lead_s + rng.uniform(-0.001, 0.001)
        if what == "claim":
            told, status = await race_with_claim(repository, clerk, one, lead_s)
            allowed = {("processing", "cancelled"), ("cancelled", "cancelled")}
        else:
            act, allowed = RACES[what]
            told, status = await race_with(act, repository, clerk, one, lead_s)
        assert (told, status) in allowed, what
        outcomes.append((what, told, status))
    await repository.close()
    return outcomes


def test_the_first_commit_wins_between_a_cancel_and_any_write_of_a_worker(tmp_path, rounds, rng, note):
    database = tmp_path / "queue.db"
    count = rounds(60, 1000)
    with ClerkProcess(database) as clerk:
        clerk.wait_until_ready()
        outcomes = asyncio.run(race(database, clerk, count, rng))
    jobs = list(statuses(database))
    assert len(jobs) == count
    require_sound(database, jobs)
    first = sum(map(is_write_first, outcomes))
    assert 0 < first < count, "now the one came first, now the other"
    note("cancels that race with a write", count, wrong=0, writes_before_it=first)


def is_write_first(outcome: tuple[str, str, str]) -> bool:
    """Whether the cancel came after the worker's write."""
    what, told, _ = outcome
    return (told == "processing") == (what == "claim")
