"""Whether words of the prompt were heard, or only read: Whisper likes to write its prompt where it hears little.

Pure rules over texts. A text with words of the prompt is compared with what the model hears in the same sound without
the prompt: a name may be spelled otherwise there, but it sounds alike, or stands between the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby, pairwise

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_LEAST_LETTERS = 3
"""A shorter hotword says nothing: it is in every text."""
_LEAST_RUN_LETTERS = 7
"""Of one word of the prompt, or of two that follow each other in it: fewer are a coincidence ("of the")."""
_LARGE_SHARE = 0.4
"""So much of a text in words of the prompt makes it doubtful, whatever their order."""
_LIKENESS = 0.5
"""How alike two texts are that may be the same sound: letters that both have in order, of all."""
_MOST_IN_CONTEXT = 20
"""Letters of a name that is believed for what stands around it."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """The words that the caller put before the text."""

    words: tuple[str, ...]
    """All of them, as they follow each other."""
    hotwords: frozenset[str]

    def is_in(self, text: str) -> bool:
        """Return whether the text may come from the prompt: it has a hotword, or more in common than by chance.

        >>> prompt_of("A talk by Jane Roe.", None).is_in("My name is Jane Roe and I am here.")
        True
        """
        words = words_of(text)
        marked = self._marks(words)
        if any(
            word in self.hotwords or (is_prompted and len(word) >= _LEAST_RUN_LETTERS)
            for word, is_prompted in zip(words, marked, strict=True)
        ):
            return True
        if sum(len(word) for word, is_prompted in zip(words, marked, strict=True) if is_prompted) > (
            _LARGE_SHARE * sum(map(len, words))
        ):
            return True
        pairs = set(pairwise(self.words))
        return any(
            len(first) + len(second) >= _LEAST_RUN_LETTERS and (first, second) in pairs
            for first, second in pairwise(words)
        )

    def is_borne_out(self, prompted: str, unprompted: str) -> bool:
        """Return whether what was heard without the prompt bears out the text that was heard with it.

        >>> prompt = prompt_of(None, "Kubernetes")
        >>> prompt.is_borne_out("We use Kubernetes.", "We use Cooper Nettys.")
        True
        >>> prompt.is_borne_out("Kubernetes, Kubernetes.", "It's not right.")
        False
        """
        ours, theirs = words_of(prompted), words_of(unprompted)
        places = _aligned(ours, theirs)
        marked = [is_prompted and places[at] is None for at, is_prompted in enumerate(self._marks(ours))]
        at = 0
        for is_prompted, run in groupby(marked):
            length = len(list(run))
            if is_prompted and not _is_alike(ours, theirs, places, at, at + length):
                return False
            at += length
        return True

    def _marks(self, words: Sequence[str]) -> list[bool]:
        """Which words are the prompt's."""
        known = {*self.words, *self.hotwords}
        return [word in known for word in words]


def prompt_of(prompt: str | None, hotwords: str | None) -> Prompt | None:
    """Return the words of prompt and hotwords; None if there are none."""
    hot = words_of(hotwords or "")
    words = (*hot, *words_of(prompt or ""))
    return Prompt(words, frozenset(word for word in hot if len(word) >= _LEAST_LETTERS)) if words else None


def words_of(text: str) -> list[str]:
    """Return the words without marks, all in small letters; in Chinese, each stretch between marks."""
    return _WORD.findall(text.casefold())


def _aligned(ours: Sequence[str], theirs: Sequence[str]) -> list[int | None]:
    """Where each of our words stands in the other text; None if it doesn't."""
    places: list[int | None] = [None] * len(ours)
    for block in SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        for at in range(block.size):
            places[block.a + at] = block.b + at
    return places


def _is_alike(ours: Sequence[str], theirs: Sequence[str], places: Sequence[int | None], first: int, last: int) -> bool:
    """Return whether the prompt's words from first to last may be what the other text has in their place."""
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
    if SequenceMatcher(None, run, stretch, autojunk=False).ratio() >= _LIKENESS:
        return True
    is_between_the_same = (from_first, to_last) == (first, last) and len(run) <= _letters(ours) // 2
    is_as_long = len(run) <= 2 * len(stretch) and len(stretch) <= 2 * len(run)
    return is_between_the_same and is_as_long and len(run) <= _MOST_IN_CONTEXT


def _letters(words: Iterable[str]) -> int:
    return sum(map(len, words))
