"""A job that kills its workers ends; one that makes progress meanwhile, or is only a bystander, does not."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from cesar.api.models import Job
from cesar.api.queue.losses import MIN_LOST
from tests.faults.jobs import (
    SENTENCE,
    ask,
    chunks_of,
    history,
    is_over,
    killed,
    middle,
    model,
    reasons,
    require_sound,
    row_of,
    start,
    submit,
    working,
    write_sentences,
)
from tests.faults.support import all_over, wait_until

pytestmark = pytest.mark.slow

LOST = ["claimed", "worker died"]
RETRY = ("--retry-delay-s", "0.5")
QUICK = ("--retry-delay-s", "0.001")


def poisonous(folder: Path) -> Job:
    """A job whose recording kills the whole service, as by exhausting the memory."""
    name = model(folder, {"at": middle(0), "do": "kill parent"}, word="poison")
    return Job(audio_path=str(SENTENCE), model_size=name)


def deaths_until(database: Path, is_so: Callable[[], bool], at_most: int) -> int:
    """Start one worker after another, like a service manager; return how many were killed."""
    for deaths in range(at_most + 1):
        with start(database, *RETRY) as worker:
            if not killed(worker, is_so):
                worker.send(signal.SIGTERM)
                return deaths + (worker.process.wait(60) != 0)  # the poison's turn may come just now
    raise AssertionError(f"{at_most + 1} workers were killed")


def test_a_job_that_always_kills_its_worker_ends_and_the_others_complete(tmp_path, rounds, note):
    database = tmp_path / "queue.db"
    name = model(tmp_path)
    count = rounds(1, 20)
    bad: list[str] = []
    good: list[str] = []
    deaths = 0
    for _ in range(count):
        bad += submit(database, poisonous(tmp_path))
        for _ in range(MIN_LOST):  # others come in as time goes by; each is done, and shows that the machine is well
            good += submit(database, *(Job(audio_path=str(SENTENCE), model_size=name) for _ in range(2)))
            deaths += deaths_until(database, partial(is_over, database, *good), at_most=2 * MIN_LOST)
    deaths += deaths_until(database, lambda: all_over(database), at_most=2 * MIN_LOST * count)
    require_sound(database, bad + good)
    for job in bad:
        told = row_of(database, job)
        assert (told["status"], told["error_code"], told["failures"]) == ("error", "worker_lost", 0)
        assert MIN_LOST <= told["lost"] <= 2 * MIN_LOST, "the sooner the others are done, the fewer"
        assert "in a row" in told["error_message"]
        assert told["error_hint"]
        assert set(reasons(database, job)) == {"submitted", *LOST, "worker_lost"}
    for job in good:
        assert (row_of(database, job)["status"], row_of(database, job)["attempt"]) == ("completed", 1)
    note("poison jobs", count, worker_deaths=deaths, others_completed=len(good))


def test_a_service_killed_early_in_each_attempt_loses_no_job(tmp_path, rounds, rng, note):
    """Kills not caused by its jobs: an operator, another program that exhausts the memory."""
    database = tmp_path / "queue.db"
    jobs = submit(database, *(Job(audio_path=str(SENTENCE), model_size=model(tmp_path)) for _ in range(3)))
    places = ("claim:committed", "update:committed", "begin:written", "begin:committed")
    kills = rounds(12, 100)
    for _ in range(kills):
        environ = {"CESAR_FAILPOINT": f"{rng.choice(places)}=kill"}
        with start(database, *QUICK, environ=environ) as worker:
            worker.process.wait(60)
    with working(database, *QUICK) as worker:
        wait_until(lambda: all_over(database))
        worker.drain()
    assert {row_of(database, job)["status"] for job in jobs} == {"completed"}
    require_sound(database, jobs)
    note("kills of the service, early in an attempt", kills, jobs=len(jobs), lost=0)


def test_a_poisonous_job_leaves_some_of_several_workers_for_the_others(tmp_path):
    database = tmp_path / "queue.db"
    bad, good = submit(database, poisonous(tmp_path), Job(audio_path=str(SENTENCE), model_size=model(tmp_path)))
    workers = [start(database, "--retry-delay-s", "60") for _ in range(4)]
    try:
        wait_until(lambda: is_over(database, good))
        assert [worker.is_running for worker in workers].count(False) <= 2
    finally:
        for worker in workers:
            worker.kill()
    assert row_of(database, good)["status"] == "completed"
    assert row_of(database, bad)["status"] != "error"
    require_sound(database, [bad, good])


def killed_at(database: Path, failpoint: str, at: int = 1) -> None:
    """Have a worker kill itself at that pass through that failpoint."""
    with start(database, environ={"CESAR_FAILPOINT": f"{failpoint}=kill@{at}"}) as worker:
        wait_until(lambda: not worker.is_running)
        assert worker.process.returncode == -9


def test_a_job_that_makes_progress_between_losses_does_not_end(tmp_path):
    """One death without a chunk, one after a chunk, and so on: seven in all."""
    database = tmp_path / "queue.db"
    recording = write_sentences(tmp_path / "recording.wav", 4)
    [job] = submit(database, Job(audio_path=recording, model_size=model(tmp_path)))
    losses = []
    for failpoint in ["begin:committed", "checkpoint:committed"] * 3 + ["begin:committed"]:
        killed_at(database, failpoint)
        losses.append(row_of(database, job)["lost"])
    assert losses == [0, 0, 1, 0, 1, 0, 1], "those before its latest claim, and none after a chunk"
    with working(database) as worker:
        wait_until(lambda: is_over(database, job))
        worker.drain()
    told = row_of(database, job)
    assert (told["status"], told["attempt"]) == ("completed", 8)
    assert told["result_text"] == "Word 0.\n\nWord 1.\n\nWord 2.\n\nWord 3."
    assert [attempt for _, _, attempt, _ in chunks_of(database, job)] == [2, 4, 6, 8]
    require_sound(database, [job])


def test_an_ended_job_completes_on_a_manual_retry_without_its_poison(tmp_path):
    database = tmp_path / "queue.db"
    name = model(tmp_path)
    [job] = submit(database, Job(audio_path=str(SENTENCE), model_size=name))
    for _ in range(MIN_LOST):
        killed_at(database, "begin:committed")
        submit(database, *(Job(audio_path=str(SENTENCE), model_size=name, priority=1) for _ in range(2)))
        killed_at(database, "update:committed", at=4)  # both others are done
    with working(database) as worker:
        wait_until(lambda: is_over(database, job))
        assert row_of(database, job)["error_code"] == "worker_lost"
        ask(database, lambda repository: repository.retry(job))
        wait_until(lambda: is_over(database, job))
        worker.drain()
    told = row_of(database, job)
    assert (told["status"], told["error_code"], told["lost"]) == ("completed", None, 0)
    assert [reason for reason, _ in history(database, job)][-3:] == ["retried by hand", "claimed", "completed"]
    require_sound(database, [job])
