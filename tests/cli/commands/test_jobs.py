"""`cesar jobs`: what all its commands have, `list` and `show`. No worker runs; the states are made by hand."""

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
from tests.cli.queues import NOBODY, Queue, said
from tests.support.pages import code_in, rows

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
COMMANDS_WITH_IDS = ("show", "watch", "cancel", "retry", "delete")


# What every command has


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


def test_a_command_without_a_queue_says_so_and_creates_no_database(inside, queue):
    for command in COMMANDS_WITH_IDS:
        code, out, err = inside("jobs", command, "aaaa")
        assert (code, out) == (6, "")
        assert "cesar jobs submit" in said(err)
    assert not queue.file.parent.exists()


@pytest.mark.parametrize(
    ("beginning", "expected", "words"),
    [
        ("cccc", 6, "no job 'cccc'"),
        ("aaaa", 6, "several jobs: aaaa1111, aaaa2222"),
        ("bbb", 6, "at least the first 4 letters"),
        ("", 6, "no job ''"),
        ("%%%%", 6, "no job '%%%%'"),
        ("aaaa1111x", 6, "no job 'aaaa1111x'"),
        ("two\nlines", 6, r"no job 'two\nlines'"),
        ("\udcff\udcff\udcff\udcff", 2, "UTF-8"),
    ],
)
def test_an_unknown_or_ambiguous_id_is_a_one_line_error(beginning, expected, words, inside, queue, three):
    for command in COMMANDS_WITH_IDS:
        code, out, err = inside("jobs", command, beginning)
        assert (code, out) == (expected, "")
        assert words in said(err)
    assert queue.jobs() == three[::-1]


def test_an_exact_id_wins_over_a_longer_id_with_the_same_prefix(inside, queue):
    for id_ in ("dddd", "dddd1", "dddd2"):
        queue.add(id=id_)
    assert json.loads(inside("jobs", "show", "dddd", "--json")[1])["id"] == "dddd"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\x00\x01 no database " * 500, "not a database"), (b"SQLite format 3\x00" + bytes(2000), "damaged")],
    ids=["garbage", "a broken header"],
)
def test_a_file_that_is_not_a_database_is_a_one_line_error_and_unchanged(content, words, inside, tmp_path):
    (tmp_path / "bad.db").write_bytes(content)
    for command in (("list",), *((name, "aaaa") for name in COMMANDS_WITH_IDS)):
        code, out, err = inside("jobs", *command, "--database", "bad.db")
        assert (code, out) == (6, "")
        assert words in said(err)
    assert (tmp_path / "bad.db").read_bytes() == content


def test_a_queue_in_memory_is_refused(inside):
    code, _, err = inside("jobs", "list", "--database", ":memory:")
    assert code == 2
    assert "--database" in said(err)


def test_the_database_can_be_given_by_option_or_variable(inside, queue, three, monkeypatch):
    elsewhere = queue.file.rename(queue.file.with_name("elsewhere.db"))
    assert "first" in inside("jobs", "list", "--database", elsewhere)[1]
    assert "first" not in inside("jobs", "list")[1]
    monkeypatch.setenv("CESAR_DATABASE", str(elsewhere))
    assert "first" in inside("jobs", "list")[1]


# Listing


def test_the_list_without_a_queue_is_empty_and_creates_no_database(inside, queue):
    code, out, err = inside("jobs", "list")
    assert (code, out) == (0, "")
    assert str(queue.file) in said(err)
    assert json.loads(inside("jobs", "list", "--json")[1]) == {"jobs": [], "next_cursor": None}
    assert not queue.file.exists()


def test_the_list_has_a_row_per_job_newest_first(inside, three):
    code, out, err = inside("jobs", "list")
    heading, *lines = out.splitlines()
    assert (code, err) == (0, NOBODY)
    assert heading.split() == ["ID", "STATUS", "NAME", "MODEL", "DONE", "AGE", "TEXT"]
    assert [line.split()[:4] for line in lines] == [
        ["bbbb3333", "queued", "third", "base"],
        ["aaaa2222", "queued", "second", "base"],
        ["aaaa1111", "queued", "first", "base"],
    ]


def test_a_row_shows_the_start_of_the_text_or_the_error(inside, queue):
    queue.add(JobStatus.COMPLETED, result_text="Once upon\na time " + "there was " * 50)
    queue.add(JobStatus.ERROR, error_message="talk.mp3 is not media", error_code="not_media")
    failed, completed = inside("jobs", "list")[1].splitlines()[1:]
    assert failed.endswith("talk.mp3 is not media")
    assert re.search(r"completed .* 100% .* Once upon a time there was .*…$", completed)
    assert len(completed) < 120


