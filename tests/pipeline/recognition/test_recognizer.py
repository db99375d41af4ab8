from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cesar.engines.base import DecodeSettings, Hypothesis
from cesar.engines.hardware import Plan
from cesar.pipeline.recognition.decoding_passes import ChunkAudio, Recognized
from cesar.pipeline.recognition.quality import compression_ratio
from cesar.pipeline.recognition.recognizer import Recognizer, RecognizeSettings
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.scheduler import Scheduler
from cesar.pipeline.speech.chunking import PlannedChunk
from cesar.pipeline.speech.vad import Region, speech_between
from cesar.pipeline.stopwatch import Stopwatch
from tests.pipeline.engines import Answer, AnsweringEngine, Asked, saying

ENGLISH = DecodeSettings("en", beam_size=2)
ALONE = Plan("cpu", "none", workers=1, threads_per_worker=1, batch_size=8)
LOOP = "and so on and so on " * 20
LONG = (
    "Hardly anybody ever said so many different words about nothing at all, and went on to say how much more there is, "
    "and was, and would be if the day were longer; yet here we are, and nobody has looked at the clock for a while, "
    "least of all the man who brought it, wound it up, and hung it on the wall."
)
FULL_S = 30.0


def sound(start: float, end: float, *regions: tuple[float, float], confidence: float = 0.99) -> ChunkAudio:
    """A chunk from start to end; it is speech all over unless regions are given."""
    spoken = tuple(
        Region(int(a * SAMPLE_RATE), int(b * SAMPLE_RATE), confidence) for a, b in regions or ((start, end),)
    )
    first, last = int(start * SAMPLE_RATE), int(end * SAMPLE_RATE)
    return ChunkAudio(PlannedChunk(first, last, spoken), np.zeros(last - first, np.float32))


def recognize(recognizer: Recognizer, sounds: Sequence[ChunkAudio], plan: Plan = ALONE) -> list[Recognized]:
    results = list(Scheduler(recognizer, plan).run(map(recognizer.attempt, sounds)))
    return [result for result in results if isinstance(result, Recognized)]


def recognized(answer: Answer, heard: ChunkAudio, *, with_words: bool = False) -> tuple[Recognized, AnsweringEngine]:
    engine = AnsweringEngine(answer)
    (result,) = recognize(Recognizer(engine, ENGLISH, with_words=with_words), [heard])
    return result, engine


def by_attempt(*answers: Hypothesis) -> Answer:
    """The first answer to the first question, and so on; the last one to all that follow."""
    waiting = list(answers)
    return lambda asked: waiting.pop(0) if len(waiting) > 1 else waiting[0]


def texts(result: Recognized) -> list[str]:
    return [part.text for part in result.accepted]


def everything_kept(result: Recognized) -> str:
    """What a reader can get to see of the chunk: in the transcript, or in the ledger."""
    return " ".join([*texts(result), *(rejected_span.text for rejected_span in result.rejected)])


# What is heard is put in its place.


def test_utterances_are_placed_in_the_recording():
    result, engine = recognized(lambda asked: saying((0.5, 2, "One."), (3, 6, "Two.")), sound(100, 106.5))
    assert [(part.start, part.end, part.text) for part in result.accepted] == [(100.5, 102, "One."), (103, 106, "Two.")]
    assert result.rejected == []
    assert len(engine.asked) == 1


def test_an_utterance_ends_with_the_sound_at_the_latest():
    result, _ = recognized(lambda asked: saying((0, 19, "Hm.")), sound(5, 8))
    assert (result.accepted[0].start, result.accepted[0].end) == (5, 8)


def test_decoding_statistics_stay_with_the_text():
    result, _ = recognized(lambda asked: saying((0, 3, "Hm."), logprob=-0.3, no_speech=0.1), sound(0, 3))
    assert (result.accepted[0].avg_logprob, result.accepted[0].no_speech_prob) == (-0.3, 0.1)


