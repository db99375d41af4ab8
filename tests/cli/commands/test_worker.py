"""`cesar worker` as a process: real recordings and the real child process, with scripted words."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from cesar.api.models import Job, JobStatus
from cesar.api.repository import JobRepository
from cesar.cli.server.working import _WorkerQueue
from cesar.settings.config import Settings
from cesar.transcriber import AudioTranscriber
from tests.cli.queues import Queue, only_line, run_on_terminal
from tests.runner.support import IN_THE_MIDDLE, JFK, SONNET, is_running, recognisers, wait_until, write_script
from tests.support.media import silence, write_wav

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks for the children in /proc"),
]
TIMEOUT_S = 120.0
LONG = "600"
"""A grace period far longer than any test, in seconds."""
STUCK = """
import sys, threading
from cesar.api.worker import BackgroundWorker
from cesar.cli import main
BackgroundWorker._run_transcription = lambda self, audio_path, model_size: threading.Event().wait()
sys.argv = ["cesar", "worker"]
main()
"""
"""The program, with a transcription that nothing can stop."""


class Worker:
    """A worker process and its output so far."""

    def __init__(self, log: Path, command: list[str]) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    @property
    def lines(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines()

    def has_printed(self, *words: str) -> bool:
        return any(all(word in line for word in words) for line in self.lines)

    def wait_until_printed(self, *words: str) -> None:
        wait_until(lambda: self.has_printed(*words) or self.process.poll() is not None, within_s=TIMEOUT_S)
        assert self.has_printed(*words), self.lines

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)


Start = Callable[..., Worker]


@pytest.fixture
def start(environ: None, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts `cesar worker` or other code; processes still running at the end are killed."""
    workers: list[Worker] = []

    def run(*options: str, code: str | None = None, launcher: tuple[str, ...] = ()) -> Worker:
        arguments = ["-c", code] if code else ["-m", "cesar", "worker", *options]
        log = tmp_path / f"worker-{len(workers)}.log"
        workers.append(Worker(log, [*launcher, sys.executable, *arguments]))
        return workers[-1]

    yield run
    for worker in workers:
        with suppress(ProcessLookupError):
            worker.process.kill()
        worker.process.wait(TIMEOUT_S)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return write_script(tmp_path / "script.json")


@pytest.fixture
def hanging(tmp_path: Path) -> str:
    """A model that hangs in the middle of the sonnet."""
    return write_script(tmp_path / "hanging.json", {"at": IN_THE_MIDDLE, "do": "hang"})


def chunk_count(queue: Queue, job: Job) -> int:
    return len(queue.do(lambda repository: repository.chunks(job.id)))


def words_of(job: Job) -> list[str]:
    return (job.result_text or "").split()


# Running jobs


