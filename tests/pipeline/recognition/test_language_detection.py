from collections.abc import Callable, Mapping

import numpy as np
import pytest

from cesar.engines.base import DecodeSettings, Hypothesis, Window
from cesar.engines.languages import UNKNOWN
from cesar.pipeline.recognition.chunk_language import Choice, LanguageCheck
from cesar.pipeline.recognition.decoding_passes import (
    Attempt,
    ChunkAudio,
    Decoded,
    DecodingPass,
    Evaluation,
    LanguageEvidence,
    Recognized,
)
from cesar.pipeline.recognition.language_detection import LanguageDetector, among
from cesar.pipeline.recognition.recognizer import Recognizer
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.chunking import PlannedChunk
from cesar.pipeline.speech.vad import Region
from tests.pipeline.engines import Answer, AnsweringEngine, Asked, saying

EN_DE = frozenset({"en", "de"})
OfWindow = Callable[[Window], Mapping[str, float]]


def sounds(*lengths: int) -> list[ChunkAudio]:
    """One after the other, each of that many seconds, speech from end to end."""
    ends = [int(end) for end in np.cumsum(lengths) * SAMPLE_RATE]
    starts = [0, *ends[:-1]]
    return [
        ChunkAudio(PlannedChunk(start, end, (Region(start, end, 0.99),)), np.zeros(end - start, np.float32))
        for start, end in zip(starts, ends, strict=True)
    ]


# The recording's language.


def detect(of_window, heard, allowed=EN_DE):
    engine = AnsweringEngine(lambda asked: saying(), languages=EN_DE, language_of=of_window)
    recognizer = Recognizer(engine, DecodeSettings(""))
    left = map(recognizer.attempt, heard)
    language, probability, taken = LanguageDetector(engine).of_recording(left, allowed, recognizer.encode)
    assert not taken or taken[0].encoded, "what was encoded to find out needn't be encoded again"
    return language, probability, [attempt.sound for attempt in taken], [attempt.sound for attempt in left], engine


def test_a_certain_first_chunk_needs_no_full_window():
    heard = sounds(5, 5, 5)
    language, probability, taken, left, engine = detect(lambda window: {"de": 0.96, "en": 0.04}, heard)
    assert (language, probability) == ("de", 0.96)
    assert (taken, left) == (heard[:1], heard[1:])
    assert [window.log_mel.shape[1] for window in engine.encoded] == [1000]


def test_an_uncertain_first_chunk_is_queried_in_a_full_window_with_what_follows():
    def of_window(window: Window) -> dict[str, float]:
        return {"en": 0.6, "de": 0.4} if window.duration < 20 else {"de": 0.99, "en": 0.01}

    language, probability, taken, _, engine = detect(of_window, sounds(8, 8, 8, 8, 8))
    assert (language, probability) == ("de", 0.99)
    assert len(taken) == 4
    assert [(window.log_mel.shape[1], window.duration) for window in engine.encoded] == [(1000, 8), (3000, 30)]


def test_an_uncertain_beginning_is_outvoted_by_what_follows():
    german = {"de": 0.99, "en": 0.01}
    asked = iter([{"en": 0.6, "de": 0.4}, {"en": 0.7, "de": 0.3}, german, german, german])
    language, probability, taken, *_ = detect(lambda window: next(asked), sounds(*[15] * 12))
    assert (language, len(taken)) == ("de", 8)
    assert probability == pytest.approx((0.3 + 3 * 0.99) / 4, abs=1e-4)


def test_at_most_four_windows_are_queried():
    _, probability, taken, left, engine = detect(lambda window: {"de": 0.5, "en": 0.4}, sounds(*[15] * 12))
    assert len(engine.encoded) == 5
    assert (len(taken), len(left)) == (8, 4)
    assert probability == pytest.approx(0.5 / 0.9, abs=1e-4)


def test_only_allowed_languages_are_detected():
    def of_window(window: Window) -> dict[str, float]:
        return {"cy": 0.9, "en": 0.06, "nl": 0.04}

    language, probability, *_ = detect(of_window, sounds(5), frozenset({"en", "nl"}))
    assert (language, probability) == ("en", 0.6)


def test_without_any_speech_the_language_is_unknown():
    assert detect(lambda window: {"en": 1.0}, [])[:3] == (UNKNOWN, 0.0, [])


def test_probabilities_among_some_languages_add_up_to_one_in_descending_order():
    assert among({"cy": 0.6, "en": 0.3, "de": 0.1}, EN_DE) == pytest.approx({"en": 0.75, "de": 0.25})
    assert list(among({"de": 0.2, "en": 0.2}, EN_DE)) == ["de", "en"], "the same every time"
    assert among({"cy": 1.0}, EN_DE) == {"de": 0.0, "en": 0.0}


# A chunk's language.


