"""Whether a text is to be believed: what is tried again, which attempt is taken, and what is dropped, and why.

Pure rules over values; recognize.py acts on them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from cesar.engines.base import Heard, Hypothesis
from cesar.pipeline.chunk import PlannedChunk
from cesar.pipeline.invented import is_invented
from cesar.pipeline.samples import SAMPLE_RATE

LAST_ATTEMPT = 2
AFTER_THE_END = "after the sound's end"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a part of a sound: `start` and `end` in samples from the start of the recording."""

    sound: int
    start: int
    end: int
    number: int = 0
    heard: Heard | None = None
    before: Decoded | None = None
    """The attempt at the same part before this one."""

    @property
    def duration(self) -> float:
        return (self.end - self.start) / SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Decoded:
    """An attempt with what came of it."""

    attempt: Attempt
    hypothesis: Hypothesis

    @property
    def is_empty(self) -> bool:
        return not self.hypothesis.text


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """When a text is believed."""

    max_compression_ratio: float = 2.4
    """Above this a text repeats itself (openai/whisper)."""
    max_tokens_per_s: float = 8.0
    """More than this is no speech but a loop."""
    min_avg_logprob: float = -1.0
    """A text less likely than this is not believed if the model also says that nobody speaks."""
    sure_avg_logprob: float = -0.5
    """A text from a short window that is less sure than this is tried again in a full one; if it was drawn at a
    temperature, less than `min_avg_logprob`: nobody draws to get the likeliest."""
    max_no_speech_prob: float = 0.6
    """Above this the model says that nobody speaks."""


class Judge:
    """Judges what attempts at a stretch of sound gave."""

    def __init__(self, settings: JudgeSettings | None = None) -> None:
        self._settings = settings or JudgeSettings()

    def wants_another(self, decoded: Decoded) -> bool:
        """Whether the same stretch is to be tried again, under other conditions."""
        match decoded.attempt.number:
            case 0:
                return decoded.is_empty or self._is_unsure(decoded) or self._is_loop(decoded)
            case 1:
                return self._is_loop(decoded)
            case _:
                return False

    def better(self, decoded: Decoded) -> Decoded:
        """The attempt to take, this one or the best before it: one with a text, no loop, the surer one."""
        before = decoded.attempt.before
        if before is None or before.is_empty:
            return decoded
        if decoded.is_empty or (self._is_loop(decoded) and not self._is_loop(before)):
            return before
        is_surer = before.hypothesis.avg_logprob > decoded.hypothesis.avg_logprob
        return before if is_surer and not self._is_loop(before) else decoded

    def _is_unsure(self, decoded: Decoded) -> bool:
        settings, hypothesis = self._settings, decoded.hypothesis
        least = settings.sure_avg_logprob if hypothesis.temperature == 0 else settings.min_avg_logprob
        return hypothesis.avg_logprob < least

    def _is_loop(self, decoded: Decoded) -> bool:
        """Whether the text repeats itself, and not because the speaker does.

        Real repetition (a refrain, a litany) is no faster than speech, and comes out the same from another window.
        """
        attempt, hypothesis = decoded.attempt, decoded.hypothesis
        if compression_ratio(hypothesis.text) <= self._settings.max_compression_ratio:
            return False
        is_speech_like = hypothesis.token_count <= self._settings.max_tokens_per_s * attempt.duration
        is_confirmed = attempt.before is not None and attempt.before.hypothesis.text == hypothesis.text
        return not (is_speech_like and is_confirmed)

    def disbelief(self, decoded: Decoded, chunk: PlannedChunk) -> str | None:
        """Why the text is not taken; None if it is."""
        settings, attempt, hypothesis = self._settings, decoded.attempt, decoded.hypothesis
        if decoded.is_empty:
            return "no words heard"
        if all(utterance.start >= attempt.duration for utterance in hypothesis.utterances):
            return AFTER_THE_END
        if self._is_loop(decoded):
            return "the text repeated itself"
        is_silent = hypothesis.no_speech_prob > settings.max_no_speech_prob
        if is_silent and hypothesis.avg_logprob < settings.min_avg_logprob:
            return "no speech"
        regions = (r.confidence for r in chunk.regions if r.start < attempt.end and r.end > attempt.start)
        if is_invented(hypothesis.text, max(regions, default=0.0)):
            return "probably invented"
        return None


def compression_ratio(text: str) -> float:
    """How much shorter zlib makes the text; above about 2.4 it says the same over and over (openai/whisper)."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0
