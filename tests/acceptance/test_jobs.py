"""`cesar jobs` and `cesar worker` as their users meet them: several programs on one queue, one of them killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.acceptance.conftest import Program
from tests.runner.support import IN_THE_MIDDLE, wait_until, write_script
from tests.support import media

pytestmark = pytest.mark.slow

PATIENCE_S = 120.0
SPEECH = media.AUDIO / "jfk.m4a"
SONNET = media.AUDIO / "sonnet-1.mp3"
FORMATS = ("txt", "srt", "vtt", "tsv", "md")


@pytest.fixture
def queued(program: Program) -> Program:
    """Return the program with the test's own queue."""
    return replace(program, environ={**program.environ, "CESAR_DATABASE": str(program.folder / "queue.db")})


@pytest.fixture
def started(queued: Program) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the program beside others; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        running.append(queued.start(*arguments))
        return running[-1]

    yield start
    for process in running:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate(timeout=PATIENCE_S)


def submit(program: Program, *arguments: object) -> str:
    done = program.run("jobs", "submit", *arguments)
    assert (done.returncode, "no worker is running" in done.stderr) == (0, True)
    return done.stdout.strip()


def show_job(program: Program, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(program.run("jobs", "show", job, "--json").stdout)
    return found


def test_a_recording_becomes_a_transcript(queued):
    job = submit(queued, SPEECH)
    done = queued.run("worker", "--until-empty")
    assert (done.returncode, done.stdout) == (0, "")
    assert queued.run("jobs", "watch", job[:8]).returncode == 0
    assert queued.run("jobs", "show", job[:8], "--transcript").stdout == "Ask not.\n"
    assert queued.run("jobs", "delete", job[:8]).returncode == 0
    assert json.loads(queued.run("jobs", "list", "--json").stdout)["jobs"] == []


def test_a_running_job_that_is_cancelled_ends_for_worker_and_watcher(queued, started, tmp_path):
    hanging = write_script(tmp_path / "script.json", {"at": IN_THE_MIDDLE, "do": "hang"})
    job = submit(queued, SONNET, "-m", hanging)
    worker, watcher = started("worker", "--until-empty"), started("jobs", "watch", job)
    wait_until(lambda: show_job(queued, job)["position"] > 0, within_s=PATIENCE_S)
    assert queued.run("jobs", "cancel", job).returncode == 0
    assert watcher.wait(PATIENCE_S) == 130
    assert worker.wait(PATIENCE_S) == 0
    assert show_job(queued, job)["status"] == "cancelled"
    assert watcher.stderr.read().splitlines()[-2:] == [
        "sonnet-1.mp3: cancelled",
        f"cesar: sonnet-1.mp3 was cancelled. `cesar jobs retry {job[:8]}` resumes it.",
    ]


def test_a_watcher_may_leave_and_the_job_continues(queued, started, tmp_path):
    job = submit(queued, SPEECH)
    watcher = started("jobs", "watch", job)
    assert watcher.stderr.readline() == "jfk.m4a: queued\n"
    os.killpg(watcher.pid, signal.SIGINT)
    assert watcher.wait(PATIENCE_S) == 130
    assert "the job goes on" in watcher.stderr.read()
    assert show_job(queued, job)["status"] == "queued"


def without_timings(transcript: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads(transcript).items() if key not in ("timings", "origin")}
