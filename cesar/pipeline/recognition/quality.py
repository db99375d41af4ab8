"""Quality checks on decoded text: what is decoded again, which attempt wins, and what is rejected, and why.

Pure rules over values; `recognizer.py` acts on them.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from cesar.engines.base import Utterance
from cesar.pipeline.recognition.decoding_passes import Attempt, Decoded, DecodingPass
from cesar.pipeline.recognition.hallucinations import is_hallucination, is_too_fast
from cesar.pipeline.recognition.prompt_echo import Prompt
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.vad import Region, speech_between

AFTER_THE_END = "after the sound's end"
FROM_THE_PROMPT = "it came from the prompt"
NO_WORDS = "no words heard"
TOO_FAST = "faster than anybody speaks"
HALLUCINATION = "probably invented"
_NEAR = round(0.3 * SAMPLE_RATE)
"""Tolerance of a text's times: speech this close counts as its own."""


@dataclass(frozen=True, slots=True)
class QualitySettings:
    """When text is accepted."""

    max_compression_ratio: float = 2.4
    """Text above this repeats itself (openai/whisper)."""
    max_tokens_per_s: float = 8.0
    """More than this is a loop, not speech."""
    min_avg_logprob: float = -1.0
    """Less likely text is rejected if the model also reports no speech, or if repetition had to be penalised."""
    beam_fallback_logprob: float = -0.45
    """Text of a greedy pass that is less likely than this is decoded again with a beam, in the same window."""
    window_fallback_logprob: float = -0.8
    """Text of a beam search that is less likely than this is decoded again in the full window; for sampled text,
    `min_avg_logprob` counts instead, as sampling does not look for the likeliest text."""
    max_no_speech_prob: float = 0.6
    """Above this the model reports no speech."""


