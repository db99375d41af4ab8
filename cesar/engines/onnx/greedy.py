"""The greedy search: always the likeliest token that Whisper's rules for timestamps allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cesar.engines.onnx.decoder import Decoder, Scores, Tokens
from cesar.engines.onnx.graph import Floats
from cesar.engines.timestamp_rules import TimestampRules


@dataclass(slots=True)
class DecodedTokens:
    """What is written for one window."""

    no_speech_prob: float
    logprob: float = 0.0
    """The sum over its tokens, and over the end, if it came to that."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """Of each token, and of the end; empty where the search doesn't tell."""
    languages: Mapping[str, float] = field(default_factory=dict)
    """The probability of each language after the start of the text; empty where nobody asked for it."""


class GreedyDecoder:
    """Searches with a decoder and its vocabulary."""

    def __init__(
        self,
        decoder: Decoder,
        rules: TimestampRules,
        *,
        suppress_tokens: Sequence[int],
        start_of_text: int,
        languages: Mapping[str, int] | None = None,
    ) -> None:
        """Without `languages`, the token of each by its code, no text tells their probabilities."""
        self._languages = languages or {}
        self._decoder = decoder
        self._rules = rules
        self._start_of_text = start_of_text
        self._no_speech = rules.timestamp_begin - 2
        self._forbidden = np.zeros(decoder.shape.text_columns, np.float32)
        self._forbidden[[*suppress_tokens]] = self._forbidden[rules.end_of_text + 1 :] = -np.inf

    def search(self, encodings: Sequence[Floats], prompt: Sequence[int], max_new_tokens: int) -> list[DecodedTokens]:
        """Write the text of each window, of `max_new_tokens` tokens at most. The windows are of the same length.

        encodings: float32[1, frames, width] each.
        """
        end = self._rules.end_of_text
        batch = self._decoder.begin(encodings, len(prompt) + max_new_tokens, forbidden=self._forbidden, end=end)
        logits, scores = batch.begin(prompt, self._start_of_text)
        no_speech = _softmax(logits)[:, self._no_speech].tolist()
        texts = [
            DecodedTokens(own, languages=spoken) for own, spoken in zip(no_speech, self._spoken(logits), strict=True)
        ]
        open_texts = list(texts)
        while open_texts:
            tokens, logprobs = likeliest(scores, [text.tokens for text in open_texts], self._rules)
            for text, token, logprob in zip(open_texts, tokens.tolist(), logprobs.tolist(), strict=True):
                text.tokens.append(token)
                text.logprob += logprob
                text.logprobs.append(logprob)
            for row in reversed(range(len(open_texts))):
                if tokens[row] == end or len(open_texts[row].tokens) == max_new_tokens:
                    batch.drop(row)
                    tokens[row], open_texts[row] = tokens[len(open_texts) - 1], open_texts[-1]
                    open_texts.pop()
            if open_texts:
                scores = batch.step(tokens[: len(open_texts)])
        for text in texts:
            if text.tokens[-1] == end:
                text.tokens.pop()
        return texts

    def _spoken(self, logits: Floats) -> Iterator[Mapping[str, float]]:
        """Yield each row's probability of each language, among the languages; of that row alone, bit for bit."""
        tokens = [*self._languages.values()]
        for row in logits:
            probabilities = _softmax(row[np.newaxis, tokens])[0].tolist() if tokens else []
            yield dict(zip(self._languages, probabilities, strict=True))


def likeliest(scores: Scores, before: Sequence[Sequence[int]], rules: TimestampRules) -> tuple[Tokens, Floats]:
    """Return the likeliest token of each row, and its log-probability among those that are allowed there.

    before: the tokens that are written in each row.
    """
    text, text_logit, text_log_sum = scores.text.copy(), scores.text_logit.copy(), scores.text_log_sum.copy()
    times = np.full_like(scores.time_logits, -np.inf)
    for row, tokens in enumerate(before):
        allowed = rules.allowed(tokens)
        times[row, allowed.times] = scores.time_logits[row, allowed.times]
        if not allowed.text:
            text[row] = rules.end_of_text
            text_logit[row] = text_log_sum[row] = scores.end_logit[row] if allowed.end else -np.inf
    time_logit = np.maximum(times.max(axis=1), np.finfo(np.float32).min)  # a number, even where none is allowed
    with np.errstate(divide="ignore"):
        time_log_sum = time_logit + np.log(np.exp(times - time_logit[:, np.newaxis]).sum(axis=1))
    is_time = time_log_sum > text_logit
    logprobs = np.where(is_time, time_logit - time_log_sum, text_logit - np.logaddexp(text_log_sum, time_log_sum))
    return np.where(is_time, times.argmax(axis=1) + rules.timestamp_begin, text), logprobs


def _softmax(logits: Floats) -> Floats:
    powers: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
