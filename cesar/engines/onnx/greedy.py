"""Greedy search: at each step the likeliest token that Whisper's timestamp rules allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from cesar.engines.onnx.decoder import Decoder, Scores, Tokens
from cesar.engines.onnx.graph import Floats
from cesar.engines.timestamp_rules import TimestampRules


@dataclass(slots=True)
class DecodedTokens:
    """The decoded tokens of one window."""

    no_speech_prob: float
    logprob: float = 0.0
    """Sum over the tokens, and the end token if it was reached."""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    """Log-probability of each token and of the end token; empty if the search doesn't report them."""
    languages: Mapping[str, float] = field(default_factory=dict)
    """Probability of each language after the start of the text; empty unless requested."""


class GreedyDecoder:
    """Greedy search with a decoder and its vocabulary."""

    def __init__(
        self,
        decoder: Decoder,
        rules: TimestampRules,
        *,
        suppress_tokens: Sequence[int],
        start_of_text: int,
        languages: Mapping[str, int] | None = None,
    ) -> None:
        """languages: token by language code; without them, no language probabilities are returned."""
        self._languages = languages or {}
        self._decoder = decoder
        self._rules = rules
        self._start_of_text = start_of_text
        self._no_speech = rules.timestamp_begin - 2
        self._forbidden = np.zeros(decoder.shape.text_columns, np.float32)
        self._forbidden[[*suppress_tokens]] = self._forbidden[rules.end_of_text + 1 :] = -np.inf

    def search(self, encodings: Sequence[Floats], prompt: Sequence[int], max_new_tokens: int) -> list[DecodedTokens]:
        """Decode each window to at most `max_new_tokens` tokens. All windows have the same length.

        encodings: float32[1, frames, width] each.
        """
        end = self._rules.end_of_text
        batch = self._decoder.begin(encodings, len(prompt) + max_new_tokens, forbidden=self._forbidden, end=end)
        logits, scores = batch.begin(prompt, self._start_of_text)
        no_speech = _softmax(logits)[:, self._no_speech].tolist()
        texts = [
            DecodedTokens(own, languages=spoken)
            for own, spoken in zip(no_speech, self._language_probabilities(logits), strict=True)
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

    def _language_probabilities(self, logits: Floats) -> Iterator[Mapping[str, float]]:
        """Yield each row's probabilities over the languages; no row depends on another, bit for bit."""
        tokens = [*self._languages.values()]
        for row in logits:
            probabilities = _softmax(row[np.newaxis, tokens])[0].tolist() if tokens else []
            yield dict(zip(self._languages, probabilities, strict=True))


def likeliest(scores: Scores, before: Sequence[Sequence[int]], rules: TimestampRules) -> tuple[Tokens, Floats]:
    """Return the likeliest token of each row, and its log-probability among the allowed tokens.

    before: the previous tokens of each row.
    """
    text, text_logit, text_log_sum = scores.text.copy(), scores.text_logit.copy(), scores.text_log_sum.copy()
    times = np.full_like(scores.time_logits, -np.inf)
    for row, tokens in enumerate(before):
        allowed = rules.allowed(tokens)
        times[row, allowed.times] = scores.time_logits[row, allowed.times]
        if not allowed.text:
            text[row] = rules.end_of_text
            text_logit[row] = text_log_sum[row] = scores.end_logit[row] if allowed.end else -np.inf
    time_logit = np.maximum(times.max(axis=1), np.finfo(np.float32).min)  # finite even if none is allowed
    with np.errstate(divide="ignore"):
        time_log_sum = time_logit + np.log(np.exp(times - time_logit[:, np.newaxis]).sum(axis=1))
    is_time = time_log_sum > text_logit
    logprobs = np.where(is_time, time_logit - time_log_sum, text_logit - np.logaddexp(text_log_sum, time_log_sum))
    return np.where(is_time, times.argmax(axis=1) + rules.timestamp_begin, text), logprobs


def _softmax(logits: Floats) -> Floats:
    powers: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
