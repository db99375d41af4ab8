"""Whisper's tokens: text to tokens and back, the special ones, and what counts as a word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from tokenizers import Tokenizer

from cesar.engines.base import Utterance
from cesar.engines.languages import LANGUAGES
from cesar.errors import ModelError
from cesar.transcript import UNSPACED_LANGUAGES

CONTEXT_TOKENS = 448
"""What the decoder can hold: prompt and text."""
TIMESTAMP_STEP_S = 0.02
"""Whisper's timestamps and its encoder's frames are both 20 ms apart."""


_SHOWN = (*range(33, 127), *range(161, 173), *range(174, 256))
_HIDDEN = (byte for byte in range(256) if byte not in _SHOWN)
_BYTES = {chr(byte): bytes([byte]) for byte in _SHOWN} | {
    chr(256 + number): bytes([byte]) for number, byte in enumerate(_HIDDEN)
}
"""The byte that each letter of the vocabulary stands for (openai/gpt-2, `encoder.py`: bytes_to_unicode)."""


class Vocabulary:
    """Whisper's vocabulary: text to tokens and back, and the special ones."""

    def __init__(self, directory: Path) -> None:
        try:
            self._tokenizer = _tokenizer(directory / "tokenizer.json")
            self._tokenizer.encode_special_tokens = True  # a prompt with "<|endoftext|>" in it is text
            config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        except Exception as error:  # the tokenizers package raises plain Exception
            raise ModelError(f"the tokenizer of {directory.name} can't be read: {error}") from error
        self.sot = self.id("<|startoftranscript|>")
        self.sot_prev = self.id("<|startofprev|>")
        self.eot = self.id("<|endoftext|>")
        self.timestamp_begin = self.id("<|notimestamps|>") + 1
        self.languages = frozenset(code for code in LANGUAGES if self._find(f"<|{code}|>") is not None)
        specials = (
            "<|startoftranscript|>",
            "<|startoflm|>",
            "<|startofprev|>",
            "<|transcribe|>",
            "<|translate|>",
        )
        self.suppress_tokens = sorted({*config.get("suppress_ids", []), *(self.id(token) for token in specials)})
        """Tokens that never belong into a transcript: annotations such as ♪ and [, and control tokens."""

    def _find(self, token: str) -> int | None:
        return self._tokenizer.token_to_id(token)

    def id(self, token: str) -> int:
        found = self._find(token)
        if found is None:
            raise ModelError(f"the model's vocabulary has no {token}: it is no Whisper model")
        return found

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_letters(self, word: str) -> list[int]:
        """The word as the tokens of its single letters; a blank before the word stays with the first letter."""
        first = 2 if word.startswith(" ") else 1
        return [t for letter in (word[:first], *word[first:]) for t in self.encode(letter)]

    def byte_length(self, token: int) -> int:
        """How many bytes of UTF-8 the token stands for; the vocabulary writes each byte as one character."""
        return len(self._tokenizer.id_to_token(token) or "")

    def bytes_of(self, token: int) -> bytes:
        """What the token says, which may be a part of a letter."""
        letters = self._tokenizer.id_to_token(token) or ""
        return b"".join(_BYTES.get(letter, letter.encode()) for letter in letters)

    def utterances(self, tokens: Sequence[int], duration: float, logprobs: Sequence[float] = ()) -> list[Utterance]:
        """Cut the tokens at their timestamps: `<|0.00|> text <|2.40|><|2.40|> more <|5.00|>`.

        logprobs: of each token, or none.
        """
        found: list[Utterance] = []
        start, text = 0.0, list[int]()
        for at, token in enumerate(tokens):
            if token < self.eot:
                text.append(at)
            elif token >= self.timestamp_begin:
                time = (token - self.timestamp_begin) * TIMESTAMP_STEP_S
                if text:
                    found.append(self._utterance(start, time, tokens, logprobs, text))
                start, text = time, []
        if text:
            end = max(duration, start)
            found.append(replace(self._utterance(start, end, tokens, logprobs, text), is_open=True))
        return found

    def _utterance(
        self, start: float, end: float, tokens: Sequence[int], logprobs: Sequence[float], places: Sequence[int]
    ) -> Utterance:
        """The text of the tokens at those places."""
        own = tuple(tokens[at] for at in places)
        return Utterance(
            start,
            end,
            self._tokenizer.decode(list(own)),
            own,
            tuple(accumulate(map(self.byte_length, own))),
            tuple(logprobs[at] for at in places) if logprobs else (),
            tuple(self.bytes_of(token).hex() for token in own) if logprobs else (),
        )


def _tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer; where it can't put a blank and a "t" together (Systran's base can't), mend that.

    Without this one merge, " the" and " this" become tokens that the model hardly ever saw. Merges are in the order
    of the tokens they make, and this is the first of all.
    """
    tokenizer = Tokenizer.from_file(str(path))
    if tokenizer.encode(" t", add_special_tokens=False).ids == [tokenizer.token_to_id("Ġt")]:
        return tokenizer
    content = json.loads(path.read_text(encoding="utf-8"))
    merges = content["model"]["merges"]
    merges.insert(0, "Ġ t" if isinstance(merges[0], str) else ["Ġ", "t"])
    return Tokenizer.from_str(json.dumps(content))


def split_words(text: str, language: str) -> list[str]:
    """Split into words that keep the blank before them; languages written without blanks split into characters."""
    if language in UNSPACED_LANGUAGES:
        return _characters(text)
    return [" " + word for word in text.split()]


def _characters(text: str) -> list[str]:
    """Characters with the punctuation after them; runs of Latin letters and digits stay whole."""
    words: list[str] = []
    for character in text:
        joins = words and (
            not character.isalnum() or (character.isascii() and words[-1][-1].isascii() and words[-1][-1].isalnum())
        )
        if character.isspace():
            continue
        if joins:
            words[-1] += character
        else:
            words.append(character)
    return words
