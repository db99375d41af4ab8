"""`cesar transcribe --server`: the same files as locally, from a real service."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cesar.formats import FORMATS
from tests.cli.queues import only_line, run_on_terminal
from tests.cli.services import RunningService, serving, settings_of
from tests.faults.support import wait_until
from tests.runner.support import IN_THE_MIDDLE, JFK, SONNET, write_script
from tests.support.hangups import answer, answering, problem

pytestmark = pytest.mark.slow
ALL = ",".join(FORMATS)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A scripted model for this machine and the service."""
    name = write_script(tmp_path / "words.json")
    monkeypatch.setenv("CESAR_STALL_TIMEOUT_S", "600")
    return name


@pytest.fixture
def service(queue, model) -> Iterator[RunningService]:
    """A service with a worker, on the queue of the fixture `queue`."""
    queue.file.parent.mkdir(parents=True)
    with serving(settings_of(queue.file.parent, model=model), with_worker=True) as running:
        yield running


def without_timings(files: Mapping[str, str]) -> dict[str, object]:
    """Return the texts by file name; JSON is parsed, without its time, speed and model name."""
    return {
        name: _without_timings(json.loads(text)) if name.endswith(".json") else text for name, text in files.items()
    }


def _without_timings(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "timings": None, "model": None, "origin": {**data["origin"], "transcribed_at": None}}


def texts_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_files_are_those_of_a_local_run(invoke, service, model, tmp_path):
    options = ["-f", ALL, "--word-timestamps", "--start", "2", "-l", "en"]
    assert invoke("transcribe", SONNET, JFK, "-d", "there", *options, "--server", service.url)[0] == 0
    assert invoke("transcribe", SONNET, JFK, "-d", "here", *options, "-m", model)[0] == 0
    there, here = texts_in(tmp_path / "there"), texts_in(tmp_path / "here")
    assert len(there) == 2 * len(FORMATS)
    assert without_timings(there) == without_timings(here)


def test_the_text_goes_to_standard_output_and_the_summary_to_standard_error(invoke, service, model):
    code, out, err = invoke("transcribe", JFK, "--server", service.url)
    assert (code, out) == (0, invoke("transcribe", JFK, "-m", model)[1])
    assert re.fullmatch(rf"{JFK}: 11\.0 s in [0-9.]+ s \([0-9.]+x\), en", only_line(err))


def test_json_lines_report_the_upload_and_each_segment(invoke, service, model):
    _, _, err = invoke("transcribe", SONNET, "--json-lines", "--server", service.url)
    there = [json.loads(line) for line in err.splitlines()]
    here = [json.loads(line) for line in invoke("transcribe", SONNET, "--json-lines", "-m", model)[2].splitlines()]
    size = SONNET.stat().st_size
    assert there[0] == here[0]
    assert [event for event in there if event["event"] == "upload"][-1] == {
        "event": "upload",
        "file": str(SONNET),
        "sent_bytes": size,
        "total_bytes": size,
    }
    for kind in ("segment", "file_finished"):
        assert [{**event, "elapsed": 0} for event in there if event["event"] == kind] == [
            {**event, "elapsed": 0} for event in here if event["event"] == kind
        ]
    positions = [event["position"] for event in there if event["event"] == "progress"]
    assert positions == sorted(positions)
    assert len(positions) > 1


def test_standard_input_is_transcribed_by_the_service(cesar, service):
    done = cesar("transcribe", "-", "--server", service.url, input=JFK.read_bytes())
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(b"stdin: 11.0 s in ")
    assert done.stdout


