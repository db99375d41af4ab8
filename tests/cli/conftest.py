import os
import subprocess
import sys
from pathlib import Path

import pytest

from cesar.cli import run as run_here
from tests.cli.queues import Queue

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environ(tmp_path_factory, monkeypatch):
    """Isolate the environment from the developer's settings, models and terminal."""
    home = tmp_path_factory.mktemp("home")
    for name in ("CESAR_CONFIG", "CESAR_DATABASE", "CESAR_MODEL", "CESAR_DEVICE", "CESAR_OFFLINE", "_CESAR_COMPLETE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("CESAR_DATA_DIR", str(home / "data"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def cesar(environ, tmp_path):
    """Return a function that runs the program as a subprocess in its own folder."""

    def run(*arguments, **options):
        command = [sys.executable, "-m", "cesar", *map(str, arguments)]
        options = {"stdin": subprocess.DEVNULL, "cwd": tmp_path, "timeout": 60} | options
        if "stdout" not in options and "stderr" not in options:
            options["capture_output"] = True
        if "input" in options:
            del options["stdin"]
        return subprocess.run(command, check=False, **options)

    return run


@pytest.fixture
def invoke(environ, tmp_path, monkeypatch, capfd):
    """Return a function that runs the program in this process and returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capfd.readouterr()
        code = run_here([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def queue(environ):
    """The queue that the program uses."""
    return Queue(Path(os.environ["CESAR_DATA_DIR"]) / "cesar.db")


@pytest.fixture
def three_jobs(queue):
    """Three jobs, oldest first; two ids share a prefix."""
    return queue.fill({"aaaa1111": "first", "aaaa2222": "second", "bbbb3333": "third"})
