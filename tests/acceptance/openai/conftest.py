"""A live Cesar for OpenAI's own clients, and those clients."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from tests.acceptance.conftest import Program
from tests.acceptance.openai.support import create_client, write_words
from tests.acceptance.service import PATIENCE_S, Service, serving

_INSTALL = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]


@pytest.fixture(scope="session")
def service(program_in: Callable[[Path], Program], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run a service whose words come from a script. All tests share it, so none of them may harm it."""
    folder = tmp_path_factory.mktemp("whisper-1")
    with serving(program_in(folder), "--model", write_words(folder / "words.json")) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    """Return the official client as a program would create it, except for the address."""
    with create_client(service) as made:
        yield made


@pytest.fixture(scope="session")
def npm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with OpenAI's npm package, as npm installs it."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    folder = tmp_path_factory.mktemp("npm")
    shutil.copy(Path(__file__).with_name("package.json"), folder)
    done = subprocess.run(_INSTALL, cwd=folder, capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    return folder
