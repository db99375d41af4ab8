"""The recording in `samples/`, a newcomer's first one: its sentence is right, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cesar import AudioTranscriber, TranscribeOptions
from cesar.settings.config import Settings

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "jfk.flac"


def words_of(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@pytest.mark.model
@pytest.mark.parametrize("model", ["base", "tiny.en"])
@pytest.mark.parametrize("beam_size", [1, 5])
def test_the_sample_is_transcribed_word_for_word(model: str, beam_size: int) -> None:
    """The words shown in the README are those spoken, whatever the model and the search."""
    quoted = re.search(r'^The words: "(.+)"$', (ROOT / "samples" / "README.md").read_text(), re.MULTILINE)
    assert quoted
    options = TranscribeOptions(beam_size=beam_size, word_timestamps=True)
    transcript = AudioTranscriber(model, settings=Settings()).transcribe(SAMPLE, options)
    assert words_of(transcript.text) == words_of(quoted[1])
    assert words_of(" ".join(word.text for segment in transcript.segments for word in segment.words)) == words_of(
        quoted[1]
    )
