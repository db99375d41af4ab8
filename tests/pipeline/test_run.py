"""The pipeline from file to chunks, on real speech: only the words come from a script."""

import json
import threading
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from cesar.engines.base import Hypothesis
from cesar.engines.hardware import Plan
from cesar.engines.scripted import ScriptedEngine
from cesar.errors import EmptyRecording, ModelError, NotMedia, RangeOutsideRecording, UnknownLanguage, UsageError
from cesar.ledger import whole_ledger
from cesar.options import TranscribeOptions
from cesar.pipeline.audio.decode import Recording
from cesar.pipeline.request import Outcome, Request
from cesar.pipeline.run import transcribe
from cesar.transcript import Chunk
from tests.pipeline.engines import AnsweringEngine, Asked, saying
from tests.support import media

ONE_BY_ONE = Plan("cpu", "none", workers=1, threads_per_worker=1, batch_size=1)
SONNET = media.AUDIO / "sonnet-1.mp3"
JFK = media.AUDIO / "jfk.m4a"


@dataclass
class Log:
    """A listener that remembers what it was told, and optionally breaks."""

    events: list[str] = field(default_factory=list)
    duration: float | None = None
    chunks: list[Chunk] = field(default_factory=list)
    skips: list[tuple[float, float]] = field(default_factory=list)
    reached: list[float] = field(default_factory=list)
    break_after: int | None = None

    def opened(self, duration: float | None) -> None:
        self.events.append("opened")
        self.duration = duration

    def alive(self) -> None:
        self.events.append("alive")

    def progressed(self, reached: float) -> None:
        self.reached.append(reached)

    def finished(self, chunk: Chunk) -> None:
        self.events.append("finished")
        self.chunks.append(chunk)
        if self.break_after == len(self.chunks):
            raise InterruptedError

    def skipped(self, start: float, end: float) -> None:
        self.events.append("skipped")
        self.skips.append((start, end))

    @property
    def spans(self) -> list[tuple[float, float]]:
        return [(chunk.start, chunk.end) for chunk in self.chunks]


AND_ON = (
    "which is all there is to know about it, but not all that can be said, since whoever has a window to fill finds "
    "words for it sooner or later, one by one until the last second of its sound is over and done with, or so they say"
)


def whole_window(asked: Asked) -> Hypothesis:
    """A text that tells where it comes from, and is as long as speech is."""
    text = f"Spoken at {asked.start:.3f} for {asked.duration:.3f}, {AND_ON}"
    return saying((0, asked.duration, text[: round(12 * asked.duration)]))


def decoded(path: Path) -> media.Sound:
    recording = Recording(path)
    samples = np.concatenate(list(recording.blocks()))
    recording.close()
    return samples


def run(
    path: Path,
    options: TranscribeOptions | None = None,
    *,
    engine: AnsweringEngine | ScriptedEngine | None = None,
    plan: Plan = ONE_BY_ONE,
    done: tuple[tuple[float, float], ...] = (),
) -> tuple[Outcome, Log]:
    log = Log()
    outcome = transcribe(
        Request(path, options or TranscribeOptions(), done), engine or AnsweringEngine(whole_window), plan, log
    )
    return outcome, log


@pytest.fixture(scope="module")
def reading(tmp_path_factory) -> Path:
    """Half a minute of the sonnet: a few chunks, and no MP3 to decode every time."""
    path = tmp_path_factory.mktemp("reading") / "reading.wav"
    return media.write_wav(path, decoded(SONNET)[: 31 * 16_000])


@pytest.fixture(scope="module")
def whole(reading) -> tuple[Outcome, Log]:
    """A run without any options."""
    return run(reading)


def script(folder: Path, *segments: tuple[float, float, str], language: str = "en") -> ScriptedEngine:
    path = folder / "script.json"
    lines = [{"start": start, "end": end, "text": text} for start, end, text in segments]
    path.write_text(json.dumps({"language": language, "segments": lines}))
    return ScriptedEngine(path)


# A whole run.


