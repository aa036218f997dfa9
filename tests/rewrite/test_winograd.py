"""Winograd's form of a convolution gives the same map at every size, static or not."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from segdeploy.rewrite import winograd
from segdeploy.rewrite.winograd import apply_winograd

ERROR = 2e-4  # of outputs with deviation 1; measured: at most 2e-5 here, 5e-5 of 2048 channels
CHANNELS, OUTPUTS = 6, 5
SIZES = [(12, 24), (64, 128), (13, 7), (6, 6), (5, 31), (1, 1), (2, 3)]


@pytest.fixture(autouse=True)
def _few_channels_are_enough(monkeypatch):
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 1)


def convolution(normal, *, bias=True, group=1, channels=CHANNELS, **attributes):
    weights = normal(OUTPUTS * group, channels // group, 3, 3) / (9 * channels) ** 0.5
    constants = {"w": weights.astype(np.float32)}
    inputs = ["x", "w"]
    if bias:
        constants["b"] = normal(OUTPUTS * group)
        inputs.append("b")
    attributes = {"pads": [1, 1, 1, 1], **attributes}
    return [helper.make_node("Conv", inputs, ["y"], group=group, **attributes)], constants


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_static_convolution_gives_the_same_map(small, normal, height, width, bias):
    shape = (2, CHANNELS, height, width)
    model = small.build(*convolution(normal, bias=bias), shape=shape)

    fast = small.rewritten(model, apply_winograd)

    x = normal(*shape)
    np.testing.assert_allclose(small.run(fast, x), small.run(model, x), atol=ERROR)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_dynamic_convolution_gives_the_same_map(small, normal, height, width):
    model = small.build(*convolution(normal), shape=("n", CHANNELS, "height", "width"))

    fast = small.rewritten(model, apply_winograd)

    x = normal(2, CHANNELS, height, width)
    np.testing.assert_allclose(small.run(fast, x), small.run(model, x), atol=ERROR)


def test_joined_maps_are_convolved_apart(small, normal):
    nodes, constants = convolution(normal, channels=2 * CHANNELS)
    nodes[0].input[0] = "cat"
    double = helper.make_node("Add", ["x", "x"], ["twice"])
    join = helper.make_node("Concat", ["twice", "x"], ["cat"], axis=1)
    shape = (1, CHANNELS, 9, 14)
    model = small.build([double, join, *nodes], constants, shape=shape)

    fast = small.rewritten(model, apply_winograd)

    x = normal(*shape)
    products = winograd.transforms(winograd.best_size(9, 14)).size + 2
    joined = [node for node in fast.graph.node if node.op_type == "Concat"]
    assert [len(node.input) for node in joined] == [products**2]
    np.testing.assert_allclose(small.run(fast, x), small.run(model, x), atol=ERROR)


def test_a_convolution_of_many_channels_stays_within_the_parity_bound(small, normal):
    shape = (1, 512, 16, 16)
    weights = normal(128, 512, 3, 3) * np.float32((2 / (9 * 512)) ** 0.5)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    model = small.build([node], {"w": weights}, shape=shape)

    fast = small.rewritten(model, apply_winograd)

    x = np.maximum(normal(*shape), 0)
    np.testing.assert_allclose(small.run(fast, x), small.run(model, x), atol=ERROR)


@pytest.mark.parametrize(
    "attributes",
    [
        {"group": 2},
        {"strides": [2, 2]},
        {"pads": [0, 0, 0, 0]},
        {"pads": [1, 1, 0, 0]},
        {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
    ],
)
def test_other_convolutions_are_left_alone(small, normal, attributes):
    model = small.build(*convolution(normal, **attributes), shape=(1, CHANNELS, 9, 9))

    small.rewritten(model, apply_winograd, 0)


def test_half_precision_is_left_alone(small, normal):
    nodes, constants = convolution(normal)
    constants = {name: array.astype(np.float16) for name, array in constants.items()}
    dtype = TensorProto.FLOAT16

    model = small.build(nodes, constants, shape=(1, CHANNELS, 9, 9), dtype=dtype)

    small.rewritten(model, apply_winograd, 0)


def test_few_channels_are_left_alone(small, normal, monkeypatch):
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", CHANNELS)  # there are fewer outputs

    model = small.build(*convolution(normal), shape=(1, CHANNELS, 9, 9))

    small.rewritten(model, apply_winograd, 0)
