"""The fault tests can fail: each mutant breaks one rule of the queue, in a copy of the package, and must be noticed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.support import ROOT

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Mutant:
    """A change of one line, the test that must fail by it, and what that must say."""

    rule: str
    file: str
    right: str
    wrong: str
    test: str
    complaint: str

    def __str__(self) -> str:
        return self.rule


MUTANTS = (
    Mutant(
        "a finish is fenced",
        "cesar/api/queue/transitions.py",
        "            return written\n        row = fenced(connection, job)",
        "            return written\n        row = lock(connection, job.id)",
        "test_zombies.py::test_whatever_a_zombie_writes_is_refused",
        "a zombie's finish was accepted",
    ),
    Mutant(
        "a claim is not taken back by an old beat",
        "cesar/api/queue/attempts.py",
        "beat != beat_of(row)",
        '(beat.owner, beat.attempt) != (row["owner"], row["attempt"])',
        "test_zombies.py::test_a_claim_is_taken_back_once_and_not_by_what_was_seen_before_its_last_beat",
        "At index 0 diff: ('queued', 1) != ('processing', 0)",
    ),
    Mutant(
        "a beat keeps the claim",
        "cesar/api/queue/attempts.py",
        'row["attempt"], row["beat"])',
        'row["attempt"], 0)',
        "test_zombies.py::test_a_claim_that_is_kept_is_not_taken_however_long_the_work_lasts",
        "a claim that was kept was taken",
    ),
    Mutant(
        "a draining worker keeps its claim",
        "cesar/api/worker.py",
        "while True:\n            await asyncio.sleep(min(_CANCEL_POLL_S",
        "while not self._shutdown_event.is_set():\n            await asyncio.sleep(min(_CANCEL_POLL_S",
        "test_drain.py::test_a_draining_worker_keeps_its_job_for_the_grace_and_another_goes_on_with_it_then",
        "'lease expired'",
    ),
    Mutant(
        "the order is no clock's",
        "cesar/api/queue/transitions.py",
        ".order_by(jobs.c.priority.desc(), jobs.c.seq)",
        ".order_by(jobs.c.priority.desc(), jobs.c.created_at)",
        "test_clock.py::test_a_clock_that_jumps_takes_no_claim_and_changes_no_order",
        "the order is that of submission",
    ),
    Mutant(
        "who was taken for dead is dead",
        "cesar/api/queue/leases.py",
        "            except (Timeout, OSError):\n                return False",
        "            except (Timeout, OSError):\n                return True",
        "test_zombies.py::test_a_claim_that_is_kept_is_not_taken_however_long_the_work_lasts",
        "a claim that was kept was taken",
    ),
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_broken_rule_is_noticed(mutant: Mutant, tmp_path: Path) -> None:
    package = tmp_path / "package"
    for name in ("cesar", "tests"):
        shutil.copytree(ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", package)
    source = package / mutant.file
    text = source.read_text()
    assert text.count(mutant.right) == 1, f"{mutant.file} has changed: this mutant needs another place"
    source.write_text(text.replace(mutant.right, mutant.wrong))
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'runs'}",
         f"tests/faults/{mutant.test}"],
        cwd=package, env=os.environ | {"CESAR_FAULTS": "short"}, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert told.returncode == pytest.ExitCode.TESTS_FAILED, told.stdout
    complaints = "\n".join(re.findall(r"^E .*$", told.stdout, re.MULTILINE))
    assert mutant.complaint in complaints, told.stdout