def test_an_utterance_keeps_its_tokens_and_the_start_of_its_window():
    def answer(asked: Asked) -> Hypothesis:
        return saying((0, 4, "First.")) if asked.start == 10 else saying((0.5, 8, "Second."))

    result, _ = recognized(answer, sound(10, 22))
    assert [bytes(part.tokens) for part in result.accepted] == [b" First.", b" Second."]
    assert [part.seek for part in result.accepted] == [1000, 1400]
    assert result.accepted[0].token_ends == (0, 1, 2, 3, 4, 5, 6), "in the text without the blank before it"
    assert [len(part.token_logprobs) for part in result.accepted] == [7, 8]


@pytest.mark.parametrize(
    ("length", "window"),
    [(0.5, 10), (4, 10), (8.5, 10), (8.6, 15), (13.5, 15), (15, 17.5), (16.1, FULL_S), (29, FULL_S)],
)
def test_a_window_holds_the_sound_and_silence_after_it(length, window):
    _, engine = recognized(lambda asked: saying((0, length, LONG[: int(15 * length)])), sound(0, length))
    (asked,) = engine.asked
    assert asked.duration == pytest.approx(length, abs=0.001)
    assert asked.seconds == window


def test_a_short_window_ends_a_loop_early():
    _, engine = recognized(
        by_attempt(saying((0, 5, LOOP), tokens=100), saying((0, 5, "Once.")), saying((0, 5, "Once."))), sound(0, 5)
    )
    assert [asked.settings.max_tokens for asked in engine.asked] == [100, None]


def test_windows_of_one_length_are_decoded_together():
    engine = AnsweringEngine(lambda asked: saying((0, asked.duration, "Hm.")))
    recognize(Recognizer(engine, ENGLISH), [sound(0, 5, (0, 2)), sound(10, 25, (10, 12)), sound(30, 34, (30, 32))])
    assert [(asked.start, asked.batch_size) for asked in engine.asked] == [(10, 1), (0, 2), (30, 2)]


# Whisper stops early.


def test_speech_after_an_early_stop_is_decoded_again():
    def answer(asked: Asked) -> Hypothesis:
        return saying((0, 4, "First.")) if asked.start == 10 else saying((0.5, 8, "Second."))

    result, engine = recognized(answer, sound(10, 22))
    assert [(asked.start, asked.duration) for asked in engine.asked] == [(10, 12), (14, 8)]
    assert [(part.start, part.end, part.text) for part in result.accepted] == [
        (10, 14, "First."),
        (14.5, 22, "Second."),
    ]
    assert result.rejected == []


def test_silence_after_the_last_word_is_not_decoded_again():
    _, engine = recognized(lambda asked: saying((0, 4, "First.")), sound(0, 12, (0.5, 4.5)))
    assert len(engine.asked) == 1


def test_unrecognisable_speech_is_reported_as_dropped():
    result, engine = recognized(lambda asked: saying((0, 0.3, "Er.")), sound(0, 10))
    assert texts(result) == ["Er."]
    assert [(rejected_span.start, rejected_span.end) for rejected_span in result.rejected] == [(0.3, 10)]
    assert len(engine.asked) < 5


def test_decoding_ends_with_a_model_that_advances_in_tiny_steps():
    result, engine = recognized(lambda asked: saying((0, 0.6, "Er.")), sound(0, 15))
    assert len(engine.asked) < 40
    assert result.accepted[-1].end > 13


def test_text_after_the_end_of_the_sound_is_reported_as_dropped():
    """Whisper likes to invent in the silence that fills the window."""
    result, _ = recognized(lambda asked: saying((0, 4, "Real."), (6, 9, "Invented.")), sound(0, 5))
    assert "Real." in texts(result)
    assert "Invented." in everything_kept(result)