def test_a_segment_has_its_tokens_and_the_start_of_its_window(tmp_path):
    engine = script(tmp_path, (0.3, 4.4, "And so. My fellow!"), (5.4, 7.6, "Go on."))
    segments = [segment for chunk in run(JFK, engine=engine)[1].chunks for segment in chunk.segments]
    assert [bytes(segment.tokens).decode() for segment in segments] == [" And so. ", "My fellow!", " Go on."]
    assert {segment.token_logprobs for segment in segments} == {()}
    assert all(0 <= segment.seek <= segment.start * 100 for segment in segments)


def test_token_logprobs_are_returned_on_request(tmp_path):
    engine = script(tmp_path, (0.3, 4.4, "And so."))
    for chunk in run(JFK, TranscribeOptions(token_logprobs=True), engine=engine)[1].chunks:
        for segment in chunk.segments:
            assert segment.token_logprobs == (-0.1,) * len(segment.tokens)


def test_a_speech_is_transcribed_with_its_times(tmp_path):
    engine = script(
        tmp_path, (0.3, 4.4, "And so, my fellow Americans:"), (5.4, 7.6, "ask not"), (8.2, 10.9, "ask what.")
    )
    outcome, log = run(JFK, engine=engine)
    segments = [segment for chunk in log.chunks for segment in chunk.segments]
    assert " ".join(segment.text for segment in segments) == "And so, my fellow Americans: ask not ask what."
    assert segments[0].start == pytest.approx(0.3, abs=0.01)
    assert segments[-1].end == pytest.approx(10.9, abs=0.01)
    assert outcome.language == "en"
    assert outcome.duration == pytest.approx(11.0, abs=0.01)
    assert outcome.warnings == ()


@pytest.mark.slow
def test_chunks_come_in_order_and_never_overlap(whole):
    outcome, log = whole
    assert len(log.chunks) >= 3
    assert all(before.end <= after.start for before, after in pairwise(log.chunks))
    assert log.chunks[-1].end <= outcome.duration
    assert all(chunk.end - chunk.start <= 17.001 for chunk in log.chunks)


def test_every_second_is_accounted_for(whole):
    outcome, log = whole
    ledger = whole_ledger(log.chunks, outcome.duration, start=0, end=None)
    assert ledger[0].start == 0
    assert ledger[-1].end == outcome.duration
    assert all(before.end == after.start for before, after in pairwise(ledger))
    assert sum(span.end - span.start for span in ledger if span.kind == "speech") > 20


def test_the_listener_gets_the_opened_file_first_and_signs_of_life(whole):
    _, log = whole
    assert log.events[0] == "opened"
    assert log.events.count("opened") == 1
    assert log.events.count("alive") > 10
    assert log.duration == 31


def test_words_lie_within_their_segments():
    _, log = run(JFK, TranscribeOptions(word_timestamps=True))
    assert log.chunks
    for segment in (segment for chunk in log.chunks for segment in chunk.segments):
        assert " ".join(word.text for word in segment.words) == segment.text
        assert segment.start <= segment.words[0].start
        assert segment.words[-1].end <= segment.end


def test_the_time_of_every_stage_is_counted(whole):
    outcome, _ = whole
    assert {"decode", "speech detection", "features", "encoder", "decoder"} <= set(outcome.timings)


def test_two_runs_give_the_same(reading, whole):
    retries = run(reading)
    assert retries[1].chunks == whole[1].chunks
    assert retries[0].language == whole[0].language


@pytest.mark.parametrize(("workers", "batch_size"), [(1, 4), (3, 1), (2, 2)])
def test_threads_and_batches_change_nothing(reading, whole, workers, batch_size):
    plan = Plan("cpu", "none", workers, 1, batch_size)
    _, log = run(reading, plan=plan)
    assert log.chunks == whole[1].chunks


def test_a_batch_holds_as_many_chunks_as_planned(reading):
    engine = AnsweringEngine(whole_window)
    run(reading, engine=engine, plan=Plan("cpu", "none", 1, 1, batch_size=2))
    assert max(asked.batch_size for asked in engine.asked) == 2


# Resume.


