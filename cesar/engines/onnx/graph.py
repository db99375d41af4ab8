"""Networks for onnxruntime, written down operator by operator, with products in int8."""

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
"""What an operator gives, by its name."""

_OPSETS = {"": 20, "com.microsoft": 1}
_BLOCK = 256
_ZERO = 128
"""What stands for 0 in uint8."""


@dataclass(frozen=True)
class Matrix:
    """Weights in int8, with a scale for each output."""

    numbers: npt.NDArray[np.int8]
    """int8[inputs, outputs]."""
    scales: Floats
    """float32[outputs]."""


def quantized(weights: Array, *, outputs: int | None = None) -> Matrix:
    """Bring weights, floating-point[outputs, inputs], into int8; outputs beyond theirs, if asked for, give 0."""
    count, inputs = weights.shape
    numbers = np.zeros((inputs, outputs or count), np.int8)
    scales = np.zeros(outputs or count, np.float32)
    for start in range(0, count, _BLOCK):  # what fits the cache
        block = slice(start, min(start + _BLOCK, count))
        own = weights[block].astype(np.float32)
        scales[block] = np.maximum(np.abs(own).max(axis=1), np.finfo(np.float32).tiny) / 127
        numbers[:, block] = np.rint(own / scales[block, np.newaxis]).astype(np.int8).T
    return Matrix(numbers, scales)


@dataclass(frozen=True)
class Rows:
    """Rows in uint8, each with a scale of its own: what else there is changes nothing in a row."""

    numbers: Value
    scales: Value


class Graph:
    """A network in the making. All that adds to it gives the name of what it computes."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._weights: dict[Value, Array] = {}
        self._small: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, kind: npt.DTypeLike, shape: Sequence[int | str]) -> Value:
        """Declare an input. Lengths that differ from run to run have a name."""
        self._inputs.append(protobuf.value(name, kind, shape))
        return name

    def output(self, value: Value, kind: npt.DTypeLike) -> None:
        """Make a value an output of the network, by its own name."""
        self._outputs.append(protobuf.value(value, kind))

    def node(self, operator: str, *inputs: Value, name: str | None = None, **attributes: Attribute) -> Value:
        """Apply one of ONNX's operators, with one result."""
        names = [name or self._new_name()]
        self._nodes.append(protobuf.node(operator, inputs, names, attributes=attributes))
        return names[0]

    def nodes(
        self, operator: str, *inputs: Value, names: Sequence[str], domain: str = "", **attributes: Attribute
    ) -> list[Value]:
        """Apply an operator with several results, which get these names."""
        self._nodes.append(protobuf.node(operator, inputs, names, domain=domain, attributes=attributes))
        return list(names)

    def constant(self, array: npt.ArrayLike, kind: npt.DTypeLike | None = None) -> Value:
        """Put an array into the network."""
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
        """0 keeps a length as it is."""
        return self.node("Reshape", value, self.constant(shape, np.int64))

    def split(self, value: Value, names: Sequence[str], *, axis: int) -> list[Value]:
        """Cut into equal parts, which get these names."""
        return self.nodes("Split", value, names=names, axis=axis, num_outputs=len(names))

    def largest(self, value: Value) -> Value:
        """The largest of each row, in place of the row."""
        return self.node("ReduceMax", value, self.constant([-1], np.int64), keepdims=1)

    def rows(self, value: Value) -> Rows:
        """Bring rows of float32 into uint8, with 128 for 0. A row of zeros gives any numbers, at scale 0."""
        scales = self.node("Mul", self.largest(self.node("Abs", value)), self.constant(1 / 127, np.float32))
        shifted = self.node("Add", self.node("Div", value, scales), self.constant(_ZERO + 0.5, np.float32))
        return Rows(self.cast(shifted, np.uint8), scales)

    def unscaled(self, rows: Rows, matrix: Matrix) -> Value:
        """Multiply, but leave out the rows' scales."""
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
        """Write it down, all but the weights."""
        weights = [protobuf.tensor(name, array, is_elsewhere=True) for name, array in self._weights.items()]
        return protobuf.model(
            nodes=self._nodes,
            inputs=self._inputs,
            outputs=self._outputs,
            constants=[*self._constants, *weights],
            opsets=_OPSETS,
        )

    def session(self) -> onnxruntime.InferenceSession:
        """Make it ready to run. Each run takes one thread, that of its caller; any number may run at once."""
        model = self.model()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # they keep what the largest run took
        options.log_severity_level = 4
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options.add_external_initializers(list(self._weights), values)  # brings them into an order of its own
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def _stored(self, values: Array) -> Value:
        name = self._new_name()
        self._constants.append(protobuf.tensor(name, values))
        return name

    def _new_name(self) -> str:
        return f"value_{len(self._nodes)}_{len(self._constants)}_{len(self._weights)}"
