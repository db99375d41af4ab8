"""A failure of the recogniser's process ends only that process: the worker survives and reports it."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from cesar.api.models import Job
from cesar.api.queue.losses import MIN_LOST
from tests.faults.conftest import IS_LONG
from tests.faults.jobs import (
    SENTENCE,
    child_of,
    is_over,
    middle,
    model,
    reasons,
    require_sound,
    row_of,
    submit,
    working,
)
from tests.faults.support import all_over, is_alive, wait_until

pytestmark = pytest.mark.slow

CODES = {
    "crash": "native_crash",
    "abort": "native_crash",
    "exit": "native_crash",
    "kill": "out_of_memory",
    "hang": "stalled",
}
STALL_S = 4
"""Longer than an interpreter takes to start on a busy machine."""
RETRY_S = 0.1
OPTIONS = ("--retry-delay-s", str(RETRY_S))
ENVIRON = {"CESAR_STALL_TIMEOUT_S": str(STALL_S)}


def job(name: str) -> Job:
    return Job(audio_path=str(SENTENCE), model_size=name)


def faulty(folder: Path, how: str, **more: str) -> Job:
    return job(model(folder, {"at": middle(0), "do": how, **more}, word=how))


@pytest.mark.parametrize("how", ["crash", "abort", "exit", "hang"] if IS_LONG else ["crash"])
def test_a_recording_that_crashes_every_child_is_tried_twice_and_delays_no_other(tmp_path, how, rounds, note):
    database = tmp_path / "queue.db"
    count = rounds(1, 7)
    bad = submit(database, *(faulty(tmp_path, how) for _ in range(count)))
    good = submit(database, *(job(model(tmp_path)) for _ in range(3)))
    with working(database, *OPTIONS, environ=ENVIRON) as worker:
        wait_until(lambda: all_over(database), timeout_s=60 + count * 2 * (STALL_S + 5))
        worker.drain()
    require_sound(database, bad + good)
    for one in bad:
        told = row_of(database, one)
        assert (told["status"], told["error_code"], told["failures"], told["lost"]) == ("error", CODES[how], 0, 0)
        assert "twice" in told["error_message"]
        assert told["error_hint"]
        assert reasons(database, one) == ["submitted", "claimed", CODES[how]]
    for one in good:
        assert row_of(database, one)["result_text"] == "Word 0."
    note(f"child: {how}", count * 2, worker_deaths=0, right_class=count)


def has_lost(database: Path, job: str, count: int) -> bool:
    return bool(row_of(database, job)["lost"] >= count)


def test_a_job_whose_child_is_always_killed_waits_ever_longer_while_others_run(tmp_path):
    """The machine may be short of memory. While it completes other jobs, this one is to blame."""
    database = tmp_path / "queue.db"
    [bad] = submit(database, faulty(tmp_path, "kill"))
    with working(database, *OPTIONS) as worker:
        for lost in range(1, MIN_LOST + 1):
            wait_until(partial(has_lost, database, bad, lost))
            told = row_of(database, bad)
            assert (told["error_code"], told["failures"]) == ("out_of_memory", 0)
            assert "twice" in told["error_message"]
            good = submit(database, job(model(tmp_path)), job(model(tmp_path)))
            wait_until(partial(is_over, database, *good))
        wait_until(lambda: all_over(database))
        worker.drain()
    assert row_of(database, bad)["status"] == "error"
    assert set(reasons(database, bad)) == {"submitted", "claimed", "recogniser killed", "out_of_memory"}
    require_sound(database, [bad])


@pytest.mark.parametrize("how", CODES)
def test_one_crash_of_a_child_costs_a_job_nothing(tmp_path, how):
    database = tmp_path / "queue.db"
    marker = tmp_path / "happened"
    [one] = submit(database, faulty(tmp_path, how, unless=str(marker)))
    with working(database, *OPTIONS, environ=ENVIRON) as worker:
        wait_until(lambda: all_over(database))
        worker.drain()
    told = row_of(database, one)
    assert marker.exists()
    assert (told["status"], told["result_text"]) == ("completed", f"{how.title()} 0.")
    assert (told["attempt"], told["failures"], told["error_code"]) == (1, 0, None)
    require_sound(database, [one])


def test_a_hanging_job_ends_as_stalled_and_the_next_one_runs(tmp_path):
    database = tmp_path / "queue.db"
    bad, good = submit(database, faulty(tmp_path, "hang"), job(model(tmp_path)))
    with working(database, "--retry-delay-s", "60", environ=ENVIRON) as worker:
        wait_until(lambda: is_over(database, good))
        told = row_of(database, bad)
        assert (told["status"], told["error_code"], told["failures"]) == ("error", "stalled", 0)
        worker.drain()
    require_sound(database, [bad, good])


def test_a_child_that_dies_while_idle_is_replaced(tmp_path):
    """After a job's last message, completed work stays completed."""
    database = tmp_path / "queue.db"
    name = model(tmp_path)
    with working(database, *OPTIONS) as worker:
        [one] = submit(database, job(name))
        wait_until(lambda: is_over(database, one))
        child = child_of(worker)
        os.kill(child, signal.SIGSEGV)
        wait_until(lambda: not is_alive(child))
        [two] = submit(database, job(name))
        wait_until(lambda: is_over(database, two))
        worker.drain()
    assert [row_of(database, each)["status"] for each in (one, two)] == ["completed", "completed"]
    assert row_of(database, two)["failures"] == 0
    require_sound(database, [one, two])
