"""Whisper's decoder on onnxruntime, for greedy search on the CPU.

CTranslate2 repacks all weights for its matrix products at each step, and keeps the keys and values of
cross-attention in float32: with 8 windows that is most of a step's time. Here weights are packed once, and keys and
values are int8. Each row is computed from that row alone, in the same order, so batching doesn't change a bit of it.
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
    """The model's scores for the next token of each row."""

    text: Tokens
    """int64[rows]: the likeliest token other than a timestamp; it may be the end of the text."""
    text_logit: Floats
    """float32[rows]: its logit."""
    text_log_sum: Floats
    """float32[rows]: log-sum-exp of all logits except those of timestamps."""
    end_logit: Floats
    """float32[rows]: the logit of the end of the text."""
    time_logits: Floats
    """float32[rows, timestamps]."""


_SCORES = ("text", "text_logit", "text_log_sum", "end_logit", "time_logits")


class Decoder:
    """The decoder of a Whisper model, from its file.

    Raises `ValueError` if the file holds another kind of model, or integer weights.
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
        """Prepare windows for decoding as one batch.

        encodings: float32[1, frames, width] each, of the same length. max_tokens: maximum number of tokens, including
        the prompt. forbidden: float32[text columns], added to the logits of text. end: the token that ends a text.
        """
        past = (len(encodings), self.shape.heads, max_tokens, self.shape.head_width)
        layers = range(self.shape.layers)
        return Batch(
            self,
            heard=self._cross_attention_inputs(encodings),
            past={f"{name}_{layer}": np.empty(past, np.float32) for layer in layers for name in PAST},
            constants={"forbidden": forbidden, "end": np.array(end)},
        )

    def embedded(self, tokens: Tokens, position: int) -> Floats:
        """Return the embeddings, float32[rows, tokens, width], of tokens that start at this position."""
        return self._embeddings[tokens].astype(np.float32) + self._positions[position : position + tokens.shape[1]]

    def _cross_attention_inputs(self, encodings: Sequence[Floats]) -> dict[str, Array]:
        """Return the inputs of cross-attention, computed window by window: twice as fast as all at once."""
        heard: dict[str, Array] = {}
        for row, encoding in enumerate(encodings):
            found = self._cross.run(None, {"encoding": encoding})
            for output, array in zip(self._cross.get_outputs(), found, strict=True):
                if not row:
                    heard[output.name] = np.empty((len(encodings), *array.shape[1:]), array.dtype)
                heard[output.name][row] = array[0]
        return heard


class Batch:
    """Windows being decoded, one per row, all at the same position."""

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
        """Feed the prompt, which is the same for all rows.

        Returns the logits after `start_of_text`, float32[rows, vocabulary], with nothing forbidden, and the scores for
        the token after the prompt.
        """
        tokens = np.tile(np.array(prompt, np.int64), (self._rows, 1))
        found = self._run(tokens, [prompt.index(start_of_text), len(prompt) - 1], (*_SCORES, "text_logits"))
        text_logits = found["text_logits"][:, 0, : self._decoder.shape.text_tokens]
        return np.concatenate([text_logits, found["time_logits"][:, 0]], axis=1), _last_scores(found)

    def step(self, tokens: Tokens) -> Scores:
        """Feed one token per row, int64[rows], and return the scores for the next ones."""
        return _last_scores(self._run(tokens[:, np.newaxis], [0], _SCORES))

    def drop(self, row: int) -> None:
        """Drop a row. The last row takes its index."""
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
        for name, array in self._past.items():  # the input's own memory: updated in place
            self._binding.bind_ortvalue_output(f"new_{name}", _in_place(array[: self._rows]))
        self._decoder.step.run_with_iobinding(self._binding)
        self._position += count
        found = self._binding.get_outputs()
        return {name: value.numpy() for name, value in zip(outputs, found[: len(outputs)], strict=True)}


def _last_scores(found: dict[str, Array]) -> Scores:
    return Scores(*(found[name][:, -1] for name in _SCORES))


def _in_place(array: Array) -> onnxruntime.OrtValue:
    """Wrap the array's own memory, without a copy."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
