"""Fifth stage: what is done with one chunk to make text of it. Which is done when is decided in schedule.py.

What goes wrong with Whisper, and what is done about it, chunk by chunk and without looking at any other chunk:
it stops early (the speech it left uncovered is heard again), it runs in circles or is unsure (another attempt, under
other conditions), it invents text where nobody speaks (dropped, with the text kept in the ledger).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

from cesar.engines.base import DecodeSettings, Engine, Hypothesis, TimedWord, Utterance, Window
from cesar.pipeline.audio.log_mel import FRAMES_PER_SECOND, log_mel
from cesar.pipeline.recognition.decoding_passes import Attempt, ChunkAudio, Decoded, Doubt, Said, Way, Weighed
from cesar.pipeline.recognition.language_check import LanguageCheck
from cesar.pipeline.recognition.prompt_echo import prompt_of
from cesar.pipeline.recognition.quality import (
    AFTER_THE_END,
    FROM_THE_PROMPT,
    NO_WORDS,
    Judge,
    compression_ratio,
    span_of,
)
from cesar.pipeline.samples import SAMPLE_RATE
from cesar.pipeline.speech.vad import speech_between
from cesar.pipeline.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class RecognizeSettings:
    """Which windows are heard, and what of them is heard again."""

    windows_s: tuple[float, ...] = (10.0, 15.0, 17.5, 30.0)
    """Windows have one of a few lengths, so that they can share a batch. The last is what Whisper was trained on:
    slower, but surer."""
    silence_after_s: float = 1.5
    """Silence after the sound in a short window; with less, the model runs in circles or drops the last words."""
    max_tokens_per_s: float = 10.0
    """Of a short window. Who gets there is running in circles, or speaks a language that takes many tokens: the full
    window has room for that."""
    wide_beam: int = 5
    """The usual search: a narrower one's text, where the model is unsure of it, is looked for again by this."""
    uncovered_speech_s: float = 1.0
    """Speech after the last time stamp that is longer than this is heard again…"""
    skipped_speech_s: float = 2.0
    """…and so is speech before or between the time stamps."""
    least_bytes_per_s: float = 9.0
    """Of UTF-8. Whoever reads aloud slowly says 10 letters a second. Where there are fewer, the model left something
    out: most likely a sentence that was spoken twice…"""
    sparse_speech_s: float = 4.0
    """…unless there is less speech than this, which says little."""


_LEAST_PROGRESS = SAMPLE_RATE // 2
"""A stretch is heard again only if it is shorter by this than the one it is a part of, so that there is an end."""
_SHORTEST_DOUBT = SAMPLE_RATE // 50


class Likeness(NamedTuple):
    """Of attempts that can be decoded together: the same in all of them."""

    way: Way
    window_s: float
    language: str
    is_prompted: bool


