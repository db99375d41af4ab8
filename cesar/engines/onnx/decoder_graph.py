"""Whisper's decoder as two networks: one for what is done once for a window, one for each step.

All weights are int8. So are the keys and values of cross-attention, with a scale for each head and frame: with 15 s of
sound they are what a step reads most of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cesar.engines.onnx.graph import Array, Floats, Network, Value, quantized
from cesar.engines.onnx.weights import Variables

TIME_STAMPS = 1501
"""0 to 30 s, at the end of the vocabulary."""
CROSS = ("keys", "key_scales", "key_sums", "values", "value_scales")
"""What a layer's cross-attention has of a window."""
PAST = ("past_keys", "past_values")
"""What a layer's self-attention has of the tokens so far; updated at its place by each step."""
_VECTOR = 64
"""Rows of scores are filled up to a multiple of this: what is left over by vectors would be computed otherwise."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large the decoder is."""

    layers: int
    heads: int
    width: int
    text_tokens: int
    """Tokens that are no time stamps."""

    @classmethod
    def of(cls, variables: Variables) -> Shape:
        """Raises `ValueError` if they are not those of a Whisper model."""
        layers = 0
        while f"decoder/layer_{layers}/ffn/linear_0/weight" in variables:
            layers += 1
        vocabulary, width = variables.stored("decoder/embeddings/weight").shape
        return cls(layers, int(variables.stored("decoder/num_heads")), width, vocabulary - TIME_STAMPS)

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def text_columns(self) -> int:
        """Scores of text in a row, with what fills it up."""
        return -(-self.text_tokens // _VECTOR) * _VECTOR


def cross_network(variables: Variables, shape: Shape) -> Network:
    """From `encoding`, float32[rows, frames, width], to `CROSS` of each layer.

    `keys_0`: int8[rows, heads, head width, frames]; `values_0`: int8[rows, heads, frames, head width]; the others:
    [rows, heads, 1, frames]. `key_sums_0` is what 128 in place of each query's 0 adds to a product.
    """
    network = Network()
    rows = network.rows(network.input("encoding", np.float32, ["rows", "frames", shape.width]))
    row_scales = network.op("Unsqueeze", rows.scales, network.constant([-1], np.int64))
    zeros = network.constant(np.full((1, shape.head_width), 128), np.uint8)
    for layer in range(shape.layers):
        weights = quantized(variables.stored(f"decoder/layer_{layer}/attention/linear_1/weight"))
        heads = network.reshape(network.unscaled(rows, weights), 0, 0, 2 * shape.heads, shape.head_width)
        step = network.op("Mul", network.largest(network.op("Abs", heads)), network.constant(1 / 127, np.float32))
        numbers = network.cast(network.op("Round", network.op("Div", heads, step)), np.int8)
        scales = network.op("Mul", step, row_scales)
        keys, values = network.split(numbers, [f"k_{layer}", f"v_{layer}"], axis=2)
        key_scales, value_scales = network.split(scales, [f"k_scales_{layer}", f"v_scales_{layer}"], axis=2)
        network.output(network.op("Transpose", keys, perm=[0, 2, 3, 1], name=f"keys_{layer}"), np.int8)
        network.output(network.op("Transpose", key_scales, perm=[0, 2, 3, 1], name=f"key_scales_{layer}"), np.float32)
        network.output(network.op("MatMulInteger", zeros, f"keys_{layer}", name=f"key_sums_{layer}"), np.int32)
        network.output(network.op("Transpose", values, perm=[0, 2, 1, 3], name=f"values_{layer}"), np.int8)
        network.output(
            network.op("Transpose", value_scales, perm=[0, 2, 3, 1], name=f"value_scales_{layer}"), np.float32
        )
    return network


def step_network(variables: Variables, shape: Shape) -> Network:
    """From tokens, and what is known of their windows and of the tokens before them, to scores for what follows.

    Inputs: `embedded`, float32[rows, tokens, width]; `places`, int64[places]: which of the tokens are to be followed;
    `lengths`, int32[rows], and `total`, int32[]: tokens so far, with these, less one and in all; `forbidden`,
    float32[text columns]: added to the scores of text; `end`, int64[]: the token that ends a text; `CROSS` and `PAST`.
    Outputs for each row and place: `text_logits`, float32[…, text columns], before anything is forbidden;
    `text`, int64[…]: the likeliest token of text; `text_logit`, its logit; `text_log_sum`, the logarithm of the sum of
    the exponentials of all logits of text; `end_logit`; `time_logits`, float32[…, time stamps].
    """
    network = Network()
    value = network.input("embedded", np.float32, ["rows", "tokens", shape.width])
    network.input("lengths", np.int32, ["rows"])
    network.input("total", np.int32, [])
    for layer in range(shape.layers):
        value = _Layer(network, variables, shape, layer).apply(value)
    value = network.op("Gather", value, network.input("places", np.int64, ["places"]), axis=1)
    gamma, beta = (variables.floats(f"decoder/layer_norm/{part}") for part in ("gamma", "beta"))
    rows = network.rows(network.norm(value, gamma, beta))

    def logits(embeddings: Array, columns: int, name: str) -> Value:
        product = network.unscaled(rows, quantized(embeddings, outputs=columns))
        network.output(network.op("Mul", product, rows.scales, name=name), np.float32)
        return name

    embeddings = variables.stored("decoder/embeddings/weight")
    text = logits(embeddings[: shape.text_tokens], shape.text_columns, "text_logits")
    logits(embeddings[shape.text_tokens :], TIME_STAMPS, "time_logits")
    text = network.op("Add", text, network.input("forbidden", np.float32, [shape.text_columns]))
    network.output(network.op("ArgMax", text, axis=-1, keepdims=0, name="text"), np.int64)
    last = network.constant([-1], np.int64)
    largest = network.largest(text)
    network.output(network.op("Squeeze", largest, last, name="text_logit"), np.float32)
    log_sum = network.op("Sub", largest, network.largest(network.op("LogSoftmax", text, axis=-1)))
    network.output(network.op("Squeeze", log_sum, last, name="text_log_sum"), np.float32)
    end = network.input("end", np.int64, [])
    network.output(network.op("Gather", text, end, axis=-1, name="end_logit"), np.float32)
    return network


class _Layer:
    """Writes one layer of the decoder into the network."""

    def __init__(self, network: Network, variables: Variables, shape: Shape, layer: int) -> None:
        self._network = network
        self._variables = variables
        self._shape = shape
        self._layer = layer

    def apply(self, value: Value) -> Value:
        for part in (self._self_attention, self._cross_attention, self._feed_forward):
            value = self._network.op("Add", value, part(value))
        return value

    def _self_attention(self, value: Value) -> Value:
        network, shape, layer = self._network, self._shape, self._layer
        joined = self._linear("self_attention/linear_0", self._norm("self_attention", value))
        queries, keys, values = network.split(joined, [f"own_{kind}_{layer}" for kind in "qkv"], axis=-1)
        room = ("rows", shape.heads, "room", shape.head_width)
        past = [network.input(f"{name}_{layer}", np.float32, room) for name in PAST]
        attended, *present = network.ops(
            "GroupQueryAttention",  # writes keys and values into their memory, which no other operator does
            *(queries, keys, values, *past, "lengths", "total"),
            names=[f"attended_{layer}", *(f"new_{name}" for name in past)],
            domain="com.microsoft",
            num_heads=shape.heads,
            kv_num_heads=shape.heads,
        )
        for name in present:
            network.output(name, np.float32)
        return self._linear("self_attention/linear_1", attended)

    def _cross_attention(self, value: Value) -> Value:
        network, shape = self._network, self._shape
        keys, key_scales, key_sums, values, value_scales = self._cross_inputs()
        query = self._linear("attention/linear_0", self._norm("attention", value))
        query = network.op("Mul", query, network.constant(shape.head_width**-0.5, np.float32))
        query = network.reshape(query, 0, 0, shape.heads, shape.head_width)
        queries = network.rows(network.op("Transpose", query, perm=[0, 2, 1, 3]))
        sums = network.op("Sub", network.op("MatMulInteger", queries.numbers, keys), key_sums)
        scores = network.op("Mul", network.op("Mul", network.cast(sums, np.float32), key_scales), queries.scales)
        weights = network.op("Mul", network.op("Softmax", scores, axis=-1), value_scales)
        step = network.op("Mul", network.largest(weights), network.constant(1 / 255, np.float32))
        rounded = network.op("Add", network.op("Div", weights, step), network.constant(0.5, np.float32))
        sums = network.op("MatMulInteger", network.cast(rounded, np.uint8), values)
        attended = network.op("Mul", network.cast(sums, np.float32), step)
        joined = network.reshape(network.op("Transpose", attended, perm=[0, 2, 1, 3]), 0, 0, shape.width)
        # weights add up to 1, so what is to be added to each value may as well be added to what comes of them
        out = self._floats("attention/linear_2/weight")
        value_bias = self._floats("attention/linear_1/bias")[shape.width :]
        return network.linear(joined, quantized(out), self._floats("attention/linear_2/bias") + out @ value_bias)

    def _cross_inputs(self) -> list[Value]:
        heads, width = self._shape.heads, self._shape.head_width
        row = ("rows", heads, 1, "frames")
        forms: dict[str, tuple[npt.DTypeLike, tuple[int | str, ...]]] = {
            "keys": (np.int8, ("rows", heads, width, "frames")),
            "key_scales": (np.float32, row),
            "key_sums": (np.int32, row),
            "values": (np.int8, ("rows", heads, "frames", width)),
            "value_scales": (np.float32, row),
        }
        return [self._network.input(f"{name}_{self._layer}", *forms[name]) for name in CROSS]

    def _feed_forward(self, value: Value) -> Value:
        inner = self._linear("ffn/linear_0", self._norm("ffn", value))
        return self._linear("ffn/linear_1", self._network.op("Gelu", inner))

    def _norm(self, name: str, value: Value) -> Value:
        gamma, beta = (self._floats(f"{name}/layer_norm/{part}") for part in ("gamma", "beta"))
        return self._network.norm(value, gamma, beta)

    def _linear(self, name: str, value: Value) -> Value:
        return self._network.linear(value, quantized(self._floats(f"{name}/weight")), self._floats(f"{name}/bias"))

    def _floats(self, name: str) -> Floats:
        return self._variables.floats(f"decoder/layer_{self._layer}/{name}")
