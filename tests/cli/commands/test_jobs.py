"""`cesar jobs list`, `show`, and what all commands share. No worker runs; the jobs' states are set directly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cesar.api.models import Job, JobStatus
from cesar.cli.commands.jobs import STATUSES
from cesar.formats import FORMATS
from cesar.options import TranscribeOptions
from tests.cli.queues import NO_WORKER, Queue, only_line
from tests.support.pages import code_in, rows

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
COMMANDS_WITH_IDS = ("show", "watch", "cancel", "retry", "delete")


# All commands


def test_the_statuses_are_those_of_a_job():
    assert list(STATUSES) == [status.value for status in JobStatus]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["jobs", "--help"], ["worker", "--help"]])
def test_version_and_help_do_not_import_the_database_libraries(arguments):
    code = f"""
import sys
from cesar.cli import run
run({arguments!r})
print({{"sqlalchemy", "pydantic"}} & {{*sys.modules}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_command_without_a_queue_says_so_and_creates_no_database(invoke, queue):
    for command in COMMANDS_WITH_IDS:
        code, out, err = invoke("jobs", command, "aaaa")
        assert (code, out) == (6, "")
        assert "cesar jobs submit" in only_line(err)
    assert not queue.file.parent.exists()


@pytest.mark.parametrize(
    ("beginning", "expected", "words"),
    [
        ("cccc", 6, "no job 'cccc'"),
        ("aaaa", 6, "several jobs: aaaa1111, aaaa2222"),
        ("bbb", 6, "at least its first 4 characters"),
        ("", 6, "no job ''"),
        ("%%%%", 6, "no job '%%%%'"),
        ("aaaa1111x", 6, "no job 'aaaa1111x'"),
        ("two\nlines", 6, r"no job 'two\nlines'"),
        ("\udcff\udcff\udcff\udcff", 2, "UTF-8"),
    ],
)
def test_an_unknown_or_ambiguous_id_is_a_one_line_error(beginning, expected, words, invoke, queue, three_jobs):
    for command in COMMANDS_WITH_IDS:
        code, out, err = invoke("jobs", command, beginning)
        assert (code, out) == (expected, "")
        assert words in only_line(err)
    assert queue.jobs() == three_jobs[::-1]


def test_an_exact_id_wins_over_a_longer_id_with_the_same_prefix(invoke, queue):
    for id_ in ("dddd", "dddd1", "dddd2"):
        queue.add(id=id_)
    assert json.loads(invoke("jobs", "show", "dddd", "--json")[1])["id"] == "dddd"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\x00\x01 no database " * 500, "not a database"), (b"SQLite format 3\x00" + bytes(2000), "damaged")],
    ids=["garbage", "a broken header"],
)
def test_a_file_that_is_not_a_database_is_a_one_line_error_and_unchanged(content, words, invoke, tmp_path):
    (tmp_path / "bad.db").write_bytes(content)
    for command in (("list",), *((name, "aaaa") for name in COMMANDS_WITH_IDS)):
        code, out, err = invoke("jobs", *command, "--database", "bad.db")
        assert (code, out) == (6, "")
        assert words in only_line(err)
    assert (tmp_path / "bad.db").read_bytes() == content


def test_a_queue_in_memory_is_refused(invoke):
    code, _, err = invoke("jobs", "list", "--database", ":memory:")
    assert code == 2
    assert "--database" in only_line(err)


def test_the_database_can_be_given_by_option_or_variable(invoke, queue, three_jobs, monkeypatch):
    elsewhere = queue.file.rename(queue.file.with_name("elsewhere.db"))
    assert "first" in invoke("jobs", "list", "--database", elsewhere)[1]
    assert "first" not in invoke("jobs", "list")[1]
    monkeypatch.setenv("CESAR_DATABASE", str(elsewhere))
    assert "first" in invoke("jobs", "list")[1]


# Listing


def test_the_list_without_a_queue_is_empty_and_creates_no_database(invoke, queue):
    code, out, err = invoke("jobs", "list")
    assert (code, out) == (0, "")
    assert str(queue.file) in only_line(err)
    assert json.loads(invoke("jobs", "list", "--json")[1]) == {"jobs": [], "next_cursor": None}
    assert not queue.file.exists()


def test_the_list_has_a_row_per_job_newest_first(invoke, three_jobs):
    code, out, err = invoke("jobs", "list")
    heading, *lines = out.splitlines()
    assert (code, err) == (0, NO_WORKER)
    assert heading.split() == ["ID", "STATUS", "NAME", "MODEL", "DONE", "AGE", "TEXT"]
    assert [line.split()[:4] for line in lines] == [
        ["bbbb3333", "queued", "third", "base"],
        ["aaaa2222", "queued", "second", "base"],
        ["aaaa1111", "queued", "first", "base"],
    ]


def test_a_row_shows_the_start_of_the_text_or_the_error(invoke, queue):
    queue.add(JobStatus.COMPLETED, result_text="Once upon\na time " + "there was " * 50)
    queue.add(JobStatus.ERROR, error_message="talk.mp3 is not media", error_code="not_media")
    failed, completed = invoke("jobs", "list")[1].splitlines()[1:]
    assert failed.endswith("talk.mp3 is not media")
    assert re.search(r"completed .* 100% .* Once upon a time there was .*…$", completed)
    assert len(completed) < 120


def test_a_running_job_shows_its_percentage(invoke, queue):
    with queue.running_job():
        assert re.search(r"processing .* 50% ", invoke("jobs", "list")[1])


def test_control_characters_in_names_do_not_reach_the_terminal(invoke, queue):
    job = queue.add(name="two\nlines\x1b[31m", result_text="red\x1b[31m", status=JobStatus.COMPLETED)
    for command in (["list"], ["show", job.id], ["retry", job.id], ["watch", job.id]):
        _, out, err = invoke("jobs", *command)
        assert "\x1b" not in out + err
        assert r"two\nlines\x1b[31m" in out + err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--status", "queued"], ["third", "first"]),
        (["--status", "queued", "--status", "cancelled"], ["third", "second", "first"]),
        (["--name", "IR"], ["third", "first"]),
        (["--model", "tiny"], ["fourth"]),
        (["--model", "tiny", "--status", "queued"], []),
        (["--limit", "2"], ["fourth", "third"]),
    ],
)
def test_the_list_can_be_filtered(arguments, expected, invoke, queue):
    queue.add(name="first")
    queue.add(JobStatus.CANCELLED, name="second")
    queue.add(name="third")
    queue.add(JobStatus.ERROR, name="fourth", model_size="tiny", error_message="no")
    _, out, _ = invoke("jobs", "list", *arguments, "--json")
    assert [job["name"] for job in json.loads(out)["jobs"]] == expected


