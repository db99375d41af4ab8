import os
import sys
from pathlib import Path

import pytest

from cesar.cli.transcription.inputs import SourceFile
from cesar.cli.transcription.outputs import STDOUT, Destination, FileTask, Target, plan_outputs
from cesar.cli.transcription.writing import prepare_outputs, write_outputs
from cesar.errors import OutputNotWritable
from cesar.transcript import ModelIdentity, Segment, Transcript

TRANSCRIPT = Transcript(
    (Segment(0.0, 1.0, "Grüße 音."),), "de", 1.0, 1.0, ModelIdentity("base", "r", "d", "cpu", "int8")
)
RECORDING = SourceFile(Path("talks/a.mp3"))


def to_stdout(name="txt"):
    return FileTask(RECORDING, (Target(name, STDOUT),))


def checked(destination):
    prepare_outputs(plan_outputs([RECORDING], destination), destination)


def test_text_goes_to_standard_output_unchanged(capfdbinary):
    write_outputs(to_stdout(), TRANSCRIPT, with_heading=False)
    assert capfdbinary.readouterr().out == "Grüße 音.\n".encode()


def test_several_texts_each_have_a_heading(capfd):
    write_outputs(to_stdout(), TRANSCRIPT, with_heading=True)
    assert capfd.readouterr().out == "== talks/a.mp3 ==\nGrüße 音.\n\n"


def test_json_has_no_heading(capfd):
    write_outputs(to_stdout("json"), TRANSCRIPT, with_heading=True)
    assert capfd.readouterr().out.startswith("{")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_standard_output_is_utf8_whatever_the_locale(encoding, capfdbinary, monkeypatch):
    with os.fdopen(os.dup(1), "w", encoding=encoding) as narrow:
        monkeypatch.setattr(sys, "stdout", narrow)
        write_outputs(to_stdout(), TRANSCRIPT, with_heading=False)
    assert capfdbinary.readouterr().out == "Grüße 音.\n".encode()


def test_every_format_gets_its_file(tmp_path):
    destination = Destination(folder=tmp_path, formats=("txt", "srt"))
    [job] = plan_outputs([RECORDING], destination)
    write_outputs(job, TRANSCRIPT, with_heading=True)
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "Grüße 音.\n"
    assert "-->" in (tmp_path / "a.srt").read_text(encoding="utf-8")


def test_the_output_folder_is_created_but_not_its_parent(tmp_path):
    checked(Destination(folder=tmp_path / "out"))
    assert (tmp_path / "out").is_dir()
    with pytest.raises(OutputNotWritable, match="deep"):
        checked(Destination(folder=tmp_path / "deep" / "deeper"))


def test_checking_a_folder_leaves_nothing_behind(tmp_path):
    checked(Destination(file=tmp_path / "a.txt"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["/dev/null", "/dev/stdout"])
def test_a_device_as_output_needs_no_writable_folder(device):
    checked(Destination(file=Path(device)))


def test_a_link_to_itself_is_refused(tmp_path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "a.txt")
    with pytest.raises(OutputNotWritable):
        checked(Destination(file=tmp_path / "a.txt"))


def test_a_link_is_checked_by_its_target(tmp_path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "none" / "b.txt")
    with pytest.raises(OutputNotWritable, match="none"):
        checked(Destination(file=tmp_path / "a.txt"))


def test_a_text_that_cannot_be_written_is_saved_in_the_temporary_folder_and_reported(tmp_path, monkeypatch):
    """The folder existed when the run began, but no longer does when the text is ready."""
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    job = FileTask(RECORDING, (Target("txt", tmp_path / "gone" / "a.txt"),))
    with pytest.raises(OutputNotWritable) as failure:
        write_outputs(job, TRANSCRIPT, with_heading=False)
    (kept,) = spare.glob("cesar-*/a.txt")
    assert kept.read_text(encoding="utf-8") == "Grüße 音.\n"
    assert str(kept) in failure.value.hint


def test_a_text_that_cannot_be_saved_anywhere_raises_the_first_error_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no spare"))
    job = FileTask(RECORDING, (Target("txt", tmp_path / "gone" / "a.txt"),))
    with pytest.raises(OutputNotWritable) as failure:
        write_outputs(job, TRANSCRIPT, with_heading=False)
    assert "kept" not in failure.value.hint
    assert list(tmp_path.iterdir()) == []
