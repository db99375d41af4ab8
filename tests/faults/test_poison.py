"""A job that kills its workers is put aside; one that gets on between its workers' deaths never is."""

from __future__ import annotations

import shutil
from pathlib import Path

from cesar.api.models import Job
from tests.faults.jobs import (
    SENTENCE,
    ask,
    chunks_of,
    history,
    is_over,
    killed,
    model,
    reasons,
    require_sound,
    row_of,
    start,
    submit,
    working,
    write_sentences,
)
from tests.faults.poisoned import POISON, PoisonedProcess
from tests.faults.support import all_over, wait_until

LOST = ["claimed", "worker died"]


def deaths_until_all_is_over(database: Path, at_most: int) -> int:
    """Start a worker after the other, as a service manager does; give how many were killed."""
    for deaths in range(at_most + 1):
        with PoisonedProcess(database) as worker:
            if not killed(worker, lambda: all_over(database)):
                worker.drain()
                return deaths
    raise AssertionError(f"{at_most + 1} workers were killed")


def test_a_job_that_always_kills_its_worker_is_parked_after_three_and_the_others_are_done(tmp_path, rounds, note):
    database = tmp_path / "queue.db"
    name = model(tmp_path)
    poison = Path(shutil.copy(SENTENCE, tmp_path / f"{POISON}.mp4"))
    count = rounds(1, 20)
    jobs = []
    for _ in range(count):
        jobs += submit(database, *(Job(audio_path=str(path), model_size=name) for path in (SENTENCE, poison, SENTENCE)))
    bad, good = jobs[1::3], [job for number, job in enumerate(jobs) if number % 3 != 1]
    assert deaths_until_all_is_over(database, 3 * count) == 3 * count
    require_sound(database, jobs)
    for job in bad:
        told = row_of(database, job)
        assert (told["status"], told["error_code"], told["lost"], told["failures"]) == ("error", "worker_lost", 3, 0)
        assert "3 times" in told["error_message"]
        assert told["error_hint"]
        assert reasons(database, job) == ["submitted", *LOST * 2, "claimed", "worker_lost"]
    for job in good:
        assert (row_of(database, job)["status"], row_of(database, job)["attempt"]) == ("completed", 1)
    note("poison jobs", count, worker_deaths=3 * count, others_completed=len(good))


def test_two_workers_at_once_lose_no_more_than_three_lives_to_a_poison_job(tmp_path):
    database = tmp_path / "queue.db"
    poison = shutil.copy(SENTENCE, tmp_path / f"{POISON}.mp4")
    name = model(tmp_path)
    bad, good = submit(database, *(Job(audio_path=str(path), model_size=name) for path in (poison, SENTENCE)))
    workers = [PoisonedProcess(database) for _ in range(4)]
    try:
        wait_until(lambda: all_over(database))
        assert [worker.is_running for worker in workers].count(False) <= 3
        for worker in workers:
            if worker.is_running:
                worker.drain()
    finally:
        for worker in workers:
            worker.kill()
    assert row_of(database, bad)["error_code"] == "worker_lost"
    assert row_of(database, good)["status"] == "completed"
    require_sound(database, [bad, good])


def killed_at(database: Path, failpoint: str) -> None:
    """Have a worker kill itself at that place."""
    with start(database, environ={"CESAR_FAILPOINT": f"{failpoint}=kill"}) as worker:
        wait_until(lambda: not worker.is_running)
        assert worker.process.returncode == -9


def test_a_job_that_gets_on_between_its_workers_deaths_is_not_parked(tmp_path):
    """One death without a chunk, one after a chunk, and so on: seven in all."""
    database = tmp_path / "queue.db"
    recording = write_sentences(tmp_path / "recording.wav", 4)
    [job] = submit(database, Job(audio_path=recording, model_size=model(tmp_path)))
    losses = []
    for failpoint in ["claim:committed", "checkpoint:committed"] * 3 + ["claim:committed"]:
        killed_at(database, failpoint)
        losses.append(row_of(database, job)["lost"])
    assert losses == [0, 0, 1, 0, 1, 0, 1], "those before its latest claim, and none after a chunk"
    with working(database) as worker:
        wait_until(lambda: is_over(database, job))
        worker.drain()
    told = row_of(database, job)
    assert (told["status"], told["attempt"]) == ("completed", 8)
    assert told["result_text"] == "Word 0.\nWord 1.\nWord 2.\nWord 3."
    assert [attempt for _, _, attempt, _ in chunks_of(database, job)] == [2, 4, 6, 8]
    require_sound(database, [job])


def test_a_parked_job_is_done_when_it_is_retried_by_hand_and_its_poison_is_gone(tmp_path):
    database = tmp_path / "queue.db"
    [job] = submit(database, Job(audio_path=str(SENTENCE), model_size=model(tmp_path)))
    for _ in range(3):
        killed_at(database, "claim:committed")
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