def test_a_running_job_shows_its_percentage(inside, queue):
    with queue.one_at_work():
        assert re.search(r"processing .* 50% ", inside("jobs", "list")[1])


def test_control_characters_in_names_do_not_reach_the_terminal(inside, queue):
    job = queue.add(name="two\nlines\x1b[31m", result_text="red\x1b[31m", status=JobStatus.COMPLETED)
    for command in (["list"], ["show", job.id], ["retry", job.id], ["watch", job.id]):
        _, out, err = inside("jobs", *command)
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
def test_the_list_can_be_filtered(arguments, expected, inside, queue):
    queue.add(name="first")
    queue.add(JobStatus.CANCELLED, name="second")
    queue.add(name="third")
    queue.add(JobStatus.ERROR, name="fourth", model_size="tiny", error_message="no")
    _, out, _ = inside("jobs", "list", *arguments, "--json")
    assert [job["name"] for job in json.loads(out)["jobs"]] == expected


def test_pages_follow_one_another_by_the_cursor(inside, three):
    first = json.loads(inside("jobs", "list", "--limit", "2", "--json")[1])
    second = json.loads(inside("jobs", "list", "--limit", "2", "--json", "--cursor", first["next_cursor"])[1])
    assert [[job["name"] for job in page["jobs"]] for page in (first, second)] == [["third", "second"], ["first"]]
    assert second["next_cursor"] is None
    assert "--cursor" in inside("jobs", "list", "--limit", "2")[2].splitlines()[0]


def test_all_lists_every_page(inside, three, monkeypatch):
    monkeypatch.setattr("cesar.cli.queue.local._PAGE_SIZE", 1)
    page = json.loads(inside("jobs", "list", "--all", "--limit", "1", "--json")[1])
    assert [job["name"] for job in page["jobs"]] == ["third", "second", "first"]
    assert page["next_cursor"] is None


@pytest.mark.parametrize(
    "arguments", [["--cursor", "no"], ["--name", "\udcff"], ["--limit", "0"], ["--status", "done"]]
)
def test_an_invalid_list_request_is_a_one_line_error(arguments, inside, three):
    code, out, err = inside("jobs", "list", *arguments)
    assert code in (2, 6)
    assert out == ""
    said(err)


def test_jobs_as_json_have_every_field_except_the_owner_of_the_claim(inside, queue):
    with queue.one_at_work() as job:
        [shown] = json.loads(inside("jobs", "list", "--json")[1])["jobs"]
    assert list(shown) == [*(name for name in Job.model_fields if name not in ("owner", "claim")), "progress"]
    assert {key for row in rows(REFERENCE, "Key", "Jobs as JSON") for key in code_in(row.cells[0])} == set(shown)
    assert (shown["id"], shown["status"], shown["progress"], shown["attempt"]) == (job.id, "processing", 0.5, 1)
    assert shown["options"] == {**shown["options"], "beam_size": 1, "task": "transcribe"}


# Showing


def test_show_prints_everything_known_about_a_job(inside, queue):
    job = queue.add(JobStatus.ERROR, error_message="it is broken", error_code="bad_audio", error_hint="Mend it.")
    code, out, err = inside("jobs", "show", job.id[:8])
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


def test_show_and_list_report_dropped_speech(inside, queue):
    outcome = {"warnings": ["2 stretches gave no text"], "dropped_s": 3.5}
    job = queue.add(JobStatus.COMPLETED, result_text="", outcome=outcome)
    for arguments in (("show", job.id), ("list",)):
        _, out, _ = inside("jobs", *arguments)
        assert "2 stretches gave no text" in out


def test_show_prints_the_options_and_the_jobs_ahead(inside, queue, three):
    job = queue.add(options=TranscribeOptions(language="de", end=9.0), idempotency_key="monday", priority=-1)
    out = inside("jobs", "show", job.id)[1]
    assert re.search(r"^status +queued, 3 before it$", out, re.MULTILINE)
    assert re.search(r"^options +language de, end 9.0$", out, re.MULTILINE)
    assert re.search(r"^key +monday$", out, re.MULTILINE)
    assert re.search(r"^status +queued, next to go$", inside("jobs", "show", three[0].id)[1], re.MULTILINE)


def test_show_prints_a_jobs_progress(inside, queue):
    with queue.one_at_work() as job:
        queue.do(lambda repository: repository.request_cancel(job.id))
        out = inside("jobs", "show", job.id)[1]
    assert re.search(r"^status +processing, 50% done \(20 of 40 s\), to be cancelled$", out, re.MULTILINE)


