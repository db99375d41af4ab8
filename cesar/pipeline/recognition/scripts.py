"""Words in any script, and which languages use a script."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import lru_cache

_LANGUAGES = {
    "ARABIC": "ar fa ur ps sd",
    "ARMENIAN": "hy",
    "BENGALI": "bn as",
    "CJK": "zh yue ja ko",
    "CYRILLIC": "ru uk be bg mk sr kk mn tg tt ba uz az bs",
    "DEVANAGARI": "hi mr ne sa",
    "ETHIOPIC": "am",
    "GEORGIAN": "ka",
    "GREEK": "el",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HANGUL": "ko",
    "HEBREW": "he yi",
    "HIRAGANA": "ja",
    "KANNADA": "kn",
    "KATAKANA": "ja",
    "KHMER": "km",
    "LAO": "lo",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
    "TIBETAN": "bo",
}
"""Whisper's languages by script, named by the first word of its letters' Unicode names; Latin is left out."""
_WITHOUT_SPACES = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KHMER", "LAO", "MYANMAR", "THAI", "TIBETAN"})
_APOSTROPHES = "'’"


def words_of(text: str) -> list[str]:
    """Return the words in lower case, without punctuation; in scripts without spaces, each letter; and each emoji.

    >>> words_of("It's 谢谢, Jane! 🎈")
    ["it's", '谢', '谢', 'jane', '🎈']
    """
    words: list[str] = []
    is_open = False
    folded = text.casefold()
    for at, letter in enumerate(folded):
        kind = unicodedata.category(letter)[0]
        is_inside = letter in _APOSTROPHES and is_open and folded[at + 1 : at + 2].isalnum()
        if is_open and (kind in "LNM" or is_inside) and not stands_alone(letter):
            words[-1] += letter
        elif kind in "LN" or is_symbol(letter):
            words.append(letter)
            is_open = not is_symbol(letter)
            if stands_alone(letter):
                is_open = False
        elif kind == "M" and words:
            words[-1] += letter
        else:
            is_open = False
    return words


def stands_alone(word: str) -> bool:
    """Return whether it is a letter of a script without spaces between words."""
    return script_of(word[0]) in _WITHOUT_SPACES


def is_symbol(word: str) -> bool:
    """Return whether it is an emoji or another symbol that nobody can say."""
    return unicodedata.category(word[0]) == "So"


def length_of(word: str) -> int:
    """Return the length in letters of an alphabet, about: an ideograph is a syllable."""
    return 3 if script_of(word[0]) == "CJK" else len(word)


def scripts_of(text: str) -> frozenset[str]:
    """Return the scripts of a text, except Latin."""
    return frozenset(_scripts(text))


def is_foreign(word: str, scripts: frozenset[str], language: str) -> bool:
    """Return whether a word is in one of these scripts, and the language does not use that script.

    >>> is_foreign("привет", scripts_of("Иван"), "en"), is_foreign("привет", scripts_of("Иван"), "ru")
    (True, False)
    """
    return any(language not in _LANGUAGES[script].split() for script in _scripts(word) if script in scripts)


def _scripts(text: str) -> Iterator[str]:
    return (script for letter in text if (script := script_of(letter)))


@lru_cache(maxsize=4096)
def script_of(letter: str) -> str:
    """Return the script of a letter; empty for Latin, digits and everything else."""
    script = unicodedata.name(letter, "").split(" ")[0].split("-")[0]
    return script if script in _LANGUAGES and unicodedata.category(letter)[0] in "LM" else ""
