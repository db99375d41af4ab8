"""Model files as CTranslate2 writes them, and others."""

from __future__ import annotations

import ctranslate2
import numpy as np
import pytest

from cesar.engines.onnx.decoder import Decoder
from cesar.engines.onnx.weights import Variables


class Model(ctranslate2.specs.ModelSpec):  # type: ignore[misc]  # it has no type information
    """Two layers that share their weights."""

    def __init__(self, weight):
        super().__init__()
        self.first = ctranslate2.specs.common_spec.LinearSpec()
        self.second = ctranslate2.specs.common_spec.LinearSpec()
        for layer in (self.first, self.second):
            layer.weight = weight
            layer.bias = np.arange(2, dtype=np.float32)

    @property
    def name(self):
        return "Model"

    @property
    def revision(self):
        return 1


def saved(folder, weight, quantization=None):
    spec = Model(weight)
    spec.validate()
    spec.optimize(quantization=quantization)
    spec.save(str(folder))
    return folder / "model.bin"


WEIGHT = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -4.0]], np.float32)


@pytest.mark.parametrize(("quantization", "kind"), [(None, np.float32), ("float16", np.float16)])
def test_what_ctranslate2_writes_is_read(tmp_path, quantization, kind):
    variables = Variables(saved(tmp_path, WEIGHT, quantization))
    assert variables.stored("first/weight").dtype == kind
    for name in ("first/weight", "second/weight"):
        assert np.array_equal(variables.floats(name), WEIGHT)
    assert "third/weight" not in variables


def test_what_was_forgotten_is_read_again(tmp_path):
    variables = Variables(saved(tmp_path, WEIGHT))
    variables.forget()
    assert np.array_equal(variables.floats("first/weight"), WEIGHT)


@pytest.mark.parametrize("quantization", ["int8", "int16"])
def test_weights_in_integers_are_not_taken_for_floating_point(tmp_path, quantization):
    variables = Variables(saved(tmp_path, WEIGHT, quantization))
    with pytest.raises(ValueError, match=f"first/weight is in {quantization}"):
        variables.floats("first/weight")


def test_a_variable_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no third/weight"):
        Variables(saved(tmp_path, WEIGHT)).stored("third/weight")


def test_a_model_of_another_kind_has_no_decoder(tmp_path):
    with pytest.raises(ValueError, match="decoder/embeddings/weight"):
        Decoder(saved(tmp_path, WEIGHT))


@pytest.mark.parametrize("content", [b"\x05\0\0\0", b"GGUF" * 9])
def test_a_file_of_another_form_is_refused(tmp_path, content):
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not supported"):
        Variables(path)


@pytest.mark.parametrize("left", [1, 10, 40, -30, -1])
def test_a_file_that_ends_early_is_refused(tmp_path, left):
    path = saved(tmp_path, WEIGHT)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(ValueError, match=r"model\.bin can.t be read"):
        Variables(path)
