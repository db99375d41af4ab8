"""The events of a real server that is killed and restarted under its clients."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.acceptance.service import PATIENCE_S, Service, serving
from tests.faults.jobs import middle, model, write_sentences
from tests.faults.support import wait_until

pytestmark = pytest.mark.slow

SENTENCES = 12
CUT_AT = 7


@dataclass
class Client:
    """A minimal EventSource of a browser: it remembers the last id, and resumes from there on request."""

    service: Service
    path: str
    last_id: str = ""
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """The events with an id, in order: kind and data."""

    def listen(self, *, most: int | None = None) -> str:
        """Listen until the connection ends, or so many events with an id have come; say what came last."""
        kind = ""
        for kind, event_id, data in self._events():
            if event_id:
                self.last_id = event_id
                self.heard.append((kind, data))
                if most is not None and (most := most - 1) == 0:
                    break
        return kind

    def listen_on(self) -> None:
        """Listen, over as many connections as it takes, until the job is over."""
        wait_until(lambda: self.listen() == "end", PATIENCE_S)

    def segments(self) -> list[dict[str, Any]]:
        return [data for kind, data in self.heard if kind == "segment"]

    def changes(self) -> list[str]:
        return [data["after"] for kind, data in self.heard if kind == "status"]

    def _events(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        try:
            with self.service.client.stream("GET", self.path, headers=headers) as answer:
                answer.raise_for_status()
                fields: dict[str, str] = {}
                for line in answer.iter_lines():
                    if line:
                        name, _, value = line.partition(": ")
                        fields[name] = value
                        continue
                    if "data" in fields:
                        yield fields["event"], fields.get("id", ""), json.loads(fields["data"])
                    fields = {}
        except httpx.TransportError:
            return


def require_each_once(client: Client, transcript: dict[str, Any]) -> None:
    """Check that a client has received each segment of a transcript, and each change, exactly once and in order."""
    assert [segment["n"] for segment in client.segments()] == list(range(len(transcript["segments"])))
    heard = [(segment["start"], segment["end"], segment["text"]) for segment in client.segments()]
    assert heard == [(segment["start"], segment["end"], segment["text"]) for segment in transcript["segments"]]
    ids = [data["id"] for kind, data in client.heard if kind == "status"]
    assert ids == sorted(set(ids))
    assert [kind for kind, _ in client.heard].count("end") == 1
    assert client.heard[-1][0] == "end"


def test_a_client_receives_every_event_once_although_the_server_is_killed(program):
    recording = program.folder / "talk.wav"
    write_sentences(recording, SENTENCES)
    marker = program.folder / "hung"
    hangs = model(program.folder, {"at": middle(CUT_AT), "do": "hang", "unless": str(marker)})
    with serving(program, "--model", hangs) as service:
        job = service.submit(recording)
        client = Client(service, f"/jobs/{job['id']}/events")
        everything = Client(service, "/events", last_id="0")
        client.listen(most=4)
        everything.listen(most=2)
        wait_until(marker.exists, PATIENCE_S)
        partial = service.client.get(f"/jobs/{job['id']}/transcript", params={"format": "json"})
        assert partial.headers["x-cesar-partial"] == "true"
        assert 0 < len(partial.json()["segments"]) < SENTENCES
        service.kill()
        service.start()
        client.listen_on()
        transcript = service.result(job["id"])
        assert [segment["text"] for segment in transcript["segments"]] == [f"Word {n}." for n in range(SENTENCES)]
        require_each_once(client, transcript)
        assert client.changes() == ["queued", "processing", "queued", "processing", "completed"]
        everything.listen(most=3)
        assert everything.changes() == client.changes()
        again = service.client.get(client.path, headers={"Last-Event-ID": client.last_id})
        assert again.status_code == 204


def test_a_client_cut_after_every_event_of_a_running_job_receives_each_once(program):
    recording = program.folder / "talk.wav"
    write_sentences(recording, SENTENCES)
    with serving(program, "--model", model(program.folder)) as service:
        job = service.submit(recording)
        client = Client(service, f"/jobs/{job['id']}/events")
        wait_until(lambda: client.listen(most=1) == "end", PATIENCE_S)
        require_each_once(client, service.result(job["id"]))


def test_streams_end_with_the_server_and_resume_with_the_next(program):
    recording = program.folder / "talk.wav"
    write_sentences(recording, SENTENCES)
    with serving(program, "--model", model(program.folder), "--no-worker") as service:
        job = service.submit(recording)
        client = Client(service, f"/jobs/{job['id']}/events")
        client.listen(most=1)
        with service.client.stream("GET", client.path, headers={"Last-Event-ID": client.last_id}) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("retry: ")
            service.send(signal.SIGTERM)
            assert "event: end" not in list(lines), "it ends in good order, with the job as it is"
        assert service.wait() == 0, service.log.read_text()
        service.start()
        assert service.program.run("worker", "--until-empty", timeout=PATIENCE_S).returncode == 0
        client.listen_on()
        require_each_once(client, service.result(job["id"]))
