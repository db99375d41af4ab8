"""Products in int8 beside the same in float32, run by onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest

from cesar.engines.hardware import probe
from cesar.engines.onnx.graph import Floats, Graph, quantized

WIDTH, OUTPUTS = 64, 96
DICE = np.random.default_rng(7)
WEIGHTS = DICE.normal(0, 1, (OUTPUTS, WIDTH)).astype(np.float32)
BIAS = DICE.normal(0, 1, OUTPUTS).astype(np.float32)

needs_int8_products = pytest.mark.skipif(
    not probe().has_int8_products, reason="this processor's int8 sums can overflow"
)


@pytest.fixture(scope="module")
def linear():
    graph = Graph()
    value = graph.input("value", np.float32, ["rows", WIDTH])
    graph.output(graph.linear(value, quantized(WEIGHTS), BIAS), np.float32)
    session = graph.session()
    return lambda rows: session.run(None, {"value": rows})[0]


def rows(count: int) -> Floats:
    scales = 10.0 ** DICE.integers(-3, 3, (count, 1))
    return (DICE.normal(0, 1, (count, WIDTH)) * scales).astype(np.float32)


def test_weights_come_back_from_int8_within_half_a_step():
    matrix = quantized(WEIGHTS, outputs=OUTPUTS + 8)
    back = (matrix.numbers * matrix.scales).T
    assert np.all(np.abs(back[:OUTPUTS] - WEIGHTS) <= matrix.scales[:OUTPUTS, np.newaxis] * 0.5001)
    assert not back[OUTPUTS:].any()


@needs_int8_products
def test_a_product_in_int8_is_near_that_in_float32(linear):
    value = rows(32)
    exact = value @ WEIGHTS.T
    of_most = np.abs(linear(value) - BIAS - exact).max(axis=1) / np.abs(exact).max(axis=1)
    assert of_most.max() < 0.03


@needs_int8_products
def test_no_row_changes_a_bit_of_another(linear):
    value = rows(9)
    together = linear(value)
    assert all(np.array_equal(linear(value[row : row + 1])[0], together[row]) for row in range(9))


@needs_int8_products
def test_weights_may_go_once_they_are_packed():
    """onnxruntime reads them no more: their memory is free for others."""
    graph = Graph()
    matrix = quantized(WEIGHTS)
    graph.output(graph.linear(graph.input("value", np.float32, ["rows", WIDTH]), matrix, BIAS), np.float32)
    session, value = graph.session(), rows(5)
    (before,) = session.run(None, {"value": value})
    matrix.numbers[:] = 0
    assert np.array_equal(session.run(None, {"value": value})[0], before)
    assert np.array_equal(session.run(None, {"value": value[:1]})[0], before[:1])


@needs_int8_products
def test_a_row_of_zeros_gives_the_bias(linear):
    assert np.array_equal(linear(np.zeros((1, WIDTH), np.float32))[0], BIAS)
