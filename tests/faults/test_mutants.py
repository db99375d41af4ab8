"""The fault tests can fail: each mutant breaks one rule of the queue, in a copy of the package, and must be noticed.

Those are the mutants of `tests/mutants` whose tests take processes; `scripts/mutants` runs all.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.mutants import Copy, Mutant, mutants

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("mutant", [mutant for mutant in mutants() if mutant.complaint], ids=str)
def test_a_mutant_fails_its_test(mutant: Mutant, tmp_path: Path) -> None:
    outcome = Copy(tmp_path / "tree").test(mutant)
    assert outcome.verdict == "killed", outcome.output
