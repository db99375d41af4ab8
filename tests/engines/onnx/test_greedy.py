"""The greedy choice beside the distribution it is made from, which is written down in another way in draws.py."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cesar.engines.onnx.decoder import Scores
from cesar.engines.onnx.graph import Floats
from cesar.engines.onnx.greedy import likeliest
from cesar.engines.timestamp_rules import TimestampRules
from cesar.engines.whisper.sampling import log_probabilities

END, FIRST, SIZE = 4, 6, 70
RULES = TimestampRules(END, FIRST)
"""Tokens 0 to 3 are text, 4 ends it, 5 is <|notimestamps|>, 6 and more are timestamps."""


def scores_of(logits: Floats) -> Scores:
    text = logits[:, : END + 1]
    return Scores(
        text=text.argmax(axis=1),
        text_logit=text.max(axis=1),
        text_log_sum=np.log(np.exp(text).sum(axis=1)),
        end_logit=logits[:, END],
        time_logits=logits[:, FIRST:],
    )


def written(dice: np.random.Generator, count: int) -> list[int]:
    """Text as the rules allow it."""
    tokens = list[int]()
    for _ in range(count):
        known = log_probabilities(dice.normal(0, 3, SIZE).astype(np.float32), tokens, RULES)
        token = int(known.argmax())
        if token == END:
            break
        tokens.append(token)
    return tokens


@given(st.integers(0, 10**6), st.lists(st.integers(0, 12), min_size=1, max_size=6))
@settings(deadline=None)
def test_the_likeliest_token_that_the_rules_allow_is_chosen(seed, counts):
    dice = np.random.default_rng(seed)
    before = [written(dice, count) for count in counts]
    logits = dice.normal(0, 3, (len(before), SIZE)).astype(np.float32)
    tokens, logprobs = likeliest(scores_of(logits), before, RULES)
    for row, history in enumerate(before):
        known = log_probabilities(logits[row], history, RULES)
        assert tokens[row] == known.argmax()
        assert logprobs[row] == pytest.approx(known.max(), abs=1e-4)


def test_a_text_that_a_timestamp_closed_goes_on_only_with_another():
    logits = np.zeros((2, SIZE), np.float32)
    logits[:, 1] = 9.0  # more of the text
    logits[0, END], logits[1, SIZE - 1] = 2.0, 3.0
    tokens, _ = likeliest(scores_of(logits), [[SIZE - 2, 1, SIZE - 1]] * 2, RULES)
    assert tokens.tolist() == [END, SIZE - 1]
