"""The curl examples of OpenAI's documentation, with only the address changed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.openai.support import SPEECH, TEXT
from tests.acceptance.service import PATIENCE_S, Service

TRANSCRIBE = """
    curl https://api.openai.com/v1/audio/transcriptions \
      -H "Authorization: Bearer $OPENAI_API_KEY" \
      -H "Content-Type: multipart/form-data" \
      -F file="@/path/to/file/audio.mp3" \
      -F model="gpt-4o-transcribe"
"""
TRANSCRIBE_AS_TEXT = """
    curl --request POST \
      --url https://api.openai.com/v1/audio/transcriptions \
      --header "Authorization: Bearer $OPENAI_API_KEY" \
      --header 'Content-Type: multipart/form-data' \
      --form file=@/path/to/file/audio.mp3 \
      --form model=gpt-4o-transcribe \
      --form response_format=text
"""
WORD_TIMES = """
    curl https://api.openai.com/v1/audio/transcriptions \
      -H "Authorization: Bearer $OPENAI_API_KEY" \
      -H "Content-Type: multipart/form-data" \
      -F file="@/path/to/file/audio.mp3" \
      -F "timestamp_granularities[]=word" \
      -F model="whisper-1" \
      -F response_format="verbose_json"
"""
SEGMENT_TIMES = WORD_TIMES.replace("=word", "=segment")
LOG_PROBABILITIES = """
    curl https://api.openai.com/v1/audio/transcriptions \
      -H "Authorization: Bearer $OPENAI_API_KEY" \
      -H "Content-Type: multipart/form-data" \
      -F file="@/path/to/file/audio.mp3" \
      -F "include[]=logprobs" \
      -F model="gpt-4o-transcribe" \
      -F response_format="json"
"""
STREAM = """
    curl --request POST \
      --url https://api.openai.com/v1/audio/transcriptions \
      --header "Authorization: Bearer $OPENAI_API_KEY" \
      --header 'Content-Type: multipart/form-data' \
      --form file=@example.wav \
      --form model=gpt-4o-mini-transcribe \
      --form stream=True
"""
PROMPT = """
    curl --request POST \
      --url https://api.openai.com/v1/audio/transcriptions \
      --header "Authorization: Bearer $OPENAI_API_KEY" \
      --header 'Content-Type: multipart/form-data' \
      --form file=@/path/to/file/speech.mp3 \
      --form model=gpt-4o-transcribe \
      --form prompt="The following conversation is a lecture about the recent developments around OpenAI."
"""
TRANSLATE = """
    curl https://api.openai.com/v1/audio/translations \
      -H "Authorization: Bearer $OPENAI_API_KEY" \
      -H "Content-Type: multipart/form-data" \
      -F file="@/path/to/file/german.m4a" \
      -F model="whisper-1"
"""
MODELS = """
    curl https://api.openai.com/v1/models \
      -H "Authorization: Bearer $OPENAI_API_KEY"
"""
MODEL = MODELS.replace("/models", "/models/whisper-1")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl"),
]


def answer(example: str, service: Service, folder: Path) -> str:
    """Run an example in a shell, from where its recordings lie, against the service's address."""
    command = example.replace("https://api.openai.com", service.url).replace("@/path/to/file", "@.")
    for name in ("audio.mp3", "example.wav", "speech.mp3", "german.m4a"):
        shutil.copy(SPEECH, folder / name)
    done = subprocess.run(
        ["sh", "-c", command.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)],
        cwd=folder,
        env={"PATH": f"{Path(shutil.which('curl') or '').parent}:/usr/bin:/bin", "OPENAI_API_KEY": "sk-none"},
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_curl_gets_a_transcription(service, tmp_path):
    assert json.loads(answer(TRANSCRIBE, service, tmp_path))["text"] == TEXT
    assert json.loads(answer(PROMPT, service, tmp_path))["text"] == TEXT
    assert answer(TRANSCRIBE_AS_TEXT, service, tmp_path) == f"{TEXT}\n"


def test_curl_gets_times_of_words_and_segments(service, tmp_path):
    words = json.loads(answer(WORD_TIMES, service, tmp_path))
    assert (words["task"], words["language"], words["text"]) == ("transcribe", "english", TEXT)
    assert len(words["words"]) == len(TEXT.split())
    assert "segments" not in words
    segments = json.loads(answer(SEGMENT_TIMES, service, tmp_path))
    assert segments["segments"]
    assert "words" not in segments


def test_curl_gets_log_probabilities(service, tmp_path):
    told = json.loads(answer(LOG_PROBABILITIES, service, tmp_path))
    assert told["text"] == TEXT
    assert all(token.keys() == {"token", "logprob", "bytes"} for token in told["logprobs"])


def test_curl_gets_a_stream(service, tmp_path):
    lines = answer(STREAM, service, tmp_path).splitlines()
    told = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert [event["type"] for event in told] == ["transcript.text.delta"] * (len(told) - 1) + ["transcript.text.done"]
    assert told[-1]["text"] == "".join(event["delta"] for event in told[:-1]) == TEXT


def test_curl_gets_a_translation(service, tmp_path):
    assert json.loads(answer(TRANSLATE, service, tmp_path))["text"] == TEXT


def test_curl_gets_the_models(service, tmp_path):
    listed = json.loads(answer(MODELS, service, tmp_path))
    assert listed["object"] == "list"
    assert json.loads(answer(MODEL, service, tmp_path)) in listed["data"]
