"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Iterator


def backoff(initial_s: float = 0.1, max_s: float = 5.0) -> Iterator[float]:
    """Give delays without end: doubling up to the longest, and a random part of each, so that many don't come at once.

    (Full jitter: Marc Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015; here from a half up.)
    """
    delay_s = initial_s
    while True:
        yield delay_s * random.uniform(0.5, 1)  # noqa: S311 - no secret
        delay_s = min(2 * delay_s, max_s)
