"""Renderings of two minutes of a real reading: whole sentences, paragraphs, and readable cues."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from cesar import AudioTranscriber, TranscribeOptions
from cesar.formats import render
from cesar.formats.subtitles.cues import cues
from cesar.formats.typography import columns
from cesar.settings.config import Settings
from cesar.transcript import Transcript
from tests.support import media

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def reading() -> Transcript:
    options = TranscribeOptions(language="en", word_timestamps=True, end=130.0)
    return AudioTranscriber("base", settings=Settings()).transcribe(media.AUDIO / "printing-lj.m4a", options)


def test_no_sentence_is_split_at_the_end_of_a_chunk(reading: Transcript) -> None:
    assert re.search(r"\w{3}\. [a-z]", reading.text), "the model put no stop within a sentence: take another recording"
    for name in ("txt", "md"):
        assert not re.search(r"\w{3}\.\s+[a-z]", render(reading, name))
    lines = [" ".join(cue.lines) for cue in cues(reading)]
    assert not [pair for pair in pairwise(lines) if pair[0].endswith(".") and pair[1][0].islower()]


def test_the_text_is_in_paragraphs_of_a_readable_length(reading: Transcript) -> None:
    paragraphs = render(reading, "txt").strip().split("\n\n")
    assert 2 <= len(paragraphs) <= 6
    assert all(len(paragraph) < 1500 for paragraph in paragraphs)


def test_every_cue_can_be_read(reading: Transcript) -> None:
    for cue in cues(reading):
        shown_s = cue.end - cue.start
        assert 0.7 <= shown_s <= 7.0005
        assert (sum(columns(line)[-1] for line in cue.lines) + len(cue.lines) - 1) / shown_s <= 20.01