def recognized(
    answer: Answer, of_window: OfWindow, *, seconds: int = 5, allowed: frozenset[str] = EN_DE, usual: str = "en"
) -> tuple[Recognized, LanguageEvidence, AnsweringEngine]:
    """Make all attempts at one chunk of a recording that is in English."""
    engine = AnsweringEngine(answer, languages=EN_DE | {"cy"}, language_of=of_window)
    check = LanguageCheck(LanguageDetector(engine), Choice(usual, allowed))
    recognizer = Recognizer(engine, DecodeSettings(usual, beam_size=1), languages=check)
    [sound] = sounds(seconds)
    result = Recognized(sound.chunk)
    left: list[Attempt] = [recognizer.attempt(sound)]
    while left:
        [decoded] = recognizer.decode([recognizer.encode(left.pop())])
        evaluation = recognizer.evaluate(decoded)
        result.add(evaluation)
        left += evaluation.retries
    assert result.evidence
    return result, result.evidence, engine


def speaking(**logprobs: float) -> Answer:
    """An answer in each language, as sure as that; its words name the language."""

    def answer(asked: Asked) -> Hypothesis:
        text = f"A sentence in {asked.settings.language}, as long as one of that many seconds is."
        return saying((0, asked.duration, text), logprob=logprobs[asked.settings.language])

    return answer


def languages(result: Recognized) -> list[str]:
    return [part.language for part in result.accepted]


def test_a_chunk_in_the_default_language_is_decoded_once():
    result, spoken, engine = recognized(speaking(en=-0.2), lambda window: {"en": 0.8, "de": 0.2})
    assert (languages(result), spoken.probability) == (["en"], 0.8)
    assert (len(engine.asked), len(engine.encoded)) == (1, 1)


def test_a_chunk_in_another_language_is_written_in_that():
    result, spoken, engine = recognized(speaking(en=-0.5, de=-0.2), lambda window: {"de": 0.99, "en": 0.01})
    assert languages(result) == ["de"]
    assert "sentence in de" in result.accepted[0].text
    assert (spoken.language, spoken.probability, spoken.other) == ("de", 0.99, "")
    assert len(engine.encoded) == 1, "the window needs no second pass through the encoder"


def test_an_uncertain_language_is_queried_in_a_full_window():
    def of_window(window: Window) -> dict[str, float]:
        return {"de": 0.6, "en": 0.4} if window.log_mel.shape[1] < 3000 else {"en": 0.9, "de": 0.1}

    result, _, engine = recognized(speaking(en=-0.2, de=-0.1), of_window)
    assert languages(result) == ["en"]
    assert [window.log_mel.shape[1] for window in engine.encoded] == [1000, 3000]


def test_the_likelier_text_is_accepted_and_a_clear_contradiction_is_reported():
    result, spoken, _ = recognized(speaking(en=-0.2, de=-0.5), lambda window: {"de": 0.99, "en": 0.01})
    assert languages(result) == ["en"]
    assert (spoken.language, spoken.other) == ("en", "de")


def test_the_certain_language_of_a_moment_is_queried_in_a_full_window_too():
    def of_window(window: Window) -> dict[str, float]:
        return {"de": 0.97, "en": 0.03} if window.log_mel.shape[1] < 3000 else {"en": 0.8, "de": 0.2}

    result, _, engine = recognized(speaking(en=-0.2, de=-0.1), of_window, seconds=3)
    assert languages(result) == ["en"]
    assert len(engine.encoded) == 2


@pytest.mark.parametrize(("german", "taken"), [(-0.45, "en"), (-0.35, "de")])
def test_a_language_that_is_nearly_as_likely_needs_clearly_likelier_text(german, taken):
    result, spoken, _ = recognized(speaking(en=-0.5, de=german), lambda window: {"en": 0.6, "de": 0.4})
    assert languages(result) == [taken]
    assert spoken.probability == {"en": 0.6, "de": 0.4}[taken]


ALL = frozenset({"en", "de", "cy"})
ACCENTED = {"de": 0.37, "en": 0.28, "cy": 0.005}
"""English with an accent, in a recording that began in Welsh."""


def test_the_two_likeliest_languages_are_compared_if_the_default_one_is_unlikely():
    result, spoken, engine = recognized(
        speaking(cy=-0.4, de=-0.7, en=-0.3), lambda window: ACCENTED, allowed=ALL, usual="cy"
    )
    assert languages(result) == ["en"]
    assert [asked.settings.language for asked in engine.asked] == ["cy", "de", "en"]
    assert spoken.probability == pytest.approx(0.28 / 0.655, abs=1e-4)


def test_the_second_likeliest_language_needs_clearly_likelier_text_than_the_likeliest():
    result, *_ = recognized(speaking(cy=-0.8, de=-0.3, en=-0.25), lambda window: ACCENTED, allowed=ALL, usual="cy")
    assert languages(result) == ["de"]