@pytest.mark.parametrize("indexes", [(0, 1), (1,), (0, 1, 2, 3, 4, 5, 6)])
def test_finished_chunks_are_skipped_and_the_rest_stays_the_same(reading, whole, indexes):
    chunks = whole[1].chunks
    done = [chunk for index, chunk in enumerate(chunks) if index in indexes]
    engine = AnsweringEngine(whole_window)
    outcome, log = run(
        reading,
        engine=engine,
        done=tuple((chunk.start, chunk.end) for chunk in done),
        plan=Plan("cpu", "none", 2, 1, 2),
    )
    assert log.skips == [(chunk.start, chunk.end) for chunk in done]
    assert log.chunks == [chunk for chunk in chunks if chunk not in done]
    assert len(engine.asked) == len(chunks) - len(done)
    assert outcome.duration == whole[0].duration


def test_skipped_chunks_are_reported_in_order(reading, whole):
    spans = whole[1].spans
    _, log = run(reading, done=(spans[1],))
    told = [event for event in log.events if event in ("finished", "skipped")]
    assert told[:3] == ["finished", "skipped", "finished"]


def test_spans_of_another_recording_skip_nothing(reading, whole):
    _, log = run(reading, done=((0.0, 1.0), (700.0, 710.0)))
    assert log.skips == []
    assert log.chunks == whole[1].chunks


# Part of a recording.


def test_only_the_requested_part_is_transcribed(reading):
    outcome, log = run(reading, TranscribeOptions(start=9.0, end=22.0))
    assert log.chunks[0].start >= 9
    assert log.chunks[-1].end <= 22
    assert sum(end - start for start, end in log.spans) > 11
    assert outcome.duration == 31


def test_nothing_after_the_requested_end_is_decoded(tmp_path):
    """So the damage that lies there is not found."""
    cut = media.write_cut_off(tmp_path / "cut.mp3", SONNET, keep=0.5)
    outcome, _ = run(cut, TranscribeOptions(end=5.0))
    assert outcome.warnings == ()
    assert outcome.duration == pytest.approx(53.27, abs=0.01)


def test_times_of_a_part_count_from_the_start_of_the_recording(reading, tmp_path):
    engine = script(tmp_path, (10, 12, "Here."), (25, 27, "Not here."))
    _, log = run(reading, TranscribeOptions(start=9.0, end=22.0), engine=engine)
    assert [(s.start, s.end, s.text) for chunk in log.chunks for s in chunk.segments] == [(10, 12, "Here.")]


def test_an_end_beyond_the_recording_changes_nothing(reading, whole):
    outcome, log = run(reading, TranscribeOptions(end=500.0))
    assert log.chunks == whole[1].chunks
    assert outcome.duration == whole[0].duration


@pytest.mark.slow
def test_an_end_does_not_hide_that_a_file_is_cut_off(tmp_path):
    """Its header promises more than there is: what is not there must not be called silence."""
    cut = media.write_cut_off(tmp_path / "cut.mp3", SONNET, keep=0.5)
    whole, _ = run(cut)
    part, _ = run(cut, TranscribeOptions(end=50.0))
    assert part.duration == whole.duration == pytest.approx(26.6, abs=0.1)
    assert part.warnings == whole.warnings != ()


@pytest.mark.slow
@pytest.mark.parametrize("start", [53.3, 500.0])
def test_a_start_after_the_end_is_refused(start):
    with pytest.raises(RangeOutsideRecording, match=r"sonnet-1\.mp3") as caught:
        run(SONNET, TranscribeOptions(start=start))
    assert caught.value.code == "range_outside_recording"
    assert "53.3" in caught.value.message


@pytest.mark.parametrize(("start", "end"), [(2.0, 2.00001), (0.0, 0.00001)])
def test_a_part_without_a_whole_sample_has_no_speech(start, end):
    outcome, log = run(JFK, TranscribeOptions(start=start, end=end))
    assert log.chunks == []
    assert outcome.language == "en"


# Nothing to hear, nothing to read.


