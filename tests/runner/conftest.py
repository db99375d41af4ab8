from dataclasses import replace
from pathlib import Path

import pytest

from cesar import AudioTranscriber
from cesar.settings.config import load
from tests.runner.support import recognisers, wait_until, write_script


@pytest.fixture(scope="session")
def script(tmp_path_factory):
    """Return a model with a sentence every two seconds; the tests share it and its warm child."""
    return write_script(tmp_path_factory.mktemp("script") / "script.json")


@pytest.fixture
def transcriber(script):
    return AudioTranscriber(script)


@pytest.fixture
def children():
    """Return the running children; some may be warm from earlier tests."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("looks at processes through /proc")
    return recognisers


@pytest.fixture
def faulty(tmp_path):
    """Return a transcriber whose model fails in a given way at a given second of the recording.

    Its child is let go as soon as it has no work.
    """
    before = recognisers()

    def make(*faults, **settings):
        patience = replace(load(), idle_timeout_s=0.05, **settings)
        return AudioTranscriber(write_script(tmp_path / "faulty.json", *faults), settings=patience)

    yield make
    wait_until(lambda: recognisers() <= before)