class Recognizer:
    """The steps from a sound to its text: `attempt`, `encode`, `decode` and `weigh`, which gives further attempts.

    May be used from several threads at once.
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
        """Without `languages` every text is looked for in the language of `decode`."""
        self._languages = languages
        self._engine = engine
        self._decode = decode
        self._with_words = with_words
        self._settings = settings or RecognizeSettings()
        self._judge = Judge(prompt=prompt_of(decode.prompt, decode.hotwords))
        self._stopwatch = stopwatch or Stopwatch()

    def attempt(self, sound: ChunkAudio) -> Attempt:
        """The first attempt at a sound."""
        return Attempt(sound, sound.chunk.start, sound.chunk.end, self._first_way, language=self._decode.language)

    def encode(self, attempt: Attempt) -> Attempt:
        """Encode the attempt's window, unless it is already."""
        if attempt.encoded:
            return attempt
        frames = round(self._window_s(attempt) * FRAMES_PER_SECOND)
        with self._stopwatch.measure("features"):
            spectrogram = log_mel(attempt.samples, frames=frames, n_mels=self._engine.n_mels)
        with self._stopwatch.measure("encoder"):
            window = Window(spectrogram, attempt.start / SAMPLE_RATE, attempt.duration)
            return replace(attempt, encoded=self._engine.encode(window))

    def likeness(self, attempt: Attempt) -> Likeness:
        """What has to be the same in attempts that are decoded together."""
        return Likeness(attempt.way, self._window_s(attempt), attempt.language, attempt.is_prompted)

    def decode(self, alike: Sequence[Attempt]) -> list[Decoded]:
        """Make text of windows that are alike. The text for one doesn't depend on the others."""
        encoded = [attempt.encoded for attempt in alike if attempt.encoded]
        with self._stopwatch.measure("decoder"):
            hypotheses = self._engine.decode(encoded, self._decode_settings(alike[0]))
        return [Decoded(attempt, hypothesis) for attempt, hypothesis in zip(alike, hypotheses, strict=True)]

    def weigh(self, decoded: Decoded) -> Weighed:
        """Take the text, or part of it, and say which attempts are still to be made at the stretch."""
        if self._languages is None:
            return self._weigh(decoded)
        if change := self._languages.change_in(decoded):
            attempt = decoded.attempt
            parts = ((attempt.start, change), (change, attempt.end))
            of_all = self._languages.of_all_of(decoded)
            return Weighed(again=[self._part(attempt, *part) for part in parts], spoken=of_all)
        decoded, spoken, another = self._languages.settle(decoded)
        if another:
            return Weighed(again=[self._from_scratch(another)])
        weighed = self._weigh(decoded)
        is_in_vain = weighed.doubts and not weighed.said and not weighed.again
        if is_in_vain and (another := self._languages.next_likely(decoded)):
            return Weighed(again=[self._from_scratch(another)])
        return replace(weighed, spoken=spoken)

    def _weigh(self, decoded: Decoded) -> Weighed:
        best = self._judge.better(decoded)
        if way := self._judge.next_way(decoded):
            return Weighed(again=[self._other(decoded.attempt, way=way, before=best)])
        if self._judge.wants_to_hear_without_prompt(best):
            unprompted = self._other(best.attempt, way=self._first_way, before=None, is_prompted=False, prompted=best)
            return Weighed(again=[unprompted])
        return self._taken(self._judge.borne_out(best))

    def _other(self, attempt: Attempt, **how: Any) -> Attempt:
        """An attempt at the same stretch in another way, encoded already if its window is the same."""
        another = replace(attempt, **how)
        has_same_window = self._window_s(another) == self._window_s(attempt)
        return another if has_same_window else replace(another, encoded=None)

    def _taken(self, best: Decoded) -> Weighed:
        """Take what is to be believed of a text, and say what is to be heard again."""
        attempt, hypothesis = best.attempt, _complete(best.hypothesis)
        if reason := self._judge.disbelief(best):
            if best.is_empty and attempt.prompted and not attempt.prompted.is_empty:
                reason, hypothesis = FROM_THE_PROMPT, attempt.prompted.hypothesis
            return Weighed(doubts=[_doubt(attempt.start, attempt.end, reason, hypothesis.text)])
        if at := self._sparse_at(attempt, hypothesis):
            parts = ((attempt.start, at), (at, attempt.end))
            return Weighed(again=[self._part(attempt, *part) for part in parts])
        beyond = "".join(u.text for u in hypothesis.utterances if u.start >= attempt.duration).strip()
        doubts = [_doubt(*_not_empty(attempt, attempt.end, attempt.end), AFTER_THE_END, beyond)] if beyond else []
        believed, disbelieved = self._sifted(attempt, hypothesis)
        stuck, again = self._rest(attempt, believed)
        left = [doubt for doubt in disbelieved if not any(_covers(part, doubt) for part in again)]
        return Weighed(self._placed(attempt, believed), doubts + left + stuck, again)

    def _sifted(self, attempt: Attempt, hypothesis: Hypothesis) -> tuple[Hypothesis, list[Doubt]]:
        """Part the utterances that are to be believed from those that are not."""
        reasons = [self._judge.disbelief_of(utterance, attempt) for utterance in hypothesis.utterances]
        pairs = list(zip(hypothesis.utterances, reasons, strict=True))
        disbelieved = [
            _doubt(*_not_empty(attempt, *span_of(utterance, attempt)), reason, utterance.text.strip())
            for utterance, reason in pairs
            if reason and utterance.start < attempt.duration
        ]
        believed = tuple(utterance for utterance, reason in pairs if reason is None)
        return replace(hypothesis, utterances=believed), disbelieved

    def _from_scratch(self, attempt: Attempt) -> Attempt:
        """Begin with the first way; the window stays encoded if it is the same."""
        encoded = attempt.encoded if attempt.way < Way.FULL else None
        return replace(attempt, way=self._first_way, encoded=encoded, prompted=None)

    def _part(self, attempt: Attempt, start: int, end: int) -> Attempt:
        """A part of what was attempted, to be heard by itself; where the prompt has misled, it stays left out."""
        return Attempt(
            attempt.sound,
            start,
            end,
            self._first_way,
            language=attempt.language,
            is_prompted=attempt.is_prompted,
        )

    @property
    def _first_way(self) -> Way:
        is_narrow = self._decode.beam_size < self._settings.wide_beam and self._decode.temperature == 0
        return Way.NARROW if is_narrow else Way.WIDE

    def _window_s(self, attempt: Attempt) -> float:
        *short, full = self._settings.windows_s
        if attempt.way >= Way.FULL:
            return full
        needed = attempt.duration + self._settings.silence_after_s
        return next((length for length in short if length >= needed), full)

    def _decode_settings(self, attempt: Attempt) -> DecodeSettings:
        way = attempt.way
        is_short = way < Way.FULL
        asked = replace(
            self._decode,
            language=attempt.language,
            prompt=self._decode.prompt if attempt.is_prompted else None,
            hotwords=self._decode.hotwords if attempt.is_prompted else None,
            max_tokens=round(self._settings.max_tokens_per_s * self._window_s(attempt)) if is_short else None,
        )
        if way == self._first_way:
            return asked
        return replace(
            asked,
            beam_size=max(self._settings.wide_beam, self._decode.beam_size),
            temperature=0.0,
            avoid_repetition=way is Way.UNREPEATING,
        )

    def _placed(self, attempt: Attempt, hypothesis: Hypothesis) -> list[Said]:
        offset = attempt.start / SAMPLE_RATE
        words = self._words(attempt, hypothesis)
        ratio = compression_ratio(hypothesis.text)
        return [
            Said(
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
                token_ends=_ends_in_bare(utterance),
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

    def _rest(self, attempt: Attempt, hypothesis: Hypothesis) -> tuple[list[Doubt], list[Attempt]]:
        """The stretches with speech that no utterance covers: those to be heard again, and those that were in vain."""
        stuck: list[Doubt] = []
        again: list[Attempt] = []
        for start, end, least_s in self._uncovered(attempt, hypothesis):
            if speech_between(attempt.sound.chunk.regions, start, end) < least_s:
                continue
            if end - start > attempt.end - attempt.start - _LEAST_PROGRESS:
                stuck.append(_doubt(start, end, NO_WORDS, ""))
            else:
                again.append(self._part(attempt, start, end))
        return stuck, again

    def _sparse_at(self, attempt: Attempt, hypothesis: Hypothesis) -> int | None:
        """The middle of the longest pause in an utterance that says too little for the speech in it."""
        for utterance in hypothesis.utterances:
            start = attempt.start + int(utterance.start * SAMPLE_RATE)
            end = attempt.start + int(min(utterance.end, attempt.duration) * SAMPLE_RATE)
            regions = [r for r in attempt.sound.chunk.regions if r.start < end and r.end > start]
            speech_s = speech_between(regions, start, end)
            is_sparse = len(utterance.text.encode()) < self._settings.least_bytes_per_s * speech_s
            if is_sparse and speech_s >= self._settings.sparse_speech_s and len(regions) > 1:
                before, after = max(pairwise(regions), key=lambda pair: pair[1].start - pair[0].end)
                return (before.end + after.start) // 2
        return None

    def _uncovered(self, attempt: Attempt, hypothesis: Hypothesis) -> Iterable[tuple[int, int, float]]:
        """Start and end of each gap in samples, and how many seconds of speech in it are too many to leave."""
        reached = attempt.start
        for utterance in (u for u in hypothesis.utterances if u.start < attempt.duration):
            start = attempt.start + int(utterance.start * SAMPLE_RATE)
            yield reached, min(start, attempt.end), self._settings.skipped_speech_s
            reached = max(reached, attempt.start + int(utterance.end * SAMPLE_RATE))
        yield reached, attempt.end, self._settings.uncovered_speech_s


def _covers(attempt: Attempt, doubt: Doubt) -> bool:
    return attempt.start / SAMPLE_RATE <= doubt.start and doubt.end <= attempt.end / SAMPLE_RATE


def _not_empty(attempt: Attempt, start: int, end: int) -> tuple[int, int]:
    """Return a span that is at least 20 ms long, and within the attempt unless that is shorter."""
    end = min(max(end, start + _SHORTEST_DOUBT), attempt.end)
    return max(attempt.start, min(start, end - _SHORTEST_DOUBT)), end


def _doubt(start: int, end: int, reason: str, text: str) -> Doubt:
    return Doubt(start / SAMPLE_RATE, end / SAMPLE_RATE, reason, text)


def _complete(hypothesis: Hypothesis) -> Hypothesis:
    """Leave out the utterance in which the model ran out of room: its sound is heard again."""
    *complete, last = hypothesis.utterances or (None,)
    if last is None or not (hypothesis.is_cut_off and last.is_open and complete):
        return hypothesis
    return replace(hypothesis, utterances=tuple(complete))


def _ends_in_bare(utterance: Utterance) -> tuple[int, ...]:
    """Where the tokens end in the text without the blanks before it."""
    blanks = len(utterance.text.encode()) - len(utterance.text.lstrip().encode())
    return tuple(max(0, end - blanks) for end in utterance.token_ends)
