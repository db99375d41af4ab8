"""What stands between two segments, where the language is not known until the job is over: the script tells."""

from __future__ import annotations

import unicodedata

from cesar.options import TranscribeOptions
from cesar.transcript import UNSPACED_LANGUAGES

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "MYANMAR", "KHMER", "TIBETAN")
"""How the names of letters begin (Unicode) in scripts that put no blanks between words."""


def joiner_of(options: TranscribeOptions, text: str) -> str:
    """Give what comes between segments, by the language if it was named, else by most letters of the first text.

    >>> joiner_of(TranscribeOptions(), "東京は雨です。"), joiner_of(TranscribeOptions(), "It rains.")
    ('', ' ')
    """
    if options.task == "translate":
        return " "
    if options.language is not None:
        return "" if options.language in UNSPACED_LANGUAGES else " "
    letters = [unicodedata.name(letter, "") for letter in text if letter.isalpha()]
    unspaced = sum(name.startswith(_UNSPACED) for name in letters)
    return "" if unspaced > len(letters) / 2 else " "
