"""Running and measuring commands in alternation, with medians and tables: shared by the speed benchmarks."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One run of a command, including its child processes."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    """The largest process. Linux counts at least the memory of the benchmark when it starts the command."""
    text: str
    """Its standard output."""

    @property
    def figures(self) -> dict[str, float]:
        """Return the measurements for JSON."""
        return {"wall_s": round(self.wall_s, 3), "cpu_s": round(self.cpu_s, 3), "peak_mib": round(self.peak_mib, 1)}


def run(command: Sequence[str], variables: Mapping[str, str] | None = None) -> Run:
    """Run a command. Raises SystemExit with its output if it fails."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=os.environ | dict(variables or {}))
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if status:
            said = errors.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(command)} failed with {process.returncode}:\n{said}")
        text = output.read().decode(errors="replace")
    return Run(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, text)


def in_turns(measures: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Take every measurement once per round; rounds start with different ones, so that the order varies."""
    names = list(measures)
    taken: dict[str, list[T]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            sys.stderr.write(f"round {number + 1} of {rounds}: {name}\n")
            taken[name].append(measures[name]())
    return taken


def median(values: Iterable[float], digits: int = 2) -> float:
    """Return the rounded median."""
    return round(statistics.median(values), digits)


def show(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as a Markdown table to standard error; the first row names the columns."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    sys.stderr.write(f"\n{title}\n\n{body}\n\n")


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    return "" if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)
