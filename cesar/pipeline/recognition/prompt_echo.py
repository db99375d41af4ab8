"""Whether words of the prompt were spoken or only echoed: Whisper writes its prompt where it recognises little.

Pure rules over texts. A text with words of the prompt is compared with the text of the same sound without the prompt:
a name may be spelled differently there, but it sounds similar, or stands between the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby, pairwise

from cesar.pipeline.recognition.scripts import (
    is_foreign,
    is_symbol,
    length_of,
    script_of,
    scripts_of,
    stands_alone,
    words_of,
)

_MIN_HOTWORD_LETTERS = 3
"""A shorter hotword proves nothing: it is in every text."""
_MIN_RUN_LETTERS = 7
"""Minimum length of one word of the prompt, or of two adjacent ones: fewer are a coincidence ("of the")."""
_MAX_PROMPT_SHARE = 0.4
"""A text with a larger share of the prompt's words is doubtful, whatever their order."""
_MIN_LINKED = 6
"""Minimum run of letters shared with the prompt in scripts without spaces; an ideograph counts two."""
_MIN_SIMILARITY = 0.5
"""Minimum similarity of two texts of the same sound: the share of letters that both have, in order."""
_MAX_CONTEXT_LETTERS = 20
"""Maximum length of a name that is confirmed by its neighbours."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The words of the caller's prompt and hotwords."""

    words: tuple[str, ...]
    """All words, in order."""
    hotwords: frozenset[str]

    def is_in(self, text: str, language: str = "") -> bool:
        """Return whether the text may come from the prompt: it has a hotword, or more in common than by chance.

        Emoji of the prompt count, as nobody says them, and so does its script where the language has another.

        >>> prompt_of("A talk by Jane Roe.", None).is_in("My name is Jane Roe and I am here.")
        True
        """
        words = words_of(text)
        marked = self._marks(words, language)
        common = [word for word, is_marked in zip(words, marked, strict=True) if is_marked]
        if any(
            word in self.hotwords
            or len(word) >= _MIN_RUN_LETTERS
            or is_symbol(word)
            or is_foreign(word, self._scripts, language)
            for word in common
        ):
            return True
        if _letters(common) > _MAX_PROMPT_SHARE * _letters(words):
            return True
        if _longest_linked(words, marked) >= _MIN_LINKED:
            return True
        pairs = set(pairwise(self.words))
        return any(
            len(first) + len(second) >= _MIN_RUN_LETTERS and (first, second) in pairs
            for first, second in pairwise(words)
        )

    def is_confirmed(self, prompted: str, unprompted: str, language: str = "") -> bool:
        """Return whether the text without the prompt confirms the text with it.

        >>> prompt = prompt_of(None, "Kubernetes")
        >>> prompt.is_confirmed("We use Kubernetes.", "We use Cooper Nettys.")
        True
        >>> prompt.is_confirmed("Kubernetes, Kubernetes.", "It's not right.")
        False
        """
        ours, theirs = words_of(prompted), words_of(unprompted)
        places = _aligned(ours, theirs)
        marks = self._marks(ours, language)
        marked = [is_prompted and places[at] is None for at, is_prompted in enumerate(marks)]
        at = 0
        for is_prompted, run in groupby(marked):
            length = len(list(run))
            if is_prompted and not _is_similar(ours, theirs, places, at, at + length):
                return False
            at += length
        return True

    def _marks(self, words: Sequence[str], language: str) -> list[bool]:
        """Return which words are the prompt's; single letters of scripts without spaces only in runs."""
        known = {*self.words, *self.hotwords}
        marks = [
            (word in known and not stands_alone(word)) or is_foreign(word, self._scripts, language) for word in words
        ]
        for count in (2, 3):
            linked = set(_links(self.words, count))
            for at, letters in enumerate(_links(words, count)):
                if letters in linked and _is_telling(letters):
                    marks[at : at + count] = [True] * count
        return marks

    @property
    def _scripts(self) -> frozenset[str]:
        return scripts_of("".join(self.words))


def prompt_of(prompt: str | None, hotwords: str | None) -> Prompt | None:
    """Return the words of prompt and hotwords; None if there are none."""
    hot = words_of(hotwords or "")
    words = (*hot, *words_of(prompt or ""))
    return Prompt(words, frozenset(word for word in hot if len(word) >= _MIN_HOTWORD_LETTERS)) if words else None


def _links(words: Sequence[str], count: int) -> list[tuple[str, ...]]:
    """Return every run of that many words."""
    return [tuple(words[at : at + count]) for at in range(len(words) - count + 1)]


def _is_telling(letters: Sequence[str]) -> bool:
    """Return whether a run of single letters is more than a coincidence: two with an ideograph, or three."""
    has_ideograph = any(script_of(letter[0]) == "CJK" for letter in letters)
    return all(map(stands_alone, letters)) and (has_ideograph or len(letters) > 2)


def _longest_linked(words: Sequence[str], marked: Sequence[bool]) -> int:
    """Return the longest run of letters of the prompt, an ideograph counted twice."""
    longest = length = 0
    for word, is_marked in zip(words, marked, strict=True):
        length = length + min(2, length_of(word)) if is_marked and stands_alone(word) else 0
        longest = max(longest, length)
    return longest


def _aligned(ours: Sequence[str], theirs: Sequence[str]) -> list[int | None]:
    """Return the index of each of our words in the other text; None if it is not there."""
    places: list[int | None] = [None] * len(ours)
    for block in SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        for at in range(block.size):
            places[block.a + at] = block.b + at
    return places


def _is_similar(
    ours: Sequence[str], theirs: Sequence[str], places: Sequence[int | None], first: int, last: int
) -> bool:
    """Return whether the prompt's words from first to last may be what the other text has there."""
    from_first, to_last = first, last
    while from_first > 0 and places[from_first - 1] is None:
        from_first -= 1
    while to_last < len(ours) and places[to_last] is None:
        to_last += 1
    before = places[from_first - 1] if from_first else -1
    after = places[to_last] if to_last < len(ours) else len(theirs)
    assert before is not None
    assert after is not None
    run, stretch = "".join(ours[from_first:to_last]), "".join(theirs[before + 1 : after])
    if not stretch:
        return False
    if SequenceMatcher(None, run, stretch, autojunk=False).ratio() >= _MIN_SIMILARITY:
        return True
    length, other = _letters(ours[from_first:to_last]), _letters(theirs[before + 1 : after])
    is_between_the_same = (from_first, to_last) == (first, last) and length <= _letters(ours) // 2
    is_as_long = length <= 2 * other and other <= 2 * length
    return is_between_the_same and is_as_long and length <= _MAX_CONTEXT_LETTERS


def _letters(words: Iterable[str]) -> int:
    return sum(map(length_of, words))
