"""Shared by the fault tests: worker processes to kill, scripted recordings, and an oracle that finds what broke.

The oracle reads the database itself, not through Cesar.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from cesar.api.models import TRANSITIONS, JobStatus

ROOT = Path(__file__).parents[2]
_BLOCKS = """
SELECT priority, block, model_size, sum(count), sum(blocks) FROM
  (SELECT priority, seq / 256 AS block, model_size, count(*) AS count, -1 AS blocks FROM jobs WHERE status = 'queued'
   GROUP BY 1, 2, 3 UNION ALL SELECT priority, block, model_size, -jobs, 1 FROM queue_blocks)
GROUP BY 1, 2, 3 HAVING sum(count) <> 0 OR sum(blocks) <> 0
"""


class WorkerProcess:
    """A real worker in its own process group. Its log goes to a file beside the database."""

    def __init__(self, database: Path, *options: str, environ: dict[str, str] | None = None) -> None:
        self.log = database.with_name(f"worker-{time.monotonic_ns()}.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.worker", str(database), *options],
                cwd=ROOT,
                env=os.environ | (environ or {}),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def wait_until_ready(self, timeout_s: float = 60) -> None:
        wait_until(lambda: b"ready" in self.log.read_bytes() or not self.is_running, timeout_s)

    @property
    def ready_at(self) -> float:
        """When it was up, in seconds since 1970."""
        line = next(line for line in self.log.read_text().splitlines() if line.startswith("ready "))
        return float(line.split()[1])

    def has_begun(self, job: str) -> bool:
        return f"job {job} starts" in self.log.read_text()

    def drain(self, timeout_s: float = 60) -> None:
        """Send SIGTERM, and wait until it has stopped properly."""
        self.wait_until_ready()
        self.send(signal.SIGTERM)
        assert self.process.wait(timeout_s) == 0, self.log.read_text()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL, like the kernel's OOM killer or `kill -9`."""
        if self.is_running:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def children(self) -> list[int]:
        """Return the process ids of the recogniser children (Linux)."""
        found = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*"):
            found += [int(pid) for pid in (task / "children").read_text().split()]
        return found


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    return _state(pid) not in ("", "Z")


def is_stopped(pid: int) -> bool:
    """Whether SIGSTOP has taken effect."""
    return _state(pid) == "T"


def _state(pid: int) -> str:
    """Return the state letter of proc_pid_stat(5); empty if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def wait_until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain"
        time.sleep(0.01)


def write_script(path: Path, texts: dict[float, str], faults: Iterable[dict[str, Any]] = ()) -> str:
    """Write a script of the scripted engine, with a text at each second. Return its model name."""
    segments = [{"start": at, "end": at + 0.5, "text": text} for at, text in texts.items()]
    path.write_text(json.dumps({"language": "en", "segments": segments, "faults": list(faults)}))
    return f"scripted:{path}"


def write_silence(path: Path, seconds: float = 0.2) -> Path:
    """Write a silent recording: the shortest job there is."""
    with closing(wave.open(str(path), "wb")) as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(2 * round(16000 * seconds)))
    return path


def rows(database: Path, sql: str, *values: Any) -> list[sqlite3.Row]:
    """Query the database directly."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(sql, values).fetchall()


def statuses(database: Path) -> dict[str, str]:
    """Return the status of every job by its id."""
    return {row["id"]: row["status"] for row in rows(database, "SELECT id, status FROM jobs")}


def all_over(database: Path) -> bool:
    return all(JobStatus(status).is_final for status in statuses(database).values())


def moment(text: str) -> float:
    """Return a stored time in seconds since 1970."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def taken_back(database: Path) -> list[sqlite3.Row]:
    """Return the events of claims that were reclaimed from their owners."""
    reasons = "('worker died', 'lease expired', 'worker_lost')"
    return rows(database, f"SELECT * FROM job_events WHERE before = 'processing' AND reason IN {reasons}")


def committed_chunks(database: Path) -> dict[tuple[int, float], int]:
    """Return the attempt that finished each chunk, by job and start."""
    found = rows(database, "SELECT job_seq, start, attempt FROM job_chunks")
    return {(row["job_seq"], row["start"]): row["attempt"] for row in found}


def faults_found(database: Path, acknowledged: Iterable[str]) -> list[str]:
    """The oracle: return every violation in the history of a database, one line each.

    I1 each acknowledged job is there. I2 one final event at most for each attempt, and a completed job has exactly
    one completion, by the attempt that it shows. I3 owned if and only if processing. I4 attempts grow by one at each
    claim. I5 legal moves only, each following from the one before. I6 the sums over blocks are those of the waiting
    jobs.
    """
    found = []
    jobs = {row["seq"]: row for row in rows(database, "SELECT * FROM jobs")}
    present = {row["id"] for row in jobs.values()}
    found += [f"I1 {job} was acknowledged and is lost" for job in acknowledged if job not in present]
    history = rows(database, "SELECT * FROM job_events ORDER BY job_seq, id")
    events = {seq: list(its) for seq, its in groupby(history, key=lambda event: event["job_seq"])}
    for seq, job in jobs.items():
        found += [f"{fault} ({job['id']}, seq {seq})" for fault in _faults_of_job(job, events.get(seq, []))]
    found += [f"I6 {tuple(row)} differs between the blocks and the waiting jobs" for row in rows(database, _BLOCKS)]
    integrity = rows(database, "PRAGMA integrity_check")[0][0]
    return found if integrity == "ok" else [*found, f"integrity_check: {integrity}"]


def _faults_of_job(job: sqlite3.Row, events: list[sqlite3.Row]) -> list[str]:
    if not events or events[-1]["after"] != job["status"]:
        return ["I5 the last event is not the job's status"]
    found = ["I3 owner and status disagree"] if (job["owner"] is None) != (job["status"] != "processing") else []
    found += _broken_steps(events)
    completions = [event["attempt"] for event in events if event["after"] == "completed"]
    if len(completions) > 1:
        found.append(f"I2 completed {len(completions)} times")
    if job["status"] == "completed" and completions != [job["attempt"]]:
        found.append(f"I2 completed by attempt {completions}, yet the job shows {job['attempt']}")
    return found


def _broken_steps(events: list[sqlite3.Row]) -> list[str]:
    found = []
    before, attempt = None, 0
    for event in events:
        after = event["after"]
        legal = {"queued"} if before is None else TRANSITIONS[JobStatus(before)]
        if event["before"] != before:
            found.append(f"I5 an event from {event['before']} follows one to {before}")
        if after not in legal:
            found.append(f"I5 {before} to {after}")
        attempt += after == "processing"
        if event["attempt"] != attempt:
            found.append(f"I4 attempt {event['attempt']} where {attempt} was expected")
        before = after
    return found