def test_until_empty_runs_every_job_in_order_and_logs_it(invoke, queue, model, tmp_path):
    (tmp_path / "bad.mp3").write_bytes(b"this is no recording\n" * 100)
    good, bad, last = (queue.add(audio_path=str(path), model_size=model) for path in (JFK, tmp_path / "bad.mp3", JFK))
    code, out, err = invoke("worker", "--until-empty")
    assert (code, out) == (0, "")
    assert [queue.read(job).status.value for job in (good, bad, last)] == ["completed", "error", "completed"]
    assert words_of(queue.read(good)) == AudioTranscriber(model).transcribe(JFK).text.split()
    assert str(queue.file) in err.splitlines()[0]
    told = [line.split(" ", 2)[2] for line in err.splitlines() if f"({bad.id[:8]})" in line]
    assert told[0] == f"bad.mp3 ({bad.id[:8]}) starts (attempt 1)"
    assert told[1].startswith(f"error: bad.mp3 ({bad.id[:8]}) failed: ")
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_on_a_terminal_a_bar_shows_the_jobs_progress(queue, model, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    job = queue.add(audio_path=str(SONNET), name="sonnet", model_size=model)
    code, shown = run_on_terminal("worker", "--until-empty")
    assert code == 0
    assert "━" in shown
    lines = [line for line in shown.splitlines() if f"({job.id[:8]})" in line]
    assert len(lines) == 2, "it starts and it ends, and the bar has written over neither"
    assert queue.read(job).status is JobStatus.COMPLETED


def test_until_empty_exits_at_once_if_nothing_is_waiting(invoke, queue):
    assert invoke("worker", "--until-empty")[0] == 0
    assert queue.jobs() == []


def test_until_empty_waits_for_jobs_that_are_to_be_retried(queue):
    """A job that waits for its next attempt counts as waiting."""

    async def ask() -> list[str]:
        told: list[str] = []
        jobs = _WorkerQueue(Settings(database=str(queue.file)))

        async def note() -> None:
            told.append("empty")

        jobs.when_empty = note
        try:
            await jobs.connect()
            await jobs.create(Job(audio_path="/there/talk.mp3"))
            claimed = await jobs.get_next_queued()
            assert claimed is not None
            jobs._retry_delay = timedelta(seconds=300)
            await jobs.retry_later(claimed)
            assert await jobs.get_next_queued() is None
            assert told == []
            await jobs.request_cancel(claimed.id)
            assert await jobs.get_next_queued() is None
        finally:
            await jobs.close()
        return told

    queue.file.parent.mkdir(parents=True)
    assert asyncio.run(ask()) == ["empty"]


def test_a_job_that_is_queued_later_is_picked_up(start, queue, model):
    worker = start()
    worker.wait_until_printed("0 waiting")
    job = queue.add(audio_path=str(JFK), model_size=model)
    worker.wait_until_printed("jfk.m4a", "is completed")
    assert queue.read(job).status is JobStatus.COMPLETED


def test_an_offline_worker_downloads_no_model(invoke, queue):
    job = queue.add(audio_path=str(JFK), model_size="large-v3")
    invoke("worker", "--until-empty", "--offline")
    assert queue.read(job).error_code == "model_not_installed"


def test_two_workers_share_the_queue(start, queue, model):
    jobs = queue.do(lambda repository: create_all(repository, model, 6))
    workers = [start("--until-empty") for _ in range(2)]
    assert [worker.process.wait(TIMEOUT_S) for worker in workers] == [0, 0]
    assert [(job.status, job.attempt) for job in map(queue.read, jobs)] == [(JobStatus.COMPLETED, 1)] * 6


async def create_all(repository: JobRepository, model: str, count: int) -> list[Job]:
    return [await repository.create(Job(audio_path=str(JFK), model_size=model)) for _ in range(count)]


@pytest.mark.parametrize("content", [b"garbage " * 1000, None], ids=["a damaged file", "a folder"])
def test_an_unusable_database_is_a_one_line_error(content, invoke, tmp_path):
    if content is None:
        (tmp_path / "bad.db").mkdir()
    else:
        (tmp_path / "bad.db").write_bytes(content)
    code, out, err = invoke("worker", "--database", "bad.db")
    assert (code, out) == (6, "")
    assert "bad.db" in only_line(err)


def test_an_internal_error_logs_its_traceback(start, queue, monkeypatch):
    broken = STUCK.replace("threading.Event().wait()", "[][1]")
    job = queue.add()
    worker = start(code=broken)
    worker.wait_until_printed("failed: list index out of range")
    worker.wait_until_printed("IndexError")
    assert worker.end() == 0
    assert queue.read(job).error_code == "internal"


# Stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_idle_worker_stops_at_once(number, start, monkeypatch):
    monkeypatch.setenv("CESAR_SHUTDOWN_GRACE_S", LONG)
    worker = start()
    worker.wait_until_printed("the worker starts")
    assert worker.end(number) == 0
    assert not worker.has_printed("finishing")


def test_a_job_that_can_finish_in_the_grace_period_does(start, queue, model, tmp_path, monkeypatch):
    monkeypatch.setenv("CESAR_SHUTDOWN_GRACE_S", LONG)
    recording = write_wav(tmp_path / "long.wav", silence(900))
    job, waiting = (queue.add(audio_path=str(recording), model_size=model) for _ in range(2))
    worker = start()
    worker.wait_until_printed("starts (attempt 1)")
    assert worker.end() == 0
    assert worker.has_printed(f"finishing long.wav, for up to {LONG} s; interrupt again to stop now")
    assert [queue.read(each).status.value for each in (job, waiting)] == ["completed", "queued"]


def test_a_job_that_exceeds_the_grace_period_is_released_with_its_progress(start, queue, hanging, monkeypatch):
    monkeypatch.setenv("CESAR_SHUTDOWN_GRACE_S", "0.5")
    job = queue.add(audio_path=str(SONNET), model_size=hanging)
    worker = start()
    wait_until(lambda: chunk_count(queue, job), within_s=TIMEOUT_S)
    children = recognisers(worker.process.pid)
    assert worker.end() == 0
    assert worker.has_printed("finishing sonnet-1.mp3, for up to 0.5 s")
    assert worker.has_printed("sonnet-1.mp3", "is released")
    after = queue.read(job)
    assert (after.status, after.failures, after.lost) == (JobStatus.QUEUED, 0, 0)
    assert chunk_count(queue, job) > 0
    assert children
    wait_until(lambda: not any(map(is_running, children)))


def test_a_second_signal_stops_the_worker_at_once(start, queue, hanging, monkeypatch):
    monkeypatch.setenv("CESAR_SHUTDOWN_GRACE_S", LONG)
    job = queue.add(audio_path=str(SONNET), model_size=hanging)
    worker = start()
    worker.wait_until_printed("starts (attempt 1)")
    worker.process.send_signal(signal.SIGINT)
    worker.wait_until_printed(f"up to {LONG} s; interrupt again to stop now")
    assert worker.end(signal.SIGINT) == 0
    assert worker.has_printed("stopping now")
    assert queue.read(job).status is JobStatus.QUEUED


def test_an_ignored_signal_stays_ignored(start):
    """As under `nohup`."""
    worker = start(launcher=("sh", "-c", "trap '' HUP; exec \"$@\"", "sh"))
    worker.wait_until_printed("the worker starts")
    worker.process.send_signal(signal.SIGHUP)
    assert worker.end(signal.SIGTERM) == 0
    assert len([line for line in worker.lines if "is asked to stop" in line]) == 1


def test_a_stuck_worker_releases_its_job_and_is_killed(start, queue, monkeypatch):
    monkeypatch.setenv("CESAR_SHUTDOWN_GRACE_S", "0.2")
    job = queue.add()
    worker = start(code=STUCK)
    worker.wait_until_printed("starts (attempt 1)")
    assert worker.end() == 70
    assert worker.has_printed("no job is lost")
    assert queue.read(job).status is JobStatus.QUEUED


def test_the_next_worker_resumes_the_job_of_a_killed_one(start, queue, tmp_path):
    script = write_script(tmp_path / "once.json", {"at": IN_THE_MIDDLE, "do": "hang", "unless": str(tmp_path / "hung")})
    job = queue.add(audio_path=str(SONNET), model_size=script)
    first = start()
    wait_until(lambda: (tmp_path / "hung").exists() and chunk_count(queue, job), within_s=TIMEOUT_S)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = start("--until-empty")
    assert second.process.wait(TIMEOUT_S) == 0
    assert second.has_printed("sonnet-1.mp3", "resumes at")
    done = queue.read(job)
    assert (done.status, done.attempt) == (JobStatus.COMPLETED, 2)
    assert words_of(done) == AudioTranscriber(script).transcribe(SONNET).text.split()
