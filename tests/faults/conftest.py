"""Short form by default; `scripts/faults --long` runs many more rounds and records the figures."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

IS_LONG = os.environ.get("CESAR_FAULTS") == "long"
SEED = int(os.environ.get("CESAR_FAULTS_SEED", "1"))


@pytest.fixture
def rounds() -> Callable[[int, int], int]:
    """Choose the number of rounds: `rounds(short, long)`."""
    return lambda short, long: long if IS_LONG else short


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """A random generator with the same sequence for the same seed and test."""
    return random.Random(f"{SEED} {request.node.name}")


@pytest.fixture
def note() -> Callable[..., None]:
    """Record a figure: `note("kills at failpoints", 800, lost=0, doubled=0)`. Only the long form keeps it."""

    def write(what: str, count: int, **figures: object) -> None:
        path = os.environ.get("CESAR_FAULTS_FIGURES")
        if path:
            with Path(path).open("a") as file:
                file.write(json.dumps({"what": what, "count": count, "seed": SEED, **figures}) + "\n")

    return write
