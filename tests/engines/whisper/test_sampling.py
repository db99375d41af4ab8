"""Draws from a made-up model: tokens 0 to 3 are text, 4 ends it, 5 is <|notimestamps|>, 6 and more are timestamps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cesar.engines.timestamp_rules import TimestampRules
from cesar.engines.whisper.sampling import Draft, Logits, Sampled, log_probabilities, logprob, sample

END, FIRST, SIZE = 4, 6, 12
RULES = TimestampRules(END, FIRST)
MANY = 40


def logits_after(tokens: Sequence[int], seed: int) -> Logits:
    """A model that is unsure: its logits are a function of all that was written."""
    return np.random.default_rng([seed, *tokens]).normal(0, 2, SIZE).astype(np.float32)


class Model:
    """Drafts as CTranslate2 does: after text that it was given it doesn't see that a timestamp closes it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.drafts = 0

    def draft(self, given: Sequence[int], most: int) -> Draft:
        self.drafts += 1
        tokens, logits = list(given), [logits_after(given[:at], self.seed) for at in range(len(given))]
        while len(tokens) < most:
            own = logits_after(tokens, self.seed)
            if given and len(tokens) == len(given) + 1 and tokens[-1] >= FIRST:
                own[FIRST:] = np.finfo(np.float32).min
            logits.append(own)
            token = int(log_probabilities(own, tokens, RULES).argmax()) if not given else int(own.argmax())
            if token == END:
                break
            tokens.append(token)
        return Draft(tokens, logits, 0.25)


def drawn(seed: int, rng: int, temperature: float, max_new_tokens: int = 12) -> Sampled:
    return sample(
        Model(seed).draft, RULES, np.random.default_rng(rng), temperature=temperature, max_new_tokens=max_new_tokens
    )


def drawn_one_by_one(seed: int, rng: int, temperature: float, max_new_tokens: int = 12) -> list[int]:
    """The same by its definition, with the logits of the drawn text itself."""
    rolled, tokens = np.random.default_rng(rng), list[int]()
    while len(tokens) < max_new_tokens:
        distribution = log_probabilities(logits_after(tokens, seed), tokens, RULES)
        weights = np.exp((distribution - distribution.max()) / temperature)
        token = int(np.searchsorted(np.cumsum(weights), rolled.random() * weights.sum(), side="right"))
        if token == END:
            break
        tokens.append(token)
    return tokens


seeds, temperatures = st.integers(0, 10**6), st.floats(0.05, 1)


@given(seeds, seeds, temperatures)
@settings(deadline=None)
def test_drafts_change_nothing_of_what_is_drawn(seed, rng, temperature):
    assert list(drawn(seed, rng, temperature).tokens) == drawn_one_by_one(seed, rng, temperature)


@given(seeds, seeds, temperatures)
@settings(deadline=None)
def test_the_same_dice_draw_the_same(seed, rng, temperature):
    assert drawn(seed, rng, temperature) == drawn(seed, rng, temperature)


@given(seeds, seeds, temperatures, st.integers(1, 12))
@settings(deadline=None)
def test_there_is_a_logprob_for_each_token_and_for_the_end(seed, rng, temperature, max_new_tokens):
    result = drawn(seed, rng, temperature, max_new_tokens)
    assert len(result.tokens) <= max_new_tokens
    assert len(result.logprobs) - len(result.tokens) in ((0,) if len(result.tokens) == max_new_tokens else (1,))
    assert all(-np.inf < one <= 0 for one in result.logprobs)
    assert result.no_speech_prob == 0.25


@given(seeds, seeds)
@settings(deadline=None)
def test_timestamps_come_first_in_pairs_and_never_fall(seed, rng):
    tokens = drawn(seed, rng, 1.0).tokens
    times = [token for token in tokens if token >= FIRST]
    assert tokens[:1] == tuple(times[:1])
    assert times == sorted(times)
    assert FIRST - 1 not in tokens
    for before, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if token >= FIRST and before < FIRST:
            assert after >= FIRST, "what closes a text is followed by what opens the next"
        if token >= FIRST and before >= FIRST:
            assert after < FIRST


@pytest.mark.parametrize("temperature", [1e-300, 1e-6])
def test_next_to_no_temperature_draws_the_likeliest_with_one_draft(temperature):
    model = Model(3)
    result = sample(model.draft, RULES, np.random.default_rng(1), temperature=temperature, max_new_tokens=MANY)
    assert list(result.tokens) == Model(3).draft((), MANY).tokens
    assert model.drafts == 1


def test_draws_that_lead_nowhere_are_given_up():
    even = np.zeros(200, np.float32)
    even[END] = -9

    def draft(given: Sequence[int], most: int) -> Draft:
        return Draft([*given, *([0] * (most - len(given)))], [even] * most)

    for rng in range(10):
        drawn = sample(draft, TimestampRules(END, 100), np.random.default_rng(rng), temperature=1.0, max_new_tokens=199)
        assert drawn.is_degenerate
        assert len(drawn.tokens) < 33, "24 and what is left of a draft"


def test_a_draft_that_goes_no_further_is_an_error():
    with pytest.raises(RuntimeError, match="did not extend"):
        sample(lambda given, most: Draft((), ()), RULES, np.random.default_rng(1), temperature=1.0, max_new_tokens=9)


@pytest.mark.slow
def test_tokens_are_drawn_as_often_as_the_model_says():
    count = 2000
    first = Counter(drawn(5, rng, 1.0, max_new_tokens=1).tokens[0] for rng in range(count))
    expected = np.exp(log_probabilities(logits_after((), 5), (), RULES))
    assert max(abs(first[token] / count - expected[token]) for token in range(SIZE)) < 0.04


def test_a_lower_temperature_draws_the_likeliest_more_often():
    def likeliest(temperature: float) -> int:
        best = int(log_probabilities(logits_after((), 5), (), RULES).argmax())
        return sum(drawn(5, rng, temperature, max_new_tokens=1).tokens == (best,) for rng in range(300))

    assert likeliest(0.2) > likeliest(0.5) > likeliest(1.0)


def test_a_logprob_is_that_of_a_token_among_all():
    logits = np.log(np.array([1, 2, 5], np.float32))
    assert np.exp([logprob(logits, token) for token in range(3)]) == pytest.approx([0.125, 0.25, 0.625])


def test_a_text_starts_within_a_second():
    rules = TimestampRules(1, 3)
    possible = np.isfinite(log_probabilities(np.zeros(200, np.float32), (), rules))
    assert list(np.flatnonzero(possible)) == list(range(3, 54))
