"""What may follow: tokens 0 to 3 are text, 4 ends it, 5 is <|notimestamps|>, 6 and more are timestamps."""

import pytest

from cesar.engines.timestamp_rules import AllowedTokens, TimestampRules

RULES = TimestampRules(end_of_text=4, timestamp_begin=6)


@pytest.mark.parametrize(
    ("before", "allowed"),
    [
        ([], AllowedTokens(text=False, end=False, times=slice(0, 51))),
        ([6], AllowedTokens(text=True, end=True, times=slice(0, 0))),
        ([6, 1], AllowedTokens(text=True, end=True, times=slice(1, None))),
        ([6, 1, 9], AllowedTokens(text=False, end=True, times=slice(3, None))),
        ([6, 1, 9, 9], AllowedTokens(text=True, end=True, times=slice(0, 0))),
        ([6, 1, 9, 9, 2], AllowedTokens(text=True, end=True, times=slice(4, None))),
        ([1], AllowedTokens(text=True, end=True, times=slice(0, None))),
    ],
    ids=[
        "at first",
        "after the first time",
        "in a text",
        "after its end",
        "after a pair",
        "in the next text",
        "no time",
    ],
)
def test_timestamps_come_first_in_pairs_and_rising(before, allowed):
    assert RULES.allowed(before) == allowed
