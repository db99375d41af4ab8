"""Times and probabilities of words, from the model's cross-attention."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

import ctranslate2

from cesar.engines.base import EncodedWindow, TimedWord, Utterance
from cesar.engines.whisper.tokenizer import CONTEXT_TOKENS, TIMESTAMP_STEP_S, Vocabulary, split_words

_MAX_TOKENS = CONTEXT_TOKENS - 8


class WordAligner:
    """Aligns texts with windows."""

    def __init__(self, model: ctranslate2.models.Whisper, tokens: Vocabulary) -> None:
        self._model = model
        self._tokens = tokens

    def align(
        self, encoded: EncodedWindow, utterances: Sequence[Utterance], prompt: Sequence[int], language: str
    ) -> list[list[TimedWord]]:
        """Return the timed words of each utterance; they must have been decoded from this window.

        prompt: tokens before the text. language: language of the text.

        The text is teacher-forced character by character (arXiv 2509.09987), which gives more accurate starts than word
        pieces. Probabilities still come from the tokens that the model wrote.
        """
        by_utterance = [split_words(utterance.text, language) for utterance in utterances]
        words = [word for its_words in by_utterance for word in its_words]
        if not words:
            return [[] for _ in utterances]
        starts = self._starts(encoded, words, prompt)
        probabilities = self._probabilities(encoded, utterances, by_utterance, prompt)
        ends = [*starts[1:], encoded.window.duration]
        timed = iter(
            [
                TimedWord(start, max(start, end), word.strip(), probability)
                for start, end, word, probability in zip(starts, ends, words, probabilities, strict=True)
            ]
        )
        return [[next(timed) for _ in its_words] for its_words in by_utterance]

    def _starts(self, encoded: EncodedWindow, words: Sequence[str], prompt: Sequence[int]) -> list[float]:
        """Return when each word's first character (or token, if it is long) is attended to, in seconds."""
        by_word = [self._tokens.encode_characters(word) for word in words]
        if sum(map(len, by_word)) > _MAX_TOKENS:
            by_word = [self._tokens.encode(word) for word in words]
        times = _first_times(self._aligned(encoded, by_word, prompt).alignments)
        at, starts = 0, list[float]()
        for its_tokens in by_word:
            starts.append(times.get(at, 0) * TIMESTAMP_STEP_S)
            at += len(its_tokens)
        return starts

    def _probabilities(
        self,
        encoded: EncodedWindow,
        utterances: Sequence[Utterance],
        by_utterance: Sequence[Sequence[str]],
        prompt: Sequence[int],
    ) -> list[float]:
        """Return the geometric mean of each word's token probabilities."""
        written = [utterance.tokens for utterance in utterances]
        of_tokens = iter(self._aligned(encoded, written, prompt).text_token_probs)
        means: list[float] = []
        for utterance, words in zip(utterances, by_utterance, strict=True):
            ends = utterance.token_ends
            own = [next(of_tokens, 1.0) for _ in ends]
            for start, end in _byte_spans(utterance.text, words):
                first, last = bisect_right(ends, start), bisect_left(ends, end)
                logs = [math.log(max(probability, 1e-9)) for probability in own[first : last + 1]]
                means.append(math.exp(sum(logs) / len(logs)) if logs else 0.0)
        return means

    def _aligned(
        self, encoded: EncodedWindow, words: Sequence[Sequence[int]], prompt: Sequence[int]
    ) -> ctranslate2.models.WhisperAlignmentResult:
        tokens = [token for word in words for token in word][:_MAX_TOKENS]
        frames = math.ceil(encoded.window.duration * 100)
        return self._model.align(encoded.encoding, list(prompt), [tokens], [frames])[0]


def _byte_spans(text: str, words: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each word in the text, as UTF-8 byte offsets."""
    at = 0
    for word in words:
        bare = word.strip()
        at = max(at, text.find(bare, at))
        start = len(text[:at].encode())
        yield start, start + len(bare.encode())
        at += len(bare)


def _first_times(alignments: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Return the first encoder frame aligned with each text token."""
    first: dict[int, int] = {}
    for token, frame in alignments:
        first.setdefault(token, frame)
    return first
