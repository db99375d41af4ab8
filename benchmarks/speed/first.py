"""The time from the start of a process to the first readable segment: `first`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.processes import in_turns, median
from benchmarks.speed.commands import SEQUENTIAL, cesar, faster


def first(model: str, recording: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Compare Cesar's events (--json-lines) with the first item of faster-whisper's generator."""
    measures = {
        "Cesar": partial(_until, '"event": "segment"', cesar(model, recording, "--json-lines")),
        SEQUENTIAL: partial(_until, "segment:", faster("first", model, recording)),
    }
    taken = {name: seconds[1:] for name, seconds in in_turns(measures, rounds + 1).items()}
    found = {name: median(seconds, 3) for name, seconds in taken.items()}
    return {
        name: {
            "first segment, s": found[name],
            "times sooner": round(found[SEQUENTIAL] / found[name], 2),
            "runs": [round(second, 3) for second in seconds],
        }
        for name, seconds in taken.items()
    }


def _until(sign: str, command: Sequence[str]) -> float:
    """Return the seconds until the command writes a line with this text, then end it."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if sign in line:
                seconds = time.perf_counter() - begun
                process.kill()
                return seconds
    raise SystemExit(f"{' '.join(command)} ended without a segment:\n{''.join(said)}")
