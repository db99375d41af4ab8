import io
import json
import os

import pytest

from cesar.cli.transcription.progress import BarReporter, speed_and_eta
from cesar.cli.transcription.reporters import FileResult, JsonReporter, LineReporter, write_stderr
from cesar.cli.transcription.totals import OverallProgress, Tally
from cesar.errors import CesarError, NotMedia, RecordingNotFound
from cesar.options import TranscribeOptions
from cesar.transcript import Chunk, ModelIdentity, Progress, Segment, Transcript, Word

WORD = Word(1.0, 1.5, "Hallo", 0.9)
SEGMENT = Segment(1.0, 2.5, "Hallo 音.", (WORD,))
MODEL = ModelIdentity("base", "unknown", "0" * 64, "cpu", "int8")
TRANSCRIPT = Transcript((SEGMENT,), "de", 0.99, 30.0, MODEL, timings={"decode": 0.5}, warnings=("it was\nnoisy",))


def play(reporter, name="a.mp3", *, total=1, error=None):
    """Report one recording from start to end."""
    reporter.started(name, 1, total)
    reporter.progressed(name, Progress("loading", 0.0, None))
    reporter.progressed(name, Progress("recognising", 15.0, 30.0))
    reporter.recognised(name, Chunk(0.0, 15.0, (SEGMENT,), ()))
    if error:
        reporter.failed(name, error)
    else:
        reporter.finished(name, FileResult(TRANSCRIPT, 2.0, ()))
    reporter.close()


def test_every_event_is_one_line_of_json_that_names_the_file(capsys):
    play(JsonReporter(), "a\n音.mp3")
    lines = capsys.readouterr().err.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["event"] for event in events] == [
        "file_started",
        "progress",
        "progress",
        "segment",
        "file_finished",
    ]
    assert {event["file"] for event in events} == {"a\n音.mp3"}
    assert all(line.isascii() for line in lines)


def test_events_carry_times_in_seconds(capsys):
    play(JsonReporter())
    _, loading, progress, segment, finished = map(json.loads, capsys.readouterr().err.splitlines())
    assert (loading["phase"], loading["fraction"]) == ("loading", None)
    assert (progress["position"], progress["duration"], progress["fraction"]) == (15.0, 30.0, 0.5)
    assert (segment["start"], segment["end"], segment["text"]) == (1.0, 2.5, "Hallo 音.")
    assert segment["words"] == [{"start": 1.0, "end": 1.5, "text": "Hallo", "probability": 0.9}]
    assert (finished["duration"], finished["elapsed"], finished["language"]) == (30.0, 2.0, "de")
    assert finished["skipped"] is False


def test_a_failed_file_is_an_event_with_code_and_hint(capsys):
    play(JsonReporter(), error=NotMedia("a.mp3 is not media"))
    failed = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (failed["event"], failed["code"], failed["exit_code"]) == ("file_failed", "not_media", 3)
    assert failed["hint"]


def test_a_skipped_recording_is_reported_as_finished(capsys, tmp_path):
    JsonReporter().skipped("a.mp3", [tmp_path / "a.txt"], 1, 1)
    _, event = map(json.loads, capsys.readouterr().err.splitlines())
    assert event["skipped"] is True
    assert event["outputs"] == [str(tmp_path / "a.txt")]


def test_lines_report_speed_language_and_warnings(capsys):
    play(LineReporter(), total=3)
    output = capsys.readouterr().err
    assert "[1/3] a.mp3: 30.0 s in 2.0 s (15.0x), de" in output
    assert "cesar: a.mp3: warning: it was\\nnoisy" in output
    assert len(output.splitlines()) == 3


def test_quiet_lines_report_failures_only(capsys):
    play(LineReporter(is_quiet=True))
    assert capsys.readouterr().err == ""
    play(LineReporter(is_quiet=True), error=NotMedia("a.mp3 is not media"))
    assert capsys.readouterr().err.startswith("cesar: a.mp3 is not media.")


def test_verbose_lines_report_the_time_spent_in_each_stage(capsys):
    play(LineReporter(is_verbose=True))
    assert "base on cpu in int8; decode 0.50 s" in capsys.readouterr().err


