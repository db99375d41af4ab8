import threading
from collections.abc import Iterator

import numpy as np
import pytest

from cesar.engines.base import DecodeSettings, Hypothesis
from cesar.engines.hardware import Plan
from cesar.pipeline import scheduler
from cesar.pipeline.recognition.decoding_passes import Attempt, ChunkAudio, Recognized
from cesar.pipeline.recognition.recognizer import Recognizer
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.scheduler import Scheduler
from cesar.pipeline.speech.chunking import PlannedChunk
from cesar.pipeline.speech.vad import Region
from tests.pipeline.engines import AnsweringEngine, Asked, saying

SHORT_S, LONG_S = 3.0, 12.0
MANY = 24


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """A busy machine takes longer to fill a batch than is waited for in earnest."""
    monkeypatch.setattr(scheduler, "_FIRST_MAX_WAIT_S", 60.0)
    monkeypatch.setattr(scheduler, "_MAX_WAIT_S", 60.0)


def plan(workers: int = 1, batch_size: int = 8) -> Plan:
    return Plan("cpu", "none", workers, 1, batch_size)


def sounds(*lengths: float) -> list[ChunkAudio]:
    """One after the other, 20 s apart; hardly anything in them is speech, so that few words will do."""
    made: list[ChunkAudio] = []
    for number, length in enumerate(lengths):
        start, end = number * 20 * SAMPLE_RATE, int((number * 20 + length) * SAMPLE_RATE)
        region = Region(start, start + SAMPLE_RATE, 0.9)
        made.append(ChunkAudio(PlannedChunk(start, end, (region,)), np.zeros(end - start, np.float32)))
    return made


def fine(asked: Asked) -> Hypothesis:
    return saying((0, 1, f"Number {asked.start / 20:.0f}."))


def run(engine: AnsweringEngine, heard: list[ChunkAudio], how: Plan) -> list[Recognized | PlannedChunk]:
    recognizer = Recognizer(engine, DecodeSettings("en", beam_size=1))
    return list(Scheduler(recognizer, how).run(map(recognizer.attempt, heard)))


def starts(engine: AnsweringEngine) -> list[int]:
    return [round(asked.start / 20) for asked in engine.asked]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_chunks(workers):
    heard = sounds(*[SHORT_S, LONG_S, LONG_S] * 12)
    results = run(AnsweringEngine(fine), heard, plan(workers))
    assert [result.chunk for result in results if isinstance(result, Recognized)] == [one.chunk for one in heard]
    assert [result.accepted[0].text for result in results if isinstance(result, Recognized)] == [
        f"Number {number}." for number in range(36)
    ]


def test_attempts_with_the_same_key_are_decoded_together_wherever_they_stand():
    engine = AnsweringEngine(fine)
    run(engine, sounds(*[SHORT_S, LONG_S] * 8), plan())
    assert {asked.batch_size for asked in engine.asked} == {8}


def test_longer_windows_make_smaller_batches():
    """So that a batch takes about the same memory, whatever is in it."""
    engine = AnsweringEngine(fine)
    run(engine, sounds(*[15.5] * 12), plan())
    assert [asked.batch_size for asked in engine.asked] == [6] * 12


def test_retries_are_batched():
    def unsure(asked: Asked) -> Hypothesis:
        return saying((0, 1, "Hm."), logprob=-0.6 if asked.settings.beam_size == 1 else -0.3)

    engine = AnsweringEngine(unsure)
    run(engine, sounds(*[SHORT_S] * 16), plan())
    assert [asked.batch_size for asked in engine.asked if asked.settings.beam_size == 5] == [4] * 16