def test_a_chunk_whose_whole_text_lies_after_its_sound_is_dropped():
    result, _ = recognized(lambda asked: saying((6, 9, "Invented.")), sound(0, 5))
    assert texts(result) == []
    assert [rejected_span.text for rejected_span in result.rejected] == ["Invented."]


# Whisper is unsure, or runs in circles.


def test_uncertain_text_is_decoded_again_with_a_wider_beam():
    result, engine = recognized(
        by_attempt(saying((0, 5, "Wrong."), logprob=-0.6), saying((0, 5, "Right."), logprob=-0.55)), sound(0, 5)
    )
    assert texts(result) == ["Right."]
    assert [(asked.seconds, asked.settings.beam_size) for asked in engine.asked] == [(10, 2), (10, 5)]


def test_text_that_stays_uncertain_is_decoded_again_in_a_full_window():
    result, engine = recognized(
        by_attempt(
            saying((0, 5, "Wrong."), logprob=-1.3),
            saying((0, 5, "Wrong."), logprob=-0.9),
            saying((0, 5, "Right."), logprob=-0.3),
        ),
        sound(0, 5),
    )
    assert texts(result) == ["Right."]
    assert [(asked.seconds, asked.settings.beam_size) for asked in engine.asked] == [(10, 2), (10, 5), (FULL_S, 5)]


def test_a_requested_beam_is_used_in_the_first_pass():
    engine = AnsweringEngine(lambda asked: saying((0, 5, "So so."), logprob=-0.7))
    recognize(Recognizer(engine, replace(ENGLISH, beam_size=7)), [sound(0, 5)])
    assert [asked.settings.beam_size for asked in engine.asked] == [7]


def test_certain_text_is_decoded_once():
    _, engine = recognized(lambda asked: saying((0, 5, "Right."), logprob=-0.44), sound(0, 5))
    assert len(engine.asked) == 1


@pytest.mark.parametrize(
    "worse",
    [
        saying(),
        saying((0, 5, "Nonsense."), logprob=-1.5),
        saying((0, 5, LOOP), logprob=-0.1, tokens=400),
    ],
    ids=["empty", "less sure", "loop"],
)
def test_a_worse_second_attempt_does_not_replace_the_first(worse):
    result, _ = recognized(by_attempt(saying((0, 5, "Good enough."), logprob=-0.6), worse), sound(0, 5))
    assert texts(result) == ["Good enough."]
    assert result.rejected == []


def test_a_loop_is_replaced_by_a_pass_that_penalises_repetition():
    result, engine = recognized(by_attempt(saying((0, 5, LOOP), tokens=400), saying((0, 5, "Once."))), sound(0, 5))
    assert texts(result) == ["Once."]
    assert [(asked.seconds, asked.settings.avoid_repetition) for asked in engine.asked] == [(10, False), (FULL_S, True)]


def test_real_repetition_is_accepted():
    part = saying((0, 15, LOOP), tokens=100)
    result, engine = recognized(lambda asked: part, sound(0, 15))
    assert texts(result) == [LOOP.strip()]
    assert [(asked.seconds, asked.settings.avoid_repetition) for asked in engine.asked] == [
        (17.5, False),
        (FULL_S, False),
    ]


def test_a_slow_loop_that_a_full_window_does_not_confirm_is_replaced_too():
    result, engine = recognized(
        by_attempt(saying((0, 15, LOOP), tokens=100), saying((0, 15, LOOP * 2), tokens=110), saying((0, 15, LONG))),
        sound(0, 15),
    )
    assert texts(result) == [LONG]
    assert [asked.settings.avoid_repetition for asked in engine.asked] == [False, False, True]


def test_text_that_repeats_itself_in_every_pass_is_dropped_and_reported():
    result, engine = recognized(lambda asked: saying((0, 5, LOOP), tokens=400), sound(2, 7))
    assert texts(result) == []
    (rejected_span,) = result.rejected
    assert (rejected_span.start, rejected_span.end) == (2, 7)
    assert "repeated" in rejected_span.reason
    assert LOOP.strip() in rejected_span.text
    assert len(engine.asked) == 2


