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
    """An environment without the tester's own settings, models and terminal."""
    home = tmp_path_factory.mktemp("home")
    for name in ("CESAR_CONFIG", "CESAR_DATABASE", "CESAR_MODEL", "CESAR_DEVICE", "CESAR_OFFLINE", "_CESAR_COMPLETE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("CESAR_DATA_DIR", str(home / "data"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def cesar(environ, tmp_path):
    """Run the program as its users do; in a folder of its own."""

    def run(*arguments, **how):
        command = [sys.executable, "-m", "cesar", *map(str, arguments)]
        how = {"stdin": subprocess.DEVNULL, "cwd": tmp_path, "timeout": 60} | how
        if "stdout" not in how and "stderr" not in how:
            how["capture_output"] = True
        if "input" in how:
            del how["stdin"]
        return subprocess.run(command, check=False, **how)

    return run


@pytest.fixture
def inside(environ, tmp_path, monkeypatch, capfd):
    """Run the program within this process, which is faster; gives exit code, output and error output."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        capfd.readouterr()
        code = run_here([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def queue(environ):
    """The queue that the program will use."""
    return Queue(Path(os.environ["CESAR_DATA_DIR"]) / "cesar.db")


@pytest.fixture
def three(queue):
    """Three jobs, the oldest first; two ids begin in the same way."""
    return queue.fill({"aaaa1111": "first", "aaaa2222": "second", "bbbb3333": "third"})
