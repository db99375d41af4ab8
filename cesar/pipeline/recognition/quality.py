"""Whether a text is to be believed: what is tried again, which attempt is taken, and what is dropped, and why.

Pure rules over values; recognize.py acts on them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from cesar.engines.base import Utterance
from cesar.pipeline.recognition.decoding_passes import Attempt, Decoded, Way
from cesar.pipeline.recognition.hallucinations import is_invented, is_too_fast
from cesar.pipeline.recognition.prompt_echo import Prompt
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.vad import Region, speech_between

AFTER_THE_END = "after the sound's end"
FROM_THE_PROMPT = "it came from the prompt"
NO_WORDS = "no words heard"
TOO_FAST = "faster than anybody speaks"
INVENTED = "probably invented"
_NEAR = round(0.3 * SAMPLE_RATE)
"""A text's times may be off by this: so near, its speech counts as below it."""


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """When a text is believed."""

    max_compression_ratio: float = 2.4
    """Above this a text repeats itself (openai/whisper)."""
    max_tokens_per_s: float = 8.0
    """More than this is no speech but a loop."""
    min_avg_logprob: float = -1.0
    """A text less likely than this is not believed if the model also says that nobody speaks, or had to be kept from
    repeating itself."""
    sure_avg_logprob: float = -0.45
    """A text found by a narrow search that is less sure than this is looked for by a wide one, in the same window."""
    fair_avg_logprob: float = -0.8
    """A text found by a wide search that is less sure than this is tried again in a full window; if it was drawn at a
    temperature, less than `min_avg_logprob`: nobody draws to get the likeliest."""
    max_no_speech_prob: float = 0.6
    """Above this the model says that nobody speaks."""


