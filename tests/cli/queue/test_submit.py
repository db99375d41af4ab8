"""`cesar jobs submit`: the jobs it queues, and what it refuses before queueing anything."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from cesar.api.models import JobStatus
from cesar.options import TranscribeOptions
from tests.cli.queues import NO_WORKER, only_line, run_on_terminal

SPEECH = Path(__file__).parents[2] / "audio" / "jfk.m4a"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return Path(shutil.copy(SPEECH, tmp_path / "talk.m4a"))


def test_submit_prints_an_id_per_recording_and_stores_absolute_paths(invoke, queue, recording, tmp_path):
    shutil.copy(recording, tmp_path / "other.m4a")
    code, out, err = invoke("jobs", "submit", "talk.m4a", tmp_path / "other.m4a")
    newest, oldest = queue.jobs()
    assert (code, out, err) == (0, f"{oldest.id}\n{newest.id}\n", NO_WORKER)
    assert [job.audio_path for job in (oldest, newest)] == [str(recording), str(tmp_path / "other.m4a")]
    assert (oldest.name, oldest.model_size, oldest.status) == ("talk.m4a", "base", JobStatus.QUEUED)


def test_submit_queues_the_media_files_in_a_folder(invoke, queue, tmp_path):
    (tmp_path / "talks").mkdir()
    for name in ("b.mp3", "a.m4a", "notes.txt", ".hidden.mp3"):
        shutil.copy(SPEECH, tmp_path / "talks" / name)
    invoke("jobs", "submit", "talks")
    assert [job.name for job in queue.jobs()] == ["b.mp3", "a.m4a"]


def test_submit_stores_every_option_of_transcribe(invoke, queue, recording):
    wishes = ["-l", "german", "--translate", "--prompt", "Ja.", "--hotwords", "eins zwei", "--word-timestamps"]
    times = ["--start", "1:30", "--end", "2:00.5", "--beam-size", "2", "--priority", "-7", "-m", "small"]
    times += ["--temperature", "0.4", "--track", "2"]
    assert invoke("jobs", "submit", recording, *wishes, *times)[0] == 0
    [job] = queue.jobs()
    assert (job.model_size, job.priority) == ("small", -7)
    assert job.options == TranscribeOptions(
        language="de",
        task="translate",
        prompt="Ja.",
        hotwords="eins zwei",
        word_timestamps=True,
        start=90.0,
        end=120.5,
        beam_size=2,
        temperature=0.4,
        track=2,
    )


def test_submit_stores_candidate_languages(invoke, queue, recording):
    assert invoke("jobs", "submit", recording, "--languages", "en,dut")[0] == 0
    [job] = queue.jobs()
    assert job.options == TranscribeOptions(languages=("en", "nl"))


def test_a_job_without_options_has_the_defaults(invoke, queue, recording):
    invoke("jobs", "submit", recording)
    assert queue.jobs()[0].options == TranscribeOptions()


def test_submit_uses_the_model_of_the_settings(invoke, queue, recording, monkeypatch):
    monkeypatch.setenv("CESAR_MODEL", "tiny")
    invoke("jobs", "submit", recording)
    assert queue.jobs()[0].model_size == "tiny"


def test_model_folders_and_scripts_are_stored_as_absolute_paths(invoke, queue, recording, tmp_path):
    """The worker may have another current folder."""
    (tmp_path / "mine").mkdir()
    for name in ("config.json", "tokenizer.json", "vocabulary.txt", "model.bin"):
        (tmp_path / "mine" / name).write_bytes(b"{}")
    invoke("jobs", "submit", recording, "-m", "./mine")
    invoke("jobs", "submit", recording, "-m", "scripted:words.json")
    assert [job.model_size for job in queue.jobs()] == [f"scripted:{tmp_path / 'words.json'}", str(tmp_path / "mine")]


@pytest.mark.parametrize("name", ["gone.mp3", "empty.mp3", "folder", "blank.mp3 ", "\udcff.mp3"])
def test_an_unreadable_recording_is_refused_before_anything_is_queued(name, invoke, queue, recording, tmp_path):
    """The queue strips text, so a name with surrounding spaces would no longer be the file's."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.mp3").touch()
    for odd in ("blank.mp3 ", "\udcff.mp3"):
        shutil.copy(recording, tmp_path / odd)
    code, out, err = invoke("jobs", "submit", recording, name)
    assert (code, out) == (3, "")
    assert only_line(err).endswith("Nothing was queued.")
    assert queue.jobs() == []


@pytest.mark.parametrize("how", ["-", "pipe"])
def test_an_input_that_can_be_read_only_once_is_refused(how, invoke, queue, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    code, out, err = invoke("jobs", "submit", how)
    assert (code, out) == (2, "")
    assert "Name a file" in only_line(err)
    assert queue.jobs() == []


@pytest.mark.parametrize(
    ("arguments", "expected", "words"),
    [
        (["-m", "bse"], 4, "Did you mean base"),
        (["-m", "."], 4, "no model"),
        (["-m", "\udcff"], 2, "UTF-8"),
        (["-l", "klingon"], 2, "klingon"),
        (["--start", "5", "--end", "4"], 2, "end"),
        (["--priority", "1001"], 2, "1001"),
        (["--idempotency-key", ""], 2, "1 to 255"),
        (["--idempotency-key", "x" * 256], 2, "1 to 255"),
        (["--idempotency-key", "\udcff"], 2, "UTF-8"),
    ],
)
def test_an_invalid_option_is_one_line_and_nothing_is_queued(arguments, expected, words, invoke, queue, recording):
    code, out, err = invoke("jobs", "submit", recording, *arguments)
    assert (code, out) == (expected, "")
    assert words in only_line(err)
    assert queue.jobs() == []


def test_the_same_idempotency_key_gives_the_same_job_and_refuses_another_request(invoke, queue, recording):
    first = invoke("jobs", "submit", recording, "--idempotency-key", "monday")
    again = invoke("jobs", "submit", recording, "--idempotency-key", "monday")
    code, out, err = invoke("jobs", "submit", recording, "--idempotency-key", "monday", "-l", "de")
    assert again == first
    assert (code, out) == (6, "")
    assert "'monday'" in only_line(err)
    assert len(queue.jobs()) == 1


def test_an_idempotency_key_is_for_one_recording(invoke, queue, recording, tmp_path):
    shutil.copy(recording, tmp_path / "other.m4a")
    code, _, err = invoke("jobs", "submit", recording, "other.m4a", "--idempotency-key", "monday")
    assert code == 2
    assert "there are 2" in only_line(err)
    assert queue.jobs() == []


def test_submit_json_prints_complete_jobs(invoke, queue, recording, tmp_path):
    shutil.copy(recording, tmp_path / "other.m4a")
    _, out, _ = invoke("jobs", "submit", recording, "other.m4a", "--json")
    assert [job["id"] for job in json.loads(out)] == [job.id for job in reversed(queue.jobs())]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_on_a_terminal_submit_prints_the_recordings_name_beside_the_id(environ, queue, recording):
    code, shown = run_on_terminal("jobs", "submit", str(recording))
    [job] = queue.jobs()
    assert (code, shown.splitlines()[0]) == (0, f"{job.id}  talk.m4a")
