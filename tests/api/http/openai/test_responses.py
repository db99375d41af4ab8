"""Transcripts in OpenAI's formats."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from cesar.api.http.openai.request import OpenAIRequest, ResponseFormat
from cesar.api.http.openai.responses import render_response
from cesar.options import TranscribeOptions
from cesar.transcript import ModelIdentity, Segment, Transcript, Word

WORDS = (
    Word(0.5, 0.9, "“Hello,", 0.9),
    Word(1.0, 1.5, "it's", 0.9),
    Word(1.6, 2.0, "me.”", 0.9),
    Word(2.0, 2.1, "–", 0.5),
)
FIRST = Segment(
    0.5, 2.1, "“Hello, it's me.” –", WORDS, -0.2, 1.1, 0.01, 0.0,
    seek=0, tokens=(1, 2, 3), token_logprobs=(-0.1, -0.2, -0.3),
    token_bytes=("20e2809c", "48c3", "a96c"),
)  # fmt: skip
SECOND = Segment(
    9.0, 9.5, "Bye.", (), -0.3, 0.9, 0.02, 0.4, seek=800, tokens=(4,), token_logprobs=(-0.4,), token_bytes=("20427965",)
)
SEGMENT_FIELDS = ["id", "seek", "start", "end", "text", "tokens"]
SEGMENT_FIELDS += ["temperature", "avg_logprob", "compression_ratio", "no_speech_prob"]


def transcript(*segments: Segment, language="en", duration=9.5, task="transcribe") -> Transcript:
    identity = ModelIdentity("base", "unknown", "", "cpu", "int8")
    return Transcript(segments, language, 0.9, duration, identity, {"task": task})


def answer(
    name: str,
    *segments: Segment,
    model="whisper-1",
    words="segment",
    overrides: dict[str, Any] | None = None,
    **options: Any,
):
    asked = OpenAIRequest(model, TranscribeOptions(**options), ResponseFormat(name), frozenset(words.split("+")))
    text = render_response(asked, transcript(*segments, **(overrides or {}), task=options.get("task", "transcribe")))
    return json.loads(text) if name.endswith("json") else text


def test_verbose_json_has_all_ten_segment_fields_and_a_leading_space():
    found = answer("verbose_json", FIRST, SECOND)
    assert list(found) == ["task", "language", "duration", "text", "segments", "usage"]
    assert (found["task"], found["language"], found["duration"]) == ("transcribe", "english", 9.5)
    assert [list(segment) for segment in found["segments"]] == [SEGMENT_FIELDS] * 2
    assert [segment["id"] for segment in found["segments"]] == [0, 1]
    assert found["segments"][1] == {
        "id": 1, "seek": 800, "start": 9.0, "end": 9.5, "text": " Bye.", "tokens": [4], "temperature": 0.4,
        "avg_logprob": -0.3, "compression_ratio": 0.9, "no_speech_prob": 0.02,
    }  # fmt: skip
    assert "".join(segment["text"] for segment in found["segments"]).strip() == found["text"]


def test_seconds_of_usage_are_rounded_up():
    assert answer("verbose_json", overrides={"duration": 8.47})["usage"] == {"type": "duration", "seconds": 9}
    assert answer("json", overrides={"duration": 8.0})["usage"] == {"type": "duration", "seconds": 8}


@pytest.mark.parametrize(
    ("wanted", "has_segments", "has_words"),
    [("segment", True, False), ("word", False, True), ("word+segment", True, True)],
)
def test_words_and_segments_are_included_on_request(wanted, has_segments, has_words):
    found = answer("verbose_json", FIRST, words=wanted)
    assert ("segments" in found, "words" in found) == (has_segments, has_words)


def test_words_have_no_punctuation():
    found = answer("verbose_json", FIRST, words="word")
    assert [word["word"] for word in found["words"]] == ["Hello", "it's", "me", "–"]
    assert found["words"][0] == {"word": "Hello", "start": 0.5, "end": 0.9}


def test_json_of_the_newer_models_counts_tokens():
    usage = answer("json", FIRST, SECOND, model="gpt-4o-transcribe", prompt="Names.")["usage"]
    assert usage == {
        "type": "tokens", "input_tokens": 97, "input_token_details": {"text_tokens": 2, "audio_tokens": 95},
        "output_tokens": 4, "total_tokens": 101,
    }  # fmt: skip


def test_logprobs_have_the_bytes_of_each_token_even_of_split_characters():
    found = answer("json", FIRST, model="gpt-4o-transcribe", token_logprobs=True)["logprobs"]
    assert found[0] == {"token": " “", "logprob": -0.1, "bytes": [0x20, 0xE2, 0x80, 0x9C]}
    assert bytes(byte for token in found for byte in token["bytes"]).decode() == " “Hél"
    assert [token["logprob"] for token in found] == [-0.1, -0.2, -0.3]


def test_gpt_transcribe_lists_the_spoken_languages():
    assert answer("json", FIRST, model="gpt-transcribe")["languages"] == [{"code": "en"}]
    assert answer("json", model="gpt-transcribe", overrides={"language": "unknown"})["languages"] == []
    assert "languages" not in answer("json", FIRST)
    both = answer("json", replace(FIRST, language="de"), replace(SECOND, language="en"), model="gpt-transcribe")
    assert both["languages"] == [{"code": "en"}, {"code": "de"}], "that of most of the text comes first"


def test_a_translation_has_english_text_and_no_other_fields():
    overrides = {"language": "de"}
    assert answer("json", FIRST, task="translate", overrides=overrides) == {"text": FIRST.text}
    found = answer("verbose_json", FIRST, task="translate", overrides=overrides)
    assert (found["language"], found["task"]) == ("english", "translate")
    assert list(found) == ["task", "language", "duration", "text", "segments"]


def test_text_is_one_line_and_subtitles_are_rendered():
    assert answer("text", FIRST, SECOND) == f"{FIRST.text} {SECOND.text}\n"
    assert answer("srt", SECOND) == "1\n00:00:09,000 --> 00:00:09,500\nBye.\n"
    assert answer("vtt", SECOND) == "WEBVTT\n\n00:00:09.000 --> 00:00:09.500\nBye.\n"


def test_silence_is_an_empty_text():
    assert answer("json")["text"] == answer("srt") == ""
    assert answer("verbose_json", words="word+segment")["segments"] == []


def test_unspaced_languages_get_no_spaces():
    segments = (Segment(0.0, 1.0, "東京は"), Segment(1.0, 2.0, "雨です。"))
    found = answer("verbose_json", *segments, overrides={"language": "ja"})
    assert (found["text"], found["segments"][0]["text"]) == ("東京は雨です。", "東京は")