def test_text_under_a_repetition_penalty_is_accepted_only_if_it_is_likely():
    result, _ = recognized(
        by_attempt(saying((0, 5, LOOP), tokens=400), saying((0, 5, "Oh, monkey."), logprob=-1.2)), sound(0, 5)
    )
    assert texts(result) == []
    assert "Oh, monkey." in everything_kept(result)


def test_text_cut_off_in_a_short_window_is_decoded_again_in_a_full_one():
    """Some languages take many tokens a second."""
    cut = replace(saying((0, 5, "So much"), tokens=100), is_cut_off=True)
    result, engine = recognized(by_attempt(cut, saying((0, 5, "So much to say."), tokens=120)), sound(0, 5))
    assert texts(result) == ["So much to say."]
    assert [asked.seconds for asked in engine.asked] == [10, FULL_S]


def test_a_loop_before_silence_is_reported_too():
    loop = saying((0, 5, LOOP), tokens=400)
    result, _ = recognized(by_attempt(loop, saying()), sound(0, 5))
    assert texts(result) == []
    assert LOOP.strip() in everything_kept(result)


def test_empty_text_is_decoded_again():
    result, engine = recognized(by_attempt(saying(), saying((0, 5, "There."))), sound(0, 5))
    assert texts(result) == ["There."]
    assert [asked.seconds for asked in engine.asked] == [10, FULL_S]


def test_speech_without_words_is_reported_as_dropped():
    result, _ = recognized(lambda asked: saying(), sound(3, 8))
    assert [(rejected_span.start, rejected_span.end, rejected_span.reason) for rejected_span in result.rejected] == [
        (3, 8, "no words heard")
    ]


# Texts that are drawn.

DRAWING = replace(ENGLISH, temperature=0.8)


def drawing(*answers: Hypothesis, lengths: Sequence[float] = (5,)) -> tuple[list[Recognized], AnsweringEngine]:
    engine = AnsweringEngine(by_attempt(*answers))
    sounds = [sound(100 * at, 100 * at + length) for at, length in enumerate(lengths)]
    return recognize(Recognizer(engine, DRAWING), sounds), engine


def test_a_sampled_segment_records_its_temperature():
    ([result], engine) = drawing(saying((0, 5, "Drawn."), temperature=0.8))
    assert [(part.text, part.temperature) for part in result.accepted] == [("Drawn.", 0.8)]
    assert [asked.settings.temperature for asked in engine.asked] == [0.8]


@pytest.mark.parametrize("logprob", [-0.6, -0.99])
def test_sampled_text_may_be_less_likely_than_greedy_text(logprob):
    (_, engine) = drawing(saying((0, 5, "Drawn."), logprob=logprob, temperature=0.8))
    assert len(engine.asked) == 1


@pytest.mark.parametrize(
    "wild",
    [
        saying((0, 5, "Nonsense."), logprob=-1.1, temperature=0.8),
        saying((0, 5, LOOP), tokens=400, temperature=0.8),
        saying(temperature=0.8),
    ],
    ids=["unsure", "loop", "empty"],
)
def test_an_implausible_sample_is_decoded_again_greedily(wild):
    ([result], engine) = drawing(wild, saying((0, 5, "Sober."), logprob=-0.3))
    assert [(part.text, part.temperature) for part in result.accepted] == [("Sober.", 0.0)]
    assert [asked.settings.temperature for asked in engine.asked] == [0.8, 0.0]


# Whisper invents.


def test_text_that_the_model_itself_takes_for_silence_is_dropped_and_reported():
    result, _ = recognized(lambda asked: saying((0, 5, "So I said."), logprob=-1.2, no_speech=0.9), sound(0, 5))
    assert texts(result) == []
    assert [(rejected_span.reason, rejected_span.text) for rejected_span in result.rejected] == [
        ("no speech", "So I said.")
    ]


