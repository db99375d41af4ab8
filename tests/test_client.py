"""`cesar.client.Client` on a misbehaving network; `tests/cli/queue/` has tests with a real service."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from cesar.api.http.schemas import job_view
from cesar.api.models import Job
from cesar.client import Client, Event
from cesar.client.connection import RETRY_DELAYS_S
from cesar.client.event_stream import parse
from cesar.errors import (
    BY_CODE,
    InputError,
    JobNotFound,
    RecordingChanged,
    ServiceError,
    ServiceUnreachable,
    TooManyRequests,
    Unauthorised,
    UsageError,
)
from cesar.options import TranscribeOptions
from tests.support.hangups import Hangups, answer, answering, problem, stream

JOB = answer(200, job_view(Job(id="abcd-1", audio_path="/talk.wav")).model_dump(mode="json"))
BROKEN = b""


def client_of(server: Hangups, pauses: list[float] | None = None) -> Client:
    """Return a client that records its waits instead of sleeping."""
    return Client(server.url, sleep=(pauses if pauses is not None else []).append)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "talk.wav"
    path.write_bytes(b"sound" * 1000)
    return path


# Responses


@pytest.mark.parametrize("code", BY_CODE)
def test_every_problem_is_raised_as_the_error_of_its_code(code):
    with answering(problem(400, code)) as server, client_of(server) as client, pytest.raises(BY_CODE[code]) as raised:
        client.job("a")
    assert type(raised.value) is BY_CODE[code]
    assert raised.value.message == "it can't be"
    assert "CESAR_API_KEY" in raised.value.hint if code == Unauthorised.code else raised.value.hint == "Do this."


@pytest.mark.parametrize(
    "foreign",
    [
        answer(502, "<h1>Bad gateway</h1>", kind="text/html"),
        answer(200, "<h1>Welcome</h1>", kind="text/html"),
        answer(200, {"id": 1}),
        answer(302, "", Location="http://127.0.0.1:1/"),
        answer(418, ["no", "problem"]),
    ],
    ids=["a proxy's error", "another server", "another JSON", "a redirect", "JSON that is no problem"],
)
def test_a_response_that_is_not_from_cesar_is_reported(foreign):
    with (
        answering(foreign) as server,
        client_of(server) as client,
        pytest.raises(ServiceError, match="not a response from"),
    ):
        client.job("a")


def test_an_html_page_is_not_parsed_as_events():
    with (
        answering(answer(200, "<p>", kind="text/html")) as server,
        client_of(server) as client,
        pytest.raises(ServiceError, match="not a response from"),
    ):
        list(client.events("a"))


def test_an_unknown_error_code_becomes_a_service_error():
    with (
        answering(problem(409, "of_later")) as server,
        client_of(server) as client,
        pytest.raises(ServiceError, match="it can't be"),
    ):
        client.job("a")


# Broken connections


def test_an_unreachable_service_is_retried_and_then_named():
    with answering() as nobody:
        pass
    pauses: list[float] = []
    with client_of(nobody, pauses) as client, pytest.raises(ServiceUnreachable) as raised:
        client.job("a")
    assert raised.value.message == f"the service at {nobody.url} can't be reached: connection refused"
    assert tuple(pauses) == RETRY_DELAYS_S


def test_an_idempotent_request_is_retried_if_the_connection_breaks():
    with answering(BROKEN, BROKEN, JOB) as server, client_of(server) as client:
        assert client.job("abcd-1").id == "abcd-1"
    assert server.lines == ["GET /jobs/abcd-1 HTTP/1.1"] * 3


@pytest.mark.parametrize("verb", ["submit", "retry", "delete"])
def test_a_request_that_is_not_idempotent_is_sent_once(verb, recording):
    with answering(BROKEN, JOB) as server, client_of(server) as client, pytest.raises(ServiceUnreachable):
        getattr(client, verb)(recording if verb == "submit" else "abcd-1")
    assert len(server.requests) == 1


def test_an_upload_with_an_idempotency_key_is_retried_unchanged(recording):
    with answering(BROKEN, JOB) as server, client_of(server) as client:
        assert client.submit(recording, idempotency_key="monday").id == "abcd-1"
    assert [server.header(number, "Idempotency-Key") for number in (0, 1)] == ["monday", "monday"]
    assert [request.count("sound") for request in server.requests] == [1000, 1000]


# Retry-After


@pytest.mark.parametrize("status", [429, 503])
def test_the_client_waits_if_the_service_asks_for_it(status, recording):
    pauses: list[float] = []
    heard: list[tuple[str, float]] = []
    with answering(problem(status, "too_many_jobs", Retry_After="7"), JOB) as server:
        client = Client(server.url, sleep=pauses.append, on_wait=lambda error, s: heard.append((error.code, s)))
        with client:
            client.submit(recording)
    assert pauses == [7.0]
    assert heard == [("too_many_jobs", 7.0)]
    assert [request.count("sound") for request in server.requests] == [1000, 1000]


def test_the_client_waits_no_longer_than_a_minute_in_all():
    pauses: list[float] = []
    busy = problem(429, "too_many_requests", Retry_After="25")
    with (
        answering(busy, busy, busy) as server,
        client_of(server, pauses) as client,
        pytest.raises(TooManyRequests) as raised,
    ):
        client.job("a")
    assert pauses == [25.0, 25.0]
    assert raised.value.retry_after_s == 25.0


@pytest.mark.parametrize("written", ["soon", "-1", "Fri, 99 Foo 2026", ""])
def test_an_unparsable_retry_after_is_ignored(written):
    with (
        answering(problem(503, "database_unavailable", Retry_After=written)) as server,
        client_of(server) as client,
        pytest.raises(BY_CODE["database_unavailable"]),
    ):
        client.job("a")


# Events


FIRST = 'id: 1-0-0\nevent: status\ndata: {"after": "queued"}\n\n'
LAST = 'id: 2-0-0\nevent: end\ndata: {"status": "completed"}\n\n'


def test_events_are_read_until_the_final_one():
    with answering(stream(FIRST + ": still here\n\n" + LAST + FIRST)) as server, client_of(server) as client:
        assert list(client.events("abcd-1")) == [
            Event("1-0-0", "status", {"after": "queued"}),
            Event("2-0-0", "end", {"status": "completed"}),
        ]
    assert server.header(0, "Last-Event-ID") is None


@pytest.mark.parametrize(
    "rest", ["", "id: 9", 'id: 9\nevent: status\ndata: {"a"', 'id: 9\nevent: status\ndata: {"after": "processing"}\n']
)
def test_a_broken_stream_resumes_after_the_last_complete_event(rest):
    pauses: list[float] = []
    with answering(stream(FIRST + rest), BROKEN, stream(LAST)) as server, client_of(server, pauses) as client:
        assert [event.kind for event in client.events("abcd-1")] == ["status", "end"]
    assert [server.header(number, "Last-Event-ID") for number in range(3)] == [None, "1-0-0", "1-0-0"]
    assert len(pauses) == 2


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_stream_resumes_after_a_proxy_reported_the_service_unavailable(status):
    away = answer(status, "<h1>Bad gateway</h1>", kind="text/html")
    pauses: list[float] = []
    with answering(stream(FIRST), away, away, stream(LAST)) as server, client_of(server, pauses) as client:
        assert [event.kind for event in client.events("abcd-1")] == ["status", "end"]
    assert server.header(3, "Last-Event-ID") == "1-0-0"
    assert len(pauses) == 3


def test_a_stream_can_be_continued_by_another_client():
    with answering(stream(LAST)) as server, client_of(server) as client:
        assert [event.kind for event in client.events("abcd-1", "1-0-0")] == ["end"]
    assert server.header(0, "Last-Event-ID") == "1-0-0"


def test_a_stream_resumed_after_the_last_event_is_empty():
    with answering(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n") as server, client_of(server) as client:
        assert list(client.events("abcd-1", "2-0-0-end")) == []


def test_the_client_gives_up_after_a_minute_without_the_service():
    pauses: list[float] = []
    with answering(stream(FIRST)) as server, client_of(server, pauses) as client, pytest.raises(ServiceUnreachable):
        list(client.events("abcd-1"))
    assert 50 < sum(pauses) < 90


def test_a_job_deleted_before_the_stream_resumes_is_not_found():
    with (
        answering(stream(FIRST), problem(404, "job_not_found")) as server,
        client_of(server) as client,
        pytest.raises(JobNotFound),
    ):
        list(client.events("abcd-1"))


def test_only_a_line_feed_ends_a_line():
    text = "one\u2028two\u0085three\x0bfour"
    [event] = parse([f'data: {{"text":\r\ndata: "{text}"}}\r\n\r\n'.replace("\x0b", "\\u000b").encode()])
    assert event is not None
    assert event.data == {"text": text}


def test_events_may_arrive_in_any_blocks():
    whole = (FIRST + ": hello\n\n" + LAST).replace("queued", "wartend: ä\u2028").encode()
    for size in (1, 2, 7, len(whole)):
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        assert list(parse(pieces)) == list(parse([whole]))


# Requests


def test_only_options_that_differ_from_the_defaults_are_sent(recording):
    with answering(JOB, JOB) as server, client_of(server) as client:
        client.submit(recording)
        client.submit(recording, TranscribeOptions(language="de", word_timestamps=True), model="tiny", priority=-3)
    names = ["language", "word_timestamps", "model", "priority", "beam_size", "start"]
    assert [name for name in names if f'name="{name}"' in server.requests[0]] == []
    assert [name for name in names if f'name="{name}"' in server.requests[1]] == names[:4]


def test_the_api_key_is_sent_with_every_request(recording):
    with answering(JOB, stream(LAST)) as server, Client(server.url, "cesar_1_2") as client:
        client.submit(recording)
        list(client.events("a"))
    assert [server.header(number, "Authorization") for number in (0, 1)] == ["Bearer cesar_1_2"] * 2


def test_a_service_may_be_at_a_path():
    with answering(JOB) as server, Client(f"{server.url}/speech/", sleep=lambda _: None) as client:
        client.job("a/b?c")
    assert server.lines == ["GET /speech/jobs/a%2Fb%3Fc HTTP/1.1"]


@pytest.mark.slow
def test_a_big_recording_is_never_held_in_memory(tmp_path):
    big = tmp_path / "big.wav"
    with big.open("wb") as file:
        file.truncate(128 * 1024**2)
    told: list[tuple[int, int]] = []
    with answering(JOB) as server, client_of(server) as client:
        tracemalloc.start()
        try:
            client.submit(big, on_sent=lambda sent, total: told.append((sent, total)))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 16 * 1024**2
    assert told[-1] == (128 * 1024**2, 128 * 1024**2)


def test_data_appended_to_a_recording_during_the_upload_is_not_sent(recording):
    def add(_sent: int, _total: int) -> None:
        with recording.open("ab") as file:
            file.write(b"sound")

    with answering(JOB) as server, client_of(server) as client:
        client.submit(recording, on_sent=add)
    assert server.requests[0].count("sound") == 1000


def test_a_recording_that_shrinks_during_the_upload_is_refused(tmp_path):
    path = tmp_path / "talk.wav"
    path.write_bytes(bytes(1024**2))

    def shrink(_sent: int, _total: int) -> None:
        with path.open("r+b") as file:
            file.truncate(10)

    with answering(JOB) as server, client_of(server) as client, pytest.raises(RecordingChanged, match="shorter"):
        client.submit(path, on_sent=shrink)


def test_a_recording_that_cannot_be_read_is_not_sent(tmp_path):
    with answering(JOB) as server, client_of(server) as client, pytest.raises(InputError):
        client.submit(tmp_path / "missing.wav")
    assert server.requests == []


@pytest.mark.parametrize("key", ["montäglich", "two\nlines", " monday", ""])
def test_an_idempotency_key_that_is_no_valid_header_is_refused(key, recording):
    with answering(JOB) as server, client_of(server) as client, pytest.raises(UsageError, match="key"):
        client.submit(recording, idempotency_key=key)
    assert server.requests == []


# URLs and keys


@pytest.mark.parametrize("url", ["", "127.0.0.1:5000", "localhost", "ftp://there", "http://", "http://a:b:c"])
def test_an_invalid_service_url_is_refused(url):
    with pytest.raises(UsageError, match="not the URL"):
        Client(url)


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_an_invalid_api_key_is_refused(key):
    with pytest.raises(UsageError, match="API key"):
        Client("http://127.0.0.1:1", key)


def test_a_service_on_this_machine_is_reached_without_a_proxy(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with answering(JOB) as server, client_of(server) as client:
        assert client.job("a").id == "abcd-1"


@pytest.mark.slow
def test_the_library_does_not_import_the_client_or_httpx():
    imports = "sys, cesar, cesar.cli.commands.jobs, cesar.cli.queue.local"
    code = f"import {imports}; print({{'httpx', 'cesar.client'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.slow
def test_the_client_imports_neither_database_nor_web_libraries():
    code = (
        "import sys, cesar.client, cesar.cli.queue.remote; "
        "print({'sqlalchemy', 'fastapi', 'starlette', 'uvicorn'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout == "set()\n"
