"""What we write, read by the `onnx` package."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from cesar.engines.onnx import protobuf


@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.int8, np.int32, np.int64])
def test_a_constant_comes_back(kind):
    array = np.arange(300, dtype=kind).reshape(3, 100)
    read = onnx.TensorProto.FromString(protobuf.tensor("a", array))
    assert read.name == "a"
    assert np.array_equal(numpy_helper.to_array(read), array)
    assert numpy_helper.to_array(read).dtype == kind


def test_a_number_has_no_lengths():
    read = onnx.TensorProto.FromString(protobuf.tensor("a", np.array(7.5, np.float32)))
    assert numpy_helper.to_array(read).shape == ()


def test_of_a_constant_that_is_elsewhere_only_the_form_is_written():
    read = onnx.TensorProto.FromString(protobuf.tensor("a", np.zeros((5, 300), np.int8), is_elsewhere=True))
    assert (list(read.dims), read.raw_data, read.data_location) == ([5, 300], b"", onnx.TensorProto.EXTERNAL)
    assert {entry.key: entry.value for entry in read.external_data} == {"location": "memory"}


@pytest.mark.parametrize("value", [0, 1, -1, 300, -(2**40), 0.125, [0, 2, 3, 1], [-1]])
def test_attributes_are_those_that_onnx_writes(value):
    written = protobuf.node("Op", ["a", "b"], ["c"], domain="com.microsoft", attributes={"name": value})
    expected = helper.make_node("Op", ["a", "b"], ["c"], domain="com.microsoft", name=None)
    expected.attribute.append(helper.make_attribute("name", value))
    assert onnx.NodeProto.FromString(written) == expected


def test_a_model_passes_the_checker():
    model = protobuf.model(
        nodes=[
            protobuf.node("Transpose", ["weights"], ["turned"], attributes={"perm": [1, 0]}),
            protobuf.node("MatMul", ["value", "turned"], ["product"]),
        ],
        inputs=[protobuf.value("value", np.float32, ["rows", 300])],
        outputs=[protobuf.value("product", np.float32, ["rows", 5])],
        constants=[protobuf.tensor("weights", np.ones((5, 300), np.float32))],
        opsets={"": 20},
    )
    read = onnx.load_from_string(model)
    onnx.checker.check_model(read)
    shape = read.graph.input[0].type.tensor_type.shape.dim
    assert (shape[0].dim_param, shape[1].dim_value) == ("rows", 300)


@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.int8, np.int32, np.int64])
def test_constants_of_a_model_are_read(kind):
    array = np.arange(300, dtype=kind).reshape(3, 1, 100)
    kept = [numpy_helper.from_array(array, "a name"), numpy_helper.from_array(np.array(7, kind), "one")]
    model = helper.make_model(helper.make_graph([helper.make_node("Abs", ["a"], ["b"])], "graph", [], [], kept))
    found = protobuf.constants(model.SerializeToString())
    assert list(found) == ["a name", "one"]
    assert found["a name"].dtype == kind
    assert np.array_equal(found["a name"], array)
    assert found["one"].shape == ()
    assert found["one"] == 7


def test_a_model_without_constants_has_none():
    graph = helper.make_graph([helper.make_node("Abs", ["a"], ["b"])], "graph", [], [])
    assert protobuf.constants(helper.make_model(graph).SerializeToString()) == {}


def test_a_field_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="field 1"):
        protobuf.constants(b"\x0d\x00\x00\x80\x3f")
