"""The documentation's console examples: what a page says that a command prints is what it prints.

Every ```console block of every page is run, one command after another, in a folder laid out like a clone. Identifiers,
times, speeds and paths may differ; everything else has to be the same.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cesar.engines.hardware import probe
from cesar.settings.config import Settings
from tests.acceptance.conftest import PROGRAM, Program
from tests.support import media
from tests.support.pages import blocks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
WITHOUT_MODEL = {"work-offline.md"}
"""Pages whose examples recognise nothing."""
FILES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "queue-recordings.md": {"talks": ("french.aiff", "german.ogg", "jfk.flac")},
    "transcribe-a-folder.md": {"talks": ("french.aiff", "german.ogg", "jfk.flac", "notes.mp3")},
    "work-offline.md": {".": ("talk.mp3",)},
}
"""Recordings that a page takes for granted, beside those of the repository."""
ELSEWHERE = {"jfk.flac": ROOT / "samples" / "jfk.flac", "talk.mp3": media.AUDIO / "sonnet-1.mp3"}
NO_MEDIA = {"notes.mp3": b"These are my notes, not a recording of them.\n"}

UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
VARYING = {
    UUID: UUID,
    r"\b[0-9a-f]{8}\b": r"[0-9a-f]{8}",
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    r"in \d+\.\d s \(\d+\.\dx\)": r"in \d+\.\d s \(\d+\.\dx\)",
    r"in \d:\d\d:\d\d \(\d+\.\dx\)": r"in \d:\d\d:\d\d \(\d+\.\dx\)",
    r"/home/ada/\S+/": r"/\S+/",
    r"AGE +": r"AGE +",
    r"\d+ (?:s|min)  ": r"\d+ (?:s|min) +",
    r"\S{0,9}…$": r".*",  # a table's last column is as wide as the others leave room for
}
"""What is different every time, as a page has it and as a run may have it."""


@dataclass(frozen=True)
class Step:
    """A command with what the page says that it prints."""

    command: str
    printed: str


def steps_of(block: str) -> list[Step]:
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)
    assert parts[0] == "", "an example begins with a command"
    return [Step(*part.split("\n", 1)) for part in parts[1:]]


EXAMPLES = [
    pytest.param(
        page,
        steps_of(block),
        id=f"{page.name}-{number}",
        marks=() if page.name in WITHOUT_MODEL else pytest.mark.model,
    )
    for page in PAGES
    for number, block in enumerate(blocks(page, "console"), 1)
]


def pattern_of(printed: str) -> str:
    """Return a pattern for what is printed: as the page has it, but for what is different every time."""
    parts, end = list[str](), 0
    for found in re.finditer("|".join(VARYING), printed, re.MULTILINE):
        varying = next(real for known, real in VARYING.items() if re.fullmatch(known, found[0]))
        parts += [re.escape(printed[end : found.start()]), varying]
        end = found.end()
    return "".join([*parts, re.escape(printed[end:])])


@dataclass
class Shell:
    """Runs one command after another. Identifiers that a page has stand for those that were printed instead."""

    folder: Path
    environ: Mapping[str, str]
    ids: dict[str, str] = field(default_factory=dict)

    def run(self, step: Step) -> str:
        done = subprocess.run(
            ["sh", "-c", re.sub(r"\b[0-9a-f]{4,36}\b", self._real_id, step.command)],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        self.ids.update(zip(re.findall(UUID, step.printed), re.findall(UUID, done.stdout), strict=False))
        return done.stdout

    def _real_id(self, found: re.Match[str]) -> str:
        prefix = found[0]
        return next((real[: len(prefix)] for known, real in self.ids.items() if known.startswith(prefix)), prefix)


@pytest.fixture
def shell(program_in: Callable[[Path], Program], tmp_path: Path) -> Shell:
    """A shell in a folder with the repository's recordings where its pages say that they are, and with its models."""
    clone, data = tmp_path / "cesar", tmp_path / "data"
    (clone / "tests").mkdir(parents=True)
    (clone / "samples").symlink_to(ROOT / "samples")
    (clone / "tests" / "audio").symlink_to(media.AUDIO)
    data.mkdir(0o700)
    (data / "models").symlink_to(Settings().models_dir)
    environ = {name: value for name, value in program_in(clone).environ.items() if name != "CESAR_MODEL"}
    path = f"{PROGRAM.parent}{os.pathsep}{environ['PATH']}"
    return Shell(clone, {**environ, "CESAR_DATA_DIR": str(data), "COLUMNS": "100", "PATH": path})


def lay_out(page: Path, clone: Path) -> None:
    for folder, names in FILES.get(page.name, {}).items():
        (clone / folder).mkdir(exist_ok=True)
        for name in names:
            if name in NO_MEDIA:
                (clone / folder / name).write_bytes(NO_MEDIA[name])
            else:
                shutil.copy(ELSEWHERE.get(name, media.AUDIO / name), clone / folder / name)


@pytest.mark.parametrize(("page", "steps"), EXAMPLES)
def test_a_console_example_prints_what_its_page_says(page: Path, steps: list[Step], shell: Shell) -> None:
    if page.name not in WITHOUT_MODEL and not probe().has_int8_products:
        pytest.skip("the texts are those of our own decoder, which needs another processor")
    lay_out(page, shell.folder)
    for step in steps:
        printed = shell.run(step)
        assert re.fullmatch(pattern_of(step.printed), printed), f"$ {step.command}\n{printed}"


def test_examples_were_found() -> None:
    """Guards the test above: nothing to run is no success."""
    assert len(EXAMPLES) >= 8
