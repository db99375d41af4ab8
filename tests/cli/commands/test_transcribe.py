"""`cesar transcribe` end to end: real files, real decoding and the real child process, with scripted words."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import unicodedata
import wave
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SPEECH = Path(__file__).parents[2] / "audio" / "jfk.m4a"
TEXT = "Ask not."


def write_silence(path, seconds=1):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(32000 * seconds))


def write_script(folder, **more):
    """Write a scripted model that gives one sentence for any speech, and can be made to fail."""
    segments = [{"start": 2.0, "end": 4.0, "text": TEXT}]
    content = {"language": "en", "segments": segments, **more}
    (folder / "script.json").write_text(json.dumps(content), encoding="utf-8")
    return f"scripted:{folder / 'script.json'}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The model of most tests, which share it and its warm child process."""
    return write_script(tmp_path_factory.mktemp("script"))


@pytest.fixture
def folder(tmp_path):
    """The current folder, with a recording of speech, one of silence, a file that is not media and an empty one."""
    (tmp_path / "speech.m4a").symlink_to(SPEECH)
    write_silence(tmp_path / "silence.wav")
    (tmp_path / "noise.mp3").write_bytes(b"this is no recording\n" * 100)
    (tmp_path / "empty.mp3").write_bytes(b"")
    return tmp_path


@pytest.fixture
def transcribe(invoke, model, folder):
    """Return a function that runs `cesar transcribe` in this process and that folder."""
    return lambda *arguments: invoke("transcribe", *arguments, "--model", model)