def test_pages_follow_one_another_by_the_cursor(invoke, three_jobs):
    first = json.loads(invoke("jobs", "list", "--limit", "2", "--json")[1])
    second = json.loads(invoke("jobs", "list", "--limit", "2", "--json", "--cursor", first["next_cursor"])[1])
    assert [[job["name"] for job in page["jobs"]] for page in (first, second)] == [["third", "second"], ["first"]]
    assert second["next_cursor"] is None
    assert "--cursor" in invoke("jobs", "list", "--limit", "2")[2].splitlines()[0]


def test_all_lists_every_page(invoke, three_jobs, monkeypatch):
    monkeypatch.setattr("cesar.cli.queue.local._PAGE_SIZE", 1)
    page = json.loads(invoke("jobs", "list", "--all", "--limit", "1", "--json")[1])
    assert [job["name"] for job in page["jobs"]] == ["third", "second", "first"]
    assert page["next_cursor"] is None


@pytest.mark.parametrize(
    "arguments", [["--cursor", "no"], ["--name", "\udcff"], ["--limit", "0"], ["--status", "done"]]
)
def test_an_invalid_list_request_is_a_one_line_error(arguments, invoke, three_jobs):
    code, out, err = invoke("jobs", "list", *arguments)
    assert code in (2, 6)
    assert out == ""
    only_line(err)


