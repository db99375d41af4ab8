"""Where a line may be broken, and the cost of a break at each position.

The order of preference is that of the Netflix Timed Text Style Guide: after punctuation, before conjunctions,
not between an article or a preposition and its noun. East Asian lines follow kinsoku, the rules for what may
not begin or end a line. Thai, Lao, Khmer and Burmese have no spaces between words: ICU's dictionaries find them.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING
from unicodedata import category, normalize

from cesar.formats.typography import HANGUL, character_starts, columns, ends_sentence, is_wide, unquote_end

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a break costs, on a scale where a line filled to its limit costs 1 (see layout.py).
AFTER_SENTENCE = 0.0
AFTER_CLAUSE = 0.1
BEFORE_CONJUNCTION = 0.2
BETWEEN_WORDS = 0.3
AFTER_SHORT_WORD = 0.5
"""A word of up to three letters is usually an article or a preposition, in any language with an alphabet."""
BETWEEN_CHARACTERS = 0.7
"""In a script without spaces, where a word may continue."""
WITHIN_LIKELY_WORD = 1.0
BEFORE_LONE_MARK = 3.0
"""As in French, with a space before a question mark."""
WITHIN_WORD = 50.0
"""Only for a word longer than a line."""

CONJUNCTIONS = {
    "de": "aber als bevor bis da damit dass denn doch falls ob obwohl oder sondern und während weil wenn wie",
    "en": "although and as because before but if nor or since so that though unless when where which who",
    "es": "aunque como cuando donde mientras ni o pero porque pues que si sino u y",
    "fr": "car comme donc dont lorsque mais ni où ou puisque quand que qui si tandis",
    "it": "anche che come dove e finché ma mentre né o oppure perché quando se sebbene",
    "nl": "als dat doordat en hoewel maar nadat of omdat terwijl toen voordat want wanneer zodat",
    "pl": "a aby ale bo chociaż czy gdy i jeśli kiedy lub ponieważ więc że żeby",
    "pt": "como e embora enquanto mas nem ou pois porque quando que se",
    "ru": "если и или когда которая которые который но потому хотя что чтобы",
    "sv": "att eftersom eller för men när och om så som utan",
}
"""Words that usually begin a clause, for the languages where they are known."""

_CLAUSE_MARKS = frozenset(",;:—、،؛")
_NOT_AT_LINE_START = frozenset(",.;:!?%~—、。・ー々ゝゞぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶะาๆฯ")
# Thai and Lao write these vowels before the consonant that they follow in speech.
_NOT_AT_LINE_END = frozenset("เแโใไເແໂໃໄ")
_UNSPACED_NARROW = re.compile("[\u0e00-\u109f\u1780-\u17ff]+")  # Thai, Lao, Tibetan, Burmese, Khmer
# Text that ends in hiragana or in a Chinese particle is a phrase. But particles and suffixes in hiragana belong to the
# preceding text, and consecutive katakana belong together.
_BETWEEN_PHRASES = re.compile("[\u3041-\u309f的们吗呢吧][^\u3041-\u309f]")
_WITHIN_LIKELY_WORD = re.compile(".[\u3041-\u309f]|[\u30a1-\u30ff]{2}")


def break_costs(text: str, language: str, limit: int) -> dict[int, float]:
    """Return every index of flattened text where a line may begin, with the cost of a break there.

    The end of the text is included and costs nothing. Adjacent indices are at most `limit` columns apart: a longer word
    is split between its characters.
    """
    conjunctions = frozenset(CONJUNCTIONS.get(language, "").split())
    costs: dict[int, float] = {}
    words = text.split(" ")
    index = 0
    for word, following in pairwise([*words, ""]):
        costs.update((index + within, cost) for within, cost in _costs_within(word))
        index += len(word) + 1
        costs[index] = _cost_between(word, following, conjunctions)
    del costs[index]
    costs[len(text)] = 0.0
    return _split_costs(text, limit, costs) | costs


def _cost_between(word: str, following: str, conjunctions: frozenset[str]) -> float:
    if following and _may_not_begin(following[0]) and not any(map(str.isalnum, following)):
        return BEFORE_LONE_MARK
    if ends_sentence(word) and not following[:1].islower():
        return AFTER_SENTENCE
    if _ends_clause(word):
        return AFTER_CLAUSE
    if following.casefold() in conjunctions:
        return BEFORE_CONJUNCTION
    is_short = len(word) <= 3 and not HANGUL.match(word)  # Korean writes a syllable in one character
    return AFTER_SHORT_WORD if is_short else BETWEEN_WORDS


def _costs_within(word: str) -> Iterator[tuple[int, float]]:
    if word.isascii():
        return
    between_words = _between_words(word)
    for before, index in pairwise(character_starts(word)):
        last, first = word[before], word[index]
        if index not in between_words and _UNSPACED_NARROW.match(word[index - 1]) and _UNSPACED_NARROW.match(first):
            continue
        has_gap = last == "—" or _is_unspaced(last) or _is_unspaced(first)
        if has_gap and not _may_not_end(last) and not _may_not_begin(first):
            yield index, _cost_within(word[max(0, index - 8) : index], first)


def _between_words(text: str) -> frozenset[int]:
    """Return where words begin within runs of scripts without spaces."""
    runs = list(_UNSPACED_NARROW.finditer(text))
    if not runs:
        return frozenset()
    try:
        from icu4py.breakers import LineBreaker  # 33 MB on disk: loaded only for these scripts
    except ImportError:  # a platform without it: any character may begin a line, and no text is lost
        return frozenset(range(len(text)))
    # Its positions are in UTF-16 code units, which are the same within a run.
    return frozenset(run.start() + start for run in runs for start, _ in LineBreaker(run[0], "th").segments())


def _cost_within(before: str, first: str) -> float:
    if ends_sentence(before):
        return AFTER_SENTENCE
    if _ends_clause(before):
        return AFTER_CLAUSE
    pair = before[-1] + first
    if _BETWEEN_PHRASES.match(pair):
        return BETWEEN_WORDS
    return WITHIN_LIKELY_WORD if _WITHIN_LIKELY_WORD.match(pair) else BETWEEN_CHARACTERS


def _ends_clause(text: str) -> bool:
    return unquote_end(text)[-1:] in _CLAUSE_MARKS


def _may_not_begin(char: str) -> bool:
    plain = normalize("NFKC", char)[0]  # half-width and full-width forms follow the same rules
    return plain in _NOT_AT_LINE_START or category(plain) in {"Pe", "Pf"}


def _may_not_end(char: str) -> bool:
    return char in _NOT_AT_LINE_END or category(char) in {"Ps", "Pi", "Sc"}


def _is_unspaced(char: str) -> bool:
    """Return whether a character's script has no spaces between words. Korean is full-width, but has them."""
    return bool(_UNSPACED_NARROW.match(char)) or is_wide(char)


def _split_costs(text: str, limit: int, costs: dict[int, float]) -> dict[int, float]:
    width = columns(text)
    split: dict[int, float] = {}
    for start, end in pairwise([0, *sorted(costs)]):
        if width[end] - width[start] > limit:
            inner = character_starts(text[start:end].rstrip(" "))[1:]
            split.update((start + index, WITHIN_WORD) for index in inner)
    return split
