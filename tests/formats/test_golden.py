"""Whole renderings, compared byte for byte with the files in tests/golden.

Each transcript there is its own JSON rendering. `python -m tests.formats.test_golden` renders the other files again;
review the differences before you keep them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cesar.files.atomic import write_whole
from cesar.formats import FORMATS, render
from cesar.transcript import Transcript

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ("lighthouse", "history-zh")


def read_transcript(name: str) -> Transcript:
    return Transcript.from_dict(json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("format_name", FORMATS)
def test_a_transcript_renders_as_it_always_has(name: str, format_name: str) -> None:
    golden = (GOLDEN / f"{name}.{format_name}").read_bytes()
    assert render(read_transcript(name), format_name).encode() == golden


if __name__ == "__main__":
    for name in NAMES:
        for format_name in FORMATS:
            write_whole(GOLDEN / f"{name}.{format_name}", render(read_transcript(name), format_name))