def test_silence_is_a_success_without_chunks(tmp_path):
    engine = AnsweringEngine(whole_window, languages=frozenset({"en", "de"}))
    outcome, log = run(media.write_wav(tmp_path / "a.wav", media.silence(30)), engine=engine)
    assert log.chunks == []
    assert engine.asked == []
    assert (outcome.language, outcome.language_probability, outcome.duration) == ("unknown", 0, 30)
    assert outcome.warnings == ()


@pytest.mark.slow
def test_speech_between_long_silences_is_found_at_its_place(tmp_path):
    """An hour would look the same: the tape keeps the last minute only."""
    words = media.AUDIO / "short-video.mp4"
    with_words = np.concatenate([media.silence(70), decoded(words), media.silence(70)])
    _, log = run(media.write_wav(tmp_path / "a.wav", with_words))
    (chunk,) = log.chunks
    assert 69 < chunk.start < chunk.segments[0].start < 71
    assert chunk.end < 74


def test_an_empty_track_is_refused(tmp_path):
    with pytest.raises(EmptyRecording):
        run(media.write_wav(tmp_path / "a.wav", media.silence(0)))


def test_what_is_not_media_is_refused_before_any_event(tmp_path):
    log = Log()
    with pytest.raises(NotMedia):
        transcribe(
            Request(media.write_text(tmp_path / "a.mp3"), TranscribeOptions()),
            AnsweringEngine(whole_window),
            ONE_BY_ONE,
            log,
        )
    assert log.events == []


def test_damage_is_reported_with_the_result(tmp_path):
    outcome, log = run(media.write_cut_off(tmp_path / "cut.mp3", SONNET, keep=0.5))
    assert log.chunks
    assert any("cut off" in warning for warning in outcome.warnings)


# Language and task.


def test_the_detected_language_is_passed_to_the_decoder():
    engine = AnsweringEngine(
        whole_window, languages=frozenset({"en", "de"}), language_of=lambda window: {"de": 0.95, "en": 0.05}
    )
    outcome, _ = run(JFK, engine=engine)
    assert (outcome.language, outcome.language_probability) == ("de", 0.95)
    assert {asked.settings.language for asked in engine.asked} == {"de"}


def test_a_named_language_is_kept_whatever_is_spoken():
    engine = AnsweringEngine(whole_window, languages=frozenset({"en", "de"}))
    outcome, log = run(JFK, TranscribeOptions(language="de"), engine=engine)
    assert (outcome.language, outcome.language_probability) == ("de", 1.0)
    assert {asked.settings.language for asked in engine.asked} == {"de"}
    assert {chunk.other_language for chunk in log.chunks} == {"en"}


def test_the_detected_language_is_one_of_the_candidates():
    engine = AnsweringEngine(
        whole_window,
        languages=frozenset({"en", "de", "cy"}),
        language_of=lambda window: {"cy": 0.8, "de": 0.15, "en": 0.05},
    )
    outcome, _ = run(JFK, TranscribeOptions(languages=("en", "de")), engine=engine)
    assert (outcome.language, outcome.language_probability) == ("de", 0.75)


@pytest.fixture
def changing(tmp_path) -> ScriptedEngine:
    """A reading that goes on in German after its first chunk, as far as the script knows."""
    path = tmp_path / "script.json"
    lines = [
        {"start": at, "end": at + 3.0, "text": f"A sentence at {at}.", "language": "en" if at < 9 else "de"}
        for at in range(0, 51, 3)
    ]
    path.write_text(json.dumps({"language": "en", "languages": ["en", "de"], "segments": lines}))
    return ScriptedEngine(path)


@pytest.mark.slow
def test_every_segment_has_the_language_that_is_spoken_there(changing):
    outcome, log = run(SONNET, engine=changing)
    spoken = [segment.language for chunk in log.chunks for segment in chunk.segments]
    assert outcome.language == "en", "what it begins with; which one is spoken most is known when all chunks are"
    assert set(spoken) == {"en", "de"}
    assert spoken == sorted(spoken, reverse=True)


