"""How fast Cesar is beside others with the same weights, as whole processes, in turns.

    scripts/bench speed --recordings FOLDER [--only long first ...] [--models tiny.en base] [--runs 3]

The folder is made by `scripts/bench long_speech`. Parts: long (ten minutes), hour, first (until the first segment),
short (five seconds, warm and cold), four (minutes handed to a service at once), workers (one and two). Prints JSON, and
tables on standard error. Processor seconds are those of all processes of a run, peak memory that of the largest, by the
system's count. Use a quiet machine; quote the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.processes import show
from benchmarks.speed.first import first
from benchmarks.speed.four import four
from benchmarks.speed.short import cold, warm
from benchmarks.speed.whole import hour, long, workers

PARTS = ("long", "hour", "first", "short", "four", "workers")


def measure(part: str, model: str, folder: Path, runs: int) -> dict[str, dict[str, Any]]:
    """Take one part with one model."""
    ten_minutes, short = folder / "ten-minutes.wav", folder / "five-seconds.wav"
    match part:
        case "long":
            return long(model, ten_minutes, short, runs)
        case "hour":
            return hour(model, folder / "one-hour.wav", short, runs)
        case "first":
            return first(model, ten_minutes, runs)
        case "short":
            return warm(model, short, runs) | cold(model, short, runs)
        case "four":
            return four(model, [folder / f"sixty-{number}.wav" for number in range(1, 5)], short, runs)
        case "workers":
            return workers(model, ten_minutes, short, runs)
    raise AssertionError(part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True, help="folder made by `scripts/bench long_speech`")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument("--runs", type=int, default=3)
    asked = parser.parse_args()
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in ("ctranslate2", "faster-whisper", "onnxruntime")},
        "runs": asked.runs,
        "models": {model: {} for model in asked.models},
    }
    for part in asked.only:
        for model in asked.models:
            rows = measure(part, model, asked.recordings, asked.runs)
            found["models"][model][part] = rows
            show(f"{part}, {model}", [{"": name} | _without_runs(row) for name, row in rows.items()])
    print(json.dumps(found, indent=1))


def _without_runs(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "runs"}


if __name__ == "__main__":
    main()
