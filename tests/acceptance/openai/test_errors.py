"""Errors as the official Python package raises them: the right class, and the content of OpenAI's envelope."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest

from tests.acceptance.conftest import Program
from tests.acceptance.openai.support import SPEECH, TEXT, create_client, jobs, write_words
from tests.acceptance.service import PATIENCE_S, Service, serving
from tests.faults.support import wait_until

pytestmark = pytest.mark.slow

ENVELOPE = {"message", "type", "param", "code"}


def require_error(error: openai.APIStatusError) -> None:
    """See that an error has what OpenAI's have."""
    assert error.response.headers["content-type"].startswith("application/json")
    told = error.response.json()
    assert told.keys() == {"error"}
    assert told["error"].keys() == ENVELOPE
    assert told["error"]["message"]
    assert told["error"]["type"]
    assert error.request_id


BAD: list[dict[str, Any]] = [
    {"response_format": "docx"},
    {"response_format": "diarized_json", "model": "gpt-4o-transcribe-diarize"},
    {"temperature": 1.5},
    {"temperature": "warm"},
    {"language": "klingon"},
    {"known_speaker_names": ["agent"], "known_speaker_references": ["data:audio/wav;base64,AAAA"]},
    {"timestamp_granularities": ["letter"], "response_format": "verbose_json"},
    {"keywords": ["<script>"], "model": "gpt-transcribe"},
    {"include": ["everything"], "model": "gpt-4o-transcribe"},
    {"file": ("talk.mp3", b"")},
    {"file": ("talk.mp3", b"This is not a recording, whatever its name says.")},
]


@pytest.mark.parametrize("wrong", BAD, ids=lambda wrong: ",".join(f"{name}={wrong[name]}" for name in wrong)[:60])
def test_unsupported_requests_are_bad_requests_and_not_retried(wrong, client, service):
    """Not tried again: the client would send the recording twice more if the status were one of a server's fault."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(**{"file": SPEECH, "model": "whisper-1", **wrong})
    require_error(caught.value)
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"


@pytest.mark.parametrize("name", ["whisper-99", "../etc/passwd", "tiny/../base"])
def test_an_unknown_model_is_not_found(name, client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.audio.transcriptions.create(file=SPEECH, model=name)
    require_error(caught.value)
    assert (caught.value.param, caught.value.code) == ("model", "model_not_found")


def test_an_unknown_model_is_not_found_when_shown(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("whisper-99")
    require_error(caught.value)


def test_openais_other_paths_are_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello?"}])
    require_error(caught.value)


# Keys


@pytest.fixture(scope="module")
def guarded(program_in, tmp_path_factory) -> Iterator[Service]:
    """Run a service that asks for keys."""
    folder = tmp_path_factory.mktemp("guarded")
    program = program_in(folder)
    asking = replace(program, environ={**program.environ, "CESAR_REQUIRE_KEY": "true"})
    with serving(asking, "--model", write_words(folder / "words.json")) as service:
        yield service


def key_of(service: Service, name: str, *scopes: str) -> str:
    options = [part for scope in scopes for part in ("--scope", scope)]
    made = service.program.run("keys", "create", name, *options, "--json")
    assert made.returncode == 0, made.stderr
    token = str(json.loads(made.stdout)["key"])
    headers = {"Authorization": f"Bearer {token}"}
    wait_until(lambda: service.client.get("/v1/models", headers=headers).status_code == 200, PATIENCE_S)
    return token


def test_a_wrong_key_is_an_authentication_error(guarded):
    with create_client(guarded, api_key="sk-wrong") as client:
        for ask in (client.models.list, lambda: client.audio.transcriptions.create(file=SPEECH, model="whisper-1")):
            with pytest.raises(openai.AuthenticationError) as caught:
                ask()
            require_error(caught.value)
            assert caught.value.code == "invalid_api_key"


def test_any_key_is_accepted_below_v1_where_none_is_required(client, service):
    """OpenAI's clients can't be without one; ours show one only if there is one."""
    assert client.models.list().data
    wrong = {"Authorization": f"Bearer {client.api_key}"}
    assert service.client.get("/jobs", headers=wrong).status_code == 401


def test_a_key_without_the_scope_is_a_permission_denied_error(guarded):
    with create_client(guarded, api_key=key_of(guarded, "reader", "read")) as client:
        assert client.models.list().data
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.audio.transcriptions.create(file=SPEECH, model="whisper-1")
        require_error(caught.value)


def test_two_keys_never_share_a_job(guarded):
    """Neither by the job nor by the time it takes does one learn that the other had the same recording."""
    answers = []
    for name in ("ann", "ben"):
        with create_client(guarded, api_key=key_of(guarded, name, "read", "submit")) as client:
            answer = client.audio.transcriptions.with_raw_response.create(file=SPEECH, model="whisper-1")
            assert answer.parse().text == TEXT
            answers.append((client.api_key, answer.headers["X-Cesar-Job"]))
    (_, first), (key, second) = answers
    assert first != second
    headers = {"Authorization": f"Bearer {key}"}
    assert guarded.client.get(f"/jobs/{second}", headers=headers).json()["cached_from"] is None
    assert guarded.client.get(f"/jobs/{first}", headers=headers).status_code == 404


# Limits


def test_a_recording_that_is_too_large_is_413(program):
    small = replace(program, environ={**program.environ, "CESAR_MAX_UPLOAD_BYTES": "1000"})
    with serving(small) as service, create_client(service) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.audio.transcriptions.create(file=SPEECH, model="whisper-1")
        assert caught.value.status_code == 413
        require_error(caught.value)


@pytest.fixture
def full(program: Program) -> Iterator[Service]:
    """Run a service without a worker, whose queue holds one job and has it."""
    narrow = replace(program, environ={**program.environ, "CESAR_MAX_OPEN_JOBS": "1"})
    with serving(narrow, "--no-worker") as service:
        service.submit(SPEECH, prompt="The one that is in the queue.")
        yield service


def test_a_full_queue_is_a_rate_limit_error_that_says_how_long_to_wait(full):
    with create_client(full, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError) as caught:
            client.audio.transcriptions.create(file=SPEECH, model="whisper-1")
        require_error(caught.value)
        assert int(caught.value.response.headers["retry-after"]) >= 1
    assert len(jobs(full)) == 1


def test_the_client_waits_for_retry_after_and_then_gets_its_text(program):
    """It has one retry, and would begin it after half a second: too early, as there are 20 requests a minute."""
    slow = replace(program, environ={**program.environ, "CESAR_REQUESTS_PER_MINUTE": "20"})
    with serving(slow) as service, create_client(service, max_retries=1) as client:
        answers = [
            client.audio.transcriptions.with_raw_response.create(file=SPEECH, model="whisper-1") for _ in range(3)
        ]
    assert [answer.parse().text for answer in answers] == ["Ask not."] * 3
    assert [answer.retries_taken for answer in answers] == [0, 0, 1]