def test_jobs_as_json_have_every_field_except_the_owner_of_the_claim(invoke, queue):
    with queue.running_job() as job:
        [shown] = json.loads(invoke("jobs", "list", "--json")[1])["jobs"]
    assert list(shown) == [*(name for name in Job.model_fields if name not in ("owner", "claim")), "progress"]
    assert {key for row in rows(REFERENCE, "Key", "Jobs as JSON") for key in code_in(row.cells[0])} == set(shown)
    assert (shown["id"], shown["status"], shown["progress"], shown["attempt"]) == (job.id, "processing", 0.5, 1)
    assert shown["options"] == {**shown["options"], "beam_size": 1, "task": "transcribe"}


# Showing


def test_show_prints_everything_known_about_a_job(invoke, queue):
    job = queue.add(JobStatus.ERROR, error_message="it is broken", error_code="bad_audio", error_hint="Mend it.")
    code, out, err = invoke("jobs", "show", job.id[:8])
    assert (code, err) == (0, "")
    for what, value in [
        ("id", job.id),
        ("status", "error"),
        ("recording", "/there/talk.mp3"),
        ("model", "base"),
        ("attempts", "1"),
        ("error", "it is broken (bad_audio)"),
        ("hint", "Mend it."),
    ]:
        assert re.search(rf"^{what} +{re.escape(value)}$", out, re.MULTILINE)
    assert [line.split()[2:] for line in out.splitlines()[-3:]] == [
        ["queued", "submitted"],
        ["processing", "1", "claimed", "by", "update"],
        ["error", "1", "bad_audio"],
    ]


def test_show_and_list_report_dropped_speech(invoke, queue):
    outcome = {"warnings": ["2 stretches gave no text"], "dropped_s": 3.5}
    job = queue.add(JobStatus.COMPLETED, result_text="", outcome=outcome)
    for arguments in (("show", job.id), ("list",)):
        _, out, _ = invoke("jobs", *arguments)
        assert "2 stretches gave no text" in out


def test_show_prints_the_options_and_the_jobs_ahead(invoke, queue, three_jobs):
    job = queue.add(options=TranscribeOptions(language="de", end=9.0), idempotency_key="monday", priority=-1)
    out = invoke("jobs", "show", job.id)[1]
    assert re.search(r"^status +queued, 3 ahead of it$", out, re.MULTILINE)
    assert re.search(r"^options +language de, end 9.0$", out, re.MULTILINE)
    assert re.search(r"^key +monday$", out, re.MULTILINE)
    assert re.search(r"^status +queued, next in line$", invoke("jobs", "show", three_jobs[0].id)[1], re.MULTILINE)


def test_show_prints_a_jobs_progress(invoke, queue):
    with queue.running_job() as job:
        queue.do(lambda repository: repository.request_cancel(job.id))
        out = invoke("jobs", "show", job.id)[1]
    assert re.search(r"^status +processing, 50% done \(20 of 40 s\), being cancelled$", out, re.MULTILINE)


def test_show_json_includes_the_events(invoke, queue):
    job = queue.add(JobStatus.CANCELLED)
    shown = json.loads(invoke("jobs", "show", job.id, "--json")[1])
    assert (shown["id"], shown["waiting_before"]) == (job.id, None)
    assert [(event["before"], event["after"]) for event in shown["events"]] == [
        (None, "queued"),
        ("queued", "cancelled"),
    ]
    assert set(shown["events"][0]) == {"id", "at", "before", "after", "attempt", "reason"}


ADDRESS = "https://example.org/talk.mp3"


def test_show_says_that_a_recording_waits_for_other_fetches(invoke, queue):
    with queue.running_job(audio_path=None, source_url=ADDRESS):
        job = queue.add(audio_path=None, source_url=ADDRESS)
        beside = queue.add()
        waiting = "queued, next in line, waiting to be fetched (1 other fetch in progress)"
        assert waiting in invoke("jobs", "show", job.id)[1]
        assert json.loads(invoke("jobs", "show", job.id, "--json")[1])["fetches_before"] == 1
        assert "fetched" not in invoke("jobs", "show", beside.id)[1]
        assert json.loads(invoke("jobs", "show", beside.id, "--json")[1])["fetches_before"] is None


