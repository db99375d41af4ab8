"""`cesar jobs watch`: its reports and how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

import pytest

from cesar.api.models import Job, JobEvent, JobStatus
from cesar.api.repository import JobRepository
from cesar.cli.queue.local import LocalQueue
from cesar.cli.queue.watch import follow, raise_unless_completed, update_printer
from cesar.errors import BY_CODE, JobNotFound
from cesar.options import TranscribeOptions
from cesar.settings.config import Settings
from tests.api.support import chunk, eventually
from tests.cli.queues import Queue, read_until_closed

LONG_AGO = datetime(2020, 5, 17, tzinfo=UTC)
Repository = TypeVar("Repository", bound=JobRepository)


def test_watching_a_completed_job_ends_at_once_with_its_summary(invoke, queue):
    outcome = {"duration": 61.25, "timings": {"total": 7.5}}
    part = TranscribeOptions(start=10.0, end=60.0)
    job = queue.add(JobStatus.COMPLETED, name="talk", result_text="", outcome=outcome, options=part)
    code, out, err = invoke("jobs", "watch", job.id)
    assert (code, out) == (0, "")
    assert err.splitlines() == [
        "talk: queued",
        "talk: processing (attempt 1)",
        "talk: completed, 50.0 s in 7.5 s, no speech",
    ]


def test_watching_reports_dropped_speech(invoke, queue):
    outcome = {"duration": 60.0, "timings": {"total": 7.5}, "warnings": ["2 stretches gave no text"], "dropped_s": 3.5}
    job = queue.add(JobStatus.COMPLETED, name="talk", result_text="", outcome=outcome)
    _, _, err = invoke("jobs", "watch", job.id)
    assert err.splitlines()[-2:] == [
        "talk: completed, 60.0 s in 7.5 s, no text",
        "cesar: talk: warning: 2 stretches gave no text",
    ]


@pytest.mark.parametrize(
    ("error_code", "expected"),
    [("native_crash", 5), ("worker_lost", 5), ("not_media", 3), ("unknown_model", 4), ("internal", 1), ("of_later", 5)],
)
def test_watching_a_failed_job_ends_with_its_error(error_code, expected, invoke, queue):
    job = queue.add(JobStatus.ERROR, error_message="it failed", error_code=error_code, error_hint="Do this.")
    code, out, err = invoke("jobs", "watch", job.id)
    assert (code, out) == (expected, "")
    assert err.splitlines()[-1] == "cesar: it failed. Do this."


@pytest.mark.parametrize("error_code", BY_CODE)
def test_every_error_can_be_raised_again(error_code):
    job = Job(audio_path="/talk.wav", status=JobStatus.ERROR, error_message="it failed", error_code=error_code)
    with pytest.raises(BY_CODE[error_code], match="it failed"):
        raise_unless_completed(job)


def test_watching_a_cancelled_job_ends_as_interrupted(invoke, queue):
    job = queue.add(JobStatus.CANCELLED, id="eeee-1")
    code, _, err = invoke("jobs", "watch", job.id)
    assert code == 130
    assert "cesar jobs retry eeee-1" in err.splitlines()[-1]


def test_watch_json_prints_the_job_on_one_line_at_each_change(invoke, queue):
    job = queue.add(JobStatus.COMPLETED, result_text="So.")
    _, out, err = invoke("jobs", "watch", job.id, "--json")
    [line] = out.splitlines()
    assert json.loads(line)["result_text"] == "So."
    assert err == ""


def test_an_unchanged_job_is_not_printed_again(capfd):
    with update_printer(as_json=True) as tell:
        for position in (1.0, 1.0, 2.0):
            tell(Job(id="a", audio_path="/talk.wav", created_at=LONG_AGO, position=position), ())
    assert [json.loads(line)["position"] for line in capfd.readouterr().out.splitlines()] == [1.0, 2.0]


def test_without_a_terminal_watch_prints_every_tenth(capfd):
    """Tenths passed in one step share a line."""
    with update_printer(as_json=False) as tell:
        for position in (0.0, 5.0, 12.0, 14.0, 55.0):
            at_work = Job(audio_path="/talk.wav", status=JobStatus.PROCESSING, position=position, duration=100.0)
            tell(at_work, ())
        tell(Job(audio_path="/talk.wav", status=JobStatus.COMPLETED), ())
    assert capfd.readouterr().err.splitlines() == ["talk.wav: 10 %", "talk.wav: 50 %"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_shows_a_bar_while_the_job_runs_and_is_restored(queue):
    primary, terminal = os.openpty()
    with queue.running_job(name="talk") as job, io.FileIO(primary) as screen:
        program = subprocess.Popen([sys.executable, "-m", "cesar", "jobs", "watch", job.id], stderr=terminal)
        os.close(terminal)
        shown = b""
        while b" 50%" not in shown:
            shown += screen.read(65536)
        queue.do(lambda repository: repository.update(ended(job)))
        shown += b"".join(read_until_closed(screen))
        assert program.wait(60) == 130
    text = shown.decode()
    assert "━" in text
    assert "talk: cancelled" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h")  # the cursor is hidden, and shown again


def ended(job: Job) -> Job:
    job.status = JobStatus.CANCELLED
    return job


def test_every_change_of_a_watched_job_is_reported_until_it_is_finished(queue):
    """The observer and the worker, otherwise two processes, each have a repository."""
    told: list[tuple[str, list[str]]] = []

    async def watch() -> Job:
        async with opened(JobRepository(queue.file)) as worker, opened(observer_of(queue)) as observer:
            job = await worker.create(Job(audio_path="/there/talk.mp3"))
            watching = asyncio.create_task(follow(observer, Settings(), job.id[:6], tell))
            await eventually(lambda: len(told) == 1)
            claimed = await worker.get_next_queued()
            assert claimed is not None
            await eventually(lambda: len(told) == 2)
            claimed.position, claimed.duration = 9.0, 12.0
            await worker.checkpoint(claimed, chunk(0.0, 9.0))
            await eventually(lambda: "75%" in told[-1][0])
            claimed.status = JobStatus.COMPLETED
            await worker.update(claimed)
            return await asyncio.wait_for(watching, 60)

    def tell(job: Job, events: Sequence[JobEvent]) -> None:
        now = f"{job.status.value} {job.progress:.0%}"
        if events or now != told[-1][0]:
            told.append((now, [event.after.value for event in events]))

    queue.file.parent.mkdir(parents=True)
    assert asyncio.run(watch()).status is JobStatus.COMPLETED
    assert told == [
        ("queued 0%", ["queued"]),
        ("processing 0%", ["processing"]),
        ("processing 75%", []),
        ("completed 100%", ["completed"]),
    ]


@pytest.mark.parametrize(("fetching", "expected"), [(1, "1 other fetch"), (2, "2 other fetches")])
def test_watching_says_that_a_recording_waits_for_other_fetches(queue, capfd, fetching, expected):
    """Another process is fetching; its claims outlast the test."""
    address = "https://example.org/talk.mp3"

    async def watch() -> None:
        seen = asyncio.Event()
        async with opened(JobRepository(queue.file)) as worker, opened(observer_of(queue)) as observer:
            for _ in range(fetching):
                await worker.create(Job(source_url=address))
                assert await worker.get_next_queued() is not None
            waiting = await worker.create(Job(source_url=address))
            watching = asyncio.create_task(follow(observer, Settings(), waiting.id, lambda _job, _events: seen.set()))
            await asyncio.wait_for(seen.wait(), 60)
            await eventually(is_told)
            await worker.request_cancel(waiting.id)
            await asyncio.wait_for(watching, 60)

    told: list[str] = []

    def is_told() -> bool:
        told.extend(capfd.readouterr().err.splitlines())
        return bool(told)

    queue.file.parent.mkdir(parents=True)
    asyncio.run(watch())
    assert told == [f"talk.mp3: waiting to be fetched ({expected} in progress)"]


def test_watching_ends_when_the_job_is_deleted(queue):
    async def watch() -> None:
        seen = asyncio.Event()
        async with opened(observer_of(queue)) as observer:
            job = await observer.create(Job(audio_path="/there/talk.mp3"))
            watching = asyncio.create_task(follow(observer, Settings(), job.id, lambda _job, _events: seen.set()))
            await asyncio.wait_for(seen.wait(), 60)
            await observer.delete(job.id)
            await asyncio.wait_for(watching, 60)

    queue.file.parent.mkdir(parents=True)
    with pytest.raises(JobNotFound, match="deleted"):
        asyncio.run(watch())


def observer_of(queue: Queue) -> LocalQueue:
    return LocalQueue(Settings(database=str(queue.file)))


@asynccontextmanager
async def opened(repository: Repository) -> AsyncIterator[Repository]:
    try:
        await repository.connect()
        yield repository
    finally:
        await repository.close()
