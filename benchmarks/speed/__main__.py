"""Cesar's speed compared with other programs and the same weights, as whole processes, alternating.

    scripts/bench speed --recordings FOLDER [--only long first ...] [--models tiny.en base] [--runs 3]

The folder is created by `scripts/bench long_speech`. Parts: long (ten minutes), hour, first (the first segment of the
hour), short (five seconds, warm and cold), four (four minutes sent to a service at once), limit (the machine's peak
performance), workers (one and two). Prints JSON, and tables on standard error. CPU seconds are those of all processes
of a run, peak memory that of the largest, as reported by the system. Use an idle machine; quote the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.processes import show
from benchmarks.speed.first import first
from benchmarks.speed.four import four
from benchmarks.speed.limit import limit
from benchmarks.speed.short import cold, warm
from benchmarks.speed.whole import hour, long, workers

Rows = dict[str, dict[str, Any]]


def parts(model: str, folder: Path, runs: int) -> dict[str, Callable[[], Rows]]:
    """Return every part with one model, by name."""
    ten_minutes, short = folder / "ten-minutes.wav", folder / "five-seconds.wav"
    minutes = [folder / f"sixty-{number}.wav" for number in range(1, 5)]
    return {
        "long": lambda: long(model, ten_minutes, short, runs),
        "hour": lambda: hour(model, folder / "one-hour.wav", short, runs),
        "first": lambda: first(model, folder / "one-hour.wav", runs),
        "short": lambda: warm(model, short, runs) | cold(model, short, runs),
        "four": lambda: four(model, minutes, short, runs),
        "limit": lambda: limit(model, ten_minutes, runs),
        "workers": lambda: workers(model, ten_minutes, short, runs),
    }


def main() -> None:
    names = list(parts("", Path(), 0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True, help="folder made by `scripts/bench long_speech`")
    parser.add_argument("--only", nargs="+", choices=names, default=names)
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
            rows = parts(model, asked.recordings, asked.runs)[part]()
            found["models"][model][part] = rows
            show(f"{part}, {model}", [{"": name} | _without_runs(row) for name, row in rows.items()])
    print(json.dumps(found, indent=1))


def _without_runs(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "runs"}


if __name__ == "__main__":
    main()