def test_show_json_includes_the_events(inside, queue):
    job = queue.add(JobStatus.CANCELLED)
    shown = json.loads(inside("jobs", "show", job.id, "--json")[1])
    assert (shown["id"], shown["waiting_before"]) == (job.id, None)
    assert [(event["before"], event["after"]) for event in shown["events"]] == [
        (None, "queued"),
        ("queued", "cancelled"),
    ]
    assert set(shown["events"][0]) == {"id", "at", "before", "after", "attempt", "reason"}


ADDRESS = "https://example.org/talk.mp3"


def test_show_says_that_a_recording_waits_for_other_fetches(inside, queue):
    with queue.one_at_work(audio_path=ADDRESS, source_url=ADDRESS):
        job = queue.add(audio_path=ADDRESS, source_url=ADDRESS)
        beside = queue.add()
        assert "queued, next to go, waits to be fetched while 1 other is" in inside("jobs", "show", job.id)[1]
        assert json.loads(inside("jobs", "show", job.id, "--json")[1])["fetches_before"] == 1
        assert "fetched" not in inside("jobs", "show", beside.id)[1]
        assert json.loads(inside("jobs", "show", beside.id, "--json")[1])["fetches_before"] is None


def test_show_transcript_prints_the_transcript_only(inside, queue):
    job = queue.add(JobStatus.COMPLETED, result_text="Räder rollen.\nWeiter.")
    assert inside("jobs", "show", job.id, "--transcript") == (0, "Räder rollen.\nWeiter.\n", "")


def test_the_transcript_of_silence_is_empty(inside, queue):
    job = queue.add(JobStatus.COMPLETED, result_text="")
    assert inside("jobs", "show", job.id, "--transcript") == (0, "", "")


def test_a_partial_transcript_is_printed_with_a_note(inside, queue):
    with queue.one_at_work(name="talk") as job:
        code, out, err = inside("jobs", "show", job.id, "--transcript")
        assert (code, out) == (0, "One.\n\nTwo.\n")
        assert "so far" in said(err)
        for name in FORMATS:
            assert "Two." in inside("jobs", "show", job.id, "-f", name)[1]
        written = json.loads(inside("jobs", "show", job.id, "-f", "json")[1])
    assert written["is_partial"] is True
    assert [segment["start"] for segment in written["segments"]] == [0.0, 12.0]


def test_an_empty_list_says_whether_there_are_no_jobs_or_none_that_match(inside, queue):
    assert said(inside("jobs", "list")[2]).startswith("There are no jobs in ")
    queue.add()
    assert said(inside("jobs", "list", "--status", "error")[2]).startswith("There are no such jobs in ")


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_subtitles_of_a_job_respect_the_given_limits(name, inside, queue):
    said = "Ask not what your country can do for you, ask what you can do for your country."
    job = queue.with_text(said)
    limits = ("--max-line-length", "20", "--max-lines", "1", "--max-cue-duration", "2.5")
    code, out, err = inside("jobs", "show", job.id, "-f", name, *limits)
    assert (code, err) == (0, "")
    cues = [block.split("\n")[-1] for block in out.strip().split("\n\n") if "-->" in block]
    assert " ".join(cues) == said
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
def test_impossible_subtitle_limits_are_a_usage_error(options, words, inside, queue):
    code, out, err = inside("jobs", "show", queue.with_text("So.").id, *options)
    assert (code, out) == (2, "")
    assert words in said(err)


def test_a_transcript_without_times_cannot_be_shown_as_subtitles(inside, queue):
    job = queue.add(JobStatus.COMPLETED, result_text="Somebody said so.")
    code, out, err = inside("jobs", "show", job.id, "-f", "srt")
    assert (code, out) == (6, "")
    assert "--transcript" in said(err)


@pytest.mark.parametrize(
    "arguments", [["-f", "docx"], ["-f", "txt,srt"], ["-f", "srt", "--json"], ["--transcript", "--json"]]
)
def test_conflicting_show_options_are_a_one_line_error(arguments, inside, queue):
    job = queue.add(JobStatus.COMPLETED, result_text="So.")
    code, out, err = inside("jobs", "show", job.id, *arguments)
    assert (code, out) == (2, "")
    said(err)


# Nobody to do them


def test_a_list_without_waiting_jobs_needs_no_worker(inside, queue):
    queue.add(JobStatus.COMPLETED, result_text="done")
    assert inside("jobs", "list")[2] == ""


def test_no_warning_is_printed_if_a_worker_is_running(inside, queue, three):
    with queue.one_at_work():
        assert inside("jobs", "list")[2] == ""
    assert inside("jobs", "list")[2] == NOBODY


def test_the_advice_to_start_a_worker_repeats_the_given_database(inside, tmp_path):
    other = tmp_path / "other.db"
    Queue(other).add()
    assert f"`cesar worker --database {other}`" in inside("jobs", "list", "--database", other)[2]