class QualityCheck:
    """Compares attempts at the same stretch, and decides what to accept."""

    def __init__(self, settings: QualitySettings | None = None, prompt: Prompt | None = None) -> None:
        self._settings = settings or QualitySettings()
        self._prompt = prompt

    def fallback(self, decoded: Decoded) -> DecodingPass | None:
        """Return the next decoding pass; None if the text is good enough, or no pass is left."""
        decoding_pass, hypothesis = decoded.attempt.decoding_pass, decoded.hypothesis
        if self._is_loop(decoded):
            return self._escape_loop(decoded)
        match decoding_pass:
            case DecodingPass.GREEDY | DecodingPass.BEAM if (
                decoded.is_empty or hypothesis.is_cut_off or self._is_too_fast(decoded)
            ):
                return DecodingPass.FULL_WINDOW
            case DecodingPass.GREEDY if hypothesis.avg_logprob < self._settings.beam_fallback_logprob:
                return DecodingPass.BEAM
            case DecodingPass.BEAM if self._is_unsure(decoded):
                return DecodingPass.FULL_WINDOW
            case _:
                return None

    def _escape_loop(self, loop: Decoded) -> DecodingPass | None:
        match loop.attempt.decoding_pass:
            case DecodingPass.GREEDY | DecodingPass.BEAM if self._is_speech_like(loop):
                return DecodingPass.FULL_WINDOW  # if the result is the same, the speaker repeats himself
            case DecodingPass.NO_REPEAT:
                return None
            case _:
                return DecodingPass.NO_REPEAT

    def better(self, decoded: Decoded) -> Decoded:
        """Return the better of this attempt and the best before it: not empty, no loop, plausible speed, likelier."""
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
        least = settings.window_fallback_logprob if hypothesis.temperature == 0 else settings.min_avg_logprob
        return hypothesis.avg_logprob < least

    def _is_loop(self, decoded: Decoded) -> bool:
        """Whether the text repeats itself although the speaker does not.

        Real repetition (a refrain, a litany) is no faster than speech, and another window yields the same text.
        """
        before = decoded.attempt.before
        if compression_ratio(decoded.hypothesis.text) <= self._settings.max_compression_ratio:
            return False
        is_confirmed = before is not None and before.hypothesis.text == decoded.hypothesis.text
        return not (is_confirmed and self._is_speech_like(decoded))

    def _is_speech_like(self, decoded: Decoded) -> bool:
        """Whether the number of tokens is plausible for speech of this length."""
        return decoded.hypothesis.token_count <= self._settings.max_tokens_per_s * decoded.attempt.duration

    def rejection_reason(self, decoded: Decoded) -> str | None:
        """Return why the text is rejected; None if it is accepted."""
        settings, attempt, hypothesis = self._settings, decoded.attempt, decoded.hypothesis
        if decoded.is_empty:
            return NO_WORDS
        if all(utterance.start >= attempt.duration for utterance in hypothesis.utterances):
            return AFTER_THE_END
        if self._is_loop(decoded):
            return "the text repeated itself"
        is_silent = hypothesis.no_speech_prob > settings.max_no_speech_prob
        is_forced = attempt.decoding_pass is DecodingPass.NO_REPEAT
        if hypothesis.avg_logprob < settings.min_avg_logprob and (is_silent or is_forced):
            return "no speech" if is_silent else "the text repeated itself, and made not to is unlikely"
        regions = [r for r in attempt.sound.chunk.regions if r.start < attempt.end and r.end > attempt.start]
        if _is_hallucination(hypothesis.text, regions, attempt.start, attempt.end):
            return HALLUCINATION
        return None

    def utterance_rejection_reason(self, utterance: Utterance, attempt: Attempt) -> str | None:
        """Return why one utterance is rejected; None if it is accepted."""
        start, end = span_of(utterance, attempt)
        near = [r for r in attempt.sound.chunk.regions if r.start < end + _NEAR and r.end > start - _NEAR]
        if _is_hallucination(utterance.text, near, start, end):
            return HALLUCINATION
        return TOO_FAST if _is_faster(utterance, attempt) else None

    def needs_unprompted_pass(self, decoded: Decoded) -> bool:
        """Whether a prompted attempt needs a comparison with one without the prompt.

        It does if it has words of the prompt, or would be rejected: the prompt may have displaced the spoken words.
        """
        if self._prompt is None or not decoded.attempt.is_prompted:
            return False
        is_doubtful = self.rejection_reason(decoded) is not None or self._is_too_fast(decoded)
        return is_doubtful or self._prompt.is_in(decoded.hypothesis.text, decoded.attempt.language)

    def confirmed(self, decoded: Decoded) -> Decoded:
        """Return the prompted attempt if this one without the prompt confirms it; else this one."""
        prompted = decoded.attempt.prompted
        if prompted is None or self._prompt is None:
            return decoded
        is_accepted = self.rejection_reason(prompted) is None and not self._is_too_fast(prompted)
        is_heard = self._prompt.is_confirmed(
            prompted.hypothesis.text, decoded.hypothesis.text, prompted.attempt.language
        )
        return prompted if is_accepted and is_heard else decoded

    def _is_too_fast(self, decoded: Decoded) -> bool:
        """Whether any utterance is implausibly fast."""
        return any(_is_faster(utterance, decoded.attempt) for utterance in decoded.hypothesis.utterances)


def span_of(utterance: Utterance, attempt: Attempt) -> tuple[int, int]:
    """Return start and end of an utterance within its attempt, in samples from the start of the recording."""
    start = attempt.start + int(utterance.start * SAMPLE_RATE)
    end = attempt.start + int(min(utterance.end, attempt.duration) * SAMPLE_RATE)
    return min(start, attempt.end), min(max(start, end), attempt.end)


def _is_faster(utterance: Utterance, attempt: Attempt) -> bool:
    """Whether an utterance is implausibly fast for its duration, or for the speech within it."""
    if utterance.start >= attempt.duration:
        return False
    start, end = span_of(utterance, attempt)
    speech_s = speech_between(attempt.sound.chunk.regions, start - _NEAR, end + _NEAR)
    return is_too_fast(utterance.text, min(speech_s, (end - start) / SAMPLE_RATE))


def _is_hallucination(text: str, regions: Sequence[Region], start: int, end: int) -> bool:
    confidence = max((region.confidence for region in regions), default=0.0)
    return is_hallucination(text, confidence, speech_between(regions, start, end))


def compression_ratio(text: str) -> float:
    """Return the zlib compression ratio; above about 2.4 the text repeats itself (openai/whisper)."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0
