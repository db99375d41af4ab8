"""Sampling at a temperature, with a random generator of our own: the same seed gives the same text.

CTranslate2 samples too, but its random generator can't be seeded again (decision 11). Here it is asked for the greedy
text, and for the logits of each step. As long as the samples agree with that draft, its logits are those of the sampled
text; after the first that doesn't, a new draft is made. This changes no probability: each token is sampled from the
model's own distribution after the tokens before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cesar.engines.timestamp_rules import TimestampRules

Logits = npt.NDArray[np.float32]
"""float32[vocabulary]: of one step; what is forbidden has a very low one."""
_FORBIDDEN = -1e30
_LEAST_MEAN_LOGPROB = -1.0
"""A text that is less likely than this is not believed (openai/whisper)."""
_ENOUGH_TO_JUDGE = 24


@dataclass(frozen=True, slots=True)
class Draft:
    """What the model writes greedily."""

    tokens: Sequence[int]
    """All of it, what was given included."""
    logits: Sequence[Logits]
    """Those that each token was chosen by, and those of the end, if it came to one."""
    no_speech_prob: float = 0.0


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sampled text."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Of each token, at temperature 1; then of the end, unless `max_new_tokens` came first."""
    no_speech_prob: float
    is_degenerate: bool = False
    """Sampling was given up: the text makes no sense."""


Drafting = Callable[[Sequence[int], int], Draft]
"""Goes on from the tokens it is given, to so many in all."""


def sample(
    drafting: Drafting, rules: TimestampRules, rng: np.random.Generator, *, temperature: float, max_new_tokens: int
) -> Sampled:
    """Sample tokens up to the end of the text, `max_new_tokens` at most, or until the text is degenerate.

    A text is degenerate if it is less likely than any that would be believed: every token of it costs a draft.
    """
    tokens, logprobs, drafts = list[int](), list[float](), 1
    latest = first = drafting((), max_new_tokens)
    while len(tokens) < max_new_tokens and not _is_degenerate(logprobs):
        begun = len(tokens)
        for at in range(begun, min(len(latest.logits), max_new_tokens)):
            distribution = log_probabilities(latest.logits[at], tokens, rules)
            token = _drawn(distribution, rng, temperature)
            logprobs.append(float(distribution[token]))
            if token == rules.end_of_text:
                return Sampled(tuple(tokens), tuple(logprobs), first.no_speech_prob)
            tokens.append(token)
            # CTranslate2 doesn't see that a timestamp closes a text which it was given: it forbids the next one.
            is_misread = token >= rules.timestamp_begin and at == begun > 0
            if is_misread or [token] != list(latest.tokens[at : at + 1]):
                break
        if len(tokens) == begun:
            raise RuntimeError("a draft went no further than what it was given")
        ahead = 8 + 2 * len(tokens) // drafts  # about twice as far as drafts have held so far
        latest, drafts = drafting(tokens, min(max_new_tokens, len(tokens) + ahead)), drafts + 1
    return Sampled(tuple(tokens), tuple(logprobs), first.no_speech_prob, is_degenerate=_is_degenerate(logprobs))


def log_probabilities(logits: Logits, before: Sequence[int], rules: TimestampRules) -> npt.NDArray[np.float64]:
    """Return the log-probability of each token after those that were written before it; -inf: forbidden."""
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
    return len(logprobs) >= _ENOUGH_TO_JUDGE and sum(logprobs) < _LEAST_MEAN_LOGPROB * len(logprobs)


def logprob(logits: Logits, token: int) -> float:
    """Return a token's log-probability among all that the model may write, whatever its place."""
    known = logits.astype(np.float64)
    return float(known[token]) - _log_sum(known)


def _drawn(distribution: npt.NDArray[np.float64], rng: np.random.Generator, temperature: float) -> int:
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp((distribution - distribution.max()) / temperature)
    (possible,) = np.nonzero(weights)
    ends = np.cumsum(weights[possible])
    at = np.searchsorted(ends, rng.random() * ends[-1], side="right")
    return int(possible[min(at, len(possible) - 1)])


def _log_sum(values: npt.NDArray[np.float64]) -> float:
    highest = float(values.max())
    return highest + float(np.log(np.exp(values - highest).sum())) if np.isfinite(highest) else highest