class Judge:
    """Judges what attempts at a stretch of sound gave."""

    def __init__(self, settings: JudgeSettings | None = None, prompt: Prompt | None = None) -> None:
        self._settings = settings or JudgeSettings()
        self._prompt = prompt

    def next_way(self, decoded: Decoded) -> Way | None:
        """How to try the same stretch again; None if this will do, or nothing is left to try."""
        way, hypothesis = decoded.attempt.way, decoded.hypothesis
        if self._is_loop(decoded):
            return self._way_out(decoded)
        match way:
            case Way.NARROW | Way.WIDE if decoded.is_empty or hypothesis.is_cut_off or self._is_too_fast(decoded):
                return Way.FULL
            case Way.NARROW if hypothesis.avg_logprob < self._settings.sure_avg_logprob:
                return Way.WIDE
            case Way.WIDE if self._is_unsure(decoded):
                return Way.FULL
            case _:
                return None

    def _way_out(self, loop: Decoded) -> Way | None:
        match loop.attempt.way:
            case Way.NARROW | Way.WIDE if self._is_speech_like(loop):
                return Way.FULL  # if the same comes of it, the speaker repeats himself
            case Way.UNREPEATING:
                return None
            case _:
                return Way.UNREPEATING

    def better(self, decoded: Decoded) -> Decoded:
        """The attempt to take, this one or the best before it: one with a text, no loop, speakable, the surer one."""
        before = decoded.attempt.before
        if before is None or before.is_empty:
            return decoded
        if decoded.is_empty or (self._is_loop(decoded) and not self._is_loop(before)):
            return before
        if self._is_too_fast(decoded) != self._is_too_fast(before) and not self._is_loop(decoded):
            return before if self._is_too_fast(decoded) else decoded
        is_surer = before.hypothesis.avg_logprob > decoded.hypothesis.avg_logprob
        return before if is_surer and not self._is_loop(before) else decoded

    def _is_unsure(self, decoded: Decoded) -> bool:
        settings, hypothesis = self._settings, decoded.hypothesis
        least = settings.fair_avg_logprob if hypothesis.temperature == 0 else settings.min_avg_logprob
        return hypothesis.avg_logprob < least

    def _is_loop(self, decoded: Decoded) -> bool:
        """Whether the text repeats itself, and not because the speaker does.

        Real repetition (a refrain, a litany) is no faster than speech, and comes out the same from another window.
        """
        before = decoded.attempt.before
        if compression_ratio(decoded.hypothesis.text) <= self._settings.max_compression_ratio:
            return False
        is_confirmed = before is not None and before.hypothesis.text == decoded.hypothesis.text
        return not (is_confirmed and self._is_speech_like(decoded))

    def _is_speech_like(self, decoded: Decoded) -> bool:
        """Whether somebody could have spoken so fast."""
        return decoded.hypothesis.token_count <= self._settings.max_tokens_per_s * decoded.attempt.duration

    def disbelief(self, decoded: Decoded) -> str | None:
        """Why the text is not taken; None if it is."""
        settings, attempt, hypothesis = self._settings, decoded.attempt, decoded.hypothesis
        if decoded.is_empty:
            return NO_WORDS
        if all(utterance.start >= attempt.duration for utterance in hypothesis.utterances):
            return AFTER_THE_END
        if self._is_loop(decoded):
            return "the text repeated itself"
        is_silent = hypothesis.no_speech_prob > settings.max_no_speech_prob
        is_forced = attempt.way is Way.UNREPEATING
        if hypothesis.avg_logprob < settings.min_avg_logprob and (is_silent or is_forced):
            return "no speech" if is_silent else "the text repeated itself, and made not to is unlikely"
        regions = [r for r in attempt.sound.chunk.regions if r.start < attempt.end and r.end > attempt.start]
        if _is_invented(hypothesis.text, regions, attempt.start, attempt.end):
            return INVENTED
        return None

    def disbelief_of(self, utterance: Utterance, attempt: Attempt) -> str | None:
        """Why one utterance of a text is not taken; None if it is."""
        start, end = span_of(utterance, attempt)
        near = [r for r in attempt.sound.chunk.regions if r.start < end + _NEAR and r.end > start - _NEAR]
        if _is_invented(utterance.text, near, start, end):
            return INVENTED
        return TOO_FAST if _is_faster(utterance, attempt) else None

    def wants_to_hear_without_prompt(self, decoded: Decoded) -> bool:
        """Whether the text of a prompted attempt is to be compared with what is heard without the prompt.

        It is if the prompt's words are in it, and if it would not be taken: the prompt may have pushed out the words.
        """
        if self._prompt is None or not decoded.attempt.is_prompted:
            return False
        is_doubtful = self.disbelief(decoded) is not None or self._is_too_fast(decoded)
        return is_doubtful or self._prompt.is_in(decoded.hypothesis.text, decoded.attempt.language)

    def borne_out(self, decoded: Decoded) -> Decoded:
        """The attempt to take: the prompted one before this, if that is borne out by this one."""
        prompted = decoded.attempt.prompted
        if prompted is None or self._prompt is None:
            return decoded
        is_believed = self.disbelief(prompted) is None and not self._is_too_fast(prompted)
        is_heard = self._prompt.is_borne_out(
            prompted.hypothesis.text, decoded.hypothesis.text, prompted.attempt.language
        )
        return prompted if is_believed and is_heard else decoded

    def _is_too_fast(self, decoded: Decoded) -> bool:
        """Whether there is an utterance that nobody could have spoken in its time."""
        return any(_is_faster(utterance, decoded.attempt) for utterance in decoded.hypothesis.utterances)


def span_of(utterance: Utterance, attempt: Attempt) -> tuple[int, int]:
    """Return start and end of an utterance within its attempt, in samples from the start of the recording."""
    start = attempt.start + int(utterance.start * SAMPLE_RATE)
    end = attempt.start + int(min(utterance.end, attempt.duration) * SAMPLE_RATE)
    return min(start, attempt.end), min(max(start, end), attempt.end)


def _is_faster(utterance: Utterance, attempt: Attempt) -> bool:
    """Whether nobody could have spoken an utterance in its time, or in the speech below it."""
    if utterance.start >= attempt.duration:
        return False
    start, end = span_of(utterance, attempt)
    speech_s = speech_between(attempt.sound.chunk.regions, start - _NEAR, end + _NEAR)
    return is_too_fast(utterance.text, min(speech_s, (end - start) / SAMPLE_RATE))


def _is_invented(text: str, regions: Sequence[Region], start: int, end: int) -> bool:
    confidence = max((region.confidence for region in regions), default=0.0)
    return is_invented(text, confidence, speech_between(regions, start, end))


def compression_ratio(text: str) -> float:
    """How much shorter zlib makes the text; above about 2.4 it says the same over and over (openai/whisper)."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0
