"""A whole recording from file to text, as alternating commands: `long`, `hour` and `workers`."""

from __future__ import annotations

import wave
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.processes import Run, in_turns, median, run
from benchmarks.speed.commands import BATCHED, SEQUENTIAL, cesar, faster
from benchmarks.speed.texts import difference

Rows = dict[str, dict[str, Any]]


def long(model: str, recording: Path, short: Path, rounds: int) -> Rows:
    """Compare Cesar by default, with beam 5 and with word times, with faster-whisper; with error rates if known."""
    runs = in_turns({name: partial(run, command) for name, command in _all(model, recording, short).items()}, rounds)
    rows = _rows(runs, recording)
    if (spoken := recording.with_suffix(".txt")).exists():
        reference = spoken.read_text(encoding="utf-8")
        for name, its_runs in runs.items():
            rows[name]["words wrong, %"] = difference(reference, its_runs[-1].text).wrong
    return rows


def hour(model: str, recording: Path, short: Path, rounds: int) -> Rows:
    """Compare the defaults, and the texts with that of the sequential run."""
    commands = _defaults(model, recording, short)
    runs = in_turns({name: partial(run, command) for name, command in commands.items()}, rounds)
    rows = _rows(runs, recording)
    reference = runs[SEQUENTIAL][-1].text
    for name, its_runs in runs.items():
        found = difference(reference, its_runs[-1].text)
        rows[name] |= {
            "words otherwise, %": found.wrong,
            "lost in runs, %": found.lost,
            "added in runs, %": found.added,
        }
    return rows


def workers(model: str, recording: Path, short: Path, rounds: int) -> Rows:
    """Compare one recognition thread with two."""
    commands = {f"Cesar, {count} worker{'s' * (count > 1)}": {"CESAR_WORKERS": str(count)} for count in (1, 2)}
    command = cesar(model, recording, "-q")
    run(cesar(model, short, "-q"))
    runs = in_turns({name: partial(run, command, variables) for name, variables in commands.items()}, rounds)
    return _rows(runs, recording)


def _defaults(model: str, recording: Path, short: Path) -> dict[str, list[str]]:
    """Return the three commands with their defaults, each run on a short clip first to fill the file cache."""
    for kind in ("sequential", "batched"):
        run(faster(kind, model, short))
    run(cesar(model, short, "-q"))
    return {
        "Cesar": cesar(model, recording, "-q"),
        SEQUENTIAL: faster("sequential", model, recording),
        BATCHED: faster("batched", model, recording),
    }


def _all(model: str, recording: Path, short: Path) -> dict[str, list[str]]:
    return {
        **_defaults(model, recording, short),
        "Cesar, --beam-size 5": cesar(model, recording, "-q", "--beam-size", "5"),
        "Cesar, --word-timestamps": cesar(model, recording, "-q", "--word-timestamps"),
        f"{SEQUENTIAL}, word times": faster("words", model, recording),
    }


def length_s(recording: Path) -> float:
    """Return the length of a WAV file."""
    with wave.open(str(recording)) as file:
        return float(file.getnframes() / file.getframerate())


def _rows(runs: Mapping[str, Sequence[Run]], recording: Path) -> Rows:
    """Return medians per command, and how many times as long the faster-whisper runs took."""
    seconds = length_s(recording)
    wall = {name: median((one.wall_s for one in its_runs), 3) for name, its_runs in runs.items()}
    rivals = [name for name in runs if not name.startswith("Cesar")]
    rows: Rows = {}
    for name, its_runs in runs.items():
        cpu_s = median((one.cpu_s for one in its_runs), 3)
        rows[name] = {
            "wall, s": wall[name],
            "times real time": round(seconds / wall[name], 1),
            "processor, s": cpu_s,
            "processor, s an hour": round(3600 * cpu_s / seconds, 1),
            "peak, MiB": median((one.peak_mib for one in its_runs), 1),
            **{f"times faster than {_short(rival)}": round(wall[rival] / wall[name], 2) for rival in rivals},
            "runs": [one.figures for one in its_runs],
        }
    return rows


def _short(rival: str) -> str:
    return rival.removeprefix("faster-whisper, ")
