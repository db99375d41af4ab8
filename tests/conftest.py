"""Shared configuration of all tests: Hypothesis profiles, timeouts, NumPy's threads, signals."""

import gc
import os
import signal
import sys
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # features are ten times slower when threads compete for cores

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # tests of the pipeline import onnxruntime into this process

# Under nohup or in the background of a script, signals are ignored, and programs started by tests would inherit that.
for number in {signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)}:
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

settings.register_profile(
    "cesar",
    max_examples=40,
    derandomize=True,  # the same code always passes or always fails
    deadline=None,  # a busy machine is not a failure
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile("search", settings.get_profile("cesar"), max_examples=400, derandomize=False)
"""Searches for new counterexamples: `scripts/test --hypothesis-profile=search`."""
settings.register_profile("mutants", settings.get_profile("cesar"), phases=(Phase.explicit, Phase.generate))
"""Stops at the first counterexample without shrinking it."""
settings.load_profile("cesar")

_MODEL_TIMEOUT_S = 1200
"""Models are slow to load and to run when other programs use the cores."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Allow tests with models more time than pyproject.toml allows the others."""
    for item in items:
        if item.get_closest_marker("model") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_MODEL_TIMEOUT_S))


@pytest.fixture(autouse=True)
def _quickly_made_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Create new databases by copying; the tests of migrations override this fixture."""
    if database := sys.modules.get("cesar.api.storage.database"):
        from tests.support.databases import upgrade_by_copying

        monkeypatch.setattr(database, "upgrade", upgrade_by_copying)


def pytest_collection_finish() -> None:
    """Hide the thousands of collected tests from the garbage collector, which sometimes took 0.3 s for them."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape lone surrogates, which some tests log on purpose: pytest-xdist can't send them to the main process."""
    return _escaped((yield))


def _escaped(data: Any) -> Any:
    match data:
        case str():
            return data.encode("utf-8", "backslashreplace").decode("utf-8")
        case dict():
            return {_escaped(key): _escaped(value) for key, value in data.items()}
        case list() | tuple():
            return type(data)(map(_escaped, data))
    return data