@pytest.mark.slow
def test_languages_are_the_same_after_resuming_whichever_chunks_were_done(changing):
    _, log = run(SONNET, engine=changing)
    for left_out in range(len(log.chunks)):
        done = tuple(span for at, span in enumerate(log.spans) if at != left_out)
        _, retries = run(SONNET, engine=changing, done=done)
        assert retries.chunks == [log.chunks[left_out]]


def test_the_options_reach_the_decoder():
    engine = AnsweringEngine(whole_window, languages=frozenset({"en", "de"}))
    options = TranscribeOptions(
        language="de", task="translate", prompt="Namen:", hotwords="Čapek", beam_size=3, temperature=0.2
    )
    run(JFK, options, engine=engine)
    asked = engine.asked[0].settings
    assert (asked.language, asked.task, asked.prompt, asked.hotwords) == ("de", "translate", "Namen:", "Čapek")
    assert (asked.beam_size, asked.temperature) == (3, 0.2)


@pytest.mark.parametrize(
    ("options", "languages", "error"),
    [
        (TranscribeOptions(language="de"), {"en"}, UnknownLanguage),
        (TranscribeOptions(language="yue"), {"en", "de"}, UnknownLanguage),
        (TranscribeOptions(task="translate"), {"en"}, UsageError),
    ],
)
def test_what_the_model_cannot_do_is_refused_before_the_file_is_opened(options, languages, error):
    with pytest.raises(error, match="answering"):
        run(Path("no-such-file"), options, engine=AnsweringEngine(whole_window, languages=frozenset(languages)))


# Faults.


def test_an_error_in_the_engine_ends_the_run_and_its_threads(reading):
    def fail(asked: Asked) -> Hypothesis:
        raise ModelError("broken weights")

    before = threading.active_count()
    with pytest.raises(ModelError, match="broken weights"):
        run(reading, engine=AnsweringEngine(fail), plan=Plan("cpu", "none", 2, 1, 1))
    assert threading.active_count() == before


def test_chunks_finished_before_an_error_have_been_reported(reading):
    def fail_late(asked: Asked) -> Hypothesis:
        if asked.start > 20:
            raise ModelError("broken weights")
        return whole_window(asked)

    log = Log()
    with pytest.raises(ModelError):
        transcribe(Request(reading, TranscribeOptions()), AnsweringEngine(fail_late), ONE_BY_ONE, log)
    assert log.chunks
    assert log.chunks[-1].start <= 20


def test_a_listener_that_raises_ends_the_run_and_its_threads(reading):
    log = Log(break_after=1)
    before = threading.active_count()
    with pytest.raises(InterruptedError):
        transcribe(Request(reading, TranscribeOptions()), AnsweringEngine(whole_window), ONE_BY_ONE, log)
    assert len(log.chunks) == 1
    assert threading.active_count() == before


@pytest.mark.slow
def test_recognition_stays_only_a_little_ahead_of_the_consumer(tmp_path):
    """Else a slow reader would let results and sound pile up."""
    engine = AnsweringEngine(whole_window)
    ahead = []

    class Watch(Log):
        def finished(self, chunk: Chunk) -> None:
            super().finished(chunk)
            ahead.append(len(engine.asked) - len(self.chunks))

    long = media.write_wav(tmp_path / "long.wav", np.tile(decoded(SONNET), 5))
    transcribe(Request(long, TranscribeOptions()), engine, ONE_BY_ONE, Watch())
    assert len(ahead) > 20
    assert max(ahead) <= 10


@pytest.mark.parametrize(("task", "expected"), [("translate", "One, and two."), ("transcribe", "One,and two.")])
def test_a_translation_is_joined_as_english_whatever_language_was_spoken(reading, task, expected):
    def answer(asked: Asked) -> Hypothesis:
        return saying((0, asked.duration / 2, "One,"), (asked.duration / 2, asked.duration, "and two."))

    engine = AnsweringEngine(answer, languages=frozenset({"en", "ja"}))
    _, log = run(reading, TranscribeOptions(language="ja", task=task), engine=engine)
    assert {segment.text for chunk in log.chunks for segment in chunk.segments} == {expected}