def test_the_traceback_of_an_internal_error_needs_verbose(capsys):
    error = CesarError("internal error with a.mp3: boom")
    play(LineReporter(), error=error)
    assert "Error:" not in capsys.readouterr().err
    play(LineReporter(is_verbose=True), error=error)
    assert "CesarError:" in capsys.readouterr().err


def test_the_closing_line_counts_and_names_failures(capsys):
    failures = {"a.mp3": NotMedia("x"), "b.wav": RecordingNotFound("y")}
    LineReporter(is_quiet=True).ended(Tally(5, 3, failures))
    output = capsys.readouterr().err
    assert output == "cesar: 2 of 5 failed: a.mp3 (not_media), b.wav (file_not_found)\n"
    LineReporter(is_quiet=True).ended(Tally(5, 0, failures))
    assert capsys.readouterr().err.endswith("; 3 not tried\n")


def test_the_closing_line_counts_all_results(capsys):
    LineReporter().ended(Tally(12, 8, {"a.mp3": NotMedia("x")}, skipped=2, audio_s=5400.0, elapsed_s=600.0))
    first, _ = capsys.readouterr().err.splitlines()
    told = "8 of 12 done, 1 failed, 2 skipped (already transcribed), 1 not tried: 1.5 hours of audio in 0:10:00 (9.0x)"
    assert first == told


def test_unknown_durations_are_estimated_from_files_with_the_same_extension():
    overall = OverallProgress({"a.mp3": 100, "b.mp3": 300, "c.wav": 1000, "d.wav": 500})
    assert overall.progress("a.mp3", 0.0) is None
    overall.opened("a.mp3", 60.0)
    assert overall.progress("a.mp3", 30.0) == (30.0, 60.0 + 180.0 + 600.0 + 300.0)
    overall.ended("a.mp3")
    overall.opened("c.wav", 10.0)
    assert overall.progress("c.wav", 5.0) == (65.0, 60.0 + 180.0 + 10.0 + 5.0)


def test_a_recording_of_unknown_duration_counts_up_to_its_position():
    overall = OverallProgress({"stdin": 0, "a.mp3": 100})
    overall.opened("a.mp3", 60.0)
    assert overall.progress("stdin", 30.0) == (0.0, 60.0)


def test_a_second_bar_shows_the_overall_progress_of_several_recordings(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    overall = OverallProgress({"a.mp3": 100, "b.mp3": 300})
    play(BarReporter(LineReporter(), TranscribeOptions(), overall), total=2)
    output = capsys.readouterr().err
    assert "all 2" in output
    assert "50%" in output
    assert "12%" in output


def test_a_single_recording_has_no_closing_line(capsys):
    LineReporter().ended(Tally(1, 0, {"a.mp3": NotMedia("x")}))
    assert capsys.readouterr().err == ""


def test_a_closed_standard_error_does_not_stop_the_work(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with io.TextIOWrapper(io.FileIO(writer, "w"), write_through=True) as stream:
        monkeypatch.setattr("sys.stderr", stream)
        with pytest.raises(BrokenPipeError):
            stream.write("x")
        write_stderr("into the void")


def test_the_bar_disappears_and_the_lines_remain(capsys):
    options = TranscribeOptions(start=10.0, end=20.0)
    play(BarReporter(LineReporter(), options), "[red]a.mp3")
    output = capsys.readouterr().err
    assert "[red]a.mp3: 30.0 s in 2.0 s (15.0x), de" in output


def test_the_bar_covers_the_requested_part(capsys, monkeypatch):
    """15 s is halfway between 10 s and 20 s."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    play(BarReporter(LineReporter(), TranscribeOptions(start=10.0, end=20.0)))
    assert "50%" in capsys.readouterr().err


def test_remaining_time_is_extrapolated_from_the_speed_so_far():
    assert speed_and_eta(600.0, 3600.0, 50.0) == ("12.0x", "0:04:10")
    assert speed_and_eta(600.0, None, 50.0) == ("12.0x", "")
    assert speed_and_eta(0.0, 3600.0, 50.0) == ("", "")
    assert speed_and_eta(0.01, 3600.0, 50.0) == ("", ""), "not 22 days"
