"""A worker that was considered dead and wakes up again: none of its writes is accepted."""

from __future__ import annotations

import asyncio
import fcntl
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from cesar.api.models import Claim, Job, JobStatus, utc_now
from cesar.api.queue import attempts, claims, transitions
from cesar.api.repository import JobRepository
from cesar.api.storage.database import Database
from cesar.api.storage.location import DatabaseLocation
from cesar.api.worker import BackgroundWorker
from tests.faults.clerk import ClerkProcess
from tests.faults.jobs import middle, model, submit, write_sentences
from tests.faults.support import (
    WorkerProcess,
    all_over,
    committed_chunks,
    faults_found,
    is_alive,
    is_stopped,
    rows,
    taken_back,
    wait_until,
)

pytestmark = pytest.mark.slow

VERBS = ("finish", "fail", "checkpoint", "resume", "heartbeat", "release")
LEASE = ("--lease-ttl-s", "3")
BATCH = 20
SENTENCES = 3
CHILD_GONE_S = 3.0
"""A quarter of a second until the claim is checked, and the delays of a busy machine."""
STOPS = ("update:committed", "checkpoint:committed", "heartbeat:committed", "resume:committed", "claim:committed")


def test_every_write_of_a_zombie_is_refused(
    tmp_path: Path, rng: random.Random, rounds: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    database = tmp_path / "queue.db"
    acknowledged = []
    batches = rounds(1, 21)
    with ClerkProcess(database, *LEASE) as zombie, ClerkProcess(database, "--lease-ttl-s", "1") as healthy:
        for _ in range(batches):
            acknowledged += submit(database, *[Job(audio_path="a.wav") for _ in range(BATCH)])
            refuse_zombie(zombie, healthy, rng)
    texts = {row["result_text"] for row in rows(database, "SELECT result_text FROM jobs")}
    faults = faults_found(database, acknowledged)
    note("zombies of the repository", BATCH * batches, writes_refused=BATCH * batches * len(VERBS), faults=len(faults))
    assert faults == []
    assert texts == {"by attempt 2"}
    assert len(taken_back(database)) == BATCH * batches


def refuse_zombie(zombie: ClerkProcess, healthy: ClerkProcess, rng: random.Random) -> None:
    """Have one worker claim all jobs and sleep, another reclaim and finish half of them, and the first wake up."""
    jobs = [zombie.ask("claim") for _ in range(BATCH)]
    zombie.send(signal.SIGSTOP)
    wait_until(lambda: healthy.ask("claim") == jobs[0])
    assert [healthy.ask("claim") for _ in jobs[1:]] == jobs[1:]
    finished = rng.sample(jobs, BATCH // 2)
    for job in finished:
        assert healthy.ask("write", job=job, verb="finish") is None
    zombie.send(signal.SIGCONT)
    for job in rng.sample(jobs, BATCH):
        for verb in rng.sample(VERBS, len(VERBS)):
            answer = zombie.ask("write", job=job, verb=verb)
            assert answer == {"error": "claim_lost"}, f"a zombie's {verb} was accepted"
    for job in set(jobs) - set(finished):
        assert healthy.ask("write", job=job, verb="finish") is None


def test_a_worker_that_wakes_after_its_lease_discards_its_work_and_continues(
    tmp_path: Path, rounds: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    count = rounds(1, 16)
    places = STOPS[: rounds(2, 5)]
    seconds = []
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        seconds.append(wake_zombies(folder, places))
    note(
        "zombies of the worker", count * (len(places) + 1), accepted=0, longest_life_of_a_child_s=round(max(seconds), 3)
    )
    assert max(seconds) <= CHILD_GONE_S


def wake_zombies(folder: Path, places: Sequence[str]) -> float:
    """Stop workers at several steps of a job each, let another worker finish those jobs, wake them.

    One more is stopped while its child hangs. Gives the seconds until the children of all are gone.
    """
    database = folder / "queue.db"
    recording = write_sentences(folder / "spoken.wav", SENTENCES)
    markers = [folder / f"hung-{n}" for n in range(len(places) + 1)]
    faults = [{"at": middle(1), "do": "hang", "unless": str(marker)} for marker in markers]
    models = [model(folder, fault, word=f"word-{n}") for n, fault in enumerate(faults)]
    jobs = submit(database, *[Job(audio_path=recording, model_size=name) for name in models])
    hung = list(zip(jobs, markers, strict=True))
    with ExitStack() as running:
        environs = [*({"CESAR_FAILPOINT": f"{place}=stop"} for place in places), {}]
        zombies = []
        for environ in environs:
            zombie = running.enter_context(WorkerProcess(database, *LEASE, environ=environ))
            wait_until(partial(is_stopped_or_hung, zombie, hung))
            stop(zombie, database)
            zombies.append(zombie)
        for marker in markers:
            marker.touch()  # so that nobody else hangs
        children = [child for zombie in zombies for child in zombie.children()]
        assert children
        kept = committed_chunks(database)
        lost = rows(database, "SELECT attempt, status FROM jobs")
        assert {row["status"] for row in lost} == {"processing"}

        with WorkerProcess(database, *LEASE) as healthy:
            wait_until(lambda: all_over(database))
            healthy.drain()
        results = [dict(row) for row in rows(database, "SELECT * FROM jobs")]
        woken = time.monotonic()
        for zombie in zombies:
            zombie.send(signal.SIGCONT)
        wait_until(lambda: not any(is_alive(child) for child in children))
        seconds = time.monotonic() - woken
        wait_until(lambda: all(b"was lost; its work is discarded" in zombie.log.read_bytes() for zombie in zombies))
        more = submit(database, *[Job(audio_path=recording, model_size=models[0]) for _ in zombies])
        wait_until(lambda: wake(zombies) and all_over(database))
        for zombie in zombies:
            zombie.drain()
    assert faults_found(database, [*jobs, *more]) == []
    assert [dict(row) for row in rows(database, "SELECT * FROM jobs")][: len(jobs)] == results
    assert committed_chunks(database).items() >= kept.items()
    for n, row in enumerate(results):
        assert (row["status"], row["attempt"]) == ("completed", lost[n]["attempt"] + 1)
        assert row["result_text"] == "\n\n".join(f"Word-{n} {sentence}." for sentence in range(SENTENCES))
    return seconds


def wake(zombies: Sequence[WorkerProcess]) -> bool:
    """Wake workers that stop only now: one stopped just before its failpoint reaches it in its next job."""
    for zombie in zombies:
        zombie.send(signal.SIGCONT)
    return True


def is_stopped_or_hung(worker: WorkerProcess, hung: list[tuple[str, Path]]) -> bool:
    if is_stopped(worker.process.pid):
        return True
    return any(worker.has_begun(job) and marker.exists() for job, marker in hung)


def stop(worker: WorkerProcess, database: Path) -> None:
    """Send SIGSTOP, but not while it holds the write lock: no worker could reclaim its job then."""

    def is_stopped_without_the_turn() -> bool:
        worker.send(signal.SIGSTOP)
        wait_until(lambda: is_stopped(worker.process.pid))
        with Path(f"{database}-lock").open() as turn:
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                worker.send(signal.SIGCONT)
                return False
        return True

    wait_until(is_stopped_without_the_turn)


def test_a_claim_is_reclaimed_once_and_not_by_an_outdated_heartbeat(tmp_path: Path) -> None:
    database = tmp_path / "queue.db"
    submit(database, Job(audio_path="a.wav"))

    async def take_back() -> list[tuple[str, int]]:
        seen = []
        opened = Database(DatabaseLocation.parse(database))
        await opened.connect()

        def in_one_transaction(connection: sa.Connection) -> None:
            row = claims.claim_next(connection, "somebody", utc_now())
            assert row is not None
            [before] = attempts.running_heartbeats(connection)
            attempts.heartbeat(connection, transitions.job_from_row(row, Claim(owner="somebody", attempt=1)), utc_now())
            [after] = attempts.running_heartbeats(connection)
            for beat in (before, after, after):
                attempts.reclaim(connection, beat, "lease expired", utc_now(), timedelta())
                row = transitions.lock(connection, row["id"])
                seen.append((row["status"], row["losses"]))

        await opened.write("take back", in_one_transaction)
        await opened.close()
        return seen

    assert asyncio.run(take_back()) == [("processing", 0), ("queued", 1), ("queued", 1)]
    assert faults_found(database, []) == []


def test_a_renewed_claim_is_not_reclaimed_however_long_the_work_takes(tmp_path: Path) -> None:
    now = 0.0

    async def work() -> None:
        nonlocal now
        holder = JobRepository(tmp_path / "queue.db")
        other = JobRepository(tmp_path / "queue.db", lease_ttl_s=60, monotonic=lambda: now)
        await holder.connect()
        await other.connect()
        await holder.create(Job(audio_path="a.wav"))
        job = await holder.get_next_queued()
        assert job is not None
        for _ in range(10):
            await holder.heartbeat(job)
            assert await other.get_next_queued() is None, "a claim that was kept was taken"
            now += 20
        job.status = JobStatus.COMPLETED
        await holder.update(job)
        await other.close()
        await holder.close()

    asyncio.run(work())
    assert taken_back(tmp_path / "queue.db") == []


def test_a_worker_that_is_never_idle_reclaims_an_expired_claim(tmp_path: Path) -> None:
    now = 0.0

    async def work() -> float:
        nonlocal now
        wedged = JobRepository(tmp_path / "queue.db")
        busy = JobRepository(tmp_path / "queue.db", lease_ttl_s=60, monotonic=lambda: now)
        await wedged.connect()
        await busy.connect()
        for _ in range(10):
            await wedged.create(Job(audio_path="a.wav"))
        lost = await wedged.get_next_queued()
        assert lost is not None
        while (job := await busy.get_next_queued()) is not None and job.id != lost.id:
            for _ in range(4):
                now += 10
                await busy.heartbeat(job)
            job.status = JobStatus.COMPLETED
            await busy.update(job)
        await busy.close()
        await wedged.close()
        assert job is not None, f"not taken back within {now} s"
        return now

    assert asyncio.run(work()) <= 120


def claims_of_a_live_owner_taken_by_another(
    ours: Path, theirs: Path, meanwhile: Callable[[], object] = lambda: None
) -> list[str]:
    """Claim two jobs, one after the other, while another worker asks after each; return what the other one got."""

    async def work() -> list[str]:
        owner, other = JobRepository(ours), JobRepository(theirs)
        await owner.connect()
        await other.connect()
        taken = []
        for name in ("first", "second"):
            await owner.create(Job(audio_path=name))
            assert await owner.get_next_queued() is not None
            if name == "first":
                meanwhile()
                continue
            while (job := await other.get_next_queued()) is not None:
                taken.append(job.location)
        await other.close()
        await owner.close()
        return taken

    return asyncio.run(work())


def test_an_owner_is_seen_alive_through_a_link_to_the_database(tmp_path: Path) -> None:
    database, link = tmp_path / "queue.db", tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(database)
    assert claims_of_a_live_owner_taken_by_another(database, link) == []


def test_an_owner_whose_lock_was_deleted_is_alive_again_from_its_next_claim(tmp_path: Path) -> None:
    database = tmp_path / "queue.db"
    locks = tmp_path / "queue.db-owners"
    assert claims_of_a_live_owner_taken_by_another(database, database, lambda: shutil.rmtree(locks)) == []


def test_a_late_thread_does_not_write_into_the_next_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cesar.api.worker._STOP_TIMEOUT_S", 0.1)
    recording = write_sentences(tmp_path / "spoken.wav", 1)

    async def work() -> str | None:
        gate = threading.Event()
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        others = loop.run_in_executor(None, gate.wait, 60)  # somebody else keeps all threads busy
        repository = JobRepository(tmp_path / "queue.db")
        await repository.connect()
        worker = BackgroundWorker(repository, 0.05)
        running = asyncio.create_task(worker.run())
        first, second = [
            await repository.create(Job(audio_path=recording, model_size=model(tmp_path, word=word)))
            for word in ("first", "second")
        ]
        while worker.current_job_id != first.id:
            await asyncio.sleep(0.01)
        await repository.request_cancel(first.id)
        while worker.current_job_id != second.id:
            await asyncio.sleep(0.01)
        gate.set()
        while (done := await repository.get(second.id)) is None or not done.status.is_final:
            await asyncio.sleep(0.01)
        await asyncio.gather(others, worker.shutdown(), running)
        await repository.close()
        return done.result_text

    assert asyncio.run(work()) == "Second 0."
