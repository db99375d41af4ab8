"""What all tests share: how hypothesis looks for counterexamples, the threads NumPy takes, the signals of programs."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # features are ten times slower where threads fight for cores

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # the pipeline's own tests import onnxruntime into this process

# Under nohup, or in a script's background, signals are ignored, and programs that tests start would inherit that.
for number in {signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)}:
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

settings.register_profile(
    "cesar",
    max_examples=40,
    derandomize=True,  # the same code passes or fails, whoever runs it and however often
    deadline=None,  # a busy machine is not a fault
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile("search", settings.get_profile("cesar"), max_examples=400, derandomize=False)
"""Looks for new counterexamples: `scripts/test --hypothesis-profile=search`."""
settings.load_profile("cesar")

_SLOW = (
    "acceptance",
    "api/http",
    "api/fetching/test_fetch.py",
    "api/test_worker",
    "faults",
    "runner",
    "cli/test_program.py",
    "cli/test_transcribe.py",
    "cli/test_doctor.py",
    "cli/test_remote",
    "test_transcriber.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever starts a program, a child process or the service is slow: `scripts/check` leaves it out."""
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix().startswith(_SLOW):
            item.add_marker(pytest.mark.slow)
