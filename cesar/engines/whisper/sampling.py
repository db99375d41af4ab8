"""Sampling at a temperature with our own random number generator: the same seed gives the same text.

CTranslate2 samples too, but its generator can't be reseeded (decision 11). Here it produces a greedy draft with the
logits of each step. While the samples agree with the draft, its logits are those of the sampled text; after the first
disagreement, a new draft is made. This changes no probabilities: each token is sampled from the model's own
distribution given the previous tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cesar.engines.timestamp_rules import TimestampRules

Logits = npt.NDArray[np.float32]
"""float32[vocabulary]: logits of one step; forbidden tokens have a very low one."""
_FORBIDDEN = -1e30
_MIN_MEAN_LOGPROB = -1.0
"""Less likely texts are rejected (openai/whisper)."""
_MIN_TOKENS_TO_JUDGE = 24


@dataclass(frozen=True, slots=True)
class Draft:
    """A greedy continuation by the model."""

    tokens: Sequence[int]
    """The whole text, including the given tokens."""
    logits: Sequence[Logits]
    """The logits from which each token was chosen, and those of the end token if it was reached."""
    no_speech_prob: float = 0.0


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sampled text."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Log-probability of each token at temperature 1; then of the end token, unless `max_new_tokens` was reached."""
    no_speech_prob: float
    is_degenerate: bool = False
    """Sampling was abandoned: the text makes no sense."""


Drafting = Callable[[Sequence[int], int], Draft]
"""Continues from the given tokens up to the given total number."""


def sample(
    drafting: Drafting, rules: TimestampRules, rng: np.random.Generator, *, temperature: float, max_new_tokens: int
) -> Sampled:
    """Sample tokens up to the end of the text, `max_new_tokens` at most, or until the text is degenerate.

    A text is degenerate if it is too unlikely to be accepted; every token of one costs a draft.
    """
    tokens, logprobs, drafts = list[int](), list[float](), 1
    latest = first = drafting((), max_new_tokens)
    while len(tokens) < max_new_tokens and not _is_degenerate(logprobs):
        start = len(tokens)
        for at in range(start, min(len(latest.logits), max_new_tokens)):
            distribution = log_probabilities(latest.logits[at], tokens, rules)
            token = _sample_token(distribution, rng, temperature)
            logprobs.append(float(distribution[token]))
            if token == rules.end_of_text:
                return Sampled(tuple(tokens), tuple(logprobs), first.no_speech_prob)
            tokens.append(token)
            # CTranslate2 doesn't notice that a timestamp closes the text it was given, and forbids the next timestamp.
            is_misread = token >= rules.timestamp_begin and at == start > 0
            if is_misread or [token] != list(latest.tokens[at : at + 1]):
                break
        if len(tokens) == start:
            raise RuntimeError("a draft did not extend the given tokens")
        ahead = 8 + 2 * len(tokens) // drafts  # about twice as far as drafts have agreed so far
        latest, drafts = drafting(tokens, min(max_new_tokens, len(tokens) + ahead)), drafts + 1
    return Sampled(tuple(tokens), tuple(logprobs), first.no_speech_prob, is_degenerate=_is_degenerate(logprobs))


def log_probabilities(logits: Logits, before: Sequence[int], rules: TimestampRules) -> npt.NDArray[np.float64]:
    """Return the log-probability of each token given the previous ones; -inf if forbidden."""
    end, first = rules.end_of_text, rules.timestamp_begin
    known = logits.astype(np.float64)
    known[known < _FORBIDDEN] = -np.inf
    known[first - 1] = -np.inf
    allowed = rules.allowed(before)
    if not allowed.text:
        known[:end] = -np.inf
    if not allowed.end:
        known[end:first] = -np.inf
    times = np.full_like(known[first:], -np.inf)
    times[allowed.times] = known[first:][allowed.times]
    known[first:] = times
    if _log_sum(times) > known[:first].max():
        known[:first] = -np.inf
    return known - _log_sum(known)


def _is_degenerate(logprobs: Sequence[float]) -> bool:
    return len(logprobs) >= _MIN_TOKENS_TO_JUDGE and sum(logprobs) < _MIN_MEAN_LOGPROB * len(logprobs)


def logprob(logits: Logits, token: int) -> float:
    """Return a token's log-probability among all tokens that may ever be written, ignoring timestamp rules."""
    known = logits.astype(np.float64)
    return float(known[token]) - _log_sum(known)


def _sample_token(distribution: npt.NDArray[np.float64], rng: np.random.Generator, temperature: float) -> int:
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((distribution - distribution.max()) / temperature)
    (possible,) = np.nonzero(weights)
    ends = np.cumsum(weights[possible])
    at = np.searchsorted(ends, rng.random() * ends[-1], side="right")
    return int(possible[min(at, len(possible) - 1)])


def _log_sum(values: npt.NDArray[np.float64]) -> float:
    highest = float(values.max())
    return highest + float(np.log(np.exp(values - highest).sum())) if np.isfinite(highest) else highest
