"""Whisper's decoder as two graphs: one that runs once per window, one that runs at each step.

All weights are int8, as are the keys and values of cross-attention, with a scale for each head and frame: for 15 s of
audio they are most of what a step reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cesar.engines.onnx.graph import Array, Floats, Graph, Value, quantized
from cesar.engines.onnx.weights import Variables

TIMESTAMP_TOKENS = 1501
"""0 to 30 s, at the end of the vocabulary."""
CROSS = ("keys", "key_scales", "key_sums", "values", "value_scales")
"""Inputs of a layer's cross-attention, computed once per window."""
PAST = ("past_keys", "past_values")
"""Cache of a layer's self-attention; each step updates it in place."""
_VECTOR = 64
"""Rows of scores are padded to a multiple of this: the remainder of a vectorised loop would be computed differently."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of the decoder."""

    layers: int
    heads: int
    width: int
    text_tokens: int
    """Number of tokens that aren't timestamps."""

    @classmethod
    def of(cls, variables: Variables) -> Shape:
        """Return the shape of a model. Raises `ValueError` if the variables aren't those of a Whisper model."""
        layers = 0
        while f"decoder/layer_{layers}/ffn/linear_0/weight" in variables:
            layers += 1
        vocabulary, width = variables.stored("decoder/embeddings/weight").shape
        return cls(layers, int(variables.stored("decoder/num_heads")), width, vocabulary - TIMESTAMP_TOKENS)

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def text_columns(self) -> int:
        """Scores of text per row, including padding."""
        return -(-self.text_tokens // _VECTOR) * _VECTOR


def cross_attention_graph(variables: Variables, shape: Shape) -> Graph:
    """Return the graph from `encoding`, float32[rows, frames, width], to `CROSS` of each layer.

    `keys_0`: int8[rows, heads, head width, frames]; `values_0`: int8[rows, heads, frames, head width]; the others:
    [rows, heads, 1, frames]. `key_sums_0` is what storing each query's 0 as 128 adds to a product.
    """
    graph = Graph()
    rows = graph.rows(graph.input("encoding", np.float32, ["rows", "frames", shape.width]))
    row_scales = graph.node("Unsqueeze", rows.scales, graph.constant([-1], np.int64))
    zeros = graph.constant(np.full((1, shape.head_width), 128), np.uint8)
    for layer in range(shape.layers):
        weights = quantized(variables.stored(f"decoder/layer_{layer}/attention/linear_1/weight"))
        heads = graph.reshape(graph.unscaled(rows, weights), 0, 0, 2 * shape.heads, shape.head_width)
        step = graph.node("Mul", graph.largest(graph.node("Abs", heads)), graph.constant(1 / 127, np.float32))
        numbers = graph.cast(graph.node("Round", graph.node("Div", heads, step)), np.int8)
        scales = graph.node("Mul", step, row_scales)
        keys, values = graph.split(numbers, [f"k_{layer}", f"v_{layer}"], axis=2)
        key_scales, value_scales = graph.split(scales, [f"k_scales_{layer}", f"v_scales_{layer}"], axis=2)
        graph.output(graph.node("Transpose", keys, perm=[0, 2, 3, 1], name=f"keys_{layer}"), np.int8)
        graph.output(graph.node("Transpose", key_scales, perm=[0, 2, 3, 1], name=f"key_scales_{layer}"), np.float32)
        graph.output(graph.node("MatMulInteger", zeros, f"keys_{layer}", name=f"key_sums_{layer}"), np.int32)
        graph.output(graph.node("Transpose", values, perm=[0, 2, 1, 3], name=f"values_{layer}"), np.int8)
        graph.output(graph.node("Transpose", value_scales, perm=[0, 2, 3, 1], name=f"value_scales_{layer}"), np.float32)
    return graph


def step_graph(variables: Variables, shape: Shape) -> Graph:
    """Return the graph from tokens and the state of their windows to scores for the next token.

    Inputs: `embedded`, float32[rows, tokens, width]; `positions`, int64[positions]: the tokens after which scores are
    wanted; `lengths`, int32[rows], and `total`, int32[]: tokens so far, with these, less one and in all; `forbidden`,
    float32[text columns]: added to the scores of text; `end`, int64[]: the token that ends a text; `CROSS` and `PAST`.
    Outputs for each row and position: `text_logits`, float32[…, text columns], before anything is forbidden;
    `text`, int64[…]: the likeliest text token; `text_logit`, its logit; `text_log_sum`, log-sum-exp of all text
    logits; `end_logit`; `time_logits`, float32[…, timestamps].
    """
    graph = Graph()
    value = graph.input("embedded", np.float32, ["rows", "tokens", shape.width])
    graph.input("lengths", np.int32, ["rows"])
    graph.input("total", np.int32, [])
    for layer in range(shape.layers):
        value = _Layer(graph, variables, shape, layer).apply(value)
    value = graph.node("Gather", value, graph.input("positions", np.int64, ["positions"]), axis=1)
    gamma, beta = (variables.floats(f"decoder/layer_norm/{part}") for part in ("gamma", "beta"))
    rows = graph.rows(graph.norm(value, gamma, beta))

    def logits(embeddings: Array, columns: int, name: str) -> Value:
        product = graph.unscaled(rows, quantized(embeddings, outputs=columns))
        graph.output(graph.node("Mul", product, rows.scales, name=name), np.float32)
        return name

    embeddings = variables.stored("decoder/embeddings/weight")
    text = logits(embeddings[: shape.text_tokens], shape.text_columns, "text_logits")
    logits(embeddings[shape.text_tokens :], TIMESTAMP_TOKENS, "time_logits")
    text = graph.node("Add", text, graph.input("forbidden", np.float32, [shape.text_columns]))
    graph.output(graph.node("ArgMax", text, axis=-1, keepdims=0, name="text"), np.int64)
    last = graph.constant([-1], np.int64)
    largest = graph.largest(text)
    graph.output(graph.node("Squeeze", largest, last, name="text_logit"), np.float32)
    log_sum = graph.node("Sub", largest, graph.largest(graph.node("LogSoftmax", text, axis=-1)))
    graph.output(graph.node("Squeeze", log_sum, last, name="text_log_sum"), np.float32)
    end = graph.input("end", np.int64, [])
    graph.output(graph.node("Gather", text, end, axis=-1, name="end_logit"), np.float32)
    return graph


class _Layer:
    """Adds one layer of the decoder to the graph."""

    def __init__(self, graph: Graph, variables: Variables, shape: Shape, layer: int) -> None:
        self._graph = graph
        self._variables = variables
        self._shape = shape
        self._layer = layer

    def apply(self, value: Value) -> Value:
        for part in (self._self_attention, self._cross_attention, self._feed_forward):
            value = self._graph.node("Add", value, part(value))
        return value

    def _self_attention(self, value: Value) -> Value:
        graph, shape, layer = self._graph, self._shape, self._layer
        joined = self._linear("self_attention/linear_0", self._norm("self_attention", value))
        queries, keys, values = graph.split(joined, [f"own_{kind}_{layer}" for kind in "qkv"], axis=-1)
        max_tokens = ("rows", shape.heads, "max_tokens", shape.head_width)
        past = [graph.input(f"{name}_{layer}", np.float32, max_tokens) for name in PAST]
        attended, *present = graph.nodes(
            "GroupQueryAttention",  # updates keys and values in place, which no other operator does
            *(queries, keys, values, *past, "lengths", "total"),
            names=[f"attended_{layer}", *(f"new_{name}" for name in past)],
            domain="com.microsoft",
            num_heads=shape.heads,
            kv_num_heads=shape.heads,
        )
        for name in present:
            graph.output(name, np.float32)
        return self._linear("self_attention/linear_1", attended)

    def _cross_attention(self, value: Value) -> Value:
        graph, shape = self._graph, self._shape
        keys, key_scales, key_sums, values, value_scales = self._cross_inputs()
        query = self._linear("attention/linear_0", self._norm("attention", value))
        query = graph.node("Mul", query, graph.constant(shape.head_width**-0.5, np.float32))
        query = graph.reshape(query, 0, 0, shape.heads, shape.head_width)
        queries = graph.rows(graph.node("Transpose", query, perm=[0, 2, 1, 3]))
        sums = graph.node("Sub", graph.node("MatMulInteger", queries.numbers, keys), key_sums)
        scores = graph.node("Mul", graph.node("Mul", graph.cast(sums, np.float32), key_scales), queries.scales)
        weights = graph.node("Mul", graph.node("Softmax", scores, axis=-1), value_scales)
        step = graph.node("Mul", graph.largest(weights), graph.constant(1 / 255, np.float32))
        rounded = graph.node("Add", graph.node("Div", weights, step), graph.constant(0.5, np.float32))
        sums = graph.node("MatMulInteger", graph.cast(rounded, np.uint8), values)
        attended = graph.node("Mul", graph.cast(sums, np.float32), step)
        joined = graph.reshape(graph.node("Transpose", attended, perm=[0, 2, 1, 3]), 0, 0, shape.width)
        # weights sum to 1, so an offset of all values may be added to their weighted sum instead
        out = self._floats("attention/linear_2/weight")
        value_bias = self._floats("attention/linear_1/bias")[shape.width :]
        return graph.linear(joined, quantized(out), self._floats("attention/linear_2/bias") + out @ value_bias)

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
        return [self._graph.input(f"{name}_{self._layer}", *forms[name]) for name in CROSS]

    def _feed_forward(self, value: Value) -> Value:
        inner = self._linear("ffn/linear_0", self._norm("ffn", value))
        return self._linear("ffn/linear_1", self._graph.node("Gelu", inner))

    def _norm(self, name: str, value: Value) -> Value:
        gamma, beta = (self._floats(f"{name}/layer_norm/{part}") for part in ("gamma", "beta"))
        return self._graph.norm(value, gamma, beta)

    def _linear(self, name: str, value: Value) -> Value:
        return self._graph.linear(value, quantized(self._floats(f"{name}/weight")), self._floats(f"{name}/bias"))

    def _floats(self, name: str) -> Floats:
        return self._variables.floats(f"decoder/layer_{self._layer}/{name}")