def test_only_a_clear_language_is_compared_if_the_default_one_is_unlikely():
    *_, engine = recognized(
        speaking(cy=-0.4, de=-0.3), lambda window: {"de": 0.93, "en": 0.06, "cy": 0.01}, allowed=ALL, usual="cy"
    )
    assert [asked.settings.language for asked in engine.asked] == ["cy", "de"]


def test_rejected_text_does_not_win():
    def answer(asked: Asked) -> Hypothesis:
        looping = saying(
            (0, asked.duration, " so so so so so so so so so so so so so so" * 5), logprob=-0.05, tokens=99
        )
        return looping if asked.settings.language == "de" else speaking(en=-0.3)(asked)

    result, *_ = recognized(answer, lambda window: {"de": 0.99, "en": 0.01})
    assert languages(result) == ["en"]


def test_a_named_language_stays_and_another_clear_one_is_reported():
    result, spoken, engine = recognized(
        speaking(en=-0.5), lambda window: {"de": 0.97, "en": 0.03}, allowed=frozenset({"en"})
    )
    assert set(languages(result)) == {"en"}
    assert spoken.other == "de"
    assert {asked.settings.language for asked in engine.asked} == {"en"}


def test_a_language_that_is_not_allowed_is_only_reported_if_it_is_clear():
    result, spoken, _ = recognized(speaking(en=-0.3, de=-0.9), lambda window: {"cy": 0.95, "en": 0.03, "de": 0.02})
    assert languages(result) == ["en"]
    assert spoken.other == "cy"


def test_text_in_an_unlikely_language_is_reported_though_the_right_one_is_unclear():
    result, spoken, _ = recognized(speaking(en=-0.3, de=-0.9), lambda window: {"cy": 0.6, "de": 0.35, "en": 0.05})
    assert languages(result) == ["en"]
    assert spoken.other == UNKNOWN


@pytest.mark.parametrize(("duration_s", "other"), [(4, "cy"), (2, "")])
def test_a_part_of_a_chunk_reports_its_language_unless_it_is_a_moment(duration_s, other):
    engine = AnsweringEngine(
        speaking(en=-0.3), languages=EN_DE | {"cy"}, language_of=lambda window: {"cy": 0.99, "de": 0.0, "en": 0.01}
    )
    check = LanguageCheck(LanguageDetector(engine), Choice("en", EN_DE))
    [sound] = sounds(10)
    part = Attempt(sound, 0, duration_s * SAMPLE_RATE, DecodingPass.GREEDY, language="en")
    part = Recognizer(engine, DecodeSettings("en")).encode(part)
    _, spoken, _ = check.settle(Decoded(part, saying((0, duration_s, "Words."))))
    assert spoken
    assert (spoken.is_whole, spoken.other) == (False, other)


def test_languages_of_parts_count_in_whatever_order_they_were_decoded():
    [sound] = sounds(10)
    whole, early, late = (
        LanguageEvidence("en", 0.5),
        LanguageEvidence("en", 0.0, "de", 9, False),
        LanguageEvidence("en", 0.0, "fr", 50, False),
    )
    for order in ((whole, early, late), (whole, late, early)):
        result = Recognized(sound.chunk)
        for one in order:
            result.add(Evaluation(evidence=one))
        assert result.evidence == LanguageEvidence("en", 0.5, "de")


def test_the_next_likely_language_is_tried_if_all_text_was_rejected():
    def answer(asked: Asked) -> Hypothesis:
        if asked.settings.language == "en":
            return saying((0, asked.duration, "Murmur."), logprob=-1.4, no_speech=0.9)
        return speaking(de=-0.3)(asked)

    result, spoken, _ = recognized(answer, lambda window: {"en": 0.6, "de": 0.4})
    assert (languages(result), result.rejected) == (["de"], [])
    assert spoken.language == "de"


def test_the_next_likely_language_needs_likely_text():
    def answer(asked: Asked) -> Hypothesis:
        sure = {"en": -1.4, "de": -0.7}[asked.settings.language]
        return saying((0, asked.duration, "Murmur in " + asked.settings.language), logprob=sure, no_speech=0.9)

    result, *_ = recognized(answer, lambda window: {"en": 0.6, "de": 0.4})
    assert result.accepted == []
    assert [rejected_span.text for rejected_span in result.rejected] == ["Murmur in en"]


def test_unlikely_languages_are_not_tried():
    def answer(asked: Asked) -> Hypothesis:
        return saying((0, asked.duration, "Murmur."), logprob=-1.4, no_speech=0.9)

    *_, engine = recognized(answer, lambda window: {"en": 0.95, "de": 0.05})
    assert {asked.settings.language for asked in engine.asked} == {"en"}
