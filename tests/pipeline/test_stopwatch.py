import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cesar.pipeline.stopwatch import Stopwatch


def work() -> float:
    """Some; gives its seconds."""
    attempts_used = time.perf_counter()
    sum(range(100_000))
    return time.perf_counter() - attempts_used


def test_the_time_of_a_stage_adds_up():
    stopwatch = Stopwatch()
    attempts_used = time.perf_counter()
    spent = 0.0
    for _ in range(3):
        with stopwatch.measure("a"):
            spent += work()
    passed = time.perf_counter() - attempts_used
    assert set(stopwatch.seconds()) == {"a"}
    assert spent - 0.001 <= stopwatch.seconds()["a"] <= passed + 0.001


def test_stages_are_counted_apart():
    stopwatch = Stopwatch()
    with stopwatch.measure("a"):
        pass
    with stopwatch.measure("b"):
        work()
    assert stopwatch.seconds()["a"] < stopwatch.seconds()["b"]


def test_work_that_fails_counts_too():
    stopwatch = Stopwatch()

    @stopwatch.measure("a")
    def fail():
        work()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert stopwatch.seconds()["a"] > 0


def test_items_pass_through_and_only_their_making_is_counted():
    stopwatch = Stopwatch()

    def make():
        for number in range(3):
            work()
            yield number

    taken = []
    attempts_used = time.perf_counter()
    used = 0.0
    for item in stopwatch.each("making", make()):
        taken.append(item)
        used += work()
    assert taken == [0, 1, 2]
    assert 0 < stopwatch.seconds()["making"] <= time.perf_counter() - attempts_used - used + 0.001


def test_a_stage_that_pulls_from_another_does_not_count_its_time_again():
    """Else speech detection would look as slow as decoding and itself together."""
    stopwatch = Stopwatch()

    def decode():
        for number in range(20):
            work()
            yield number

    for _ in stopwatch.each("detect", iter(stopwatch.each("decode", decode()))):
        pass
    assert stopwatch.seconds()["detect"] < 0.5 * stopwatch.seconds()["decode"]


def test_threads_add_to_the_same_stage_without_losing_any():
    stopwatch = Stopwatch()

    def measure(_: int) -> float:
        with stopwatch.measure("a"):
            return work()

    with ThreadPoolExecutor(8) as pool:
        spent = sum(pool.map(measure, range(40)))
    assert stopwatch.seconds()["a"] >= spent - 0.001
