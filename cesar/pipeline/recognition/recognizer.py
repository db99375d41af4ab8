"""Fifth stage: the decoding passes of one chunk. `scheduler.py` decides their order.

Whisper fails in known ways, and each is handled within the chunk, independently of all other chunks: it stops early
(uncovered speech is decoded again), it loops or is uncertain (another decoding pass), it hallucinates where nobody
speaks (the text is rejected, and kept in the ledger).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

from cesar.engines.base import DecodeSettings, Engine, Hypothesis, TimedWord, Utterance, Window
from cesar.pipeline.audio.log_mel import FRAMES_PER_SECOND, log_mel
from cesar.pipeline.recognition.chunk_language import LanguageCheck
from cesar.pipeline.recognition.decoding_passes import (
    Attempt,
    ChunkAudio,
    Decoded,
    DecodingPass,
    Evaluation,
    PlacedUtterance,
    RejectedSpan,
)
from cesar.pipeline.recognition.prompt_echo import prompt_of
from cesar.pipeline.recognition.quality import (
    AFTER_THE_END,
    FROM_THE_PROMPT,
    NO_WORDS,
    QualityCheck,
    compression_ratio,
    span_of,
)
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.vad import speech_between
from cesar.pipeline.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class RecognizeSettings:
    """Window sizes, and when a part is decoded again."""

    windows_s: tuple[float, ...] = (10.0, 15.0, 17.5, 30.0)
    """Windows have one of a few lengths, so that they can share a batch. The last is the one that Whisper was trained
    on: slower, but more reliable."""
    silence_after_s: float = 1.5
    """Silence after the sound in a short window; with less, the model loops or drops the last words."""
    max_tokens_per_s: float = 10.0
    """Limit in a short window. Text that reaches it is a loop, or in a language that takes many tokens, which gets the
    full window."""
    fallback_beam_size: int = 5
    """Uncertain text of a narrower beam is decoded again with this one."""
    uncovered_speech_s: float = 1.0
    """More speech than this after the last timestamp is decoded again…"""
    skipped_speech_s: float = 2.0
    """…and so is more than this before or between the timestamps."""
    min_bytes_per_s: float = 9.0
    """In UTF-8. Slow readers say 10 letters a second. With fewer, the model left something out, most likely a sentence
    that was spoken twice…"""
    sparse_speech_s: float = 4.0
    """…unless there is less speech than this, too little to tell."""


_MIN_PROGRESS = SAMPLE_RATE // 2
"""A part is decoded again only if it is shorter than the whole by at least this much, so that retries terminate."""
_MIN_REJECTED_SPAN = SAMPLE_RATE // 50


class BatchKey(NamedTuple):
    """What attempts must have in common to be decoded in one batch."""

    decoding_pass: DecodingPass
    window_s: float
    language: str
    is_prompted: bool


class Recognizer:
    """The steps from sound to text: `attempt`, `encode`, `decode` and `evaluate`, which may return further attempts.

    Thread-safe.
    """

    def __init__(
        self,
        engine: Engine,
        decode: DecodeSettings,
        *,
        with_words: bool = False,
        settings: RecognizeSettings | None = None,
        stopwatch: Stopwatch | None = None,
        languages: LanguageCheck | None = None,
    ) -> None:
        """Without `languages`, every chunk is decoded in the language of `decode`."""
        self._languages = languages
        self._engine = engine
        self._decode = decode
        self._with_words = with_words
        self._settings = settings or RecognizeSettings()
        self._quality = QualityCheck(prompt=prompt_of(decode.prompt, decode.hotwords))
        self._stopwatch = stopwatch or Stopwatch()

    def attempt(self, sound: ChunkAudio) -> Attempt:
        """Return the first attempt at a chunk."""
        return Attempt(sound, sound.chunk.start, sound.chunk.end, self._first_pass, language=self._decode.language)

    def encode(self, attempt: Attempt) -> Attempt:
        """Encode the window of an attempt, unless that has been done."""
        if attempt.encoded:
            return attempt
        frames = round(self._window_s(attempt) * FRAMES_PER_SECOND)
        with self._stopwatch.measure("features"):
            spectrogram = log_mel(attempt.samples, frames=frames, n_mels=self._engine.n_mels)
        with self._stopwatch.measure("encoder"):
            window = Window(spectrogram, attempt.start / SAMPLE_RATE, attempt.duration)
            return replace(attempt, encoded=self._engine.encode(window))

    def batch_key(self, attempt: Attempt) -> BatchKey:
        """Return the key of the batches that the attempt fits into."""
        return BatchKey(attempt.decoding_pass, self._window_s(attempt), attempt.language, attempt.is_prompted)

    def decode(self, batch: Sequence[Attempt]) -> list[Decoded]:
        """Decode a batch of attempts with the same key. No hypothesis depends on the others."""
        encoded = [attempt.encoded for attempt in batch if attempt.encoded]
        with self._stopwatch.measure("decoder"):
            hypotheses = self._engine.decode(encoded, self._decode_settings(batch[0]))
        return [Decoded(attempt, hypothesis) for attempt, hypothesis in zip(batch, hypotheses, strict=True)]

    def evaluate(self, decoded: Decoded) -> Evaluation:
        """Accept the text or parts of it, and return the attempts still to make."""
        if self._languages is None:
            return self._evaluate_text(decoded)
        if change := self._languages.change_in(decoded):
            attempt = decoded.attempt
            parts = ((attempt.start, change), (change, attempt.end))
            of_all = self._languages.language_of_attempt(decoded)
            return Evaluation(retries=[self._part(attempt, *part) for part in parts], evidence=of_all)
        decoded, evidence, another = self._languages.settle(decoded)
        if another:
            return Evaluation(retries=[self._restart(another)])
        evaluation = self._evaluate_text(decoded)
        nothing_accepted = evaluation.rejected and not evaluation.accepted and not evaluation.retries
        if nothing_accepted and (another := self._languages.next_likely(decoded)):
            return Evaluation(retries=[self._restart(another)])
        return replace(evaluation, evidence=evidence)

    def _evaluate_text(self, decoded: Decoded) -> Evaluation:
        best = self._quality.better(decoded)
        if decoding_pass := self._quality.fallback(decoded):
            return Evaluation(retries=[self._retry(decoded.attempt, decoding_pass=decoding_pass, before=best)])
        if self._quality.needs_unprompted_pass(best):
            unprompted = self._retry(
                best.attempt, decoding_pass=self._first_pass, before=None, is_prompted=False, prompted=best
            )
            return Evaluation(retries=[unprompted])
        return self._accept(self._quality.confirmed(best))

    def _retry(self, attempt: Attempt, **how: Any) -> Attempt:
        """Return another attempt at the same part, encoded already if its window is the same."""
        another = replace(attempt, **how)
        has_same_window = self._window_s(another) == self._window_s(attempt)
        return another if has_same_window else replace(another, encoded=None)

    def _accept(self, best: Decoded) -> Evaluation:
        """Accept the believable part of a text, and return what to decode again."""
        attempt, hypothesis = best.attempt, _drop_truncated(best.hypothesis)
        if reason := self._quality.rejection_reason(best):
            if best.is_empty and attempt.prompted and not attempt.prompted.is_empty:
                reason, hypothesis = FROM_THE_PROMPT, attempt.prompted.hypothesis
            return Evaluation(rejected=[_rejected_span(attempt.start, attempt.end, reason, hypothesis.text)])
        if at := self._sparse_at(attempt, hypothesis):
            parts = ((attempt.start, at), (at, attempt.end))
            return Evaluation(retries=[self._part(attempt, *part) for part in parts])
        accepted, rejected = self._split_rejected(attempt, hypothesis)
        unrecognised, retries = self._retry_uncovered(attempt, accepted)
        rejected = [span for span in rejected if not any(_covers(part, span) for part in retries)]
        if beyond := "".join(u.text for u in hypothesis.utterances if u.start >= attempt.duration).strip():
            span = _at_least_20_ms(attempt, attempt.end, attempt.end)
            rejected.insert(0, _rejected_span(*span, AFTER_THE_END, beyond))
        return Evaluation(self._place(attempt, accepted), rejected + unrecognised, retries)

    def _split_rejected(self, attempt: Attempt, hypothesis: Hypothesis) -> tuple[Hypothesis, list[RejectedSpan]]:
        """Split the utterances into accepted and rejected ones."""
        reasons = [self._quality.utterance_rejection_reason(utterance, attempt) for utterance in hypothesis.utterances]
        pairs = list(zip(hypothesis.utterances, reasons, strict=True))
        rejected = [
            _rejected_span(*_at_least_20_ms(attempt, *span_of(utterance, attempt)), reason, utterance.text.strip())
            for utterance, reason in pairs
            if reason and utterance.start < attempt.duration
        ]
        accepted = tuple(utterance for utterance, reason in pairs if reason is None)
        return replace(hypothesis, utterances=accepted), rejected

    def _restart(self, attempt: Attempt) -> Attempt:
        """Return to the first pass; the window stays encoded if it is the same."""
        encoded = attempt.encoded if attempt.decoding_pass < DecodingPass.FULL_WINDOW else None
        return replace(attempt, decoding_pass=self._first_pass, encoded=encoded, prompted=None)

    def _part(self, attempt: Attempt, start: int, end: int) -> Attempt:
        """Return an attempt at a part; a prompt that has been dropped stays dropped."""
        return Attempt(
            attempt.sound,
            start,
            end,
            self._first_pass,
            language=attempt.language,
            is_prompted=attempt.is_prompted,
        )

    @property
    def _first_pass(self) -> DecodingPass:
        is_narrow = self._decode.beam_size < self._settings.fallback_beam_size and self._decode.temperature == 0
        return DecodingPass.GREEDY if is_narrow else DecodingPass.BEAM

    def _window_s(self, attempt: Attempt) -> float:
        *short, full = self._settings.windows_s
        if attempt.decoding_pass >= DecodingPass.FULL_WINDOW:
            return full
        needed = attempt.duration + self._settings.silence_after_s
        return next((length for length in short if length >= needed), full)

    def _decode_settings(self, attempt: Attempt) -> DecodeSettings:
        decoding_pass = attempt.decoding_pass
        is_short = decoding_pass < DecodingPass.FULL_WINDOW
        asked = replace(
            self._decode,
            language=attempt.language,
            prompt=self._decode.prompt if attempt.is_prompted else None,
            hotwords=self._decode.hotwords if attempt.is_prompted else None,
            max_tokens=round(self._settings.max_tokens_per_s * self._window_s(attempt)) if is_short else None,
        )
        if decoding_pass == self._first_pass:
            return asked
        return replace(
            asked,
            beam_size=max(self._settings.fallback_beam_size, self._decode.beam_size),
            temperature=0.0,
            avoid_repetition=decoding_pass is DecodingPass.NO_REPEAT,
        )

    def _place(self, attempt: Attempt, hypothesis: Hypothesis) -> list[PlacedUtterance]:
        offset = attempt.start / SAMPLE_RATE
        words = self._words(attempt, hypothesis)
        ratio = compression_ratio(hypothesis.text)
        return [
            PlacedUtterance(
                start=offset + utterance.start,
                end=offset + min(utterance.end, attempt.duration),
                text=utterance.text.strip(),
                words=tuple(replace(word, start=offset + word.start, end=offset + word.end) for word in its_words),
                avg_logprob=hypothesis.avg_logprob,
                no_speech_prob=hypothesis.no_speech_prob,
                compression_ratio=ratio,
                temperature=hypothesis.temperature,
                seek=attempt.start * FRAMES_PER_SECOND // SAMPLE_RATE,
                tokens=utterance.tokens,
                token_ends=_stripped_token_ends(utterance),
                token_logprobs=utterance.token_logprobs,
                token_bytes=utterance.token_bytes,
                language=attempt.language,
            )
            for utterance, its_words in zip(hypothesis.utterances, words, strict=True)
            if utterance.text.strip() and utterance.start < attempt.duration
        ]

    def _words(self, attempt: Attempt, hypothesis: Hypothesis) -> list[list[TimedWord]]:
        if not self._with_words or attempt.encoded is None:
            return [[] for _ in hypothesis.utterances]
        with self._stopwatch.measure("words"):
            decode = replace(self._decode, language=attempt.language)
            return self._engine.align(attempt.encoded, hypothesis.utterances, decode)

    def _retry_uncovered(self, attempt: Attempt, hypothesis: Hypothesis) -> tuple[list[RejectedSpan], list[Attempt]]:
        """Return the uncovered stretches with speech: those without words, and attempts at the others."""
        unrecognised: list[RejectedSpan] = []
        retries: list[Attempt] = []
        for start, end, min_s in self._find_gaps(attempt, hypothesis):
            if speech_between(attempt.sound.chunk.regions, start, end) < min_s:
                continue
            if end - start > attempt.end - attempt.start - _MIN_PROGRESS:
                unrecognised.append(_rejected_span(start, end, NO_WORDS, ""))
            else:
                retries.append(self._part(attempt, start, end))
        return unrecognised, retries

    def _sparse_at(self, attempt: Attempt, hypothesis: Hypothesis) -> int | None:
        """Return the middle of the longest pause in an utterance with too little text for its speech."""
        for utterance in hypothesis.utterances:
            start = attempt.start + int(utterance.start * SAMPLE_RATE)
            end = attempt.start + int(min(utterance.end, attempt.duration) * SAMPLE_RATE)
            regions = [r for r in attempt.sound.chunk.regions if r.start < end and r.end > start]
            speech_s = speech_between(regions, start, end)
            is_sparse = len(utterance.text.encode()) < self._settings.min_bytes_per_s * speech_s
            if is_sparse and speech_s >= self._settings.sparse_speech_s and len(regions) > 1:
                before, after = max(pairwise(regions), key=lambda pair: pair[1].start - pair[0].end)
                return (before.end + after.start) // 2
        return None

    def _find_gaps(self, attempt: Attempt, hypothesis: Hypothesis) -> Iterable[tuple[int, int, float]]:
        """Yield start and end of each gap, in samples, and how many seconds of speech in it need another attempt."""
        reached = attempt.start
        for utterance in (u for u in hypothesis.utterances if u.start < attempt.duration):
            start = attempt.start + int(utterance.start * SAMPLE_RATE)
            yield reached, min(start, attempt.end), self._settings.skipped_speech_s
            reached = max(reached, attempt.start + int(utterance.end * SAMPLE_RATE))
        yield reached, attempt.end, self._settings.uncovered_speech_s


def _covers(attempt: Attempt, rejected_span: RejectedSpan) -> bool:
    return attempt.start / SAMPLE_RATE <= rejected_span.start and rejected_span.end <= attempt.end / SAMPLE_RATE


def _at_least_20_ms(attempt: Attempt, start: int, end: int) -> tuple[int, int]:
    """Return a span that is at least 20 ms long, and within the attempt unless that is shorter."""
    end = min(max(end, start + _MIN_REJECTED_SPAN), attempt.end)
    return max(attempt.start, min(start, end - _MIN_REJECTED_SPAN)), end


def _rejected_span(start: int, end: int, reason: str, text: str) -> RejectedSpan:
    return RejectedSpan(start / SAMPLE_RATE, end / SAMPLE_RATE, reason, text)


def _drop_truncated(hypothesis: Hypothesis) -> Hypothesis:
    """Drop the utterance in which the model ran out of tokens; its sound is decoded again."""
    *complete, last = hypothesis.utterances or (None,)
    if last is None or not (hypothesis.is_cut_off and last.is_open and complete):
        return hypothesis
    return replace(hypothesis, utterances=tuple(complete))


def _stripped_token_ends(utterance: Utterance) -> tuple[int, ...]:
    """Return where the tokens end in the text without its leading spaces."""
    spaces = len(utterance.text.encode()) - len(utterance.text.lstrip().encode())
    return tuple(max(0, end - spaces) for end in utterance.token_ends)
