"""The real Whisper engine, on what only real weights can show."""

from __future__ import annotations

from pathlib import Path

import pytest

from cesar.engines.whisper.tokenizer import Vocabulary
from cesar.models.store import locate
from cesar.settings.config import load


@pytest.fixture(scope="module", params=["base", "tiny.en"])
def directory(request) -> Path:
    return locate(request.param, store=load().models_dir, allow_network=False).directory


@pytest.mark.model
@pytest.mark.parametrize("word", [" the", " this", " that", " to", " and", " was"])
def test_a_common_word_is_one_token(directory, word):
    assert len(Vocabulary(directory).encode(word)) == 1


@pytest.mark.model
def test_every_letter_after_a_blank_is_one_token(directory):
    vocabulary = Vocabulary(directory)
    assert all(len(vocabulary.encode_characters(f" {letter}")) == 1 for letter in "abcdefghijklmnopqrstuvwxyz")


@pytest.mark.model
@pytest.mark.parametrize("text", ["<|endoftext|>", "<|de|> Guten Tag", "<|0.00|>"])
def test_control_tokens_in_a_prompt_are_only_text(directory, text):
    vocabulary = Vocabulary(directory)
    end = vocabulary.encode("x <|endoftext|>")[-1]
    assert len(vocabulary.encode(text)) > 3
    assert all(vocabulary.bytes_of(token) != b"<|endoftext|>" for token in [*vocabulary.encode(text), end])