@pytest.mark.parametrize(("logprob", "no_speech"), [(-0.8, 0.9), (-1.2, 0.5)])
def test_text_is_dropped_only_if_both_signs_of_silence_agree(logprob, no_speech):
    result, _ = recognized(
        lambda asked: saying((0, 5, "So I said."), logprob=logprob, no_speech=no_speech), sound(0, 5)
    )
    assert texts(result) == ["So I said."]


def test_a_known_hallucination_is_dropped_only_where_speech_is_uncertain():
    clear, _ = recognized(lambda asked: saying((0, 2, "Thank you.")), sound(0, 2, confidence=0.99))
    doubtful, _ = recognized(lambda asked: saying((0, 2, "Thank you.")), sound(0, 2, confidence=0.4))
    assert texts(clear) == ["Thank you."]
    assert texts(doubtful) == []
    assert [rejected_span.text for rejected_span in doubtful.rejected] == ["Thank you."]


def test_a_hallucination_repeated_in_a_moment_is_dropped_however_certain_the_detector_is():
    twice = saying((0.9, 0.96, "Thanks for watching."), (1.5, 1.56, "Thanks for watching."))
    result, _ = recognized(lambda asked: twice, sound(0, 3, (0.9, 0.96), (1.5, 1.56)))
    assert texts(result) == []
    assert [rejected_span.text for rejected_span in result.rejected] == ["Thanks for watching. Thanks for watching."]


def test_implausibly_fast_text_is_dropped_and_the_rest_is_kept():
    answer = saying((0, 3, "This was said in peace."), (3.2, 3.3, "And so it goes on and on and on for a long time."))
    result, engine = recognized(lambda asked: answer, sound(0, 4, (0, 3.3)))
    assert texts(result) == ["This was said in peace."]
    assert [(rejected_span.start, rejected_span.reason) for rejected_span in result.rejected] == [
        (3.2, "faster than anybody speaks")
    ]
    assert [asked.seconds for asked in engine.asked] == [10, FULL_S], "a full window might have known better"


def test_a_full_window_with_plausible_times_is_accepted():
    fast = saying((0, 0.1, "It is not so late as you may think."))
    result, _ = recognized(by_attempt(fast, saying((0, 3, "It is not so late."), logprob=-0.4)), sound(0, 3))
    assert texts(result) == ["It is not so late."]
    assert result.rejected == []


def test_a_hallucination_after_real_words_is_dropped_alone():
    answer = saying((0, 3, "This was said in peace."), (4, 6, "Thank you for watching."))
    result, _ = recognized(lambda asked: answer, sound(0, 7, (0, 3)))
    assert texts(result) == ["This was said in peace."]
    assert [(rejected_span.reason, rejected_span.text) for rejected_span in result.rejected] == [
        ("probably invented", "Thank you for watching.")
    ]


# The prompt.

PROMPTED = replace(ENGLISH, prompt="A talk by Jane Roe.", hotwords="Foobar, Kubernetes")


def with_prompt(prompted: Hypothesis, unprompted: Hypothesis, heard: ChunkAudio) -> tuple[Recognized, AnsweringEngine]:
    """One text while the prompt is there, another without it."""
    engine = AnsweringEngine(lambda asked: prompted if asked.settings.prompt else unprompted)
    (result,) = recognize(Recognizer(engine, PROMPTED), [heard])
    return result, engine


def prompts(engine: AnsweringEngine) -> list[tuple[str | None, str | None]]:
    return [(asked.settings.prompt, asked.settings.hotwords) for asked in engine.asked]


def test_text_without_words_of_the_prompt_is_decoded_once():
    result, engine = with_prompt(saying((0, 3, "So it is.")), saying((0, 3, "No.")), sound(0, 3))
    assert texts(result) == ["So it is."]
    assert prompts(engine) == [(PROMPTED.prompt, PROMPTED.hotwords)]


