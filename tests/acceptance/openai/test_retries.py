"""Time-outs, cut connections and crashes: whatever the client tries again, it is one job, and its text arrives."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.acceptance.conftest import Program
from tests.acceptance.openai.support import SPEECH, TEXT, create_client, jobs, write_words
from tests.acceptance.service import PATIENCE_S, Service, serving
from tests.faults.support import wait_until
from tests.support.cutting import Cut, cutting

pytestmark = pytest.mark.slow


@pytest.fixture
def idle(program: Program) -> Iterator[Service]:
    """Run a service without a worker: a request waits until the test calls one."""
    with serving(program, "--no-worker", "--model", write_words(program.folder / "words.json")) as service:
        yield service


def work(service: Service) -> None:
    done = service.program.run("worker", "--until-empty", timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr


def test_retries_after_a_timeout_join_the_queued_job(idle):
    for timeout_s in (0.5, 2.0, 8.0, 32.0):  # a busy machine may need more than the shortest to queue a job
        with create_client(idle, timeout=timeout_s) as client, pytest.raises(openai.APITimeoutError):
            client.audio.transcriptions.create(file=SPEECH, model="whisper-1")
        if jobs(idle):
            break
    [job] = jobs(idle)
    assert job["status"] == "queued"
    work(idle)
    with create_client(idle) as client:
        answer = client.audio.transcriptions.with_raw_response.create(file=SPEECH, model="whisper-1")
    assert (answer.parse().text, answer.headers["X-Cesar-Job"]) == (TEXT, job["id"])
    assert len(jobs(idle)) == 1


def test_one_of_the_clients_own_retries_gets_the_text(idle):
    """The first request has timed out before the work even began."""
    with (
        cutting(idle.port) as proxy,
        create_client(idle, base_url=f"{proxy.url}/v1", timeout=2.0, max_retries=30) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(client.audio.transcriptions.with_raw_response.create, file=SPEECH, model="whisper-1")
        wait_until(lambda: proxy.connections >= 2, PATIENCE_S)
        work(idle)
        answer = asked.result(PATIENCE_S)
    assert answer.parse().text == TEXT
    assert answer.retries_taken >= 1
    assert [job["id"] for job in jobs(idle)] == [answer.headers["X-Cesar-Job"]]


@pytest.mark.parametrize(
    "cuts",
    [
        [Cut(after_sent=0)],
        [Cut(after_sent=20_000), Cut(after_sent=60_000)],
        [Cut(after_received=1), Cut(after_received=120)],
        [Cut(after_sent=1000), Cut(after_received=40)],
    ],
    ids=["at once", "while it is sent", "while it is answered", "both"],
)
def test_broken_connections_cost_only_time(cuts, service):
    before = {job["id"] for job in jobs(service)}
    with cutting(service.port, *cuts) as proxy, create_client(service, base_url=f"{proxy.url}/v1") as client:
        answer = client.audio.transcriptions.with_raw_response.create(
            file=SPEECH, model="whisper-1", prompt=f"Only in this test: {cuts}"
        )
        client.close()
    assert answer.parse().text == TEXT
    assert proxy.connections == len(cuts) + 1
    assert {job["id"] for job in jobs(service)} - before == {answer.headers["X-Cesar-Job"]}


def test_a_killed_server_returns_the_text_after_its_restart(program):
    marker = program.folder / "hung"
    model = write_words(program.folder / "words.json", {"at": 5.0, "do": "hang", "unless": str(marker)})
    with (
        serving(program, "--model", model) as service,
        ThreadPoolExecutor(1) as pool,
        create_client(service, max_retries=30) as client,
    ):
        asked = pool.submit(client.audio.transcriptions.with_raw_response.create, file=SPEECH, model="whisper-1")
        wait_until(marker.exists, PATIENCE_S)
        service.kill()
        service.start()
        answer = asked.result(PATIENCE_S)
        assert answer.parse().text == TEXT
        assert answer.retries_taken >= 1
        [job] = jobs(service)
        assert (job["id"], job["attempts"]) == (answer.headers["X-Cesar-Job"], 2)


def test_no_caller_gets_anothers_response(service):
    """Many clients at once, each with its own words, through a proxy that cuts every other connection."""
    wishes = [f"Caller {number}." for number in range(16)]
    cuts = [Cut(after_sent=30_000 * (number % 4)) if number % 2 else Cut(after_received=60) for number in range(16)]
    before = {job["id"] for job in jobs(service)}
    with (
        cutting(service.port, *cuts) as proxy,
        create_client(service, base_url=f"{proxy.url}/v1", max_retries=20) as client,
        ThreadPoolExecutor(len(wishes)) as pool,
    ):
        asked = {
            wish: pool.submit(
                client.audio.transcriptions.with_raw_response.create, file=SPEECH, model="whisper-1", prompt=wish
            )
            for wish in wishes
        }
        answers = {wish: task.result(PATIENCE_S).headers["X-Cesar-Job"] for wish, task in asked.items()}
        client.close()
    assert {service.job(job)["options"]["prompt"]: job for job in answers.values()} == {
        wish: answers[wish] for wish in wishes
    }
    assert {job["id"] for job in jobs(service)} - before == set(answers.values())
