"""Delays: they grow up to a limit, with jitter."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from cesar.api.execution.backoff import backoff

seconds = st.floats(0.001, 100)


@given(seconds, seconds, st.integers(1, 80))
def test_each_delay_is_between_half_and_all_of_the_doubled_delay(first: float, longest: float, count: int) -> None:
    longest = max(first, longest)
    for number, delay in enumerate(islice(backoff(first, longest), count)):
        whole = min(first * 2**number, longest)
        assert whole / 2 <= delay <= whole


def test_clients_that_fail_together_do_not_retry_together() -> None:
    assert list(islice(backoff(), 5)) != list(islice(backoff(), 5))
