"""`cesar transcribe --max-line-length, --max-lines, --max-cue-duration`: real decoding and child, scripted words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

SPEECH = Path(__file__).parents[2] / "audio" / "jfk.m4a"
TEXT = "Ask not what your country can do for you, ask what you can do for your country."


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    script = tmp_path_factory.mktemp("script") / "script.json"
    script.write_text(json.dumps({"language": "en", "segments": [{"start": 0.5, "end": 10.0, "text": TEXT}]}))
    return f"scripted:{script}"


def lines_of(srt: str) -> list[list[str]]:
    return [block.split("\n")[2:] for block in srt.strip().split("\n\n")]


@pytest.mark.slow
def test_subtitles_respect_the_given_limits(invoke, model):
    code, out, _ = invoke(
        "transcribe", SPEECH, "-m", model, "-f", "srt", "--max-line-length", "20", "--max-lines", "1", "-q"
    )
    assert code == 0
    assert all(len(cue) == 1 and len(cue[0]) <= 20 for cue in lines_of(out))
    assert " ".join(line for cue in lines_of(out) for line in cue) == TEXT


@pytest.mark.slow
def test_cues_are_no_longer_than_requested(invoke, model):
    _, out, _ = invoke("transcribe", SPEECH, "-m", model, "-f", "srt", "--max-cue-duration", "2.5", "-q")
    assert len(lines_of(out)) >= 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-f", "srt", "--max-line-length", "9"], "Use 10 to 250."),
        (["-f", "srt,vtt", "--max-lines", "0", "-d", "texts"], "Use 1 to 10."),
        (["-f", "vtt", "--max-cue-duration", "nan"], "Use 1 to 60."),
        (["--max-lines", "1"], "--max-lines is for subtitles only. Give the format with -f srt or -f vtt."),
        (["-f", "json", "--max-cue-duration", "5"], "--max-cue-duration is for subtitles only."),
    ],
)
def test_impossible_subtitle_options_are_refused_before_any_work(invoke, model, options, message):
    code, _, told = invoke("transcribe", SPEECH, "-m", model, *options)
    assert code == 2
    assert message in told
