"""`cesar jobs ... --server` behaves as locally. The service is real; the jobs' states are set directly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from cesar.api.models import JobStatus, utc_now
from cesar.api.queue.api_keys import Scope
from cesar.cli.commands.jobs import STATUSES
from cesar.formats import FORMATS
from cesar.options import TranscribeOptions
from tests.cli.queues import NO_WORKER, Queue, no_worker_at, only_line, run_on_terminal
from tests.cli.services import RunningService, serving, settings_of
from tests.runner.support import JFK, write_script

pytestmark = pytest.mark.slow

UNDISCLOSED = {
    *("audio_path", "idempotency_key", "no_cache", "submitter", "seq", "version", "lost", "begun", "losses"),
    *("heartbeat_at", "cancel_requested_at", "generation"),
}
"""Fields that a service does not disclose."""
CHANGES = ("cancel", "retry", "delete")


@pytest.fixture
def service(queue, tmp_path) -> Iterator[RunningService]:
    """A service on the queue of the fixture `queue`, without a worker."""
    queue.file.parent.mkdir(parents=True)
    model = write_script(tmp_path / "words.json")
    with serving(settings_of(queue.file.parent, model=model)) as running:
        yield running


@pytest.fixture
def invoke_remote(invoke, service):
    """Return a function that runs `cesar jobs COMMAND ...` with the service."""

    def run(command, *arguments):
        return invoke("jobs", command, *arguments, "--server", service.url)

    return run


# The same as locally


def every_state(queue: Queue) -> list[str]:
    """Create a job in every state, three and a half days old; return their ids."""
    created_at = utc_now() - timedelta(days=3.5)
    jobs = [
        queue.add(name="waiting", created_at=created_at, priority=3, options=TranscribeOptions(language="de", end=9.0)),
        queue.add(JobStatus.CANCELLED, name="left", created_at=created_at),
        queue.add(
            JobStatus.ERROR,
            name="broken",
            created_at=created_at,
            error_message="it is broken",
            error_code="bad_audio",
        ),
        queue.add(
            JobStatus.COMPLETED,
            name="done",
            created_at=created_at,
            result_text="So it is.\nYes.",
            outcome={"duration": 61.25, "timings": {"total": 7.5}, "warnings": []},
        ),
    ]
    return [job.id for job in jobs]


def test_a_remote_list_looks_like_a_local_one(invoke_remote, invoke, queue, service):
    every_state(queue)
    for arguments in (
        [],
        ["--status", "queued", "--status", "error"],
        ["--name", "IT"],
        ["--model", "base", "--limit", "2"],
        ["--all"],
    ):
        _, out, err = invoke_remote("list", *arguments)
        assert (0, out, err.replace(no_worker_at(service.url), NO_WORKER)) == invoke("jobs", "list", *arguments)


def test_remote_jobs_as_json_have_the_same_fields_with_undisclosed_ones_null(invoke_remote, invoke, queue):
    ids = every_state(queue)
    for arguments in (["list"], *(["show", job_id] for job_id in ids)):
        theirs = json.loads(invoke_remote(*arguments, "--json")[1])
        ours = json.loads(invoke("jobs", *arguments, "--json")[1])
        if arguments == ["list"]:
            assert theirs["next_cursor"] == ours["next_cursor"]
        else:
            for told in ("events", "waiting_before", "fetches_before"):
                assert theirs.pop(told) == ours.pop(told)
        for one, other in zip(theirs.get("jobs", [theirs]), ours.get("jobs", [ours]), strict=True):
            assert list(one) == list(other)
            different = {key for key in one if one[key] != other[key]} - {"outcome", "duration"}
            assert different <= UNDISCLOSED
            assert {key for key in different if one[key] is not None} == set()


def test_show_says_that_a_recording_waits_for_other_fetches(invoke_remote, invoke, queue):
    address = "https://example.org/talk.mp3"
    with queue.running_job(audio_path=None, source_url=address):
        job = queue.add(audio_path=None, source_url=address)
        assert "waiting to be fetched (1 other fetch in progress)" in invoke_remote("show", job.id)[1]
        assert json.loads(invoke_remote("show", job.id, "--json")[1])["fetches_before"] == 1


def test_show_prints_the_same_as_locally_except_the_recordings_path(invoke_remote, invoke, queue):
    for job_id in every_state(queue):
        code, out, err = invoke_remote("show", job_id[:8])
        _, expected, _ = invoke("jobs", "show", job_id[:8])
        assert (code, err) == (0, "")
        assert [line.split() for line in out.splitlines()] == [
            line.split() for line in expected.splitlines() if not line.startswith("recording")
        ]


def test_a_running_job_shows_its_progress(invoke_remote, queue):
    with queue.running_job(name="talk") as job:
        queue.do(lambda repository: repository.request_cancel(job.id))
        assert re.search(r"processing .* 50% ", invoke_remote("list")[1])
        out = invoke_remote("show", job.id)[1]
    assert re.search(r"^status +processing, 50% done \(20 of 40 s\), being cancelled$", out, re.MULTILINE)


def test_pages_from_the_service_are_joined(invoke_remote, queue, monkeypatch):
    monkeypatch.setattr("cesar.cli.queue.remote._PAGE_SIZE", 2)
    queue.fill({f"aaaa{number}": str(number) for number in range(5)})
    page = json.loads(invoke_remote("list", "--all", "--json")[1])
    assert [job["name"] for job in page["jobs"]] == ["4", "3", "2", "1", "0"]
    page = json.loads(invoke_remote("list", "--limit", "3", "--json")[1])
    assert [job["name"] for job in page["jobs"]] == ["4", "3", "2"]
    page = json.loads(invoke_remote("list", "--cursor", page["next_cursor"], "--json")[1])
    assert [job["name"] for job in page["jobs"]] == ["1", "0"]


def test_an_empty_list_names_the_service(invoke_remote, service):
    code, out, err = invoke_remote("list")
    assert (code, out) == (0, "")
    assert service.url in only_line(err)


@pytest.mark.parametrize(
    ("beginning", "expected", "words"),
    [
        ("cccc", 6, "no job 'cccc'"),
        ("aaaa", 6, "several jobs: aaaa"),
        ("bbb", 6, "at least its first 4 characters"),
        ("", 6, "no job ''"),
        ("%%%%", 6, "no job '%%%%'"),
        ("../jobs", 6, "no job '../jobs'"),
        ("aaaa1111?x", 6, "no job 'aaaa1111?x'"),
        ("two\nlines", 6, r"no job 'two\nlines'"),
        ("\udcff\udcff\udcff\udcff", 2, "UTF-8"),
    ],
)
def test_an_unknown_or_ambiguous_id_is_a_one_line_error(beginning, expected, words, invoke_remote, queue, three_jobs):
    for command in ("show", "watch", *CHANGES):
        code, out, err = invoke_remote(command, beginning)
        assert (code, out) == (expected, "")
        assert words in only_line(err)
    assert queue.jobs() == three_jobs[::-1]


def test_an_exact_id_wins_over_a_longer_id_with_the_same_prefix(invoke_remote, queue):
    for id_ in ("dddd", "dddd1", "dddd2"):
        queue.add(id=id_)
    assert json.loads(invoke_remote("show", "dddd", "--json")[1])["id"] == "dddd"


# Texts


@pytest.mark.parametrize("text", ["Räder rollen.\nWeiter.", ""])
def test_show_transcript_prints_the_transcript_only(text, invoke_remote, queue):
    job = queue.add(JobStatus.COMPLETED, result_text=text)
    assert invoke_remote("show", job.id, "--transcript") == (0, f"{text}\n" if text else "", "")


def test_a_partial_transcript_is_printed_with_a_note(invoke_remote, invoke, queue):
    with queue.running_job(name="talk") as job:
        for arguments in (["--transcript"], *(["-f", name] for name in FORMATS)):
            code, out, err = invoke_remote("show", job.id, *arguments)
            assert code == 0
            assert "so far" in only_line(err)
            assert out.replace("base", "") == invoke("jobs", "show", job.id, *arguments)[1].replace("base", "")


def test_subtitles_of_a_job_respect_the_given_limits(invoke_remote, invoke, queue):
    job = queue.completed_with("Ask not what your country can do for you, ask what you can do for your country.")
    arguments = (job.id, "-f", "srt", "--max-line-length", "20", "--max-lines", "1", "--max-cue-duration", "2.5")
    code, out, _ = invoke_remote("show", *arguments)
    assert code == 0
    assert out == invoke("jobs", "show", *arguments)[1]
    assert out != invoke_remote("show", job.id, "-f", "srt")[1]


# Changes


def test_jobs_are_cancelled_retried_and_deleted(invoke_remote, queue, three_jobs):
    assert invoke_remote("cancel", "bbbb", "aaaa2222") == (
        0,
        "",
        "third (bbbb3333): cancelled\nsecond (aaaa2222): cancelled\n",
    )
    assert invoke_remote("retry", "bbbb") == (0, "", "third (bbbb3333): queued again\n")
    assert invoke_remote("delete", "aaaa2222") == (0, "", "second (aaaa2222): deleted\n")
    assert [(job.name, job.status.value) for job in queue.jobs()] == [("third", "queued"), ("first", "queued")]


def test_an_impossible_change_is_reported_as_locally(invoke_remote, invoke, queue):
    done = queue.add(JobStatus.COMPLETED, result_text="So.")
    for command in ("cancel", "retry"):
        theirs = invoke_remote(command, done.id)
        assert theirs == invoke("jobs", command, done.id)
        assert theirs[0] == 6
    with queue.running_job() as job:
        assert invoke_remote("delete", job.id) == invoke("jobs", "delete", job.id)
        assert invoke_remote("cancel", job.id) == (0, "", f"talk.mp3 ({job.id[:8]}): stopping\n")


# Watching


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.ERROR, JobStatus.CANCELLED])
def test_watching_a_finished_job_ends_as_locally(status, invoke_remote, invoke, queue):
    told = {"error_message": "it is broken", "error_code": "bad_audio", "error_hint": "Mend it."}
    outcome = {"duration": 61.25, "timings": {"total": 7.5}}
    fields = {"result_text": "So.", "outcome": outcome} if status is JobStatus.COMPLETED else told
    job = queue.add(status, name="talk", **fields)
    assert invoke_remote("watch", job.id[:6]) == invoke("jobs", "watch", job.id[:6])


def test_watch_json_prints_the_job_on_one_line_at_each_change(invoke_remote, queue):
    job = queue.add(JobStatus.COMPLETED, result_text="So.")
    code, out, err = invoke_remote("watch", job.id, "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line)["result_text"] for line in out.splitlines()] == ["So."]


def test_a_job_is_followed_until_it_ends(service, queue, environ):
    command = [sys.executable, "-m", "cesar", "jobs", "watch", "--server", service.url]
    with queue.running_job(name="talk") as job:
        program = subprocess.Popen([*command, job.id], stderr=subprocess.PIPE, text=True)
        assert program.stderr is not None
        told = [program.stderr.readline() for _ in range(3)]
        job.status, job.result_text, job.detected_language = JobStatus.COMPLETED, "One. Two.", "en"
        queue.do(lambda repository: repository.update(job))
        _, rest = program.communicate(timeout=60)
    assert told == ["talk: queued\n", "talk: processing (attempt 1)\n", "talk: 50 %\n"]
    assert rest == "talk: completed, en\n"
    assert program.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_interrupting_watch_does_not_stop_the_job(service, queue, environ):
    job = queue.add(name="talk")
    command = [sys.executable, "-m", "cesar", "jobs", "watch", job.id, "--server", service.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        assert program.stderr.readline() == "talk: queued\n"
        program.send_signal(signal.SIGINT)
        _, rest = program.communicate(timeout=60)
    assert program.returncode == 130
    assert "the job goes on" in only_line(rest)
    assert queue.read(job).status is JobStatus.QUEUED


def test_watch_reports_the_deletion_of_its_job(service, queue, environ):
    job = queue.add(name="talk")
    command = [sys.executable, "-m", "cesar", "jobs", "watch", job.id, "--server", service.url]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as program:
        assert program.stderr is not None
        assert program.stderr.readline() == "talk: queued\n"
        queue.do(lambda repository: repository.delete(job.id))
        _, rest = program.communicate(timeout=60)
    assert program.returncode == 6
    assert "deleted" in rest.splitlines()[-1]


# Submitting


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "talk.wav"
    path.write_bytes(JFK.read_bytes())
    return path


def test_recordings_are_uploaded_and_their_job_ids_printed_in_order(invoke_remote, service, queue, recording, tmp_path):
    other = tmp_path / "other.wav"
    other.write_bytes(b"something else")
    code, out, err = invoke_remote("submit", other, recording, recording)
    assert (code, err) == (0, no_worker_at(service.url))
    jobs = queue.jobs()[::-1]
    assert out.split() == [job.id for job in jobs]
    assert [(job.name, job.audio_bytes) for job in jobs] == [("other.wav", 14), ("talk.wav", JFK.stat().st_size)]


def test_all_options_reach_the_service(invoke_remote, queue, recording):
    wishes = ["-l", "german", "--prompt", "Äpfel, Birnen", "--word-timestamps", "--start", "0:01", "--end", "9.5"]
    terms = ["--translate", "--beam-size", "2", "--hotwords", "Obst", "-m", "tiny", "--priority", "-7"]
    terms += ["--temperature", "0.4", "--track", "all"]
    [told] = json.loads(invoke_remote("submit", recording, *wishes, *terms, "--json")[1])
    [job] = queue.jobs()
    assert job.options == TranscribeOptions(
        language="de",
        task="translate",
        prompt="Äpfel, Birnen",
        hotwords="Obst",
        word_timestamps=True,
        start=1.0,
        end=9.5,
        beam_size=2,
        temperature=0.4,
        track="all",
    )
    assert (job.model_size, job.priority) == ("tiny", -7)
    assert (told["id"], told["model_size"], told["priority"], told["audio_path"]) == (job.id, "tiny", -7, None)


def test_candidate_languages_reach_the_service(invoke_remote, queue, recording):
    assert invoke_remote("submit", recording, "--languages", "German,en")[0] == 0
    [job] = queue.jobs()
    assert job.options == TranscribeOptions(languages=("de", "en"))


def test_without_a_model_the_service_chooses_its_own(invoke_remote, queue, recording, monkeypatch):
    invoke_remote("submit", recording)
    monkeypatch.setenv("CESAR_MODEL", "small")
    invoke_remote("submit", recording)
    assert [job.model_size.rpartition("/")[2] for job in queue.jobs()] == ["small", "words.json"]


def test_the_same_idempotency_key_and_recording_give_the_same_job(invoke_remote, queue, recording):
    ids = {invoke_remote("submit", recording, "--idempotency-key", "monday")[1] for _ in range(2)}
    assert len(ids) == len(queue.jobs()) == 1
    code, _, err = invoke_remote("submit", recording, "--idempotency-key", "monday", "-l", "de")
    assert code == 6
    assert "another request" in only_line(err)


@pytest.mark.parametrize("key", ["", "x" * 256, "montäglich", "\udcff"])
def test_an_invalid_idempotency_key_is_refused_before_anything_is_sent(key, invoke_remote, queue, recording):
    code, _, err = invoke_remote("submit", recording, "--idempotency-key", key)
    assert code == 2
    only_line(err)
    assert queue.jobs() == []


def test_nothing_is_sent_if_a_recording_cannot_be_read(invoke_remote, queue, recording):
    code, out, err = invoke_remote("submit", recording, "missing.wav")
    assert (code, out) == (3, "")
    assert "Nothing was sent." in only_line(err)
    assert queue.jobs() == []


def test_urls_are_left_for_the_service_to_fetch(invoke_remote, service, queue, recording):
    address = "https://example.org/talks/one.mp3?x=1"
    code, out, err = invoke_remote("submit", recording, address, "-l", "de")
    assert (code, err) == (0, no_worker_at(service.url))
    first, second = queue.jobs()[::-1]
    assert out.split() == [first.id, second.id]
    assert (second.source_url, second.name, second.options.language) == (address, "one.mp3", "de")


def test_a_refused_recording_ends_the_run_and_earlier_jobs_are_reported(cesar, service, queue, recording):
    done = cesar("jobs", "submit", recording, "http://127.0.0.1/private.mp3", "--server", service.url, text=True)
    assert done.returncode == 3
    assert done.stdout.split() == [job.id for job in queue.jobs()]
    assert "127.0.0.1" in only_line(done.stderr)


def test_standard_input_can_be_uploaded(cesar, service, queue):
    done = cesar("jobs", "submit", "-", "--server", service.url, input=JFK.read_bytes())
    assert (done.returncode, done.stderr.decode()) == (0, no_worker_at(service.url))
    [job] = queue.jobs()
    assert (job.name, job.audio_bytes) == ("stdin", JFK.stat().st_size)


def test_invalid_bytes_in_file_names_are_sent_as_question_marks(invoke_remote, queue, tmp_path):
    path = Path(os.fsdecode(bytes(tmp_path) + b"/t\xffalk.wav"))
    path.write_bytes(b"sound")
    assert invoke_remote("submit", path)[0] == 0
    assert queue.jobs()[0].name == "t?alk.wav"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_shows_a_bar_during_a_big_upload(service, queue, tmp_path):
    big = tmp_path / "big.wav"
    with big.open("wb") as file:
        file.truncate(64 * 1024**2)
    code, shown = run_on_terminal("jobs", "submit", str(big), "--server", service.url)
    assert code == 0
    assert "67.1 MB" in shown or "67.1/67.1 MB" in shown
    assert queue.jobs()[0].id in shown


# Which queue


@pytest.mark.parametrize("command", ["submit", "list", "show", "watch", *CHANGES])
def test_database_and_server_together_are_a_usage_error(command, invoke):
    ids = [] if command == "list" else ["aaaa"]
    code, out, err = invoke("jobs", command, *ids, "--database", "a.db", "--server", "http://127.0.0.1:1")
    assert (code, out) == (2, "")
    assert "--database" in only_line(err)
    assert "--server" in only_line(err)


def test_a_local_flag_overrides_the_server_setting(invoke, service, queue, three_jobs, monkeypatch, tmp_path):
    monkeypatch.setenv("CESAR_SERVER", service.url)
    monkeypatch.setenv("CESAR_DATA_DIR", str(tmp_path / "elsewhere"))
    assert "first" in invoke("jobs", "list")[1]
    assert "first" not in invoke("jobs", "list", "--server", "none")[1]
    assert "first" not in invoke("jobs", "list", "--database", "other.db")[1]


def test_an_unreachable_service_is_a_one_line_error(invoke, monkeypatch):
    monkeypatch.setattr("cesar.client.connection.RETRY_DELAYS_S", (0.0, 0.0))
    nobody = "http://127.0.0.1:1"
    for arguments in (["list"], ["show", "aaaa"], ["watch", "aaaa"], *([change, "aaaa"] for change in CHANGES)):
        code, out, err = invoke("jobs", *arguments, "--server", nobody)
        assert (code, out) == (7, "")
        assert nobody in only_line(err)


@pytest.mark.parametrize("server", ["127.0.0.1:5000", "ftp://there", "nonsense"])
def test_an_invalid_server_url_is_a_usage_error(server, invoke):
    code, _, err = invoke("jobs", "list", "--server", server)
    assert code == 2
    assert "http://HOST:PORT" in only_line(err)


def test_the_status_choices_are_those_of_the_service(invoke_remote):
    for status in STATUSES:
        assert invoke_remote("list", "--status", status)[0] == 0


# Keys


def test_a_service_that_requires_a_key_says_so_and_accepts_the_one_in_the_settings(invoke, queue, monkeypatch):
    queue.file.parent.mkdir(parents=True)
    with serving(settings_of(queue.file.parent, require_key=True)) as service:
        code, _, err = invoke("jobs", "list", "--server", service.url)
        assert code == 7
        assert "CESAR_API_KEY" in only_line(err)
        monkeypatch.setenv("CESAR_API_KEY", token_of(queue))
        assert invoke("jobs", "list", "--server", service.url)[0] == 0
        code, _, err = invoke("jobs", "cancel", "aaaa", "--server", service.url)
        assert code == 6


def token_of(queue: Queue) -> str:
    """Create a key with the scope `read`."""

    async def make(repository):
        from cesar.api.queue.api_keys import KeyRing

        _, token = await KeyRing(repository.database).create("reader", [Scope.READ])
        return token

    token: str = queue.do(make)
    return token


def test_remote_commands_do_not_import_the_database_libraries(service, environ):
    code = f"""
import sys
from cesar.cli import run
run(["jobs", "list", "--server", "{service.url}"])
print({{"sqlalchemy", "alembic", "fastapi"}} & {{*sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