def test_show_transcript_prints_the_transcript_only(invoke, queue):
    job = queue.add(JobStatus.COMPLETED, result_text="Räder rollen.\nWeiter.")
    assert invoke("jobs", "show", job.id, "--transcript") == (0, "Räder rollen.\nWeiter.\n", "")


def test_the_transcript_of_silence_is_empty(invoke, queue):
    job = queue.add(JobStatus.COMPLETED, result_text="")
    assert invoke("jobs", "show", job.id, "--transcript") == (0, "", "")


def test_a_partial_transcript_is_printed_with_a_note(invoke, queue):
    with queue.running_job(name="talk") as job:
        code, out, err = invoke("jobs", "show", job.id, "--transcript")
        assert (code, out) == (0, "One.\n\nTwo.\n")
        assert "so far" in only_line(err)
        for name in FORMATS:
            assert "Two." in invoke("jobs", "show", job.id, "-f", name)[1]
        written = json.loads(invoke("jobs", "show", job.id, "-f", "json")[1])
    assert written["is_partial"] is True
    assert [segment["start"] for segment in written["segments"]] == [0.0, 12.0]


def test_an_empty_list_says_whether_there_are_no_jobs_or_none_that_match(invoke, queue):
    assert only_line(invoke("jobs", "list")[2]).startswith("There are no jobs in ")
    queue.add()
    assert only_line(invoke("jobs", "list", "--status", "error")[2]).startswith("There are no such jobs in ")


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_subtitles_of_a_job_respect_the_given_limits(name, invoke, queue):
    sentence = "Ask not what your country can do for you, ask what you can do for your country."
    job = queue.completed_with(sentence)
    limits = ("--max-line-length", "20", "--max-lines", "1", "--max-cue-duration", "2.5")
    code, out, err = invoke("jobs", "show", job.id, "-f", name, *limits)
    assert (code, err) == (0, "")
    cues = [block.split("\n")[-1] for block in out.strip().split("\n\n") if "-->" in block]
    assert " ".join(cues) == sentence
    assert max(map(len, cues)) <= 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-f", "srt", "--max-line-length", "9"], "Use 10 to 250."),
        (["-f", "vtt", "--max-cue-duration", "nan"], "Use 1 to 60."),
        (["--transcript", "--max-lines", "1"], "--max-lines is for subtitles only"),
        (["-f", "json", "--max-cue-duration", "5"], "--max-cue-duration is for subtitles only"),
        (["--max-line-length", "30"], "--max-line-length is for subtitles only"),
    ],
)
def test_impossible_subtitle_limits_are_a_usage_error(options, words, invoke, queue):
    code, out, err = invoke("jobs", "show", queue.completed_with("So.").id, *options)
    assert (code, out) == (2, "")
    assert words in only_line(err)


def test_a_transcript_without_times_cannot_be_shown_as_subtitles(invoke, queue):
    job = queue.add(JobStatus.COMPLETED, result_text="Somebody said so.")
    code, out, err = invoke("jobs", "show", job.id, "-f", "srt")
    assert (code, out) == (6, "")
    assert "--transcript" in only_line(err)


@pytest.mark.parametrize(
    "arguments", [["-f", "docx"], ["-f", "txt,srt"], ["-f", "srt", "--json"], ["--transcript", "--json"]]
)
def test_conflicting_show_options_are_a_one_line_error(arguments, invoke, queue):
    job = queue.add(JobStatus.COMPLETED, result_text="So.")
    code, out, err = invoke("jobs", "show", job.id, *arguments)
    assert (code, out) == (2, "")
    only_line(err)


# Without a worker


def test_a_list_without_waiting_jobs_needs_no_worker(invoke, queue):
    queue.add(JobStatus.COMPLETED, result_text="done")
    assert invoke("jobs", "list")[2] == ""


def test_no_warning_is_printed_if_a_worker_is_running(invoke, queue, three_jobs):
    with queue.running_job():
        assert invoke("jobs", "list")[2] == ""
    assert invoke("jobs", "list")[2] == NO_WORKER


def test_the_advice_to_start_a_worker_repeats_the_given_database(invoke, tmp_path):
    other = tmp_path / "other.db"
    Queue(other).add()
    assert f"`cesar worker --database {other}`" in invoke("jobs", "list", "--database", other)[2]
