"""Passes over integer graphs: the same integers, by fewer or other operators."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from segdeploy.rewrite.cost import measure_cost
from segdeploy.rewrite.integer_logits import finish_in_integers
from segdeploy.rewrite.integer_resize import resize_in_integers
from segdeploy.rewrite.padding_bands import leave_out_padding
from segdeploy.rewrite.pixel_border import leave_out_mark
from segdeploy.spec import Size

MIDDLE = np.array(128, np.uint8)


def q_dq(*nodes, last="floating", **constants):
    """uint8 `x` -> dequantized `x_dq` -> nodes -> `y`, quantized from tensor `last`.

    No sum of products lies halfway between two steps: rounding of floats decides there."""
    constants |= {"sx": np.float32(0.05), "sy": np.float32(0.0731), "zero": MIDDLE}
    first = helper.make_node("DequantizeLinear", ["x", "sx", "zero"], ["x_dq"])
    finish = helper.make_node("QuantizeLinear", [last, "sy", "zero"], ["y"])
    return [first, *nodes, finish], constants


def weights(dice, *shape):
    """A node that dequantizes int8 weights to `w_dq`, and its constants."""
    node = helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["w_dq"], axis=0)
    return node, {
        "w": dice.integers(-127, 128, shape, np.int8),
        "sw": dice.uniform(0.001, 0.003, shape[0]).astype(np.float32),
        "zw": np.zeros(shape[0], np.int8),
    }


def dilated(dilation, **attributes):
    dice = np.random.default_rng(0)
    node, constants = weights(dice, 6, 4, 3, 3)
    same = {"dilations": [dilation] * 2, "pads": [dilation] * 4} | attributes
    convolution = helper.make_node("Conv", ["x_dq", "w_dq", "b"], ["floating"], **same)
    bias = dice.standard_normal(6).astype(np.float32)
    return q_dq(node, convolution, **constants, b=bias)


@pytest.fixture
def pixels():
    dice = np.random.default_rng(1)
    return lambda *shape: dice.integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (7, 9), (5, 3), (2, 12)])
@pytest.mark.parametrize("dilation", [2, 5, 6])
def test_without_padding_the_integers_are_the_same(small, pixels, height, width, dilation):
    shape = (2, 4, height, width)
    model = small.build(*dilated(dilation), shape=shape, dtype=TensorProto.UINT8)

    cut = small.rewritten(model, leave_out_padding)

    x = pixels(*shape)
    np.testing.assert_array_equal(small.run(cut, x), small.run(model, x))


def test_only_taps_inside_the_map_are_multiplied(small):
    model = small.build(*dilated(6), shape=(1, 4, 16, 16), dtype=TensorProto.UINT8)

    cut = small.rewritten(model, leave_out_padding)

    size = Size(16, 16)
    assert measure_cost(model, size).macs == 6 * 4 * (3 * 16) ** 2
    # A dilation less on either side:
    assert measure_cost(cut, size).macs == 6 * 4 * (3 * 16 - 2 * 6) ** 2


@pytest.mark.parametrize(
    ("attributes", "shape"),
    [
        ({"dilations": [1, 1], "pads": [1] * 4}, (1, 4, 16, 16)),
        ({"pads": [1] * 4}, (1, 4, 16, 16)),
        ({}, (1, 4, "height", 16)),
    ],
    ids=["nothing to gain", "not as large as its input", "of any size"],
)
def test_other_convolutions_stay_whole(small, attributes, shape):
    model = small.build(*dilated(4, **attributes), shape=shape, dtype=TensorProto.UINT8)

    small.rewritten(model, leave_out_padding, 0)


def marked(ends=(0, 0, 0, 0, 0, 1, 0, 0), **attributes):
    """Pixels with a channel of 192 beside them, convolved with a stride of two."""
    dice = np.random.default_rng(4)
    node, constants = weights(dice, 6, 4, 3, 3)
    bias = helper.make_node("DequantizeLinear", ["b", "sb", "zb"], ["b_dq"], axis=0)
    constants |= {
        "b": dice.integers(-1000, 1000, 6, np.int32),
        "sb": (constants["sw"] * np.float32(0.05)).astype(np.float32),
        "zb": np.zeros(6, np.int32),
        "ends": np.array(ends),
        "mark": np.array(192, np.uint8),
    }
    pad = helper.make_node("Pad", ["pixels", "ends", "mark"], ["x"])
    how = {"strides": [2, 2], "pads": [1] * 4} | attributes
    convolution = helper.make_node("Conv", ["x_dq", "w_dq", "b_dq"], ["floating"], **how)
    nodes, constants = q_dq(node, bias, convolution, **constants)
    start = helper.make_node("Identity", ["input"], ["pixels"])
    nodes = [start, pad, *nodes]
    return nodes, constants


def of_pixels(small, given, shape):
    """The graph reads `input`; helpers call what they feed `x`."""
    nodes, constants = given
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = {"input": "x", "x": "four"}.get(name, name)
    return small.build(nodes, constants, shape=shape, dtype=TensorProto.UINT8)


@pytest.mark.parametrize("shape", [(2, 3, 8, 12), (1, 3, 4, 4)])
def test_without_the_mark_the_integers_are_the_same(small, pixels, shape):
    model = of_pixels(small, marked(), shape)

    unmarked = small.rewritten(model, leave_out_mark)

    x = pixels(*shape)
    assert "Pad" not in small.operators(unmarked)
    np.testing.assert_array_equal(small.run(unmarked, x), small.run(model, x))


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        (marked(), (1, 3, 7, 8)),
        (marked(), (1, 3, "height", 8)),
        (marked(strides=[1, 1]), (1, 3, 8, 8)),
        (marked(pads=[0] * 4), (1, 3, 8, 8)),
    ],
    ids=["odd", "of any size", "another stride", "not padded"],
)
def test_other_pixels_keep_their_mark(small, given, shape):
    small.rewritten(of_pixels(small, given, shape), leave_out_mark, 0)


def resized(scale, mode="linear", place="half_pixel"):
    factors = np.array([1, 1, scale, scale], np.float32)
    node = helper.make_node(
        "Resize",
        ["x_dq", "", "factors"],
        ["floating"],
        mode=mode,
        coordinate_transformation_mode=place,
    )
    return q_dq(node, factors=factors)


@pytest.mark.parametrize("place", ["half_pixel", "pytorch_half_pixel"])
def test_doubling_in_integers_gives_the_same(small, pixels, place):
    shape = (2, 3, 5, 7)
    model = small.build(*resized(2, place=place), shape=shape, dtype=TensorProto.UINT8)

    doubled = small.rewritten(model, resize_in_integers)

    x = pixels(*shape)
    assert "Resize" not in small.operators(doubled)
    np.testing.assert_array_equal(small.run(doubled, x), small.run(model, x))


@pytest.mark.parametrize(
    "given", [resized(4), resized(2, mode="nearest"), resized(2, place="align_corners")]
)
def test_another_resize_stays(small, given):
    small.rewritten(
        small.build(*given, shape=(1, 3, 4, 4), dtype=TensorProto.UINT8), resize_in_integers, 0
    )


def classifier(*, floating, kernel=1):
    dice = np.random.default_rng(2)
    node, constants = weights(dice, 5, 8, kernel, kernel)
    convolution = helper.make_node("Conv", ["x_dq", "w_dq", "b"], ["floating"])
    bias = dice.standard_normal(5).astype(np.float32)
    nodes, constants = q_dq(node, convolution, **constants, b=bias)
    return (nodes[:-1], constants, "floating") if floating else (nodes, constants, "y")


def test_the_last_convolution_adds_integers(small, pixels):
    nodes, constants, output = classifier(floating=True)
    shape = (2, 8, 6, 5)
    model = small.build(nodes, constants, shape=shape, output=output, dtype=TensorProto.UINT8)

    finished = small.rewritten(model, finish_in_integers)

    x = pixels(*shape)
    assert "Conv" not in small.operators(finished)
    np.testing.assert_allclose(small.run(finished, x), small.run(model, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("given", [{"floating": False}, {"floating": True, "kernel": 3}])
def test_another_convolution_is_no_product(small, given):
    nodes, constants, output = classifier(**given)
    model = small.build(
        nodes, constants, shape=(1, 8, 6, 5), output=output, dtype=TensorProto.UINT8
    )

    small.rewritten(model, finish_in_integers, 0)
