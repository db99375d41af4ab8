"""Recordings whose child crashes, is killed, hangs, or never starts; the parent survives."""

import os
import re
import signal
from dataclasses import replace

import pytest

from cesar import AudioTranscriber, Chunk, TranscribeOptions
from cesar.errors import ChildCrashed, ChildKilled, ChildStalled, InputError, NotMedia, RecogniserNotStarted
from tests.runner.support import (
    AUDIO,
    IN_THE_MIDDLE,
    JFK,
    SONNET,
    plain,
)
from tests.support.media import write_cut_off, write_damaged, write_playlist, write_text

pytestmark = pytest.mark.slow

BEGINNING = TranscribeOptions(language="en", end=5.0)
THREE_CHUNKS = TranscribeOptions(language="en", end=31.0)
"""Chunks of the sonnet; the last one contains its middle."""


def reached(error):
    """Return the position, in seconds, that the message states."""
    found = re.search(r" after (\d+) s, twice", error.message)
    assert found, error.message
    return int(found[1])


def test_losing_the_child_once_does_not_change_the_transcript(faulty, tmp_path):
    marker = tmp_path / "happened"
    transcriber = faulty({"at": IN_THE_MIDDLE, "do": "crash", "unless": str(marker)})
    chunks, positions = list[Chunk](), list[float]()
    with_loss = transcriber.transcribe(
        SONNET,
        THREE_CHUNKS,
        on_chunk=chunks.append,
        on_progress=lambda progress: positions.append(progress.position),
    )
    assert marker.exists()
    assert positions == sorted(positions)
    again: list[Chunk] = []
    assert plain(with_loss) == plain(transcriber.transcribe(SONNET, THREE_CHUNKS, on_chunk=again.append))
    assert chunks == again, "every chunk is reported once"


@pytest.mark.parametrize(
    ("fault", "error", "fragment"),
    [
        ("crash", ChildCrashed, "crashed (SIGSEGV)"),
        ("kill", ChildKilled, "memory"),
    ],
)
def test_losing_the_child_twice_gives_an_error_that_says_what_happened_and_where(faulty, fault, error, fragment):
    transcriber = faulty({"at": IN_THE_MIDDLE, "do": fault})
    with pytest.raises(error) as caught:
        transcriber.transcribe(SONNET, THREE_CHUNKS)
    assert fragment in caught.value.message
    assert SONNET.name in caught.value.message
    assert 0 < reached(caught.value) <= IN_THE_MIDDLE


def test_a_child_that_hangs_twice_is_an_error(faulty):
    impatient = faulty({"at": 8.0, "do": "hang"}, stall_timeout_s=0.5)
    with pytest.raises(ChildStalled, match=r"no progress for 0\.5 s while transcribing jfk\.m4a"):
        impatient.transcribe(JFK)
    patient = AudioTranscriber(impatient.model_size, settings=replace(impatient.settings, stall_timeout_s=60.0))
    assert patient.transcribe(JFK, BEGINNING).segments, "the next call works"


def test_a_recording_that_is_not_opened_in_time_is_rejected_without_a_retry(faulty):
    with pytest.raises(NotMedia, match=r"jfk\.m4a gave no sound within 1e-06 s"):
        faulty(open_timeout_s=1e-6).transcribe(JFK)


def test_a_child_that_hangs_opening_a_recording_is_killed_and_not_retried(faulty, children):
    transcriber, before, begun = faulty(open_timeout_s=0.5), children(), []

    def stop():
        begun.extend(children() - before)
        os.kill(begun[-1], signal.SIGSTOP)

    with pytest.raises(NotMedia, match=r"gave no sound within 0\.5 s"):
        transcriber.transcribe(JFK, on_begin=stop)
    assert len(begun) == 1
    assert not children() & set(begun)


def test_an_error_in_the_first_chunk_names_no_position(faulty):
    transcriber = faulty({"at": 1.0, "do": "abort"})
    with pytest.raises(ChildCrashed, match=r"\(SIGABRT\) while transcribing jfk\.m4a, twice$"):
        transcriber.transcribe(JFK)
    later = TranscribeOptions(language="en", start=5.0)
    assert transcriber.transcribe(JFK, later).segments, "the next call works"


