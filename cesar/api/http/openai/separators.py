"""The separator between segments, by their script, as the language is unknown until the job has finished."""

from __future__ import annotations

import unicodedata

from cesar.options import TranscribeOptions
from cesar.transcript import UNSPACED_LANGUAGES

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "MYANMAR", "KHMER", "TIBETAN")
"""Prefixes of the Unicode names of letters in scripts without spaces between words."""


def separator_for(options: TranscribeOptions, text: str) -> str:
    """Return the separator, by the language if it was given, else by the majority of the letters of the first text.

    >>> separator_for(TranscribeOptions(), "東京は雨です。"), separator_for(TranscribeOptions(), "It rains.")
    ('', ' ')
    """
    if options.task == "translate":
        return " "
    if options.language is not None:
        return "" if options.language in UNSPACED_LANGUAGES else " "
    names = [unicodedata.name(letter, "") for letter in text if letter.isalpha()]
    unspaced = sum(name.startswith(_UNSPACED) for name in names)
    return "" if unspaced > len(names) / 2 else " "
