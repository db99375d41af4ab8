"""A clip of five seconds: `warm`, with the model loaded, and `cold`, as a command."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.processes import in_turns, median, run
from benchmarks.speed.commands import cesar, faster, whisper_ctranslate2

Rows = dict[str, dict[str, Any]]


def warm(model: str, clip: Path, rounds: int) -> Rows:
    """Measure from call to text; each round has new processes, which report the time of ten calls."""
    ours = [sys.executable, "-m", "benchmarks.speed.warm", model, str(clip)]
    commands = {"Cesar, warm": ours, "faster-whisper, warm": faster("warm", model, clip)}
    taken = in_turns({name: partial(_calls, command) for name, command in commands.items()}, rounds)
    return _rows({name: [second for calls in runs for second in calls] for name, runs in taken.items()})


def cold(model: str, clip: Path, rounds: int) -> Rows:
    """Measure a whole command."""
    with TemporaryDirectory() as folder:
        commands = {
            "cesar transcribe, cold": cesar(model, clip, "-q"),
            "whisper-ctranslate2, cold": whisper_ctranslate2(model, clip, Path(folder)),
        }
        taken = in_turns({name: partial(run, command) for name, command in commands.items()}, rounds + 1)
    return _rows({name: [one.wall_s for one in runs[1:]] for name, runs in taken.items()})


def _calls(command: Sequence[str]) -> list[float]:
    return [float(seconds) for seconds in json.loads(run(command).text)]


def _rows(taken: dict[str, list[float]]) -> Rows:
    """Return rows that compare with the last entry."""
    found = {name: median(seconds, 4) for name, seconds in taken.items()}
    rival = list(found)[-1]
    return {
        name: {
            "median, s": found[name],
            "fastest, s": round(min(seconds), 4),
            "times faster": round(found[rival] / found[name], 2),
            "runs": [round(second, 4) for second in seconds],
        }
        for name, seconds in taken.items()
    }
