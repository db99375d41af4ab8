"""Mutants: faults that are injected into a copy of the tree, and the tests that must detect them.

scripts/mutants                       all of them
scripts/mutants --only access plan    those of these areas, or with this text in their rule
scripts/mutants -n 2                  two at a time
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_suffix(".toml")
_COPIED = ("cesar", "tests", "docs", "scripts", "samples")
_WITHIN_S = 300.0
"""For all tests of one mutant; a single test that hangs reaches its own timeout much sooner."""
_TEST_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change at one place in the code, and the tests that must fail because of it."""

    area: str
    rule: str
    """The rule that it breaks."""
    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]
    """Arguments for pytest."""
    complaint: str = ""
    """A text that must be in the failure message."""

    def __str__(self) -> str:
        return self.rule

    def mutated(self, text: str) -> str:
        """Return the text of the file with the fault. Raises ValueError unless there is exactly one match."""
        if text.count(self.right) != 1:
            raise ValueError(f"{self.file} has changed: the mutant {self.rule!r} must be updated")
        return text.replace(self.right, self.wrong)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for a mutant."""

    mutant: Mutant
    verdict: str
    """`killed`, `SURVIVED`, or a description of the problem."""
    seconds: float
    output: str


def mutants() -> list[Mutant]:
    """Read the list of mutants."""
    entries = tomllib.loads(LIST.read_text(encoding="utf-8"))["mutant"]
    return [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


class Copy:
    """A copy of the tree, used for one mutant after another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written_at = time.time()
        for name in _COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        for file in (path for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".git")):
            shutil.copy(file, folder)

    def test(self, mutant: Mutant) -> Outcome:
        """Run a mutant's tests with the fault injected, then remove it."""
        started = time.monotonic()
        with self._with(mutant):
            done = self.run(*mutant.tests)
        return Outcome(mutant, _verdict(mutant, done), time.monotonic() - started, done.stdout)

    def run(self, *tests: str, within_s: float = _WITHIN_S) -> subprocess.CompletedProcess[str]:
        """Run tests in this copy until the first failure."""
        options = ("-x", "-q", "-p", "no:cacheprovider", f"--timeout={_TEST_TIMEOUT_S}", "--hypothesis-profile=mutants")
        environ = os.environ | {"CESAR_FAULTS": "short"}
        command = [sys.executable, "-m", "pytest", *options, f"--basetemp={self._folder / 'runs'}", *tests]
        with subprocess.Popen(
            command, cwd=self._folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            try:
                output, _ = process.communicate(timeout=within_s)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
                output += f"\nnot done within {within_s:g} s"
        return subprocess.CompletedProcess(command, process.returncode, output)

    @contextmanager
    def _with(self, mutant: Mutant) -> Iterator[None]:
        source = self._folder / mutant.file
        text = source.read_text(encoding="utf-8")
        self._write(source, mutant.mutated(text))
        try:
            yield
        finally:
            self._write(source, text)

    def _write(self, source: Path, text: str) -> None:
        """Write a file with a unique time: compiled code is reused for any file with the same second and size."""
        source.write_text(text, encoding="utf-8")
        self._written_at += 10
        os.utime(source, (self._written_at, self._written_at))


def _verdict(mutant: Mutant, done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == pytest.ExitCode.OK:
        return "SURVIVED"
    if done.returncode != pytest.ExitCode.TESTS_FAILED:
        return f"NOT TESTED (pytest ended with {done.returncode})"
    complaints = "\n".join(re.findall(r"^E .*$", done.stdout, re.MULTILINE))
    if re.search(r"NameError|SyntaxError|ImportError", complaints):
        return "NOT A PROGRAM"
    return "killed" if mutant.complaint in complaints else "FAILED for another reason"


def chosen(only: Sequence[str]) -> list[Mutant]:
    """Return the mutants of these areas or files, or with such a text in their rule; all if nothing is given."""
    return [m for m in mutants() if not only or any(text in (m.area, m.file) or text in m.rule for text in only)]


def outcomes(wanted: Sequence[Mutant], at_once: int) -> Iterator[Outcome]:
    """Run mutants, that many at a time, each in a copy that no other uses at that time."""
    with TemporaryDirectory(prefix="cesar-mutants-") as folder, ThreadPoolExecutor(at_once) as threads:
        own = threading.local()
        numbers = iter(range(at_once))

        def test(mutant: Mutant) -> Outcome:
            if not hasattr(own, "copy"):
                own.copy = Copy(Path(folder) / str(next(numbers)))
            outcome: Outcome = own.copy.test(mutant)
            return outcome

        for done in as_completed([threads.submit(test, mutant) for mutant in wanted]):
            yield done.result()


def sound(wanted: Sequence[Mutant]) -> subprocess.CompletedProcess[str]:
    """Run all tests of these mutants without a fault: they are meaningful only if they pass."""
    tests = dict.fromkeys(test for mutant in wanted for test in mutant.tests if not test.startswith("-"))
    with TemporaryDirectory(prefix="cesar-mutants-") as folder:
        return Copy(Path(folder) / "tree").run(*tests, within_s=10 * _WITHIN_S)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the requested mutants and print each result; return 1 if any was not killed."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=__doc__, usage="scripts/mutants [options]")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("-n", type=int, default=1, help="how many at a time")
    parser.add_argument("--only", nargs="+", default=[], metavar="TEXT", help="areas, files, or parts of rules")
    parser.add_argument("--list", action="store_true", help="only list them")
    asked = parser.parse_args(arguments)
    wanted = chosen(asked.only)
    if asked.list or not wanted:
        print("\n".join(f"{m.area:12} {m.rule} ({m.file})" for m in wanted) or "there are no such mutants")
        return 0 if wanted else 2
    if (whole := sound(wanted)).returncode != pytest.ExitCode.OK:
        print(whole.stdout, "the tests fail without any mutant", sep="\n")
        return 1
    started, left = time.monotonic(), 0
    for outcome in outcomes(wanted, asked.n):
        left += outcome.verdict != "killed"
        print(
            f"{outcome.verdict:9} {outcome.mutant.area:12} {outcome.mutant.rule} ({outcome.seconds:.1f} s)", flush=True
        )
        if outcome.verdict not in ("killed", "SURVIVED"):
            print(outcome.output)
    print(f"{len(wanted) - left} of {len(wanted)} killed in {time.monotonic() - started:.0f} s")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