@pytest.mark.parametrize("echo", ["and Kubernetes, Foobar, Foobar,", "A talk by Jane Roe.", "Foobar."])
def test_text_that_echoes_the_prompt_is_replaced_by_text_without_it(echo):
    result, engine = with_prompt(saying((0, 3, echo)), saying((0, 3, "It's not right.")), sound(0, 3))
    assert texts(result) == ["It's not right."]
    assert result.rejected == []
    assert prompts(engine) == [(PROMPTED.prompt, PROMPTED.hotwords), (None, None)]


@pytest.mark.parametrize("heard", ["We use Cooper Netties.", "We use Kubernetes."])
def test_a_spoken_word_of_the_prompt_is_spelled_as_in_the_prompt(heard):
    result, _ = with_prompt(saying((0, 3, "We use Kubernetes.")), saying((0, 3, heard)), sound(0, 3))
    assert texts(result) == ["We use Kubernetes."]


def test_an_echo_of_the_prompt_over_nothing_is_dropped_and_reported():
    result, _ = with_prompt(saying((0, 3, "Foobar, Foobar")), saying(), sound(0, 3))
    assert texts(result) == []
    assert [(rejected_span.reason, rejected_span.text) for rejected_span in result.rejected] == [
        ("it came from the prompt", "Foobar, Foobar")
    ]


@pytest.mark.parametrize(
    "lost",
    [
        saying(),
        saying((0, 0.1, "Nobody has ever said so much in so little time.")),
        saying((0, 3, LOOP), tokens=400),
        saying((0, 3, "Er."), logprob=-1.2, no_speech=0.9),
    ],
    ids=["empty", "too fast", "loop", "silence"],
)
def test_words_displaced_by_the_prompt_are_recovered_without_it(lost):
    result, _ = with_prompt(lost, saying((0, 3, "There they are.")), sound(0, 3))
    assert texts(result) == ["There they are."]
    assert result.rejected == []


def test_an_unprompted_attempt_gets_every_decoding_pass_too():
    def answer(asked: Asked) -> Hypothesis:
        if asked.settings.prompt:
            return saying((0, 3, "Foobar."))
        return saying((0, 3, "Right."), logprob=-0.3 if asked.settings.beam_size == 5 else -0.6)

    engine = AnsweringEngine(answer)
    (result,) = recognize(Recognizer(engine, PROMPTED), [sound(0, 3)])
    assert texts(result) == ["Right."]
    assert [asked.settings.beam_size for asked in engine.asked] == [2, 2, 5]


def test_prompted_and_unprompted_windows_are_not_decoded_together():
    engine = AnsweringEngine(lambda asked: saying((0, 3, "Foobar." if asked.settings.prompt else "No.")))
    recognize(Recognizer(engine, PROMPTED), [sound(0, 3), sound(10, 13), sound(20, 23)])
    assert prompts(engine) == [(PROMPTED.prompt, PROMPTED.hotwords)] * 3 + [(None, None)] * 3


# Words.


def test_words_are_timed_from_the_start_of_the_recording():
    result, engine = recognized(
        lambda asked: saying((0, 2, "One two."), (2, 4, "Three.")), sound(10, 14), with_words=True
    )
    assert engine.aligned == [[" One two.", " Three."]]
    assert [[(word.text, word.start) for word in part.words] for part in result.accepted] == [
        [("One", 10), ("two.", 10.5)],
        [("Three.", 11)],
    ]


def test_words_of_a_second_attempt_are_timed_from_the_start_of_the_recording():
    def answer(asked: Asked) -> Hypothesis:
        return saying((0, 4, "First.")) if asked.start == 10 else saying((0, 8, "Second."))

    result, _ = recognized(answer, sound(10, 22), with_words=True)
    assert [part.words[0].start for part in result.accepted] == [10, 14]


