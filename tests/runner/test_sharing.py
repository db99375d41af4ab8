"""One warm child per model: waiting, stopping, callbacks, and closing it."""

import os
import signal
import threading

import pytest

from cesar import AudioTranscriber, CesarError, TranscribeOptions
from cesar.errors import Interrupted, ModelError, OutputError, RecordingNotFound, UnknownLanguage, UsageError
from tests.runner.support import (
    IN_THE_MIDDLE,
    JFK,
    JFK_S,
    SONNET,
    is_running,
    plain,
    wait_until,
    write_script,
)

pytestmark = pytest.mark.slow

BEGINNING = TranscribeOptions(language="en", end=5.0)
THREE_CHUNKS = TranscribeOptions(language="en", end=31.0)
"""Of the sonnet."""


class Stopped:
    """A `should_stop` that returns true once it is set."""

    def __init__(self):
        self.event = threading.Event()
        self.was_asked = threading.Event()

    def __call__(self):
        self.was_asked.set()
        return self.event.is_set()


def in_thread(work):
    """Run a function in a thread; return the thread and the list that receives its result or error."""
    results = []

    def run():
        try:
            results.append(work())
        except CesarError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


@pytest.fixture
def hanging(faulty):
    """Return a transcriber that never gets past the middle of the sonnet."""
    return faulty({"at": IN_THE_MIDDLE, "do": "hang"})


def test_no_child_is_started_before_it_is_needed(children, faulty):
    before = children()
    with pytest.raises(RecordingNotFound):
        faulty().transcribe("nowhere.mp3")
    assert children() == before


def test_a_child_stays_warm_for_the_next_call_and_for_others_of_the_same_model(children, transcriber, script):
    transcriber.transcribe(JFK, BEGINNING)
    before = children()
    transcriber.transcribe(JFK, BEGINNING)
    AudioTranscriber(script).transcribe(JFK)
    assert children() == before != set()


def test_each_model_has_its_own_child(children, transcriber, faulty):
    transcriber.transcribe(JFK, BEGINNING)
    before, during = children(), set()
    faulty().transcribe(JFK, BEGINNING, on_chunk=lambda chunk: during.update(children()))
    assert len(during - before) == 1


def test_a_failed_recording_does_not_end_the_child(children, transcriber, tmp_path):
    transcriber.transcribe(JFK, BEGINNING)
    before = children()
    (tmp_path / "noise.mp3").write_bytes(b"no recording " * 100)
    with pytest.raises(CesarError, match=r"noise\.mp3"):
        transcriber.transcribe(tmp_path / "noise.mp3")
    with pytest.raises(UnknownLanguage):
        transcriber.transcribe(JFK, TranscribeOptions(language="de"))
    transcriber.transcribe(JFK, BEGINNING)
    assert children() == before


def test_two_threads_each_get_their_own_answer(children, transcriber, script):
    works = [(JFK, BEGINNING), (SONNET, THREE_CHUNKS), (JFK, THREE_CHUNKS)]
    expected = [plain(transcriber.transcribe(*work)) for work in works]
    before = children()
    started = [in_thread(lambda work=work: AudioTranscriber(script).transcribe(*work)) for work in works]
    for thread, _ in started:
        thread.join(timeout=60)
    assert [plain(result) for _, [result] in started] == expected
    assert children() == before


def test_an_idle_child_is_closed_and_the_next_call_starts_another(children, faulty):
    transcriber = faulty()
    before = children()
    for _ in range(2):
        assert transcriber.transcribe(JFK, BEGINNING).segments
        wait_until(lambda: children() == before)


def test_a_child_that_was_killed_while_it_was_idle_is_replaced(children, transcriber):
    expected = plain(transcriber.transcribe(JFK))
    before = children()
    for child in before:
        os.kill(child, signal.SIGKILL)
    wait_until(lambda: not children() & before)
    assert plain(transcriber.transcribe(JFK)) == expected


def test_a_call_stopped_before_it_starts_does_not_end_the_child(children, transcriber):
    transcriber.transcribe(JFK, BEGINNING)
    before = children()
    with pytest.raises(Interrupted):
        transcriber.transcribe(JFK, should_stop=lambda: True)
    assert children() == before


def test_stopping_while_the_model_loads_ends_the_child(children, faulty):
    """`should_stop` is first called before the child is started, then continually."""
    before, during = children(), set()

    def stop_when_there_is_a_child():
        during.update(children() - before)
        return bool(during)

    with pytest.raises(Interrupted):
        faulty().transcribe(JFK, should_stop=stop_when_there_is_a_child)
    assert len(during) == 1
    assert children() == before


