import io
import os
import sys
import threading
from pathlib import Path

import pytest

from cesar.cli.transcription.inputs import STDIN, SourceFile, expand, local_file
from cesar.errors import (
    EmptyRecording,
    NoMediaInFolder,
    RecordingNotFound,
    RecordingNotReadable,
    UsageError,
)


def make(folder, *names, content=b"x"):
    for name in names:
        (folder / name).write_bytes(content)


def problem_of(recording):
    assert recording.problem is not None
    return recording.problem


def names_of(recordings):
    return [Path(recording.name).name for recording in recordings]


@pytest.fixture
def stdin(monkeypatch):
    def feed(content):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return feed


def test_a_folder_stands_for_its_media_files_sorted_by_name(tmp_path):
    make(tmp_path, "b.mp3", "a.WAV", "notes.txt", ".hidden.mp3", "._a.WAV")
    (tmp_path / "deeper.mp3").mkdir()
    (tmp_path / "deeper").mkdir()
    make(tmp_path / "deeper", "c.mp3")
    assert names_of(expand([str(tmp_path)])) == ["a.WAV", "b.mp3"]


def test_a_file_given_by_name_may_have_any_extension(tmp_path):
    make(tmp_path, "recording.bin")
    [recording] = expand([str(tmp_path / "recording.bin")])
    assert recording.problem is None


def test_arguments_keep_their_order(tmp_path):
    make(tmp_path, "b.mp3", "a.mp3")
    assert names_of(expand([str(tmp_path / "b.mp3"), str(tmp_path / "a.mp3")])) == ["b.mp3", "a.mp3"]


def test_a_recording_given_twice_is_transcribed_once(tmp_path):
    make(tmp_path, "a.mp3", "b.mp3")
    (tmp_path / "link.mp3").symlink_to(tmp_path / "a.mp3")
    given = [str(tmp_path / "link.mp3"), str(tmp_path), str(tmp_path / "b.mp3")]
    assert names_of(expand(given)) == ["link.mp3", "b.mp3"]


@pytest.mark.parametrize("name", ["missing.mp3", "a.mp3/deeper", "x" * 300])
def test_a_missing_recording_keeps_its_position_and_has_a_problem(name, tmp_path):
    make(tmp_path, "a.mp3")
    missing, found = expand([str(tmp_path / name), str(tmp_path / "a.mp3")])
    assert isinstance(missing.problem, RecordingNotFound | RecordingNotReadable)
    assert name in missing.problem.message
    assert found.problem is None


def test_a_missing_folder_is_reported_as_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "a.mp3")
    given = ["talks/", "talks/deep/a.mp3", "notes", "a.mp3"]
    assert [recording.problem and recording.problem.message for recording in expand(given)] == [
        "there is no folder talks",
        "there is no folder talks, and so no talks/deep/a.mp3",
        "there is no file or folder notes",
        None,
    ]


def test_a_broken_link_is_reported_as_such(tmp_path):
    link = tmp_path / "link.mp3"
    link.symlink_to("gone.mp3")
    [recording] = expand([str(link)])
    assert problem_of(recording).message == f"{link} is a link to gone.mp3, which does not exist"


@pytest.mark.parametrize("address", ["https://example.org/talk.mp3?a=1&b=2", "HTTP://example.org/a", "s3://bucket/a"])
def test_a_url_gets_a_hint(address):
    [recording] = expand([address])
    assert recording.name == address
    assert problem_of(recording).message == f"{address} is a URL, not a file"
    assert "cesar jobs submit URL --server" in problem_of(recording).hint


def test_a_file_url_gets_a_hint_to_give_the_path():
    [recording] = expand(["file:///tmp/a.mp3"])
    assert "path alone" in problem_of(recording).hint


def test_an_empty_file_is_detected_before_decoding(tmp_path):
    make(tmp_path, "a.mp3", content=b"")
    [recording] = expand([str(tmp_path / "a.mp3")])
    assert isinstance(recording.problem, EmptyRecording)


def test_a_folder_without_media_is_a_problem(tmp_path):
    make(tmp_path, "notes.txt")
    [recording] = expand([str(tmp_path)])
    assert isinstance(recording.problem, NoMediaInFolder)


def test_a_device_is_not_a_recording():
    [recording] = expand([os.devnull])
    assert isinstance(recording.problem, RecordingNotReadable)


def test_an_empty_name_is_refused_instead_of_meaning_the_current_folder():
    with pytest.raises(UsageError):
        expand([""])


def test_a_file_called_dash_can_be_given_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "-")
    [recording] = expand(["./-"])
    with local_file(recording) as path:
        assert path.read_bytes() == b"x"


def test_standard_input_from_a_terminal_is_refused(monkeypatch):
    primary, secondary = os.openpty()
    with os.fdopen(secondary, "r") as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        with pytest.raises(UsageError, match="terminal"):
            expand(["-"])
    os.close(primary)


def test_standard_input_is_spooled_to_a_file_that_is_removed_afterwards(stdin, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stdin(b"sound" * 1000)
    [recording] = expand(["-"])
    assert recording.name == "stdin"
    with local_file(recording) as path:
        assert path.read_bytes() == b"sound" * 1000
        assert tmp_path in path.parents
    assert list(tmp_path.iterdir()) == []


def test_empty_standard_input_is_an_empty_recording(stdin, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stdin(b"")
    with pytest.raises(EmptyRecording), local_file(SourceFile(STDIN)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_closed_standard_input_is_reported(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(RecordingNotReadable, match="closed"), local_file(SourceFile(STDIN)):
        pass


def test_a_named_pipe_is_spooled(tmp_path):
    """A shell's <(...) is a pipe, and decoders need to seek."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[b"sound"])
    writer.start()
    [recording] = expand([str(pipe)])
    with local_file(recording) as path:
        assert path.is_file()
        assert path.read_bytes() == b"sound"
    writer.join()


def test_a_recordings_problem_is_raised_when_it_is_opened():
    recording = SourceFile(Path("gone.mp3"), RecordingNotFound("there is no file gone.mp3"))
    with pytest.raises(RecordingNotFound), local_file(recording):
        pass
