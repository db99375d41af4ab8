"""Which tokens of an utterance belong to which part of its text, by their lengths alone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise


def share_tokens(ends: Sequence[int], text: str, parts: Sequence[str]) -> list[slice]:
    """Return, for each part of a text in order, the tokens that end in it; a space between two goes to the first.

    ends: where each token ends in the text, in UTF-8 bytes.
    Every token goes to exactly one part, even where invalid bytes make the ends inexact.

    >>> share_tokens([3, 4, 9, 10], "Yes. Good.", ["Yes.", "Good."])
    [slice(0, 2, None), slice(2, 4, None)]
    """
    at, cuts = 0, [0]
    for part, following in pairwise(parts):
        at = text.find(following, at + len(part))
        cuts.append(max(cuts[-1], bisect_right(ends, len(text[:at].encode()))))
    return [slice(begin, end) for begin, end in pairwise([*cuts, len(ends)])]
