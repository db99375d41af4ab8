import numpy as np
import pytest

from cesar.engines.base import DecodeSettings, Window
from cesar.pipeline.attempts import Sound
from cesar.pipeline.chunk import PlannedChunk
from cesar.pipeline.language import UNKNOWN, detect_language, doubt
from cesar.pipeline.recognize import Recognizer
from cesar.pipeline.samples import SAMPLE_RATE
from tests.pipeline.engines import AnsweringEngine, saying


def sounds(*lengths: int) -> list[Sound]:
    """One after the other, each of that many seconds."""
    ends = np.cumsum(lengths) * SAMPLE_RATE
    return [
        Sound(PlannedChunk(int(end) - length * SAMPLE_RATE, int(end), ()), np.zeros(length * SAMPLE_RATE, np.float32))
        for end, length in zip(ends, lengths, strict=True)
    ]


def detect(of_window, heard, languages=frozenset({"en", "de"})):
    engine = AnsweringEngine(lambda asked: saying(), languages=languages, language_of=of_window)
    iterator = iter(heard)
    language, probability, taken = detect_language(engine, Recognizer(engine, DecodeSettings("")), iterator)
    assert all(attempt.heard for attempt in taken), "what was encoded to find out needn't be encoded again"
    return language, probability, [attempt.sound for attempt in taken], list(iterator), engine


def test_a_clear_language_takes_one_chunk():
    heard = sounds(5, 5, 5)
    language, probability, taken, left, _ = detect(lambda window: {"de": 0.9, "en": 0.1}, heard)
    assert (language, probability) == ("de", 0.9)
    assert (taken, left) == (heard[:1], heard[1:])


def test_a_doubtful_beginning_is_outvoted_by_what_follows():
    def of_window(window: Window) -> dict[str, float]:
        return {"en": 0.6, "de": 0.4} if window.start == 0 else {"de": 0.99, "en": 0.01}

    language, _, taken, _, _ = detect(of_window, sounds(2, 15, 15))
    assert language == "de"
    assert len(taken) == 2


def test_long_chunks_weigh_more_than_short_ones():
    def of_window(window: Window) -> dict[str, float]:
        return {"en": 0.7, "de": 0.3} if window.duration < 5 else {"de": 0.7, "en": 0.3}

    assert detect(of_window, sounds(2, 2, 2, 15))[0] == "de"


def test_it_asks_of_four_chunks_at_most():
    _, probability, taken, left, engine = detect(lambda window: {"de": 0.5, "en": 0.4}, sounds(*[3] * 9))
    assert engine.windows_for_language == 4
    assert (len(taken), len(left)) == (4, 5)
    assert probability == 0.5


def test_a_model_of_one_language_is_not_asked():
    language, probability, taken, _, engine = detect(lambda window: {}, sounds(5), languages=frozenset({"en"}))
    assert (language, probability, taken) == ("en", 1.0, [])
    assert engine.windows_for_language == 0


def test_without_any_speech_the_language_is_unknown():
    assert detect(lambda window: {"en": 1.0}, [])[:3] == (UNKNOWN, 0.0, [])


@pytest.mark.parametrize(("language", "probability", "count"), [("de", 0.49, 1), ("de", 0.5, 0), (UNKNOWN, 0.0, 0)])
def test_a_guess_is_called_a_guess(language, probability, count):
    assert len(list(doubt(language, probability))) == count