def test_stopping_ends_a_child_that_hangs_in_native_code(children, hanging):
    before, stop = children(), Stopped()

    def stop_soon(chunk):
        threading.Timer(0.2, stop.event.set).start()

    with pytest.raises(Interrupted):
        hanging.transcribe(SONNET, on_chunk=stop_soon, should_stop=stop)
    assert children() == before
    assert hanging.transcribe(JFK, BEGINNING).segments


def test_stopping_while_waiting_for_another_call_leaves_that_call_alone(children, hanging):
    before, mine, others = children(), Stopped(), Stopped()
    other, others_result = in_thread(lambda: hanging.transcribe(SONNET, should_stop=others))
    wait_until(lambda: children() - before)
    waiting, my_result = in_thread(lambda: hanging.transcribe(JFK, should_stop=mine))
    assert mine.was_asked.wait(timeout=60)
    mine.event.set()
    waiting.join(timeout=60)
    assert isinstance(my_result[0], Interrupted)
    assert other.is_alive()
    assert len(children() - before) == 1
    others.event.set()
    other.join(timeout=60)
    assert isinstance(others_result[0], Interrupted)


@pytest.mark.parametrize(
    ("callback", "error"),
    [
        ("on_chunk", OutputError),
        ("on_progress", ValueError),
        ("should_stop", KeyboardInterrupt),
    ],
)
def test_an_exception_in_a_callback_propagates_and_the_next_call_gets_its_own_answer(transcriber, callback, error):
    """Events of the abandoned recording must not be taken for those of the next one."""
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == 2:  # in the middle of the recording, with more events to come
            raise error("no more")
        return False

    with pytest.raises(error, match="no more"):
        transcriber.transcribe(SONNET, THREE_CHUNKS, **{callback: fail})
    assert transcriber.transcribe(JFK).duration == JFK_S


def test_a_callback_that_transcribes_with_the_same_model_gets_an_error_instead_of_a_deadlock(transcriber, script):
    with pytest.raises(UsageError, match="callback"):
        transcriber.transcribe(JFK, BEGINNING, on_chunk=lambda chunk: AudioTranscriber(script).transcribe(JFK))
    assert transcriber.transcribe(JFK, BEGINNING).segments


def test_a_callback_may_transcribe_with_another_model(transcriber, faulty):
    other = faulty()
    found = []
    transcriber.transcribe(JFK, BEGINNING, on_chunk=lambda chunk: found.append(other.transcribe(JFK)))
    assert [transcript.duration for transcript in found] == [JFK_S]


def test_a_stream_yields_segments_during_the_work_and_leaving_it_stops_the_work(children, hanging):
    """The model never reaches the end, so the segments are yielded before it."""
    before = children()
    for segment in hanging.stream(SONNET, THREE_CHUNKS):
        assert segment.end < IN_THE_MIDDLE
        [child] = children() - before
        break
    assert not is_running(child)
    assert hanging.transcribe(JFK).duration == JFK_S


def test_a_stream_yields_the_segments_that_transcribe_returns(transcriber):
    positions = []
    streamed = transcriber.stream(
        SONNET, THREE_CHUNKS, on_progress=lambda progress: positions.append(progress.position)
    )
    assert tuple(streamed) == transcriber.transcribe(SONNET, THREE_CHUNKS).segments
    assert positions == sorted(positions)


def test_a_stream_raises_what_transcribe_raises(transcriber):
    with pytest.raises(RecordingNotFound):
        list(transcriber.stream("nowhere.mp3"))
    with pytest.raises(Interrupted):
        list(transcriber.stream(SONNET, should_stop=lambda: True))


def test_a_model_that_cannot_be_loaded_is_an_error_and_can_be_repaired(children, faulty, tmp_path):
    before, transcriber = children(), faulty()
    (tmp_path / "faulty.json").write_text("[]")
    with pytest.raises(ModelError, match="can't be used"):
        transcriber.transcribe(JFK)
    assert children() == before
    write_script(tmp_path / "faulty.json")
    assert transcriber.transcribe(JFK, BEGINNING).segments


def test_many_calls_leave_no_threads_running(transcriber):
    transcriber.transcribe(JFK, BEGINNING)
    before = threading.active_count()
    for _ in range(3):
        transcriber.transcribe(JFK, BEGINNING)
    wait_until(lambda: threading.active_count() <= before)
