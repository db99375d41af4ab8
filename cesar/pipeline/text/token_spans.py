"""Which of an utterance's tokens belong to which part of its text. Knows their lengths, not what they say."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise


def shared_out(ends: Sequence[int], text: str, parts: Sequence[str]) -> list[slice]:
    """Give each part of a text, in order, the tokens that end in it; a blank between two goes to the first.

    ends: where each token ends in the text, in bytes of UTF-8.
    Every token goes to one part, also where bytes were no text and the ends are off.

    >>> shared_out([3, 4, 9, 10], "Yes. Good.", ["Yes.", "Good."])
    [slice(0, 2, None), slice(2, 4, None)]
    """
    at, cuts = 0, [0]
    for part, following in pairwise(parts):
        at = text.find(following, at + len(part))
        cuts.append(max(cuts[-1], bisect_right(ends, len(text[:at].encode()))))
    return [slice(begin, end) for begin, end in pairwise([*cuts, len(ends)])]
