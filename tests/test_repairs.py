"""Each repair changes what it is for, and nothing else."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from segdeploy.graph import read_model
from segdeploy.repairs import (
    in_float32,
    is_half,
    quantized_before,
    resize_words,
    scale_value,
    scores_tensor,
    takes_floats,
    with_resizes_of,
    with_scale,
    with_weights_of,
)
from segdeploy.spec import Method, Precision


@pytest.fixture
def model(exported) -> ModelProto:
    return read_model(exported(Method.FCN).path)


def copy_of(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def test_the_scores_are_what_is_resized_for_the_mask(model):
    (last,) = [n for n in model.graph.node if n.op_type == "Conv" and "conv_seg" in n.input[1]]

    assert scores_tensor(model) == last.output[0]
    assert takes_floats(model)


def test_half_precision_is_widened_everywhere(exported):
    half = read_model(exported(Method.FCN, precision=Precision.FP16).path)

    wide = in_float32(half)

    assert is_half(half)
    assert not is_half(wide)
    assert not any(
        attribute.i == TensorProto.FLOAT16
        for node in wide.graph.node
        if node.op_type == "Cast"
        for attribute in node.attribute
    )


def test_maps_are_resized_as_in_the_other_graph(model):
    other = copy_of(model)
    resize = next(node for node in other.graph.node if node.op_type == "Resize")
    for attribute in resize.attribute:
        if attribute.name == "coordinate_transformation_mode":
            attribute.s = b"align_corners"

    repaired = with_resizes_of(other, model)

    assert with_resizes_of(model, model) is None
    assert resize_words(other, model) == (
        "maps resized as linear half_pixel, not linear align_corners"
    )
    assert with_resizes_of(repaired, model) is None


def test_weights_are_taken_where_they_differ(model):
    other = copy_of(model)
    tensor = next(t for t in other.graph.initializer if t.name.endswith("conv_seg.weight"))
    changed = numpy_helper.to_array(tensor) * np.float32(1.1)
    tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))

    repaired, differing, compared = with_weights_of(other, model)

    assert differing == 1 < compared
    assert with_weights_of(repaired, model) is None


@pytest.fixture
def quantized() -> ModelProto:
    """A convolution of int8 weights, a pair, and one that reads it."""

    def store(name, value):
        return numpy_helper.from_array(np.array(value), name)

    constants = [
        store("w", np.ones((1, 1, 1, 1), np.int8)),
        store("w_scale", np.float32([0.5])),
        store("x_scale", np.float32(0.25)),
        store("zero", np.uint8(128)),
        store("low", np.uint8(128)),
        store("high", np.uint8(200)),
        store("v", np.ones((1, 1, 1, 1), np.float32)),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "w_scale"], ["w_float"], axis=0),
        helper.make_node("Conv", ["image", "w_float"], ["x"]),
        helper.make_node("QuantizeLinear", ["x", "x_scale", "zero"], ["x_q"]),
        helper.make_node("Clip", ["x_q", "low", "high"], ["x_c"]),
        helper.make_node("DequantizeLinear", ["x_c", "x_scale", "zero"], ["x_dq"]),
        helper.make_node("Conv", ["x_dq", "v"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("image", TensorProto.FLOAT, [1, 1, 2, 2])],
        [value("y", TensorProto.FLOAT, [1, 1, 2, 2])],
        constants,
    )
    return helper.make_model(graph)


def test_the_scales_before_a_layer_are_found(quantized):
    (found,) = quantized_before(quantized, "y")

    assert (found.tensor, found.scale) == ("x", "x_scale")
    assert found.codes == (128, 200)
    assert found.weight_scales == ("w_scale",)
    assert quantized_before(quantized, "x") == ()


def test_one_scale_is_multiplied(quantized):
    changed = with_scale(quantized, "x_scale", 4)

    assert scale_value(changed, "x_scale") == 1
    assert scale_value(changed, "w_scale") == 0.5
    assert scale_value(quantized, "x_scale") == 0.25