@pytest.mark.parametrize(("beam_size", "sizes_at_once"), [(1, [4, 2]), (5, [4, 4])])
def test_while_a_batch_of_retries_runs_another_is_half_as_large(beam_size, sizes_at_once):
    """Together they take the most memory of all that workers do. A search that is wide at once is not held back."""
    sizes: list[int] = []
    another = threading.Event()

    def unsure_at_first(asked: Asked) -> Hypothesis:
        if asked.settings.beam_size == 1:
            return saying((0, 1, "Hm."), logprob=-0.6)
        sizes.append(asked.batch_size)
        if len(sizes) == 1:
            assert another.wait(60), "the other worker has to decode as well"
        another.set()
        return saying((0, 1, "Hm."), logprob=-0.3)

    recognizer = Recognizer(AnsweringEngine(unsure_at_first), DecodeSettings("en", beam_size=beam_size))
    list(Scheduler(recognizer, plan(workers=2)).run(map(recognizer.attempt, sounds(*[SHORT_S] * 16))))
    assert sizes[:2] == sizes_at_once
    assert len(sizes) == 16


def test_the_remaining_windows_are_decoded_longest_first():
    """Whichever worker is done sooner has the short ones to fill its time with."""

    def unsure(asked: Asked) -> Hypothesis:
        return saying((0, 1, "Hm."), logprob=-0.6 if asked.settings.beam_size == 1 else -0.3)

    engine = AnsweringEngine(unsure)
    run(engine, sounds(SHORT_S, LONG_S, 20.0), plan())
    asked = [(asked.settings.beam_size, asked.seconds) for asked in engine.asked]
    assert asked == [(1, 30.0), (1, 15.0), (1, 10.0), (5, 30.0), (5, 15.0), (5, 10.0)]


def test_a_rare_window_length_waits_for_its_batch():
    engine = AnsweringEngine(fine)
    run(engine, sounds(SHORT_S, *[LONG_S] * MANY), plan())
    assert starts(engine)[-1] == 0


def test_a_rare_window_length_does_not_wait_forever(monkeypatch):
    monkeypatch.setattr(scheduler, "_FIRST_MAX_WAIT_S", 0.0)
    monkeypatch.setattr(scheduler, "_MAX_WAIT_S", 0.0)
    engine = AnsweringEngine(fine)
    run(engine, sounds(SHORT_S, *[LONG_S] * MANY), plan())
    assert starts(engine)[0] == 0


def test_slow_decoding_does_not_delay_the_first_text(monkeypatch):
    monkeypatch.setattr(scheduler, "_FIRST_MAX_WAIT_S", 0.05)
    decoded = threading.Event()

    def answer(asked: Asked) -> Hypothesis:
        decoded.set()
        return fine(asked)

    recognizer = Recognizer(AnsweringEngine(answer), DecodeSettings("en", beam_size=1))

    def slowly() -> Iterator[Attempt]:
        first, second = map(recognizer.attempt, sounds(SHORT_S, SHORT_S))
        yield first
        assert decoded.wait(60), "the first sound has to be recognised while the second is still being read"
        yield second

    assert len(list(Scheduler(recognizer, plan()).run(slowly()))) == 2


def test_an_error_in_a_worker_thread_is_raised_where_results_are_consumed():
    def fail(asked: Asked) -> Hypothesis:
        raise MemoryError("no room")

    before = threading.active_count()
    with pytest.raises(MemoryError, match="no room"):
        run(AnsweringEngine(fail), sounds(*[SHORT_S] * MANY), plan(3))
    assert threading.active_count() == before


def test_progress_is_reported_before_the_first_batch_is_decoded():
    reached: list[float] = []
    engine = AnsweringEngine(fine)
    recognizer = Recognizer(engine, DecodeSettings("en", beam_size=1))
    heard = sounds(*[LONG_S] * 8)
    list(Scheduler(recognizer, plan(), reached.append).run(map(recognizer.attempt, heard)))
    assert {asked.batch_size for asked in engine.asked} == {8}, "all of them are decoded at once"
    assert reached[:8] == [LONG_S / 2 * encoded for encoded in range(1, 9)]
    assert reached == sorted(reached)


def test_progress_counts_from_the_start_of_the_first_unfinished_chunk():
    reached: list[float] = []
    recognizer = Recognizer(AnsweringEngine(fine), DecodeSettings("en", beam_size=1))
    done, *others = sounds(LONG_S, LONG_S, LONG_S)
    attempts: list[Attempt | PlannedChunk] = [done.chunk, *map(recognizer.attempt, others)]
    list(Scheduler(recognizer, plan(), reached.append).run(attempts))
    assert reached[0] == 20 + LONG_S / 2
