"""The installed program as its users meet it: a process of its own, with a home of its own and no network needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import av
import numpy as np
import pytest

from tests.support import media

PROGRAM = Path(sys.executable).with_name("cesar")


@dataclass(frozen=True)
class Program:
    """The program, in one folder."""

    environ: Mapping[str, str]
    folder: Path

    def run(
        self,
        *arguments: object,
        launcher: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
        stdin: int | IO[Any] = subprocess.DEVNULL,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end. launcher: what is to start it; environ: what differs from the usual."""
        return subprocess.run(
            [*launcher, str(PROGRAM), *map(str, arguments)],
            cwd=self.folder,
            env={**self.environ, **(environ or {})},
            stdin=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """Start it as a shell does, as the leader of a process group; its events can be read."""
        return subprocess.Popen(
            [str(PROGRAM), *map(str, arguments)],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )


@pytest.fixture(scope="session")
def program_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Program]:
    """Return the program in a folder; without `-m` it uses the scripted model."""
    if not PROGRAM.exists():
        pytest.fail(f"{PROGRAM} is missing: install the project where the tests run, as scripts/test does")
    home = tmp_path_factory.mktemp("home")
    script = home / "script.json"
    script.write_text(json.dumps({"language": "en", "segments": [{"start": 2.0, "end": 4.0, "text": "Ask not."}]}))
    testers = ("CESAR_", "_CESAR_", "HF_", "PYTHON", "XDG_")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(testers)}
    environ |= {
        "CESAR_DATA_DIR": str(home / "data"),
        "CESAR_MODEL": f"scripted:{script}",
        "HF_HOME": str(home / "hub"),
        "HOME": str(home),
    }
    return lambda folder: Program(environ, folder)


@pytest.fixture
def program(program_in: Callable[[Path], Program], tmp_path: Path) -> Program:
    """Return the program in the test's own folder."""
    return program_in(tmp_path)


@pytest.fixture(scope="session")
def samples_of() -> Callable[..., media.Sound]:
    """Return the speech of a recording, as samples of any rate."""

    def read(path: Path, rate: int = 16_000) -> media.Sound:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        with av.open(str(path)) as container:
            parts = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
            return np.concatenate([part.to_ndarray()[0] for part in parts])

    return read
