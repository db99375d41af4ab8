"""Silero's graph for speech detection, arranged so that a block of frames is a few large products of matrices.

As published it convolves 4 places of one frame at a time, which leaves most of a processor's vector units idle. The
weights are those of its file, and so are the sums.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from cesar.engines.onnx.graph import Floats, Graph, Value
from cesar.engines.onnx.protobuf import constants

HOP_SAMPLES = 128
HOPS = 5
"""Of a frame, with the sound before it and after it that is taken into account."""
STATE_SIZE = 128
"""Numbers in each of the two states of the recurrent layer."""
_PLACES = ((4, 1), (2, 2), (1, 2), (1, 1))
"""How many places each convolution gives, and how far they are apart in what it is given."""


def vad_graph() -> Graph:
    """From sound, and what is remembered of the sound before, to the probability of speech in each frame.

    Inputs: `hops`, float32[frames, HOPS, HOP_SAMPLES]; `hidden` and `cell`, float32[1, 1, REMEMBERED].
    Outputs: `probabilities`, float32[frames]; `new_hidden` and `new_cell`.
    """
    writer = _Writer()
    graph = writer.graph
    value = writer.magnitudes(graph.input("hops", np.float32, ["frames", HOPS, HOP_SAMPLES]))
    for layer, (places, stride) in enumerate(_PLACES):
        value = writer.convolution(f"encoder.{layer}", value, places, stride)
    value = graph.node("Relu", writer.recurrent(value))
    value = writer.product(value, writer.weights["output.weight"][:, :, 0], writer.weights["output.bias"])
    graph.output(graph.node("Sigmoid", graph.reshape(value, -1), name="probabilities"), np.float32)
    return graph


class _Writer:
    """Writes the layers into the graph."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.weights = constants(files("cesar").joinpath("assets/silero_vad_16k_sequence.onnx").read_bytes())

    def magnitudes(self, hops: Value) -> Value:
        """The spectrum's, float32[frames, HOPS - 1, bins], of every two hops; its Fourier transform is a product."""
        spans = self._side_by_side(hops, 2, places=HOPS - 1, stride=1)
        spectrum = self.product(spans, self.weights["stft.forward_basis_buffer"][:, 0])
        parts = self.graph.split(spectrum, ["real", "imaginary"], axis=-1)
        squares = [self.graph.node("Mul", part, part) for part in parts]
        return self.graph.node("Sqrt", self.graph.node("Add", *squares))

    def convolution(self, name: str, value: Value, places: int, stride: int) -> Value:
        """From float32[frames, places, width] to another width, with zeros around, and nothing below 0."""
        kernel = self.weights[f"{name}.weight"]  # [outputs, inputs, places]
        outputs, _, reach = kernel.shape
        padded = self.graph.node("Pad", value, self.graph.constant([0, 1, 0, 0, 1, 0], np.int64))
        spans = self._side_by_side(padded, reach, places=places, stride=stride)
        flat = kernel.transpose(0, 2, 1).reshape(outputs, -1)
        return self.graph.node("Relu", self.product(spans, flat, self.weights[f"{name}.bias"]))

    def recurrent(self, value: Value) -> Value:
        """From float32[frames, 1, width] to float32[frames, REMEMBERED], each frame after the one before it."""
        states = [self.graph.input(name, np.float32, [1, 1, STATE_SIZE]) for name in ("hidden", "cell")]
        weights = [self.graph.constant(self.weights[f"onnx::LSTM_{number}"]) for number in (209, 210, 211)]
        known, *new = self.graph.nodes(
            "LSTM", value, *weights, "", *states, names=["known", "new_hidden", "new_cell"], hidden_size=STATE_SIZE
        )
        for name in new:
            self.graph.output(name, np.float32)
        return self.graph.reshape(known, -1, STATE_SIZE)

    def product(self, value: Value, weights: Floats, bias: Floats | None = None) -> Value:
        """weights: float32[outputs, inputs]."""
        product = self.graph.node("MatMul", value, self.graph.constant(weights.T))
        return product if bias is None else self.graph.node("Add", product, self.graph.constant(bias))

    def _side_by_side(self, value: Value, reach: int, *, places: int, stride: int) -> Value:
        """Join every `reach` places that follow one another into one."""
        parts = []
        for first in range(reach):
            limits = ([first], [first + stride * (places - 1) + 1], [1], [stride])
            parts.append(self.graph.node("Slice", value, *(self.graph.constant(one, np.int64) for one in limits)))
        return self.graph.node("Concat", *parts, axis=-1)
