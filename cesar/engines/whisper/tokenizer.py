"""Whisper's vocabulary: encoding and decoding of text, special tokens, and word splitting."""

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
"""Size of the decoder's context, prompt and text together."""
TIMESTAMP_STEP_S = 0.02
"""Spacing of Whisper's timestamps and of its encoder's frames: 20 ms."""


_PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
_UNPRINTABLE = (byte for byte in range(256) if byte not in _PRINTABLE)
_BYTES = {chr(byte): bytes([byte]) for byte in _PRINTABLE} | {
    chr(256 + number): bytes([byte]) for number, byte in enumerate(_UNPRINTABLE)
}
"""Byte for each character of the vocabulary (openai/gpt-2, `encoder.py`: bytes_to_unicode)."""


class Vocabulary:
    """Whisper's vocabulary: encodes and decodes text, and knows the special tokens."""

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
        """Tokens that never belong in a transcript: annotations such as ♪ and [, and control tokens."""

    def _find(self, token: str) -> int | None:
        return self._tokenizer.token_to_id(token)

    def id(self, token: str) -> int:
        found = self._find(token)
        if found is None:
            raise ModelError(f"the model's vocabulary has no {token}: it is not a Whisper model")
        return found

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_characters(self, word: str) -> list[int]:
        """Return the tokens of the word's single characters; a leading space stays with the first one."""
        first = 2 if word.startswith(" ") else 1
        return [token for character in (word[:first], *word[first:]) for token in self.encode(character)]

    def byte_length(self, token: int) -> int:
        """Return the token's length in UTF-8 bytes; the vocabulary writes each byte as one character."""
        return len(self._tokenizer.id_to_token(token) or "")

    def bytes_of(self, token: int) -> bytes:
        """Return the token's bytes, which may be only part of a character."""
        characters = self._tokenizer.id_to_token(token) or ""
        return b"".join(_BYTES.get(character, character.encode()) for character in characters)

    def utterances(self, tokens: Sequence[int], duration: float, logprobs: Sequence[float] = ()) -> list[Utterance]:
        """Split the tokens at their timestamps: `<|0.00|> text <|2.40|><|2.40|> more <|5.00|>`.

        logprobs: one per token, or none.
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
        self, start: float, end: float, tokens: Sequence[int], logprobs: Sequence[float], indices: Sequence[int]
    ) -> Utterance:
        """Return the utterance made of the tokens at these indices."""
        own = tuple(tokens[at] for at in indices)
        return Utterance(
            start,
            end,
            self._tokenizer.decode(list(own)),
            own,
            tuple(accumulate(map(self.byte_length, own))),
            tuple(logprobs[at] for at in indices) if logprobs else (),
            tuple(self.bytes_of(token).hex() for token in own) if logprobs else (),
        )


def _tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer and repair it if it can't merge a space with a "t" (Systran's base can't).

    Without this merge, " the" and " this" become tokens that the model hardly ever saw. Merges are in the order
    of the tokens they make, and this one comes first.
    """
    tokenizer = Tokenizer.from_file(str(path))
    if tokenizer.encode(" t", add_special_tokens=False).ids == [tokenizer.token_to_id("Ġt")]:
        return tokenizer
    content = json.loads(path.read_text(encoding="utf-8"))
    merges = content["model"]["merges"]
    merges.insert(0, "Ġ t" if isinstance(merges[0], str) else ["Ġ", "t"])
    return Tokenizer.from_str(json.dumps(content))


def split_words(text: str, language: str) -> list[str]:
    """Split into words with their leading space; languages written without spaces are split into characters."""
    if language in UNSPACED_LANGUAGES:
        return _characters(text)
    return [" " + word for word in text.split()]


def _characters(text: str) -> list[str]:
    """Split into characters with their trailing punctuation; runs of Latin letters and digits stay whole."""
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
