"""Any order of all operations, against a model: hypothesis looks for one in which the queue differs."""

from __future__ import annotations

import random
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from cesar.api.models import JobStatus
from tests.faults.conftest import SEED
from tests.faults.machine import AGES, EVENTS, VERBS, MemoryMachine, QueueMachine

pytestmark = pytest.mark.slow

MUST_HAPPEN = (
    "chunks were found again",
    "jobs were pruned",
    *(f"end {status}" for status in JobStatus),
    *(
        f"{verb}: ClaimLost"
        for verb in ("ask", "beat", "begin", "checkpoint", "fail", "put back", "release", "resume", "end completed")
    ),
    *(f"{verb}: JobNotFound" for verb in ("cancel", "retry")),
    *("edit queued: StaleJob", "edit completed: InvalidTransition", "submit: IdempotencyConflict"),
    *("delete: InvalidTransition", "retry: InvalidTransition"),
)
REASONS = {"claimed", "claimed by update", "to be retried", "given up", "cancelled", "released", "retried by hand"}
REASONS |= {
    "recogniser killed",
    "out_of_memory",
    "worker died",
    "lease expired",
    "worker_lost",
    "submitted",
    "completed",
    "broken",
    "queued",
}
"""A test that never reaches these proves nothing about them."""


def search(machine: type[QueueMachine], sequences: int, steps: int) -> None:
    """Have hypothesis look for the shortest sequence of operations after which something is wrong."""
    hypothesis.seed(SEED)(machine)
    wishes = settings(max_examples=sequences, stateful_step_count=steps, database=None)
    run_state_machine_as_test(machine, settings=settings(wishes, suppress_health_check=list(HealthCheck)))


def test_the_queue_behaves_like_the_model(rounds, note):
    search(QueueMachine, rounds(20, 2000), rounds(30, 60))
    note("sequences against the model", rounds(20, 2000), steps_up_to=rounds(30, 60))


def test_the_queue_in_memory_behaves_like_the_model(rounds, note):
    search(MemoryMachine, rounds(8, 500), rounds(30, 60))
    note("sequences against the model, in memory", rounds(8, 500), steps_up_to=rounds(30, 60))


def test_a_random_walk_through_all_operations_matches_the_model(rounds, note, rng):
    """Hypothesis varies what it has tried; this reaches everything evenly, and reports that it did."""
    QueueMachine.happened.clear()
    QueueMachine.reasons.clear()
    random.seed(rng.random())  # the queue leaves a part of its delays to chance
    for _ in range(rounds(16, 200)):
        machine, path = QueueMachine(), []
        try:
            for _ in range(rounds(60, 150)):
                path.append(walk(machine, rng))
                machine.the_database_is_as_the_model_says()
                machine.the_oracle_finds_nothing()
        except AssertionError as error:
            raise AssertionError(f"after {path}") from error
        finally:
            machine.teardown()
    note("random walks", rounds(16, 200), verbs=QueueMachine.happened.total())
    missed = {what for what in MUST_HAPPEN if not QueueMachine.happened[what]} | (REASONS - QueueMachine.reasons)
    assert len(missed) <= rounds(6, 0), missed


def walk(machine: QueueMachine, rng: random.Random) -> tuple[Any, ...]:
    """Take one step; return its arguments."""
    step: tuple[Any, ...]
    if rng.random() < 0.2:
        step = rng.choice(EVENTS), rng.randrange(3)
        machine.something_happens(*step)
    else:
        step = rng.choice(VERBS), rng.randrange(3), rng.choice(AGES), rng.randrange(5)
        machine.do(*step)
    return step
