"""The examples in docstrings do what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "cesar").rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("module", MODULES)
def test_an_example_in_a_docstring_gives_what_it_shows(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_examples_were_found() -> None:
    """Guards the test above: nothing to run is no success."""
    assert len(MODULES) > 30
