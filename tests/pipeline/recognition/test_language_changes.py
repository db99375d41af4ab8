"""Where the language changes within a chunk."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from cesar.engines.base import DecodeSettings, Hypothesis, Window
from cesar.pipeline.recognition.chunk_language import Choice, LanguageCheck
from cesar.pipeline.recognition.decoding_passes import Attempt, ChunkAudio, DecodingPass, Recognized
from cesar.pipeline.recognition.language_changes import likely_changes
from cesar.pipeline.recognition.language_detection import LanguageDetector
from cesar.pipeline.recognition.recognizer import Recognizer
from cesar.pipeline.samples import SAMPLE_RATE, Samples
from cesar.pipeline.speech.chunking import PlannedChunk
from cesar.pipeline.speech.vad import Region
from tests.pipeline.engines import AnsweringEngine, Asked, saying


def attempt(*speech: tuple[float, float], at: float = 0.0, samples: Samples | None = None) -> Attempt:
    """At a chunk that begins there, with speech in these seconds of it."""
    start, end = round(at * SAMPLE_RATE), round((at + speech[-1][1]) * SAMPLE_RATE)
    regions = tuple(Region(start + round(a * SAMPLE_RATE), start + round(b * SAMPLE_RATE), 0.99) for a, b in speech)
    sound = ChunkAudio(
        PlannedChunk(start, end, regions), np.zeros(end - start, np.float32) if samples is None else samples
    )
    return Attempt(sound, start, end, DecodingPass.GREEDY, language="en")


class LanguageEvidence:
    """What is spoken from when on, in seconds; a part sounds like each language by its share of it."""

    def __init__(self, *languages: tuple[float, str]) -> None:
        self._languages = languages
        self.asked: list[tuple[float, float]] = []

    def __call__(self, start: float, end: float) -> Mapping[str, float]:
        self.asked.append((start, end))
        ends = [*(begin for begin, _ in self._languages[1:]), 1e9]
        shares = {"en": 0.0, "de": 0.0, "fr": 0.0}
        for (begin, language), finish in zip(self._languages, ends, strict=True):
            shares[language] += max(0.0, min(end, finish) - max(start, begin)) / (end - start)
        return shares


def found_in(attempt: Attempt, language_of: LanguageEvidence) -> float | None:
    """Return where the likeliest change is, in seconds from the start of the recording."""
    changes = likely_changes(attempt, language_of)
    return changes[0].at / SAMPLE_RATE if changes else None


@pytest.mark.parametrize("change_s", [3.0, 5.5, 7.0, 9.0, 12.0])
@pytest.mark.parametrize("at", [0.0, 71.3])
def test_the_change_is_found_in_the_pause_where_it_is(at, change_s):
    speech = [(start, start + 1.4) for start in np.arange(0, 15, 1.5)]
    pauses = [end + 0.05 for _, end in speech]
    nearest = min(pauses, key=lambda pause: abs(pause - change_s))
    found = found_in(attempt(*speech, at=at), LanguageEvidence((0, "en"), (nearest, "de")))
    assert found is not None
    assert found - at == pytest.approx(nearest, abs=0.01)


def test_without_a_pause_the_change_is_placed_at_a_quiet_moment_near_it():
    samples = np.random.default_rng(1).normal(0, 0.1, 14 * SAMPLE_RATE).astype(np.float32)
    samples[round(6.9 * SAMPLE_RATE) : round(7.1 * SAMPLE_RATE)] = 0
    found = found_in(attempt((0, 14), samples=samples), LanguageEvidence((0, "en"), (7, "fr")))
    assert found == pytest.approx(7, abs=0.15)


def test_a_turn_in_another_language_is_found_at_both_of_its_ends():
    speech = [(start, start + 1.4) for start in np.arange(0, 15, 1.5)]
    changes = likely_changes(attempt(*speech), LanguageEvidence((0, "en"), (5.95, "de"), (10.45, "en")))
    assert sorted(round(change.at / SAMPLE_RATE, 2) for change in changes[:2]) == [5.95, 10.45]


def test_the_language_after_a_change_need_not_be_clear():
    """Beside a sentence in one language, a few words in another often sound like a bit of everything."""
    speech = [(start, start + 1.4) for start in np.arange(0, 15, 1.5)]

    def language_of(start: float, end: float) -> Mapping[str, float]:
        share = max(0.0, min(end, 5.95) - start) / (end - start)
        unclear = (1 - share) / 5
        return {"en": share, "la": 2 * unclear, "sv": unclear, "da": unclear, "cy": unclear}

    [change, *_] = likely_changes(attempt(*speech), language_of)
    assert (round(change.at / SAMPLE_RATE, 2), change.language, change.begins) == (5.95, "en", False)


def test_sound_in_one_language_has_no_change():
    assert likely_changes(attempt((0, 15)), LanguageEvidence((0, "de"))) == []


def test_a_short_sound_is_not_searched():
    spoken = LanguageEvidence((0, "en"), (2.5, "de"))
    assert likely_changes(attempt((0, 4.9)), spoken) == []
    assert spoken.asked == []


def test_uncertain_windows_are_no_change():
    assert likely_changes(attempt((0, 15)), lambda start, end: {"en": 0.5, "de": start / 40}) == []


def test_a_single_window_that_is_certain_and_wrong_is_no_change():
    def language_of(start: float, end: float) -> Mapping[str, float]:
        return {"en": 0.0, "de": 1.0} if start == 5 else {"en": 0.99, "de": 0.01}

    assert likely_changes(attempt((0, 15)), language_of) == []


def test_silence_is_not_queried():
    """Asked about silence the model says anything, and may be sure of it."""
    spoken = LanguageEvidence((0, "en"), (6, "de"))
    assert likely_changes(attempt((0, 5), (14, 14.5)), spoken) == []
    assert all(start < 5 for start, _ in spoken.asked)


# What becomes of the chunk.


def recognized(
    logprob_of_mixed: float,
    *,
    in_full_windows: Mapping[str, float] | None = None,
    weakest_of_mixed: float | None = None,
    spoken: LanguageEvidence | None = None,
    allowed: frozenset[str] = frozenset({"en", "de"}),
) -> tuple[Recognized, AnsweringEngine]:
    """A chunk of 14 s in English and, from second 7 on, in German; or what full windows say it is."""
    truth = spoken or LanguageEvidence((0, "en"), (7, "de"))

    def language_of(window: Window) -> Mapping[str, float]:
        if in_full_windows and window.log_mel.shape[1] == 3000:
            return in_full_windows
        return truth(window.start, window.start + window.duration)

    def answer(asked: Asked) -> Hypothesis:
        heard = language_of(Window(np.zeros((80, 0), np.float32), asked.start, asked.duration))
        is_right = heard[asked.settings.language] > 0.95
        text = f"A sentence in {asked.settings.language}, as long as one of that many seconds is, or longer. " * 2
        part = saying((0, asked.duration, text), logprob=-0.2 if is_right else logprob_of_mixed)
        return part if is_right else replace(part, min_utterance_logprob=weakest_of_mixed)

    engine = AnsweringEngine(answer, languages=frozenset({"en", "de", "fr"}), language_of=language_of)
    check = LanguageCheck(LanguageDetector(engine), Choice("en", allowed))
    recognizer = Recognizer(engine, DecodeSettings("en", beam_size=1), languages=check)
    chunk = attempt((0, 3), (3.2, 6.9), (7.1, 14))
    result = Recognized(chunk.sound.chunk)
    left = [recognizer.attempt(chunk.sound)]
    while left:
        [decoded] = recognizer.decode([recognizer.encode(left.pop())])
        evaluation = recognizer.evaluate(decoded)
        result.add(evaluation)
        left += evaluation.retries
    return result, engine


def test_a_chunk_in_two_languages_gets_each_part_in_its_own():
    result, _ = recognized(-0.8)
    assert [(part.language, round(part.start), round(part.end)) for part in result.accepted] == [
        ("en", 0, 7),
        ("de", 7, 14),
    ]
    assert result.evidence
    assert result.evidence.probability == pytest.approx(0.5)
    assert result.rejected == []
    assert result.accepted[0].end == result.accepted[1].start, "nothing is lost between them"


def test_certain_text_is_not_searched_for_changes():
    result, engine = recognized(-0.3)
    assert len({part.language for part in result.accepted}) == 1
    assert len(engine.encoded) <= 2


def test_text_with_one_unlikely_utterance_is_searched_for_changes():
    """A translated sentence beside a right one: on the whole, the model is sure."""
    result, _ = recognized(-0.3, weakest_of_mixed=-0.8)
    assert [part.language for part in result.accepted] == ["en", "de"]


def test_three_windows_are_queried_if_all_are_certainly_in_the_language_of_the_text():
    spoken = LanguageEvidence((0, "en"))
    assert likely_changes(attempt((0, 15)), spoken) == []
    assert spoken.asked == [(0, 5), (5, 10), (10, 15)]


def test_a_chunk_is_split_only_if_its_sides_by_themselves_are_in_different_languages():
    result, engine = recognized(-0.8, in_full_windows={"en": 0.9, "de": 0.1})
    assert len({part.language for part in result.accepted}) == 1
    assert {(asked.start, asked.duration) for asked in engine.asked} == {(0, 14)}


# Where the text may not change its language with the speech.

ENGLISH_THEN_FRENCH = LanguageEvidence((0, "en"), (7.0, "fr"))


@pytest.mark.parametrize("allowed", [{"en"}, {"en", "de"}], ids=["named", "not to choose from"])
def test_a_part_in_a_language_that_is_not_allowed_is_reported(allowed):
    result, _ = recognized(-0.8, spoken=ENGLISH_THEN_FRENCH, allowed=frozenset(allowed))
    assert {part.language for part in result.accepted} <= allowed
    assert result.evidence
    assert result.evidence.other == "fr"


def test_a_turn_in_a_language_that_is_not_allowed_is_reported_between_its_ends():
    result, _ = recognized(
        -0.8, spoken=LanguageEvidence((0, "en"), (3.1, "fr"), (7.0, "en")), allowed=frozenset({"en"})
    )
    assert {part.language for part in result.accepted} == {"en"}
    assert result.evidence
    assert result.evidence.other == "fr"


def test_with_a_named_language_a_part_is_reported_only_if_it_is_clear():
    unclear = {"en": 0.05, "fr": 0.85, "de": 0.1}
    result, _ = recognized(-0.8, in_full_windows=unclear, allowed=frozenset({"en"}))
    assert result.evidence
    assert result.evidence.other == ""


def test_with_a_named_language_certain_text_needs_no_further_window():
    result, engine = recognized(-0.3, spoken=LanguageEvidence((0, "en"), (12.7, "fr")), allowed=frozenset({"en"}))
    assert result.evidence
    assert result.evidence.other == ""
    assert len(engine.encoded) == 1
