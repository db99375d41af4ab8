"""Whisper's decoder on onnxruntime, for the greedy search on a processor.

CTranslate2 brings all weights into the order that its products want at each step, and has the keys and values of
cross-attention in float32: with 8 windows that is most of a step's time. Here the former is done once, and the latter
is int8. Each row's numbers are computed from that row alone, in the same order, so a batch changes no bit of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from cesar.engines.onnx.decoder_graph import PAST, Shape, cross_attention_graph, step_graph
from cesar.engines.onnx.graph import Array, Floats
from cesar.engines.onnx.weights import Variables

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Scores:
    """What the model thinks of the next token in each row."""

    text: Tokens
    """int64[rows]: the likeliest that is no timestamp; the end of the text is one of those."""
    text_logit: Floats
    """float32[rows]: its logit."""
    text_log_sum: Floats
    """float32[rows]: the logarithm of the sum of the exponentials of all logits but the timestamps'."""
    end_logit: Floats
    """float32[rows]: the logit of the end of the text."""
    time_logits: Floats
    """float32[rows, timestamps]."""


_SCORES = ("text", "text_logit", "text_log_sum", "end_logit", "time_logits")


class Decoder:
    """The decoder of a Whisper model, from its file.

    Raises `ValueError` if that holds another model, or its weights as integers.
    """

    def __init__(self, path: Path) -> None:
        variables = Variables(path)
        self.shape = Shape.of(variables)
        self._embeddings = variables.stored("decoder/embeddings/weight")
        self._positions = variables.floats("decoder/position_encodings/encodings")
        self._cross = cross_attention_graph(variables, self.shape).session()
        self.step = step_graph(variables, self.shape).session()
        variables.forget()

    def begin(self, encodings: Sequence[Floats], max_tokens: int, *, forbidden: Floats, end: int) -> Batch:
        """Make windows ready to be decoded together.

        encodings: float32[1, frames, width] each, of the same length. max_tokens: for how many tokens, the prompt's
        included. forbidden: float32[text columns], added to the logits of text. end: the token that ends a text.
        """
        past = (len(encodings), self.shape.heads, max_tokens, self.shape.head_width)
        layers = range(self.shape.layers)
        return Batch(
            self,
            heard=self._heard(encodings),
            past={f"{name}_{layer}": np.empty(past, np.float32) for layer in layers for name in PAST},
            constants={"forbidden": forbidden, "end": np.array(end)},
        )

    def embedded(self, tokens: Tokens, position: int) -> Floats:
        """Return the vectors, float32[rows, tokens, width], for tokens that stand from this position on."""
        return self._embeddings[tokens].astype(np.float32) + self._positions[position : position + tokens.shape[1]]

    def _heard(self, encodings: Sequence[Floats]) -> dict[str, Array]:
        """What cross-attention needs, window by window: that is twice as fast as all together."""
        heard: dict[str, Array] = {}
        for row, encoding in enumerate(encodings):
            found = self._cross.run(None, {"encoding": encoding})
            for output, array in zip(self._cross.get_outputs(), found, strict=True):
                if not row:
                    heard[output.name] = np.empty((len(encodings), *array.shape[1:]), array.dtype)
                heard[output.name][row] = array[0]
        return heard


class Batch:
    """Windows that are being decoded, one in each row, all at the same position."""

    def __init__(
        self, decoder: Decoder, *, heard: dict[str, Array], past: dict[str, Array], constants: dict[str, Array]
    ) -> None:
        self._decoder = decoder
        self._heard = heard
        self._past = past
        self._constants = constants
        self._rows = len(next(iter(past.values())))
        self._position = 0
        self._bind()

    def begin(self, prompt: Sequence[int], start_of_text: int) -> tuple[Floats, Scores]:
        """Go on by the prompt, the same for all rows.

        Gives the logits that follow `start_of_text` in it, float32[rows, vocabulary], with nothing forbidden, and the
        scores for what follows all of it.
        """
        tokens = np.tile(np.array(prompt, np.int64), (self._rows, 1))
        found = self._run(tokens, [prompt.index(start_of_text), len(prompt) - 1], (*_SCORES, "text_logits"))
        text_logits = found["text_logits"][:, 0, : self._decoder.shape.text_tokens]
        return np.concatenate([text_logits, found["time_logits"][:, 0]], axis=1), _last_scores(found)

    def step(self, tokens: Tokens) -> Scores:
        """Go on by one token in each row, int64[rows]."""
        return _last_scores(self._run(tokens[:, np.newaxis], [0], _SCORES))

    def drop(self, row: int) -> None:
        """Leave out a row. The last one takes its place."""
        self._rows -= 1
        for array in (*self._heard.values(), *self._past.values()):
            array[row] = array[self._rows]
        self._bind()

    def _bind(self) -> None:
        self._binding = self._decoder.step.io_binding()
        for name, array in self._constants.items():
            self._binding.bind_ortvalue_input(name, _in_place(array))
        for name, array in (*self._heard.items(), *self._past.items()):
            self._binding.bind_ortvalue_input(name, _in_place(array[: self._rows]))

    def _run(self, tokens: Tokens, positions: Sequence[int], outputs: Sequence[str]) -> dict[str, Array]:
        count = tokens.shape[1]
        inputs: dict[str, Array] = {
            "embedded": self._decoder.embedded(tokens, self._position),
            "positions": np.array(positions, np.int64),
            "lengths": np.full(self._rows, self._position + count - 1, np.int32),
            "total": np.array(self._position + count, np.int32),
        }
        for name, array in inputs.items():
            self._binding.bind_ortvalue_input(name, _in_place(array))
        self._binding.clear_binding_outputs()
        for name in outputs:
            self._binding.bind_output(name)
        for name, array in self._past.items():  # the memory that the input has, so that it is written into
            self._binding.bind_ortvalue_output(f"new_{name}", _in_place(array[: self._rows]))
        self._decoder.step.run_with_iobinding(self._binding)
        self._position += count
        found = self._binding.get_outputs()
        return {name: value.numpy() for name, value in zip(outputs, found[: len(outputs)], strict=True)}


def _last_scores(found: dict[str, Array]) -> Scores:
    return Scores(*(found[name][:, -1] for name in _SCORES))


def _in_place(array: Array) -> onnxruntime.OrtValue:
    """The array's own memory, not a copy."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
