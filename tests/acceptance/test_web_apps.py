"""The apps in docs/howto/use-in-a-web-app.md, run as printed; only the model is scripted."""

from __future__ import annotations

import asyncio
import io
import json
import re
import sys
import tempfile
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.runner.support import wait_until
from tests.support import media

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "use-in-a-web-app.md"
SPEECH = media.AUDIO / "jfk.m4a"
TEXT = "Ask not."
NO_MEDIA = b"this is no recording\n" * 100

pytestmark = pytest.mark.slow


def load_app(framework: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **script: Any) -> Any:
    """Make a module of a section's example, whose temporary files are in the folder."""
    content = {"language": "en", "segments": [{"start": 2.0, "end": 4.0, "text": TEXT}], **script}
    model = folder / "script.json"
    model.write_text(json.dumps(content))
    section = re.search(rf"^## {framework}$.*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert section
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    (folder / "tmp").mkdir()
    module = ModuleType(f"web_app_{framework.lower()}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    source = section[1].replace('AudioTranscriber("base")', f"AudioTranscriber({f'scripted:{model}'!r})")
    exec(compile(source, str(PAGE), "exec"), vars(module))
    return module


def files_left(folder: Path) -> list[Path]:
    return [*(folder / "tmp").iterdir()]


def test_fastapi_returns_the_text_and_refuses_other_files(tmp_path, monkeypatch):
    example = load_app("FastAPI", tmp_path, monkeypatch)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(example.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app", timeout=60) as client:
            bodies = [SPEECH.read_bytes(), NO_MEDIA, b"", SPEECH.read_bytes()]
            return await asyncio.gather(*(client.post("/transcripts", content=body) for body in bodies))

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [200, 422, 422, 200]
    assert answers[0].json() == answers[3].json() == {"language": "en", "text": TEXT}
    assert [answers[1].json(), answers[2].json()] == [{"detail": "not_media"}, {"detail": "empty_recording"}]
    assert files_left(tmp_path) == []


def test_fastapi_stops_the_work_of_a_disconnected_client(tmp_path, monkeypatch):
    example = load_app("FastAPI", tmp_path, monkeypatch, faults=[{"at": 3.0, "do": "hang"}])
    body: list[dict[str, Any]] = [
        {"type": "http.request", "body": SPEECH.read_bytes(), "more_body": False},
        {"type": "http.disconnect"},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return body.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/transcripts",
        "headers": [],
        "query_string": b"",
        "http_version": "1.1",
    }
    asyncio.run(asyncio.wait_for(example.app(scope, receive, send), 60))
    assert sent[0]["status"] == 499
    assert files_left(tmp_path) == []


def test_flask_reports_progress_and_then_the_text(tmp_path, monkeypatch):
    pytest.importorskip("flask")
    example = load_app("Flask", tmp_path, monkeypatch)
    client = example.app.test_client()

    def submit(content: bytes) -> str:
        answer = client.post("/transcripts", data={"recording": (io.BytesIO(content), "a.m4a")})
        assert answer.status_code == 202
        return f"/transcripts/{answer.json['id']}"

    good, bad = submit(SPEECH.read_bytes()), submit(NO_MEDIA)
    wait_until(lambda: client.get(bad).status_code != 202)
    assert (client.get(good).status_code, client.get(good).json) == (200, {"text": TEXT})
    assert (client.get(bad).status_code, client.get(bad).json["error"]) == (422, "not_media")
    assert client.get("/transcripts/none").status_code == 404
    example.executor.shutdown()
    assert files_left(tmp_path) == []


def test_flask_cancels_running_and_queued_work(tmp_path, monkeypatch):
    pytest.importorskip("flask")
    example = load_app("Flask", tmp_path, monkeypatch, faults=[{"at": 3.0, "do": "hang"}])
    client = example.app.test_client()
    places = []
    for _ in range(2):
        answer = client.post("/transcripts", data={"recording": (io.BytesIO(SPEECH.read_bytes()), "a.m4a")})
        places.append(f"/transcripts/{answer.json['id']}")
    wait_until(lambda: client.get(places[0]).json["done"] is not None)
    assert [client.delete(place).status_code for place in places] == [204, 204]
    wait_until(lambda: all(client.get(place).status_code == 422 for place in places))
    assert {client.get(place).json["error"] for place in places} == {"interrupted"}
    example.executor.shutdown()
    assert files_left(tmp_path) == []


@pytest.fixture
def django_client():
    django = pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure(ROOT_URLCONF="none", ALLOWED_HOSTS=["*"], DEFAULT_CHARSET="utf-8")
        django.setup()
    from django.test import RequestFactory

    return RequestFactory()


def test_django_streams_each_segment_and_reports_errors(tmp_path, monkeypatch, django_client):
    from django.core.files.uploadedfile import SimpleUploadedFile

    example = load_app("Django", tmp_path, monkeypatch)

    def ask(**files: bytes) -> Any:
        data = {name: SimpleUploadedFile("a.m4a", content) for name, content in files.items()}
        return example.transcribe(django_client.post("/transcripts", data))

    lines = [json.loads(line) for line in ask(recording=SPEECH.read_bytes())]
    assert [(line["text"], line["start"] < line["end"]) for line in lines] == [(TEXT, True)]
    assert [json.loads(line) for line in ask(recording=NO_MEDIA)] == [{"error": "not_media"}]
    assert ask(other=NO_MEDIA).status_code == 422
    assert example.transcribe(django_client.get("/transcripts")).status_code == 405
    assert files_left(tmp_path) == []


def test_django_stops_the_work_when_the_response_is_closed(tmp_path, monkeypatch, django_client):
    from django.core.files.uploadedfile import SimpleUploadedFile

    sentences = [{"start": 2.0, "end": 4.0, "text": TEXT}]
    example = load_app("Django", tmp_path, monkeypatch, segments=sentences)
    data = {"recording": SimpleUploadedFile("a.m4a", SPEECH.read_bytes())}
    answer = example.transcribe(django_client.post("/transcripts", data))
    assert json.loads(next(iter(answer)))["text"] == TEXT
    answer.close()
    assert files_left(tmp_path) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "cesar-stream"]