def test_words_are_not_aligned_unless_requested():
    result, engine = recognized(lambda asked: saying((0, 4, "One two.")), sound(0, 4))
    assert engine.aligned == []
    assert result.accepted[0].words == ()


def test_a_rejected_span_at_the_end_of_a_chunk_ends_with_the_chunk():
    """The model often places what it invents there, with equal timestamps."""
    for start in (2.984375, 2.999, 3.0, 3.5):
        engine = AnsweringEngine(by_attempt(saying((start, start, "Thank you."), logprob=-0.1)))
        (result,) = recognize(Recognizer(engine, PROMPTED, settings=SMALL), [sound(40, 43, (40.3, 41), (41.2, 42.8))])
        assert result.rejected
        assert all(40 <= rejected_span.start < rejected_span.end <= 43 for rejected_span in result.rejected)


# Whatever the model says.

SMALL = RecognizeSettings(windows_s=(2, 3, 4), silence_after_s=0.5)
"""Short windows are as good, and make many examples affordable."""

utterances = st.builds(
    lambda start, length, text: (start, start + length, text),
    st.floats(0, 4),
    st.floats(0, 3),
    st.sampled_from(["Yes.", "so it is", "", LOOP, "Thank you.", "Thanks for watching.", "Foobar, Kubernetes."]),
)
hypotheses = st.builds(
    lambda part, logprob, no_speech: saying(*sorted(part), logprob=logprob, no_speech=no_speech),
    st.lists(utterances, max_size=3),
    st.sampled_from([-0.1, -0.7, -1.4]),
    st.sampled_from([0.0, 0.9]),
)


def scripted(answers: Sequence[Hypothesis]) -> Answer:
    """Answers that depend on the window, the way and the prompt, and on nothing else."""

    def answer(asked: Asked) -> Hypothesis:
        key = round(asked.start * 50) + round(asked.seconds) + asked.settings.avoid_repetition
        key += 2 * (asked.settings.prompt is not None)
        return answers[key % len(answers)]

    return answer


@given(st.lists(hypotheses, min_size=1, max_size=5))
@settings(max_examples=30)
def test_any_output_of_the_model_terminates_within_the_chunk(answers):
    engine = AnsweringEngine(scripted(answers))
    recognizer = Recognizer(engine, PROMPTED, with_words=True, settings=SMALL)
    (result,) = recognize(recognizer, [sound(40, 43, (40.3, 41), (41.2, 42.8))])
    assert len(engine.asked) < 80
    assert [(part.start, part.end) for part in result.accepted] == sorted(
        (part.start, part.end) for part in result.accepted
    )
    assert all(40 <= part.start <= part.end <= 43 and part.text for part in result.accepted)
    assert all(
        40 <= rejected_span.start < rejected_span.end <= 43 and rejected_span.reason
        for rejected_span in result.rejected
    )
    assert result.accepted or result.rejected


@pytest.mark.slow
@given(st.lists(hypotheses, min_size=1, max_size=3), st.permutations([0, 20, 40]))
@settings(max_examples=15)
def test_a_result_depends_neither_on_the_batch_nor_on_the_workers(answers, starts):
    sounds = [sound(start, start + 2 + start / 40) for start in starts]
    recognizer = Recognizer(AnsweringEngine(scripted(answers)), PROMPTED, settings=SMALL)
    by_themselves = [recognize(recognizer, [one])[0] for one in sounds]
    for workers, batch_size in ((1, 8), (1, 1), (3, 2)):
        assert recognize(recognizer, sounds, Plan("cpu", "none", workers, 1, batch_size)) == by_themselves


def test_no_chunks_give_no_results():
    assert recognize(Recognizer(AnsweringEngine(lambda asked: saying()), ENGLISH), []) == []


