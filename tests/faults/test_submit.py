"""Clients that submit the same request again and again, as after a broken connection."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cesar.api.models import Job
from cesar.api.repository import JobRepository
from cesar.errors import IdempotencyConflict
from tests.faults.clerk import ClerkProcess
from tests.faults.jobs import submit
from tests.faults.support import faults_found, rows

pytestmark = pytest.mark.slow

CLIENTS = 4
STEPS = ("written", "committed")


class Client:
    """Submits one job for each key; when its process is killed, the next one submits the unanswered key again."""

    def __init__(self, database: Path, keys: list[str], deaths: int, rng: random.Random) -> None:
        self.database = database
        self.keys = keys
        self.deaths = deaths
        self.rng = rng
        self.answers: dict[str, str] = {}
        self.kills = 0

    def run(self) -> None:
        for _ in range(self.deaths):
            last = self.rng.randint(1, len(self.keys) // self.deaths)
            self._live(f"submit:{self.rng.choice(STEPS)}=kill@{last}")
        self._live("")

    def _live(self, failpoint: str) -> None:
        with ClerkProcess(self.database, failpoint=failpoint) as clerk:
            try:
                for key in self.keys:
                    if key not in self.answers:
                        self.answers[key] = clerk.ask("submit", audio_path=f"{key}.wav", idempotency_key=key)
                assert clerk.ask("submit", audio_path="other.wav", idempotency_key=self.keys[0]) == {
                    "error": "idempotency_conflict"
                }
            except EOFError:
                assert clerk.process.wait() == -signal.SIGKILL
                self.kills += 1
            else:
                assert not failpoint


def test_each_key_creates_one_job_however_often_its_submitters_are_killed(
    tmp_path: Path, rng: random.Random, rounds: Callable[[int, int], int], note: Callable[..., None]
) -> None:
    database = tmp_path / "queue.db"
    submit(database)
    keys = [f"key-{number}" for number in range(rounds(12, 500))]
    deaths = rounds(2, 20)
    clients = [
        Client(database, rng.sample(keys, len(keys)), deaths, random.Random(rng.random())) for _ in range(CLIENTS)
    ]
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(Client.run, clients))
    note("submits with keys", CLIENTS * len(keys), keys=len(keys), kills=sum(client.kills for client in clients))
    jobs = {row["idempotency_key"]: row["id"] for row in rows(database, "SELECT idempotency_key, id FROM jobs")}
    assert jobs.keys() == set(keys)
    for client in clients:
        assert client.kills == deaths
        assert client.answers == jobs
    assert len(rows(database, "SELECT id FROM jobs")) == len(keys)
    assert faults_found(database, jobs.values()) == []


def test_a_hundred_concurrent_requests_with_one_key_create_one_job(tmp_path: Path) -> None:
    async def ask() -> Counter[str]:
        repositories = [JobRepository(tmp_path / "queue.db") for _ in range(3)]
        for repository in repositories:
            await repository.connect()
        requests = [
            repositories[number % 3].create(Job(audio_path="a.wav", idempotency_key="one")) for number in range(100)
        ]
        made = Counter(job.id for job in await asyncio.gather(*requests))
        for other in ({"audio_path": "b.wav"}, {"model_size": "tiny"}, {"priority": 1}, {"name": "b"}):
            with pytest.raises(IdempotencyConflict):
                await repositories[0].create(Job(**{"audio_path": "a.wav", "idempotency_key": "one"} | other))
        for repository in repositories:
            await repository.close()
        return made

    [(job, count)] = asyncio.run(ask()).items()
    assert count == 100
    assert [row["id"] for row in rows(tmp_path / "queue.db", "SELECT id FROM jobs")] == [job]