def children_of(pid):
    """Return the descendants of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found += [child, *children_of(child)]
    return found


def test_standard_output_has_only_the_text_of_a_single_recording(transcribe):
    code, out, err = transcribe("speech.m4a")
    assert (code, out) == (0, f"{TEXT}\n")
    assert "speech.m4a: 11.0 s in" in err


def test_quiet_prints_only_the_text(transcribe):
    assert transcribe("speech.m4a", "-q") == (0, f"{TEXT}\n", "")


def test_silence_gives_an_empty_text_and_no_error(transcribe, folder):
    code, out, err = transcribe("silence.wav", "-d", "out")
    assert (code, out) == (0, "")
    assert "no speech" in err
    assert (folder / "out" / "silence.txt").read_bytes() == b""


# Speech that gives no text

NOTHING = "there is no text, although speech was detected: "


@pytest.fixture
def silent_model(folder):
    """A model that never recognises any words."""
    (folder / "deaf.json").write_text('{"language": "en", "segments": []}', encoding="utf-8")
    return f"scripted:{folder / 'deaf.json'}"


def test_speech_without_text_is_distinguished_from_silence(invoke, folder, silent_model):
    code, out, err = invoke("transcribe", "speech.m4a", "--model", silent_model, "-d", "out")
    assert (code, out) == (0, "")
    summary, warning = err.splitlines()
    assert "no text" in summary
    assert "no speech" not in err
    assert warning.startswith(f"cesar: speech.m4a: warning: {NOTHING}")
    assert "no words heard at 0:0" in warning
    assert (folder / "out" / "speech.txt").read_bytes() == b""


def test_quiet_reports_a_recording_whose_whole_text_is_lost(invoke, folder, silent_model):
    _, _, err = invoke("transcribe", "speech.m4a", "silence.wav", "--model", silent_model, "-q")
    (warning,) = err.splitlines()
    assert f"speech.m4a: warning: {NOTHING}" in warning


def test_json_lines_report_how_much_speech_gave_no_text(invoke, folder, silent_model):
    _, _, err = invoke("transcribe", "speech.m4a", "silence.wav", "--model", silent_model, "--json-lines")
    speech, silence = (event for line in err.splitlines() if (event := json.loads(line))["event"] == "file_finished")
    assert speech["dropped_s"] > 5
    assert NOTHING in speech["warnings"][0]
    assert (silence["dropped_s"], silence["warnings"]) == (0, [])


def test_the_transcript_lists_dropped_speech(invoke, folder, silent_model):
    _, out, _ = invoke("transcribe", "speech.m4a", "--model", silent_model, "-f", "json")
    transcript = json.loads(out)
    assert NOTHING in transcript["warnings"][0]
    assert {span["reason"] for span in transcript["ledger"] if span["kind"] == "dropped"} == {"no words heard"}


def test_dropped_speech_gives_a_warning_beside_the_text(invoke, folder):
    """The sonnet is longer than the script."""
    (folder / "sonnet.mp3").symlink_to(SPEECH.parent / "sonnet-1.mp3")
    code, out, err = invoke("transcribe", "sonnet.mp3", "--model", write_script(folder))
    assert (code, out.strip()) == (0, TEXT)
    summary, warning = err.splitlines()
    assert summary.endswith(", en")
    assert "gave no text: no words heard at 0:" in warning
    assert NOTHING not in warning


def test_several_texts_share_standard_output_in_order_under_headings(transcribe):
    _, out, _ = transcribe("speech.m4a", "silence.wav")
    assert out == f"== speech.m4a ==\n{TEXT}\n\n== silence.wav ==\n\n"


def test_json_on_standard_output_is_valid_json(transcribe):
    _, out, _ = transcribe("speech.m4a", "silence.wav", "-f", "json")
    first, end = json.JSONDecoder().raw_decode(out)
    second, _ = json.JSONDecoder().raw_decode(out[end:].lstrip())
    assert (first["text"], second["text"]) == (TEXT, "")


def test_several_formats_are_written_side_by_side(transcribe, folder):
    code, out, _ = transcribe("speech.m4a", "-d", "out", "-f", "txt,srt", "-f", "vtt")
    assert (code, out) == (0, "")
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["speech.srt", "speech.txt", "speech.vtt"]


def test_the_outputs_extension_chooses_the_format(transcribe, folder):
    transcribe("speech.m4a", "-o", "talk.vtt")
    assert (folder / "talk.vtt").read_text(encoding="utf-8").startswith("WEBVTT")


def test_a_bad_recording_does_not_stop_the_others_and_sets_the_exit_code(transcribe, folder):
    code, _, err = transcribe("gone.mp3", "noise.mp3", "empty.mp3", "speech.m4a", "-q", "-d", "out")
    assert code == 3
    assert (folder / "out" / "speech.txt").read_text(encoding="utf-8") == f"{TEXT}\n"
    *each, last = err.splitlines()
    assert len(each) == 3
    assert all(line.startswith("cesar: ") for line in each)
    assert last == (
        "cesar: 3 of 4 failed: gone.mp3 (file_not_found), noise.mp3 (not_media), empty.mp3 (empty_recording)"
    )


@pytest.mark.parametrize("name", ["gone.mp3", "noise.mp3", "empty.mp3", "folder", "/dev/null"])
def test_a_single_bad_recording_is_one_line_and_exit_code_3(name, transcribe, folder):
    (folder / "folder").mkdir()
    code, out, err = transcribe(name, "-q")
    assert (code, out) == (3, "")
    [line] = err.splitlines()
    assert name in line


def test_a_bad_recording_is_reported_even_without_a_model(invoke, folder):
    assert invoke("transcribe", "gone.mp3", "--offline", "-m", "large-v3")[0] == 3


@pytest.mark.parametrize("name", ["large-v3", "huge", "."])
def test_a_missing_model_is_reported_before_any_work(name, invoke, folder):
    code, out, err = invoke("transcribe", "speech.m4a", "--offline", "-d", "out", "-m", name)
    assert (code, out) == (4, "")
    [line] = err.splitlines()
    assert line.startswith("cesar: ")


def test_a_model_that_fails_ends_the_run(cesar, folder):
    """The other recordings would fail for the same reason."""
    done = cesar("transcribe", "speech.m4a", "silence.wav", "-q", "-m", "scripted:gone.json", text=True)
    assert done.returncode == 4
    assert done.stderr.endswith("cesar: 1 of 2 failed: speech.m4a (model_failed); 1 not tried\n")


def test_a_start_beyond_the_recording_is_an_input_error(transcribe):
    code, _, err = transcribe("speech.m4a", "-q", "--start", "1:00")
    assert code == 3
    assert "--start" in err


def test_skip_existing_skips_recordings_with_existing_texts(transcribe, folder):
    (folder / "out").mkdir()
    (folder / "out" / "silence.txt").write_text("mine", encoding="utf-8")
    code, _, err = transcribe("speech.m4a", "silence.wav", "-d", "out", "--skip-existing")
    assert code == 0
    assert (folder / "out" / "silence.txt").read_text(encoding="utf-8") == "mine"
    assert (folder / "out" / "speech.txt").read_text(encoding="utf-8") == f"{TEXT}\n"
    assert "silence.wav" not in err
    assert re.search(
        r"^1 of 2 done, 1 skipped \(already transcribed\): 11 s of audio in 0:00:\d\d \(\d+\.\dx\)$", err, re.MULTILINE
    )


def test_a_single_skipped_recording_is_reported(transcribe, folder):
    (folder / "silence.txt").write_text("mine", encoding="utf-8")
    assert transcribe("silence.wav", "-d", ".", "--skip-existing") == (
        *(0, ""),
        "silence.wav: already transcribed\n",
    )


def test_no_model_is_needed_if_every_recording_is_skipped(invoke, folder):
    (folder / "silence.txt").write_text("mine", encoding="utf-8")
    arguments = ["silence.wav", "-d", ".", "--skip-existing", "--offline", "-m", "large-v3"]
    assert invoke("transcribe", *arguments)[0] == 0


def test_with_json_lines_standard_error_has_only_events(transcribe):
    code, out, err = transcribe("speech.m4a", "noise.mp3", "--json-lines")
    events = [json.loads(line) for line in err.splitlines()]
    kinds = [event["event"] for event in events if event["event"] != "progress"]
    assert (code, out) == (3, f"== speech.m4a ==\n{TEXT}\n\n")
    assert kinds == ["file_started", "segment", "file_finished", "file_started", "file_failed"]
    assert {event["file"] for event in events} == {"speech.m4a", "noise.mp3"}


def test_standard_input_is_transcribed_and_no_copy_is_left(cesar, model, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    done = cesar("transcribe", "-", "-q", "-m", model, input=SPEECH.read_bytes())
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{TEXT}\n".encode(), b"")
    done = cesar("transcribe", "-", "-q", "-m", model, input=b"no recording\n")
    assert done.returncode == 3
    assert done.stderr.startswith(b"cesar: stdin ")
    assert list((tmp_path / "temporary").glob("cesar-*")) == []


def test_a_closed_pipe_ends_the_run_quietly(cesar, model, folder):
    reader, writer = os.pipe()
    os.close(reader)
    command = ["transcribe", "-q", "speech.m4a", "-m", model]
    done = cesar(*command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (3, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_standard_output_ends_the_run_with_one_line(cesar, model, folder):
    with Path("/dev/full").open("wb") as full:
        done = cesar("transcribe", "-q", "speech.m4a", "-m", model, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3
    [line] = done.stderr.splitlines()
    assert b"no space is left" in line


def test_a_recogniser_that_crashes_twice_is_exit_code_5(cesar, folder):
    """The second recording has no speech, so nothing can crash there."""
    crashing = write_script(folder, faults=[{"at": 3.0, "do": "crash"}])
    done = cesar("transcribe", "speech.m4a", "silence.wav", "-q", "-d", "out", "-m", crashing, text=True)
    assert done.returncode == 5
    assert "(native_crash)" in done.stderr.splitlines()[-1]
    assert [path.name for path in (folder / "out").iterdir()] == ["silence.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="it looks for the children in /proc")
@pytest.mark.parametrize(("signum", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_run_with_one_line_and_leaves_no_partial_file_or_child(
    signum, expected, environ, folder, monkeypatch
):
    """When the signal arrives, the first recording is finished and the second hangs in the recogniser."""
    monkeypatch.chdir(folder)
    hanging = write_script(folder, faults=[{"at": 3.0, "do": "hang"}])
    command = ["transcribe", "--json-lines", "silence.wav", "speech.m4a", "-d", "out", "-m", hanging]
    with subprocess.Popen([sys.executable, "-m", "cesar", *command], stderr=subprocess.PIPE) as program:
        assert program.stderr is not None
        reader = io.TextIOWrapper(program.stderr, encoding="utf-8")
        events = map(json.loads, reader)
        next(event for event in events if event["file"] == "speech.m4a" and event.get("phase") == "recognising")
        children = children_of(program.pid)
        program.send_signal(signum)
        last = json.loads(reader.read().splitlines()[-1])
        assert program.wait(timeout=60) == expected
    assert children
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
    assert [path.name for path in (folder / "out").iterdir()] == ["silence.txt"]
    assert (last["code"], last["exit_code"]) == ("interrupted", expected)
    assert "1 of 2 finished (silence.wav)" in last["message"]
    assert "--skip-existing" in last["hint"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_terminal_shows_a_bar_and_then_the_lines(environ, model, folder, monkeypatch):
    monkeypatch.chdir(folder)
    primary, terminal = os.openpty()
    command = [sys.executable, "-m", "cesar", "transcribe", "speech.m4a", "-m", model, "-o", "speech.txt"]
    with subprocess.Popen(command, stderr=terminal) as program:
        os.close(terminal)
        shown = read_all(primary).decode()
    assert program.returncode == 0
    assert "━" in shown
    assert "speech.m4a: 11.0 s in" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is hidden, and shown again


def read_all(descriptor):
    """Return what a pseudo-terminal shows until its last user has closed it, which Linux reports as an error."""
    with io.FileIO(descriptor) as screen:
        parts = []
        try:
            while part := screen.read(65536):
                parts.append(part)
        except OSError:
            pass
        return b"".join(parts)


@pytest.mark.model
def test_real_speech_is_transcribed(cesar, folder):
    done = cesar("transcribe", "speech.m4a", "-q", "--model", "base", "--offline", timeout=300)
    assert "ask what you can do for your country" in done.stdout.decode().lower()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Talk.WAV", "talk.wav"),
        ("STRASSE.wav", "straße.wav"),
        (unicodedata.normalize("NFD", "é.wav"), unicodedata.normalize("NFC", "é.wav")),
    ],
)
def test_of_two_names_that_some_systems_confuse_only_the_second_fails(first, second, transcribe, folder):
    talks = folder / "talks"
    talks.mkdir()
    for name in (first, second, "🦓.wav"):
        write_silence(talks / name)
    code, _, err = transcribe("talks", "-d", "out")
    assert code == 2
    assert {path.name for path in (folder / "out").iterdir()} == {f"{first}.txt", "🦓.txt"}
    assert f"the text of talks/{second} would have the same name as that of talks/{first}" in err


def test_of_two_recordings_with_the_same_name_only_the_second_fails(transcribe, folder):
    for name in ("one", "two"):
        (folder / name).mkdir()
        write_silence(folder / name / "a.wav")
    write_silence(folder / "two" / "b.wav")
    code, _, err = transcribe("one", "two", "-d", "out")
    assert code == 2
    assert {path.name for path in (folder / "out").iterdir()} == {"a.wav.txt", "b.txt"}
    assert "the text of two/a.wav would have the same name as that of one/a.wav" in err


def test_other_contents_of_a_folder_are_reported(transcribe, folder):
    talks = folder / "talks"
    talks.mkdir()
    write_silence(talks / "a.wav")
    (talks / "b.xyz").write_bytes(b"x")
    (talks / "notes.txt").write_bytes(b"x")
    code, _, err = transcribe("talks")
    assert code == 0
    assert "cesar: talks: 1 file (b.xyz) left out; name them explicitly to transcribe them" in err.splitlines()
    *_, events = transcribe("talks", "--json-lines")
    first = json.loads(events.splitlines()[0])
    assert first == {"event": "left_out", "file": "talks", "names": ["b.xyz"]}
