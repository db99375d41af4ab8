"""`kill -9` at each step of each operation, before and after its commit: no job is lost, none is done twice.

A lane is one database and a row of processes, each killed at another place. Each begins with what the one before it
left behind; the last one is not killed and finishes everything.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import TimeoutExpired

import pytest

from cesar.api.models import Job
from tests.faults.clerk import ClerkProcess
from tests.faults.jobs import SENTENCE, middle, model, submit, write_sentences
from tests.faults.support import (
    WorkerProcess,
    all_over,
    committed_chunks,
    faults_found,
    is_alive,
    moment,
    rows,
    statuses,
    wait_until,
    write_silence,
)

pytestmark = pytest.mark.slow

TAKEOVER_S = 2.0
SENTENCES = 4
OPTIONS = ("--lease-ttl-s", "1.8", "--grace-s", "0")  # a beat every 0.3 s


@dataclass(frozen=True)
class Kill:
    """Where to be killed: an operation of the repository, and at which pass through it."""

    verb: str
    kind: str
    """What the jobs must be like for a worker to get there."""
    passes: tuple[int, int]
    """The first and last pass to choose from. With two or more, leftovers of earlier kills come first."""


KILLS = (
    Kill("submit", "clerk", (1, 6)),
    Kill("cancel", "clerk", (1, 6)),
    Kill("claim", "quiet", (2, 3)),
    Kill("update", "quiet", (3, 3)),  # odd: the start of a job
    Kill("update", "quiet", (4, 4)),  # even: its end
    Kill("resume", "quiet", (2, 3)),
    Kill("begin", "quiet", (2, 3)),
    Kill("checkpoint", "spoken", (2, SENTENCES + 2)),
    Kill("heartbeat", "hanging", (1, 3)),
    Kill("release", "hanging", (1, 1)),
    Kill("requeue killed", "failing", (1, 1)),
)
PLACES = [(kill, step) for kill in KILLS for step in ("written", "committed")]


@dataclass
class Lane:
    folder: Path
    rng: random.Random
    acknowledged: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    asked_to_cancel: set[str] = field(default_factory=set)
    spoken: list[str] = field(default_factory=list)
    chunks: dict[tuple[int, float], int] = field(default_factory=dict)
    takeovers_s: list[float] = field(default_factory=list)
    children: list[int] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.database = self.folder / "queue.db"
        self.quiet = str(write_silence(self.folder / "quiet.wav"))
        self.recording = write_sentences(self.folder / "spoken.wav", SENTENCES)
        self.model = model(self.folder)
        submit(self.database)

    def run(self, places: list[tuple[Kill, str]]) -> None:
        for kill, step in places:
            place = f"{kill.verb}:{step}=kill@{self.rng.randint(*kill.passes)}"
            if kill.kind == "clerk":
                self._kill_clerk(kill.verb, place)
            else:
                self._spare_who_was_lost_twice()
                self._kill_worker(kill.kind, place)
            self.kills[f"{kill.verb}:{step}"] += 1
        self._finish()

    def _kill_clerk(self, verb: str, place: str) -> None:
        job = {"audio_path": self.quiet, "model_size": self.model}
        with ClerkProcess(self.database, failpoint=place) as clerk, suppress(EOFError):
            while True:
                self.acknowledged.append(clerk.ask("submit", **job))
                if verb == "cancel":
                    self.asked_to_cancel.add(self.acknowledged[-1])
                    assert clerk.ask("cancel", job=self.acknowledged[-1]) == "cancelled"
                    self.cancelled.append(self.acknowledged[-1])
        assert clerk.process.returncode == -signal.SIGKILL, place

    def _kill_worker(self, kind: str, place: str) -> None:
        self.acknowledged += submit(self.database, *self._jobs(kind))
        left = self._left_behind()
        with WorkerProcess(self.database, *OPTIONS, environ={"CESAR_FAILPOINT": place}) as worker:
            marker = self.folder / f"hung-{len(self.acknowledged)}"
            if place.startswith("release"):
                wait_until(marker.exists)
                self.children += worker.children()
                worker.send(signal.SIGTERM)
            with suppress(TimeoutExpired):
                worker.process.wait(60)
            if kind == "hanging":
                marker.touch()  # it may have been killed sooner
        assert worker.process.returncode == -signal.SIGKILL, f"not killed at {place}: {worker.log.read_text()}"
        self.chunks = committed_chunks(self.database) | self.chunks
        self._measure_takeover(left, worker)

    def _finish(self) -> None:
        left = self._left_behind()
        with WorkerProcess(self.database) as worker:
            wait_until(lambda: all_over(self.database), timeout_s=300)
            worker.drain()
        self._measure_takeover(left, worker)

    def _spare_who_was_lost_twice(self) -> None:
        """Enough losses in a row would rightly end the job as an error."""
        if rows(self.database, "SELECT 1 FROM jobs WHERE status = 'processing' AND lost > 0"):
            self._finish()

    def _jobs(self, kind: str) -> list[Job]:
        number = len(self.acknowledged)
        match kind:
            case "quiet":
                return [Job(audio_path=self.quiet, model_size=self.model) for _ in range(3)]
            case "spoken":
                jobs = [Job(audio_path=self.recording, model_size=self.model) for _ in range(2)]
                self.spoken += [job.id for job in jobs]
                return jobs
            case "hanging":
                marker = self.folder / f"hung-{number + 1}"
                faults = [{"at": middle(0), "do": "hang", "unless": str(marker)}]
            case _:  # the pool starts a second child, so it takes two kills
                markers = [self.folder / f"crashed-{number + 1}-{n}" for n in range(2)]
                faults = [{"at": middle(0), "do": "kill", "unless": str(marker)} for marker in markers]
        return [Job(audio_path=str(SENTENCE), model_size=model(self.folder, *faults, word=f"{kind}-{number + 1}"))]

    def _left_behind(self) -> dict[int, int]:
        """The jobs whose worker was killed, with the attempt that was lost."""
        found = rows(self.database, "SELECT seq, attempt FROM jobs WHERE status = 'processing'")
        return {row["seq"]: row["attempt"] for row in found}

    def _measure_takeover(self, left: Mapping[int, int], worker: WorkerProcess) -> None:
        for seq, attempt in left.items():
            sql = "SELECT at FROM job_events WHERE job_seq = ? AND attempt = ? AND after = 'processing'"
            for event in rows(self.database, sql, seq, attempt + 1):
                self.takeovers_s.append(moment(event["at"]) - worker.ready_at)

    def faults(self) -> list[str]:
        """Return every violation, now that everything is finished."""
        found = faults_found(self.database, self.acknowledged)
        now = statuses(self.database)
        found += [f"{job} is {now[job]}, though cancelled" for job in self.cancelled if now[job] != "cancelled"]
        over = {job for job, status in now.items() if status == "completed"}
        found += [f"{job} was not completed but {now[job]}" for job in now.keys() - over - self.asked_to_cancel]
        texts = {row["id"]: row["result_text"] for row in rows(self.database, "SELECT id, result_text FROM jobs")}
        whole = "\n\n".join(f"Word {number}." for number in range(SENTENCES))
        found += [f"{job} has the text {texts[job]!r}" for job in self.spoken if texts[job] != whole]
        kept = committed_chunks(self.database)
        found += [f"I7 chunk {chunk} was done again" for chunk, by in self.chunks.items() if kept.get(chunk) != by]
        return found


def test_no_job_is_lost_or_done_twice_wherever_its_process_is_killed(
    tmp_path: Path, rng: random.Random, rounds: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    places = PLACES * rounds(1, 40)
    rng.shuffle(places)
    lanes = [Lane(tmp_path / name, random.Random(rng.random())) for name in ("one", "two")]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Lane.run, lanes, (places[::2], places[1::2])))
    faults = [fault for lane in lanes for fault in lane.faults()]
    takeovers_s = [delay for lane in lanes for delay in lane.takeovers_s]
    kills = lanes[0].kills + lanes[1].kills
    note(
        "kills at failpoints",
        kills.total(),
        lost=sum(not fault.startswith("I2") for fault in faults),
        doubled=sum(fault.startswith("I2") for fault in faults),
        jobs=sum(len(statuses(lane.database)) for lane in lanes),
        takeovers=len(takeovers_s),
        slowest_takeover_s=round(max(takeovers_s, default=0), 3),
        places=dict(sorted(kills.items())),
    )
    assert faults == []
    assert 0 < max(takeovers_s) <= TAKEOVER_S
    wait_until(lambda: not any(is_alive(child) for lane in lanes for child in lane.children))
