"""A recogniser for tests: it answers what it is told to, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cesar.engines.base import DecodeSettings, EncodedWindow, Hypothesis, TimedWord, Utterance, Window
from cesar.transcript import ModelIdentity


@dataclass(frozen=True)
class Asked:
    """One window that was to be decoded."""

    start: float
    duration: float
    seconds: float
    """Length of the window with its filling."""
    settings: DecodeSettings
    batch_size: int


Answer = Callable[[Asked], Hypothesis]


class AnsweringEngine:
    """The `Engine` whose texts come from a function."""

    identity = ModelIdentity("answering", "unknown", "0" * 64, "cpu", "none")
    n_mels = 80

    def __init__(
        self,
        answer: Answer,
        *,
        languages: frozenset[str] = frozenset({"en"}),
        language_of: Callable[[Window], Mapping[str, float]] = lambda window: {"en": 1.0},
    ) -> None:
        self.languages = languages
        self.asked: list[Asked] = []
        self.aligned: list[list[str]] = []
        self.encoded: list[Window] = []
        self._answer = answer
        self._language_of = language_of

    def encode(self, window: Window) -> EncodedWindow:
        self.encoded.append(window)
        return EncodedWindow(window, None)

    def language_probabilities(
        self, encoded: EncodedWindow, part: tuple[float, float] | None = None
    ) -> Mapping[str, float]:
        start, end = part or (0.0, encoded.window.duration)
        window = encoded.window
        return self._language_of(
            window if part is None else replace(window, start=window.start + start, duration=end - start)
        )

    def decode(self, batch: Sequence[EncodedWindow], settings: DecodeSettings) -> list[Hypothesis]:
        assert len({encoded.window.log_mel.shape for encoded in batch}) == 1, "windows of a batch are alike"
        asked = [
            Asked(h.window.start, h.window.duration, h.window.log_mel.shape[1] / 100, settings, len(batch))
            for h in batch
        ]
        self.asked += asked
        return [self._answer(one) for one in asked]

    def align(
        self, encoded: EncodedWindow, utterances: Sequence[Utterance], settings: DecodeSettings
    ) -> list[list[TimedWord]]:
        """Half a second a word."""
        self.aligned.append([utterance.text for utterance in utterances])
        words = [utterance.text.split() for utterance in utterances]
        starts = iter(range(sum(map(len, words))))
        return [
            [TimedWord(at / 2, at / 2 + 0.5, word, 0.9) for word, at in zip(its_words, starts, strict=False)]
            for its_words in words
        ]


def saying(
    *utterances: tuple[float, float, str],
    logprob: float = -0.2,
    no_speech: float = 0.0,
    tokens: int | None = None,
    temperature: float = 0.0,
) -> Hypothesis:
    """A hypothesis of utterances: start and end in the window, and text. Each byte of the text is a token."""
    count = sum(len(text.split()) for _, _, text in utterances) if tokens is None else tokens
    said = tuple(_utterance(a, b, " " + text) for a, b, text in utterances)
    return Hypothesis(said, logprob, no_speech, count, temperature=temperature)


def _utterance(start: float, end: float, text: str) -> Utterance:
    tokens = tuple(text.encode())
    ends = tuple(range(1, len(tokens) + 1))
    return Utterance(start, end, text, tokens, ends, tuple(-token / 1000 for token in tokens))