def test_a_bad_recording_is_reported_under_its_given_name_and_does_not_stop_the_others(cesar, service, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.mp3").write_bytes(b"no sound " * 1000)
    done = cesar("transcribe", "folder/notes.mp3", JFK, "missing.mp3", "--server", service.url, text=True)
    assert done.returncode == 3
    assert "cesar: folder/notes.mp3 is not audio or video" in done.stderr
    assert f"== {JFK} ==" in done.stdout
    assert "2 of 3 failed: folder/notes.mp3 (not_media), missing.mp3 (file_not_found)" in done.stderr


def test_recordings_with_existing_texts_are_not_sent(invoke, service, queue, tmp_path):
    (tmp_path / "jfk.txt").write_text("before")
    code, _, err = invoke("transcribe", JFK, "-d", ".", "--skip-existing", "--server", service.url)
    assert (code, queue.jobs()) == (0, [])
    assert "already" in only_line(err)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_shows_a_bar(service, environ):
    code, shown = run_on_terminal("transcribe", str(SONNET), "--server", service.url)
    assert code == 0
    assert "━" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is hidden, and shown again


# Interruptions


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_cancels_its_job_and_reports_it(number, expected, queue, tmp_path):
    queue.file.parent.mkdir(parents=True)
    hangs = write_script(tmp_path / "hangs.json", {"at": IN_THE_MIDDLE, "do": "hang"})
    with serving(settings_of(queue.file.parent, model=hangs), with_worker=True) as service:
        command = [sys.executable, "-m", "cesar", "transcribe", str(SONNET), "--server", service.url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
            wait_until(lambda: queue.file.exists() and any(job.position for job in queue.jobs()))
            program.send_signal(number)
            _, err = program.communicate(timeout=60)
        [job] = queue.jobs()
        assert program.returncode == expected
        assert f"cesar: the job {job.id[:8]} at {service.url} is cancelled" in err
        wait_until(lambda: queue.read(job).status == "cancelled")


def test_the_run_survives_a_restart_of_the_service(queue, tmp_path):
    """The first service hangs in the middle of the recording; the second resumes it."""
    queue.file.parent.mkdir(parents=True)
    model = write_script(tmp_path / "words.json", {"at": IN_THE_MIDDLE, "do": "hang", "unless": str(tmp_path / "hung")})
    settings = settings_of(queue.file.parent, model=model, shutdown_grace_s=0.1)
    output = tmp_path / "text.json"
    with serving(settings, with_worker=True) as service:
        command = [sys.executable, "-m", "cesar", "transcribe", SONNET, "-o", output, "--server", service.url]
        program = subprocess.Popen([*map(str, command), "--json-lines"], stderr=subprocess.PIPE, text=True)
        wait_until(lambda: any(job.position for job in queue.jobs()) and (tmp_path / "hung").exists())
    with serving(settings, with_worker=True, port=int(service.url.rpartition(":")[2])), program:
        _, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    told = [json.loads(line) for line in err.splitlines()]
    segments = [{**event} for event in told if event["event"] == "segment"]
    assert [event["text"] for event in segments] == [
        segment["text"] for segment in json.loads(output.read_text())["segments"]
    ]
    assert len(queue.jobs()) == 1


def test_a_job_cancelled_by_someone_else_ends_the_run(queue, tmp_path, environ):
    queue.file.parent.mkdir(parents=True)
    hangs = write_script(tmp_path / "hangs.json", {"at": IN_THE_MIDDLE, "do": "hang"})
    with serving(settings_of(queue.file.parent, model=hangs), with_worker=True) as service:
        command = [sys.executable, "-m", "cesar", "transcribe", str(SONNET), "--server", service.url]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
            wait_until(lambda: any(job.position for job in queue.jobs()))
            [job] = queue.jobs()
            queue.do(lambda repository: repository.request_cancel(job.id))
            _, err = program.communicate(timeout=60)
        assert program.returncode == 130
        assert "was cancelled" in err


# Errors


@pytest.mark.parametrize("option", [("--device", "cpu"), ("--compute-type", "int8"), ("--offline",)])
def test_device_options_are_refused_with_a_server(option, invoke, monkeypatch):
    code, out, err = invoke("transcribe", JFK, *option, "--server", "http://127.0.0.1:1")
    assert (code, out) == (2, "")
    assert option[0] in only_line(err)
    monkeypatch.setenv("CESAR_SERVER", "http://127.0.0.1:1")
    assert invoke("transcribe", JFK, *option)[0] == 2


def test_server_none_works_on_this_machine(invoke, model, monkeypatch):
    monkeypatch.setenv("CESAR_SERVER", "http://127.0.0.1:1")
    assert invoke("transcribe", JFK, "--server", "none", "-m", model)[0] == 0


def test_an_unreachable_service_is_one_line_and_the_other_recordings_are_not_tried(cesar, environ):
    done = cesar("transcribe", JFK, SONNET, "--server", "http://127.0.0.1:1", text=True)
    assert (done.returncode, done.stdout) == (7, "")
    told = [line for line in done.stderr.splitlines() if line.startswith("cesar: the service")]
    assert len(told) == 1
    assert "http://127.0.0.1:1" in told[0]
    assert "1 not tried" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [("upload_too_large", 413, 7), ("unknown_model", 422, 4), ("bad_option", 422, 2), ("disk_full", 507, 3)],
)
def test_a_refused_request_has_the_exit_code_of_its_error(code, status, expected, invoke):
    with answering(problem(status, code)) as server:
        ended, _, err = invoke("transcribe", JFK, "--server", server.url)
    assert ended == expected
    assert only_line(err) == "cesar: it can't be. Do this."


def test_a_server_that_is_not_cesar_is_recognised(invoke):
    with answering(answer(404, "<h1>Not here</h1>", kind="text/html")) as server:
        code, _, err = invoke("transcribe", JFK, "--server", server.url)
    assert code == 7
    assert "not a response from Cesar" in only_line(err)


def test_a_recording_over_the_size_limit_is_refused_with_the_services_reason(invoke, queue, model, tmp_path):
    queue.file.parent.mkdir(parents=True)
    big = tmp_path / "big.wav"
    with big.open("wb") as file:
        file.truncate(64 * 1024**2)
    with serving(settings_of(queue.file.parent, model=model, max_upload_bytes=1024)) as service:
        code, _, err = invoke("transcribe", big, "--server", service.url)
    assert code == 7
    assert "1024 bytes" in only_line(err)
    assert queue.jobs() == []


# Real speech


@pytest.mark.model
def test_real_speech_gives_the_same_texts_remotely_and_locally(invoke, queue, tmp_path, monkeypatch):
    monkeypatch.setenv("CESAR_DATA_DIR", str(tmp_path / "data"))
    with serving(settings_of(tmp_path / "data", model="base"), with_worker=True) as service:
        there = invoke("transcribe", JFK, "-d", "there", "-f", ALL, "--word-timestamps", "--server", service.url)
    here = invoke("transcribe", JFK, "-d", "here", "-f", ALL, "--word-timestamps")
    assert (there[0], here[0]) == (0, 0), there[2] + here[2]
    assert "what your country can do for you" in (tmp_path / "there" / "jfk.txt").read_text()
    assert without_timings(texts_in(tmp_path / "there")) == without_timings(texts_in(tmp_path / "here"))
