"""`cesar serve` as its users meet it: real bytes over HTTP, real signals, real trouble."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.acceptance.conftest import Program
from tests.acceptance.service import PATIENCE_S, serving
from tests.faults.support import wait_until
from tests.runner.support import write_script
from tests.support import media

pytestmark = pytest.mark.slow

SPEECH = media.AUDIO / "jfk.m4a"
LONG = media.AUDIO / "printing-lj.m4a"


def test_an_upload_becomes_a_transcript_in_every_format(program):
    with serving(program) as service:
        job = service.submit(SPEECH, priority=3)
        assert (job["name"], job["priority"]) == ("jfk.m4a", 3)
        transcript = service.result(job["id"])
        assert transcript["text"] == "Ask not."
        for name, beginning in (("txt", "Ask not."), ("srt", "1\n00:00:"), ("vtt", "WEBVTT"), ("tsv", "start\t")):
            answer = service.client.get(f"/jobs/{job['id']}/transcript", params={"format": name})
            assert answer.text.startswith(beginning), answer.text
        assert service.client.get(f"/jobs/{job['id']}/audio").content == SPEECH.read_bytes()
        assert service.client.delete(f"/jobs/{job['id']}").status_code == 204
        kept = [path for path in (program.folder / "data/audio").rglob("*") if path.is_file()]
        assert kept == [], "its files are really gone"
        service.send(signal.SIGTERM)
        assert service.wait() == 0, service.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_nearly_finished_job_finish(number, program):
    with serving(program) as service:
        job = service.submit(SPEECH)
        service.send(number)
        assert service.wait() == 0, service.log.read_text()
        service.start()
        assert service.result(job["id"])["text"] == "Ask not."


def hung(folder: Path) -> tuple[str, Path]:
    """A scripted model that hangs once, and the mark that it makes then."""
    marker = folder / "hung"
    return write_script(folder / "hang.json", {"at": 3.0, "do": "hang", "unless": str(marker)}), marker


def test_a_signal_requeues_a_job_that_cannot_finish_in_time(program):
    model, marker = hung(program.folder)
    quick = replace(program, environ={**program.environ, "CESAR_SHUTDOWN_GRACE_S": "0.5"})
    with serving(quick, "--model", model) as service:
        job = service.submit(SPEECH)
        wait_until(marker.exists, PATIENCE_S)
        children = service.children()
        service.send(signal.SIGTERM)
        assert service.wait() == 0, service.log.read_text()
        wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), PATIENCE_S)
        service.start()
        assert service.job(job["id"])["failures"] == 0
        service.result(job["id"])


def test_a_second_signal_stops_at_once(program):
    model, marker = hung(program.folder)
    patient = replace(program, environ={**program.environ, "CESAR_SHUTDOWN_GRACE_S": "600"})
    with serving(patient, "--model", model) as service:
        service.submit(SPEECH)
        wait_until(marker.exists, PATIENCE_S)
        service.send(signal.SIGINT)
        wait_until(lambda: "again to stop now" in service.log.read_text(), PATIENCE_S)
        service.send(signal.SIGINT)
        assert service.wait() == 0, service.log.read_text()
        assert "stopping now" in service.log.read_text()


def test_a_port_in_use_is_reported_in_one_line(program):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = program.run("serve", "--port", taken.getsockname()[1])
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "is not available" in line
    assert "--port" in line


def test_an_unusable_database_is_reported_in_one_line(program):
    (program.folder / "notes.txt").write_text("no database" * 100)
    done = program.run("serve", "--port", 0, "--database", "notes.txt")
    assert done.returncode == 6
    [line] = done.stderr.splitlines()
    assert "not a database" in line


def test_jobs_wait_if_there_is_no_worker(program):
    with serving(program, "--no-worker") as service:
        job = service.submit(SPEECH)
        assert service.client.get("/health").json()["worker"] == "stopped"
        assert service.job(job["id"])["status"] == "queued"
        done = service.program.run("worker", "--until-empty", timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr
        assert service.result(job["id"])["text"] == "Ask not."


def test_the_log_can_be_json_and_never_has_transcripts(program):
    with serving(program, "--log-format", "json") as service:
        job = service.submit(SPEECH)
        service.result(job["id"])
        service.send(signal.SIGTERM)
        service.wait()
        lines = [line for line in service.log.read_text().splitlines() if line.startswith("{")]
    events = [json.loads(line) for line in lines]
    assert all({"time", "level", "logger", "message"} <= event.keys() for event in events)
    assert any(f"job {job['id']} is completed" in event["message"] for event in events)
    assert "Ask not" not in service.log.read_text()


@pytest.mark.model
def test_a_killed_server_resumes_where_it_stopped(program):
    """The text is that of a run that nobody interrupted, and what was recognised is not recognised again."""
    with serving(program, "--model", "tiny.en", "--offline") as service:
        job = service.submit(LONG, end=60, word_timestamps=True)
        wait_until(lambda: service.job(job["id"])["position"] > 5, PATIENCE_S)
        service.kill()
        service.start()
        before = service.job(job["id"])["position"]
        assert before > 5
        resumed = service.result(job["id"])
        assert service.job(job["id"])["attempts"] == 2
        again = service.submit(LONG, end=60, word_timestamps=True, no_cache=True)
        assert service.result(again["id"]) == resumed
        assert service.job(again["id"])["cached_from"] is None
        at_once = service.submit(LONG, end=60, word_timestamps=True)
        assert (at_once["status"], at_once["cached_from"]) == ("completed", again["id"])
        assert service.result(at_once["id"]) == resumed


def test_a_job_whose_recogniser_is_killed_succeeds(program):
    model, marker = hung(program.folder)
    with serving(program, "--model", model) as service:
        job = service.submit(SPEECH)
        wait_until(marker.exists, PATIENCE_S)
        for child in service.children():
            os.kill(child, signal.SIGKILL)
        service.result(job["id"])
        assert service.job(job["id"])["failures"] == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "cesar", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file system can't be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_an_upload_is_refused_while_the_disk_is_full(small_disk: Path, program: Program) -> None:
    roomy = replace(program, environ={**program.environ, "CESAR_MIN_FREE_BYTES": "1"})
    with serving(roomy, "--data-dir", small_disk / "data") as service:
        done = service.submit(SPEECH)
        service.result(done["id"])
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        with SPEECH.open("rb") as recording:
            content = recording.read() + b"and something else"
        answer = service.client.post("/transcribe", files={"file": ("talk.m4a", content)})
        assert (answer.status_code, answer.headers["content-type"]) == (507, "application/problem+json"), answer.text
        assert service.client.get(f"/jobs/{done['id']}/transcript").text.strip() == "Ask not."
        ballast.unlink()
        answer = service.client.post("/transcribe", files={"file": ("talk.m4a", content)})
        assert answer.status_code == 202, answer.text
        service.result(answer.json()["id"])
        left = list((small_disk / "data/audio/incoming").iterdir())
        assert left == [], "of the refused upload nothing is left"


def test_listening_on_other_interfaces_requires_keys(program):
    with serving(program, "--host", "0.0.0.0") as service:
        assert "no API key yet" in service.log.read_text()
        assert service.client.get("/jobs").status_code == 401
        made = service.program.run("keys", "create", "me", "--scope", "submit", "--scope", "read", "--json")
        token = json.loads(made.stdout)["key"]
        headers = {"Authorization": f"Bearer {token}"}
        assert service.client.get("/jobs", headers=headers).json() == {"jobs": [], "next_cursor": None}
        assert service.program.run("keys", "revoke", "me").returncode == 0
        wait_until(lambda: service.client.get("/jobs", headers=headers).status_code == 401, PATIENCE_S)


def test_a_client_that_disconnects_does_not_stop_its_job(program):
    with serving(program) as service:
        job = service.submit(SPEECH)
        with httpx.Client(base_url=service.url) as watcher, watcher.stream("GET", f"/jobs/{job['id']}/events"):
            pass
        assert service.result(job["id"])["text"] == "Ask not."
