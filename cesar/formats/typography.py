"""Properties of text as readers see it: spaces, characters and their width, ends of sentences."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import TYPE_CHECKING
from unicodedata import category, east_asian_width, normalize

if TYPE_CHECKING:
    from collections.abc import Iterable

_SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_SENTENCE_MARKS = frozenset(".!?。।॥؟።။\N{ARABIC FULL STOP}\N{ARMENIAN FULL STOP}")
_ABBREVIATION = re.compile(r"\b(?:[^\W\d]|Mrs?|Ms|Dr|Prof|St|Sr|Jr|vs|etc)\.\Z")

_STOP = re.compile(r"[^.\s]\.\Z")
_ORDINAL = re.compile(r"(?<!\d)\d{1,2}\.\Z")
WITH_ORDINAL_STOPS = frozenset(
    ("bs", "cs", "da", "de", "et", "fi", "fo", "hr", "hu", "is", "lb", "lv", "nn", "no", "pl", "sk", "sl", "sr", "tr")
)
"""Languages that write a full stop after ordinal numbers."""
_OPENING = "\"'“‘«„([¿¡-–— "
HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff]")

_JOINER = "\u200d"
# Not combining marks: joiners, Thai and Lao "am", Korean vowels and finals, skin tones, tags of flags.
_EXTENDERS = re.compile("[\u200c\u200d\u0e33\u0eb3\u1160-\u11ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
_REGIONAL_INDICATORS = re.compile("[\U0001f1e6-\U0001f1ff]{2}")


def flatten(text: str) -> str:
    r"""Put text on one line: replace each run of spaces, line breaks and control characters by one space.

    >>> flatten(" So\tmuch\n\nof it. ")
    'So much of it.'
    """
    return _SPACES.sub(" ", text).strip(" ")


def ends_sentence(text: str) -> bool:
    """Return whether text ends like a sentence, not with an abbreviation or an initial."""
    end = unquote_end(text.rstrip())
    return end[-1:] in _SENTENCE_MARKS and not _ABBREVIATION.search(end)


def ends_with_stop(text: str, language: str) -> bool:
    """Return whether text ends with a single full stop that belongs neither to an abbreviation nor to an ordinal."""
    end = text.rstrip()[-16:]
    is_ordinal = language in WITH_ORDINAL_STOPS and _ORDINAL.search(end)
    return bool(_STOP.search(end)) and not _ABBREVIATION.search(end) and not is_ordinal


def starts_in_lower_case(text: str) -> bool:
    """Return whether text begins with a lower-case word, as no sentence does; "iPhone" does not count."""
    start = text.lstrip(_OPENING)[:2]
    return start[:1].islower() and not start[1:].isupper()


def is_capitalised(text: str) -> bool:
    """Return whether any word of a text begins with a capital."""
    return any(word.lstrip(_OPENING)[:1].isupper() for word in text.split())


def join_texts(texts: Iterable[str]) -> str:
    """Join texts with spaces, but without them next to a Chinese or Japanese character.

    Thai, Lao, Khmer and Burmese have spaces between sentences, but not between words.

    >>> join_texts(["今日は。", "はい。"]) + " " + join_texts(["One.", "Two."])
    '今日は。はい。 One. Two.'
    """
    joined = ""
    for text in texts:
        is_unspaced = joined and text and (is_wide(joined[-1]) or is_wide(text[0]))
        joined += text if is_unspaced or not joined else f" {text}"
    return joined


def is_wide(char: str) -> bool:
    """Return whether a character is full-width and of a script without spaces; Korean has spaces."""
    return east_asian_width(char) in "WF" and not HANGUL.match(char)


def unquote_end(text: str) -> str:
    """Remove quotation marks and brackets at the end, and convert full-width punctuation to plain.

    Returns only the last eight characters, enough to see how the text ends.
    """
    end = normalize("NFKC", text[-8:])
    while end and (end[-1] in "\"'" or category(end[-1]) in {"Pe", "Pf", "Pi"}):  # Pi: German ends with “
        end = end[:-1]
    return end


def character_starts(text: str) -> list[int]:
    """Return the index of each character as readers perceive it: a letter with its accents, a whole emoji.

    A simplified version of Unicode's grapheme clusters (Standard Annex #29). A space never joins anything.
    """
    starts: list[int] = []
    for index, char in enumerate(text):
        if not starts or not _joins(text[starts[-1] : index], char):
            starts.append(index)
    return starts


def columns(text: str) -> list[int]:
    """Return the width of text[:i] for each i from 0 to len(text).

    Full-width characters and emoji take two columns, all others one.

    >>> columns("a語b")
    [0, 1, 3, 4]
    """
    widths = [0] * len(text)
    for start in character_starts(text):
        widths[start] = 2 if east_asian_width(text[start]) in "WF" else 1
    return list(accumulate(widths, initial=0))


def _joins(character: str, char: str) -> bool:
    if " " in (character, char):
        return False
    if char > "\u02ff" and (category(char)[0] == "M" or _EXTENDERS.match(char)):
        return True
    return character[-1] == _JOINER or bool(_REGIONAL_INDICATORS.fullmatch(character + char))
