"""Whisper's rules for timestamps: first of all, in pairs, rising (openai/whisper, `ApplyTimestampRules`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_LATEST_START = 50
"""Text starts at most this many timestamps (one second) into its window, as in openai/whisper."""


@dataclass(frozen=True, slots=True)
class AllowedTokens:
    """The tokens allowed next."""

    text: bool
    end: bool
    times: slice
    """Range of timestamps, counted from the first."""


_NO_TIME = slice(0, 0)


@dataclass(frozen=True, slots=True)
class TimestampRules:
    """Timestamp rules for a vocabulary of text, then the end token and other special tokens, then timestamps."""

    end_of_text: int
    timestamp_begin: int
    """This token and all later ones are timestamps; `<|notimestamps|>` precedes it."""

    def allowed(self, before: Sequence[int]) -> AllowedTokens:
        """Return the tokens allowed after the previous ones.

        A timestamp must also be chosen if timestamps together are likelier than the likeliest text. That is left to
        the caller, which knows the probabilities.
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
