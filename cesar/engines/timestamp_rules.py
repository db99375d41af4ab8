"""Where Whisper may put timestamps: first of all, in pairs, rising (openai/whisper, `ApplyTimestampRules`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LATEST_START = 50
"""No text starts later than this many timestamps (a second) into its window, as in openai/whisper."""


@dataclass(frozen=True, slots=True)
class AllowedTokens:
    """What may come next."""

    text: bool
    end: bool
    times: slice
    """Of the timestamps, counted from the first."""


_NO_TIME = slice(0, 0)


@dataclass(frozen=True, slots=True)
class TimestampRules:
    """The rules for a vocabulary: text, then the end of it and other special tokens, then timestamps."""

    end_of_text: int
    timestamp_begin: int
    """This token and all that follow are timestamps; `<|notimestamps|>` stands before it."""

    def allowed(self, before: Sequence[int]) -> AllowedTokens:
        """Tell what may follow the tokens that were written.

        More likely timestamps than the likeliest text, taken together, are to be preferred: that is for the caller,
        who knows the probabilities.
        """
        if not before:
            return AllowedTokens(text=False, end=False, times=slice(0, _LATEST_START + 1))
        last = next((token for token in reversed(before) if token >= self.timestamp_begin), None)
        if before[-1] < self.timestamp_begin:
            from_next = 0 if last is None else last - self.timestamp_begin + 1
            return AllowedTokens(text=True, end=True, times=slice(from_next, None))
        if len(before) == 1 or before[-2] >= self.timestamp_begin:
            return AllowedTokens(text=True, end=True, times=_NO_TIME)
        return AllowedTokens(text=False, end=True, times=slice(before[-1] - self.timestamp_begin, None))
