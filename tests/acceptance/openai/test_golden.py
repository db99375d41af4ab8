"""A real model's responses for one recording against golden files: the same structure, nearly the same numbers.

After a change that is meant: `python -m tests.acceptance.openai.test_golden ADDRESS` asks a service that runs there
with the model `base`, and writes the files anew.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests.acceptance.openai.support import SPEECH, create_client
from tests.acceptance.service import Service, serving

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parents[2] / "golden" / "whisper-1"
ASKED: dict[str, dict[str, Any]] = {
    "json.json": {},
    "logprobs.json": {"model": "gpt-4o-transcribe", "include": ["logprobs"]},
    "verbose.json": {"response_format": "verbose_json"},
    "words.json": {"response_format": "verbose_json", "timestamp_granularities": ["word"]},
    "both.json": {"response_format": "verbose_json", "timestamp_granularities": ["word", "segment"]},
    "text.txt": {"response_format": "text"},
    "srt.srt": {"response_format": "srt"},
    "vtt.vtt": {"response_format": "vtt"},
}
ABSOLUTE = {
    "start": 0.3,
    "end": 0.3,
    "avg_logprob": 0.15,
    "no_speech_prob": 0.2,
    "compression_ratio": 0.15,
    "output_tokens": 3,
    "total_tokens": 3,
}
"""Tolerance of numbers: processors differ in the last bits, and beams may then differ in a word."""
OTHERWISE = 0.05
ALIKE = 0.9
"""The fraction of words that must be the same."""


def answer(client: OpenAI, fields: dict[str, Any]) -> str:
    """Return a response as it came over the wire."""
    asked = {"file": SPEECH, "model": "whisper-1", **fields}
    return client.audio.transcriptions.with_raw_response.create(**asked).http_response.text


@pytest.fixture(scope="module")
def real(program_in, tmp_path_factory) -> Iterator[Service]:
    """Run a service with a real model."""
    folder = tmp_path_factory.mktemp("golden")
    with serving(program_in(folder), "--model", "base", "--offline") as running:
        yield running


@pytest.mark.model
@pytest.mark.parametrize("name", ASKED)
def test_the_response_matches_the_golden_file(name, real):
    with create_client(real) as client:
        came = answer(client, ASKED[name])
    golden = (GOLDEN / name).read_text(encoding="utf-8")
    if name.endswith(".json"):
        compare(json.loads(came), json.loads(golden), name)
    else:
        assert shape_of(came) == shape_of(golden)
        require_alike(came, golden, name)


def shape_of(text: str) -> str:
    """Write 0 for every digit, and leave the words out."""
    return re.sub(r"\d", "0", re.sub(r"[^\W\d].*", "", text))


def compare(came: Any, golden: Any, at: str) -> None:
    """Compare two pieces of JSON: keys and kinds exactly, numbers and words nearly."""
    match golden:
        case dict():
            assert list(came) == list(golden), at
            for key in golden:
                compare(came[key], golden[key], f"{at}.{key}")
        case list() if is_of_tokens(golden):
            assert is_of_tokens(came), at
            assert len(came) == pytest.approx(len(golden), abs=3), at
        case list():
            assert len(came) == pytest.approx(len(golden), abs=1), at
            for number, (one, other) in enumerate(zip(came, golden, strict=False)):
                compare(one, other, f"{at}[{number}]")
        case str():
            require_alike(came, golden, at)
        case bool() | None:
            assert came == golden, at
        case _:
            tolerance = ABSOLUTE.get(at.rpartition(".")[2], OTHERWISE)
            assert came == pytest.approx(golden, abs=tolerance), at


def is_of_tokens(values: list[Any]) -> bool:
    """Whether it lists token ids or a token's log-probabilities: one other word changes many of them."""
    return bool(values) and all(isinstance(value, int) or "logprob" in value for value in values)


def require_alike(came: str, golden: str, at: str) -> None:
    ratio = SequenceMatcher(None, came.split(), golden.split(), autojunk=False).ratio()
    assert ratio >= ALIKE or (len(golden.split()) == 1 and len(came.split()) == 1), f"{at}: {came}"


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    with OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none") as asking:
        for file, wanted in ASKED.items():
            (GOLDEN / file).write_text(answer(asking, wanted), encoding="utf-8")
