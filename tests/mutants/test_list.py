"""The list of mutants matches the tree. (`scripts/mutants` runs them.)"""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from tests.mutants.mutants import ROOT, Mutant, mutants

AREAS = ("fence", "plan", "subtitles", "access", "uploads", "addresses", "fingerprint", "ledger")


@pytest.mark.parametrize("mutant", mutants(), ids=str)
def test_every_mutant_matches_once_and_names_existing_tests(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(mutant.mutated(text))) != ast.dump(ast.parse(text))
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert file.startswith("-") or f"def {name}" in (ROOT / file).read_text(encoding="utf-8")


def test_every_area_has_mutants_and_every_rule_is_unique() -> None:
    assert set(Counter(mutant.area for mutant in mutants())) == set(AREAS)
    assert max(Counter(mutant.rule for mutant in mutants()).values()) == 1