def test_a_child_that_dies_while_decoding_is_replaced(children, transcriber):
    """As FFmpeg's decoders may with hostile media: the model has not decoded a window yet."""
    expected = plain(transcriber.transcribe(JFK))
    before, shot = children(), set[int]()

    def shoot(progress):
        if progress.phase == "recognising" and not shot:
            shot.update(before)
            for child in before:
                os.kill(child, signal.SIGSEGV)

    assert plain(transcriber.transcribe(JFK, on_progress=shoot)) == expected
    assert not children() & before


@pytest.fixture
def start_up_file(tmp_path, monkeypatch):
    """Make every interpreter started from now on run some lines first."""

    def write(lines):
        (tmp_path / "sitecustomize.py").write_text("import os, signal\n" + lines)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return write


def test_a_truncated_message_means_the_child_died(faulty, start_up_file):
    """Without waiting for the stall timeout: the rest of the message will never arrive."""
    start_up_file("""os.write(1, b'{"is": "Finished", "chunk": {"start": 0')\nos.kill(os.getpid(), signal.SIGKILL)""")
    with pytest.raises(ChildKilled):
        faulty().transcribe(JFK)


def test_a_dead_child_is_noticed_even_if_another_process_holds_its_pipe(faulty, start_up_file):
    """As with a process forked by another thread while the child was being started."""
    start_up_file(
        "if os.fork():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "os.close(2)\nwhile os.read(0, 4096):\n    pass\nos._exit(0)\n"
    )
    with pytest.raises(ChildKilled):
        faulty().transcribe(JFK)


def test_output_of_a_startup_file_is_not_taken_for_a_message(faulty, start_up_file):
    start_up_file("os.write(1, b'{}\\n')\nprint('hello')\n")
    assert faulty().transcribe(JFK, BEGINNING).segments


def test_the_error_says_why_an_interpreter_failed_to_start(faulty, monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(ChildCrashed, match=r"\(exit code 1: ModuleNotFoundError: .*\) while transcribing jfk\.m4a"):
        faulty().transcribe(JFK)


def test_an_interpreter_that_cannot_be_started_is_an_error(faulty, monkeypatch):
    """For example, because an upgrade removed it while this process was running."""
    monkeypatch.setattr("cesar.runner.process._COMMAND", ("/nowhere/python",))
    with pytest.raises(RecogniserNotStarted, match=r"can't be started: .*/nowhere/python"):
        faulty().transcribe(JFK)


def test_out_of_memory_is_recognised_by_a_librarys_message_not_by_a_recordings_name(transcriber, tmp_path):
    recording = write_text(tmp_path / "out of memory.mp3")
    with pytest.raises(NotMedia, match="is not audio or video"):
        transcriber.transcribe(recording)


def hostile_files(folder):
    """Broken, inconsistent and random media."""
    speech = AUDIO / "short-video.mp4"
    webm = AUDIO / "sonnet-1-opening.webm"
    yield write_text(folder / "text.mp3")
    yield write_playlist(folder / "list.m3u8", ["http://127.0.0.1:9/a.ts", "/etc/passwd"])
    for keep in (0.01, 0.5, 0.99):
        yield write_cut_off(folder / f"cut-{keep}.mp4", speech, keep=keep)
        yield write_cut_off(folder / f"cut-{keep}.webm", webm, keep=keep)
    for seed, (begin, end) in enumerate([(0.0, 0.02), (0.02, 0.4), (0.5, 1.0), (0.0, 1.0)]):
        yield write_damaged(folder / f"damaged-{seed}.mp4", speech, begin=begin, end=end, seed=seed)
        yield write_damaged(folder / f"damaged-{seed}.webm", webm, begin=begin, end=end, seed=seed)


def test_hostile_media_are_transcribed_or_rejected_and_the_child_survives(children, transcriber, tmp_path):
    transcriber.transcribe(JFK, BEGINNING)
    before = children()
    outcomes = {}
    for path in hostile_files(tmp_path):
        try:
            outcomes[path.name] = transcriber.transcribe(path, TranscribeOptions(language="en")).duration
        except InputError as error:
            outcomes[path.name] = error.code if path.name in error.message else error.message
    assert children() == before
    refusals = {outcome for outcome in outcomes.values() if isinstance(outcome, str)}
    assert outcomes["text.mp3"] in refusals <= {"not_media", "bad_audio", "no_audio_track", "empty_recording"}
    assert any(isinstance(outcome, float) for outcome in outcomes.values()), "what can be read is transcribed"
