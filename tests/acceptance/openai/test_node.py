"""OpenAI's own npm package against a live Cesar: `client.mjs` asks, and here is what has to come of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Program
from tests.acceptance.openai.support import LINES, SPEECH, TEXT, jobs, write_words
from tests.acceptance.service import PATIENCE_S, Service, serving
from tests.faults.support import wait_until
from tests.support.cutting import Cut, cutting

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
Ask = Callable[..., Any]


@pytest.fixture(scope="session")
def ask(npm_folder: Path) -> Ask:
    """Return a function that runs a scenario of `client.mjs`."""
    shutil.copy(HERE / "client.mjs", npm_folder)

    def run(scenario: str, url: str, *more: str) -> Any:
        command = ["node", "client.mjs", scenario, f"{url}/v1", str(SPEECH), *more]
        done = subprocess.run(
            command, cwd=npm_folder, capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def idle(program: Program) -> Iterator[Service]:
    """Run a service without a worker, whose queue holds one job."""
    narrow = replace(program, environ={**program.environ, "CESAR_MAX_OPEN_JOBS": "1"})
    with serving(narrow, "--no-worker", "--model", write_words(program.folder / "words.json")) as service:
        yield service


def work(service: Service) -> None:
    assert service.program.run("worker", "--until-empty", timeout=PATIENCE_S).returncode == 0


def test_every_format_arrives(ask, service):
    came = ask("formats", service.url)
    assert came["json"]["text"] == TEXT
    assert came["text"] == f"{TEXT}\n"
    assert came["srt"].startswith("1\n00:00:0")
    assert came["vtt"].startswith("WEBVTT\n\n00:00:0")
    assert [segment["text"] for segment in came["verbose"]["segments"]] == [f" {line}" for line in LINES.values()]
    assert [came[name].keys() & {"segments", "words"} for name in ("verbose", "words", "both")] == [
        {"segments"},
        {"words"},
        {"segments", "words"},
    ]


def test_every_field_is_accepted(ask, service):
    came = ask("fields", service.url)
    assert came["language"]["language"] == "english"
    for name in ("languages", "keywords", "strategy", "automatic", "bytes"):
        assert came[name]["text"] == TEXT
    options = service.job(came["prompt"]["job"])["options"]
    assert (options["prompt"], options["hotwords"]) == ("A speech.", "fellow")
    assert came["prompt"]["request"]


def test_translations_arrive_in_every_format(ask, service):
    came = ask("translations", service.url)
    assert came["json"]["text"] == TEXT
    assert came["text"] == f"{TEXT}\n"
    assert came["srt"].startswith("1\n00:00:0")
    assert came["vtt"].startswith("WEBVTT\n\n00:00:0")
    assert came["verbose"]["language"] == "english"


def test_models_are_listed_and_found(ask, service):
    came = ask("models", service.url)
    assert came["one"] in came["list"]
    assert came["one"]["object"] == "model"


def test_a_stream_has_deltas_and_then_the_whole_text(ask, service):
    *deltas, done = ask("stream", service.url)
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert "".join(event["delta"] for event in deltas) == TEXT
    assert (done["type"], done["text"]) == ("transcript.text.done", TEXT)


def test_errors_have_their_classes(ask, service):
    came = ask("errors", service.url)
    assert {name: error.get("class") for name, error in came.items()} == {
        "model": "NotFoundError",
        "retrieve": "NotFoundError",
        "format": "BadRequestError",
        "speakers": "BadRequestError",
        "recording": "BadRequestError",
    }
    assert all(error["requestID"] and error["type"] and error["message"] for error in came.values())
    assert (came["model"]["param"], came["model"]["code"]) == ("model", "model_not_found")


def test_a_wrong_key_is_an_authentication_error(ask, program):
    asking = replace(program, environ={**program.environ, "CESAR_REQUIRE_KEY": "true"})
    with serving(asking) as service:
        assert ask("key", service.url, "sk-wrong")["class"] == "AuthenticationError"


def test_retries_after_a_timeout_join_the_queued_job(ask, idle):
    assert ask("impatient", idle.url)["class"] == "APIConnectionTimeoutError"
    [job] = jobs(idle)
    work(idle)
    came = ask("patient", idle.url)
    assert (came["data"]["text"], came["job"]) == (TEXT, job["id"])
    assert len(jobs(idle)) == 1


def test_one_of_the_clients_own_retries_gets_the_text(ask, idle):
    with cutting(idle.port) as proxy, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, "persistent", proxy.url)
        wait_until(lambda: proxy.connections >= 2, PATIENCE_S)
        work(idle)
        came = asked.result(PATIENCE_S)
    assert came["data"]["text"] == TEXT
    assert [job["id"] for job in jobs(idle)] == [came["job"]]


def test_a_full_queue_is_a_rate_limit_error(ask, idle):
    idle.submit(SPEECH, prompt="The one that is in the queue.")
    assert ask("refused", idle.url)["class"] == "RateLimitError"
    assert len(jobs(idle)) == 1


def test_a_broken_connection_costs_only_time(ask, idle):
    cuts = [Cut(after_sent=1), Cut(after_sent=20_000)]  # at 0, Node 20 may wait for ever: it has sent nothing yet
    with cutting(idle.port, *cuts) as proxy, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, "patient", proxy.url)
        wait_until(lambda: jobs(idle), PATIENCE_S)
        work(idle)
        assert asked.result(PATIENCE_S)["data"]["text"] == TEXT
    assert proxy.connections == len(cuts) + 1
    assert len(jobs(idle)) == 1


def test_a_killed_server_returns_the_text_after_its_restart(ask, program):
    marker = program.folder / "hung"
    model = write_words(program.folder / "words.json", {"at": 5.0, "do": "hang", "unless": str(marker)})
    with serving(program, "--model", model) as service, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, "patient", service.url)
        wait_until(marker.exists, PATIENCE_S)
        service.kill()
        service.start()
        came = asked.result(PATIENCE_S)
        assert came["data"]["text"] == TEXT
        assert [(job["id"], job["attempts"]) for job in jobs(service)] == [(came["job"], 2)]
