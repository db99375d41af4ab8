"""The clips for benchmarks: a folder with a manifest.json that has the words of each file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

TEST_AUDIO = Path(__file__).resolve().parents[1] / "tests" / "audio"


@dataclass(frozen=True)
class Clip:
    """A recording with its words."""

    name: str
    path: Path
    reference: str
    language: str
    duration_s: float
    is_two_at_once: bool
    """Two people talk at the same time: a simple word error rate would be unfair."""
    group: str = ""
    speaker: str | None = None


def clips(folder: Path = TEST_AUDIO) -> list[Clip]:
    """Return every clip in the folder's manifest."""
    return [
        Clip(
            name=entry["file"],
            path=folder / entry["file"],
            reference=entry["reference"],
            language=entry["language"],
            duration_s=entry["duration_s"],
            is_two_at_once=bool(entry.get("channels")) and not isinstance(entry.get("channels"), int),
            group=entry.get("group", ""),
            speaker=entry.get("speaker"),
        )
        for entry in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    ]