def test_the_time_of_each_stage_is_counted():
    stopwatch = Stopwatch()
    engine = AnsweringEngine(lambda asked: saying((0, 2, "One.")))
    recognize(Recognizer(engine, ENGLISH, with_words=True, stopwatch=stopwatch), [sound(0, 2)])
    assert set(stopwatch.seconds()) == {"features", "encoder", "decoder", "words"}


# Measures.


def test_repetitive_text_has_a_high_compression_ratio():
    assert compression_ratio(LOOP) > 2.4
    assert compression_ratio("Ask not what your country can do for you, ask what you can do for your country.") < 2.4
    assert compression_ratio("") == 0


def test_speech_between_counts_only_speech_within_the_bounds():
    regions = [Region(0, SAMPLE_RATE, 1), Region(2 * SAMPLE_RATE, 4 * SAMPLE_RATE, 1)]
    assert speech_between(regions, SAMPLE_RATE // 2, 3 * SAMPLE_RATE) == 1.5
    assert speech_between(regions, 5 * SAMPLE_RATE, 9 * SAMPLE_RATE) == 0


# What was left out in the middle, or for want of room.


def test_speech_skipped_between_two_utterances_is_decoded_again():
    first = saying((0, 2, "One."), (6, 9, "Three."))
    result, engine = recognized(by_attempt(first, saying((0, 4, "Two."))), sound(0, 9))
    assert texts(result) == ["One.", "Two.", "Three."]
    assert [(asked.start, asked.duration) for asked in engine.asked] == [(0, 9), (2, 4)]


def test_a_short_gap_between_utterances_is_left_alone():
    _, engine = recognized(lambda asked: saying((0, 4, "One."), (5, 9, "Two.")), sound(0, 9))
    assert len(engine.asked) == 1


def test_an_utterance_cut_off_at_the_token_limit_is_decoded_again_by_itself():
    whole, cut = saying((0, 4, "Whole."), (4, 9, "Cu")).utterances
    ran_out = Hypothesis((whole, replace(cut, is_open=True)), -0.2, 0.0, 223, is_cut_off=True)
    result, engine = recognized(by_attempt(ran_out, ran_out, saying((0, 5, "Cut no more."))), sound(0, 9))
    assert texts(result) == ["Whole.", "Cut no more."]
    assert [asked.start for asked in engine.asked] == [0, 0, 4]


@pytest.mark.parametrize("before", [[], [(0, 3, "Some of it,")]])
def test_an_open_utterance_below_the_token_limit_is_accepted(before):
    *closed, last = saying(*before, (3, 5, "the rest")).utterances
    answer = Hypothesis((*closed, replace(last, is_open=True)), -0.2, 0.0, 4)
    result, engine = recognized(lambda asked: answer, sound(0, 5, (3, 5)))
    assert texts(result) == [*(text for _, _, text in before), "the rest"]
    assert len(engine.asked) == 1


# A sentence that is spoken twice, and written once.


def test_a_stretch_with_too_little_text_is_decoded_in_two_parts():
    def answer(asked: Asked) -> Hypothesis:
        text = "Press one to leave the room." if asked.duration > 5 else "Press one to leave the room right now."
        return saying((0, asked.duration, text))

    result, engine = recognized(answer, sound(0, 9, (0, 4), (5, 9)))
    assert [(asked.start, asked.duration) for asked in engine.asked] == [(0, 9), (0, 4.5), (4.5, 4.5)]
    assert texts(result) == ["Press one to leave the room right now."] * 2


def test_a_stretch_without_a_pause_is_accepted_as_it_is():
    result, engine = recognized(lambda asked: saying((0, 9, "Aah.")), sound(0, 9))
    assert len(engine.asked) == 1
    assert texts(result) == ["Aah."]


def test_short_speech_is_accepted_as_it_is():
    _, engine = recognized(lambda asked: saying((0, 3.9, "No.")), sound(0, 3.9, (0, 1.5), (1.6, 3.9)))
    assert len(engine.asked) == 1
