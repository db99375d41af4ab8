"""A builder of ONNX graphs for onnxruntime, operator by operator, with int8 matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from cesar.engines.onnx import protobuf
from cesar.engines.onnx.protobuf import Attribute

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Value = str
"""Name of an operator's output."""

_OPSETS = {"": 20, "com.microsoft": 1}
_BLOCK = 256
_ZERO = 128
"""The zero point of uint8."""


@dataclass(frozen=True)
class Matrix:
    """int8 weights with a scale for each output."""

    numbers: npt.NDArray[np.int8]
    """int8[inputs, outputs]."""
    scales: Floats
    """float32[outputs]."""


def quantized(weights: Array, *, outputs: int | None = None) -> Matrix:
    """Quantise weights, floating-point[outputs, inputs], to int8; additional outputs, if requested, give 0."""
    count, inputs = weights.shape
    numbers = np.zeros((inputs, outputs or count), np.int8)
    scales = np.zeros(outputs or count, np.float32)
    for start in range(0, count, _BLOCK):  # a block that fits in the cache
        block = slice(start, min(start + _BLOCK, count))
        own = weights[block].astype(np.float32)
        scales[block] = np.maximum(np.abs(own).max(axis=1), np.finfo(np.float32).tiny) / 127
        numbers[:, block] = np.rint(own / scales[block, np.newaxis]).astype(np.int8).T
    return Matrix(numbers, scales)


@dataclass(frozen=True)
class Rows:
    """uint8 rows, each with its own scale: no row depends on another."""

    numbers: Value
    scales: Value


class Graph:
    """A graph under construction. Methods that add to it return the name of the new value."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._weights: dict[Value, Array] = {}
        self._small: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, kind: npt.DTypeLike, shape: Sequence[int | str]) -> Value:
        """Declare an input. Dimensions that vary from run to run are named."""
        self._inputs.append(protobuf.value(name, kind, shape))
        return name

    def output(self, value: Value, kind: npt.DTypeLike) -> None:
        """Make a value an output of the graph, under its own name."""
        self._outputs.append(protobuf.value(value, kind))

    def node(self, operator: str, *inputs: Value, name: str | None = None, **attributes: Attribute) -> Value:
        """Apply an ONNX operator with one output."""
        names = [name or self._new_name()]
        self._nodes.append(protobuf.node(operator, inputs, names, attributes=attributes))
        return names[0]

    def nodes(
        self, operator: str, *inputs: Value, names: Sequence[str], domain: str = "", **attributes: Attribute
    ) -> list[Value]:
        """Apply an operator with several outputs, which get these names."""
        self._nodes.append(protobuf.node(operator, inputs, names, domain=domain, attributes=attributes))
        return list(names)

    def constant(self, array: npt.ArrayLike, kind: npt.DTypeLike | None = None) -> Value:
        """Add an array as a constant."""
        values = np.array(array, kind, order="C")
        if values.size > 1:
            return self._stored(values)
        key = (str(values.dtype), values.shape, values.tobytes())
        if key not in self._small:
            self._small[key] = self._stored(values)
        return self._small[key]

    def cast(self, value: Value, kind: npt.DTypeLike) -> Value:
        return self.node("Cast", value, to=protobuf.type_of(kind))

    def reshape(self, value: Value, *shape: int) -> Value:
        """Reshape a value; 0 keeps a dimension."""
        return self.node("Reshape", value, self.constant(shape, np.int64))

    def split(self, value: Value, names: Sequence[str], *, axis: int) -> list[Value]:
        """Split into equal parts, which get these names."""
        return self.nodes("Split", value, names=names, axis=axis, num_outputs=len(names))

    def largest(self, value: Value) -> Value:
        """Return the maximum of each row, keeping the axis."""
        return self.node("ReduceMax", value, self.constant([-1], np.int64), keepdims=1)

    def rows(self, value: Value) -> Rows:
        """Quantise float32 rows to uint8 with zero point 128. A row of zeros gets scale 0 and arbitrary values."""
        scales = self.node("Mul", self.largest(self.node("Abs", value)), self.constant(1 / 127, np.float32))
        shifted = self.node("Add", self.node("Div", value, scales), self.constant(_ZERO + 0.5, np.float32))
        return Rows(self.cast(shifted, np.uint8), scales)

    def unscaled(self, rows: Rows, matrix: Matrix) -> Value:
        """Multiply without applying the rows' scales."""
        weights = self._new_name()
        self._weights[weights] = matrix.numbers
        sums = self.node("MatMulInteger", rows.numbers, weights, self.constant(_ZERO, np.uint8))
        return self.node("Mul", self.cast(sums, np.float32), self.constant(matrix.scales))

    def linear(self, value: Value, matrix: Matrix, bias: Floats) -> Value:
        rows = self.rows(value)
        product = self.node("Mul", self.unscaled(rows, matrix), rows.scales)
        return self.node("Add", product, self.constant(bias))

    def norm(self, value: Value, gamma: Floats, beta: Floats) -> Value:
        return self.node("LayerNormalization", value, self.constant(gamma), self.constant(beta), epsilon=1e-5)

    def model(self) -> bytes:
        """Serialise the graph, except for the weights."""
        weights = [protobuf.tensor(name, array, is_elsewhere=True) for name, array in self._weights.items()]
        return protobuf.model(
            nodes=self._nodes,
            inputs=self._inputs,
            outputs=self._outputs,
            constants=[*self._constants, *weights],
            opsets=_OPSETS,
        )

    def session(self) -> onnxruntime.InferenceSession:
        """Return a session. Each run uses one thread, its caller's; any number of runs may be concurrent."""
        model = self.model()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # they keep the memory of the largest run
        options.log_severity_level = 4
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options.add_external_initializers(list(self._weights), values)  # packs them in its own layout
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def _stored(self, values: Array) -> Value:
        name = self._new_name()
        self._constants.append(protobuf.tensor(name, values))
        return name

    def _new_name(self) -> str:
        return f"value_{len(self._nodes)}_{len(self._constants)}_{len(self._weights)}"
