"""A convolution of joined maps becomes a sum, through what treats channels apart."""

import numpy as np
import pytest
from onnx import helper

from segdeploy.rewrite.concatenations import split_concatenations

ERROR = 1e-5  # measured: at most 2e-6
PARTS = (3, 5)


def decoder(normal, *, activation="Relu", kernel=1):
    """As in DeepLabV3+: joined maps, depthwise, activation, dense."""
    total = sum(PARTS)
    constants = {
        "start": np.array([0]),
        "middle": np.array([PARTS[0]]),
        "axis": np.array([1]),
        "depthwise": normal(total, 1, 3, 3),
        "depthwise_bias": normal(total),
        "dense": normal(4, total, kernel, kernel),
        "dense_bias": normal(4),
    }
    inputs = ["cat", "depthwise", "depthwise_bias"]
    nodes = [
        helper.make_node("Slice", ["x", "start", "middle", "axis"], ["first"]),
        helper.make_node("Abs", ["x"], ["second"]),
        helper.make_node("Concat", ["first", "second"], ["cat"], axis=1),
        helper.make_node("Conv", inputs, ["a"], group=total, pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["a"], ["b"]),
        helper.make_node("Conv", ["b", "dense", "dense_bias"], ["y"]),
    ]
    return nodes, constants


@pytest.mark.parametrize(("height", "width"), [(8, 12), (7, 5)])
def test_the_sum_is_the_same_map(small, normal, height, width):
    shape = (2, PARTS[1], height, width)
    model = small.build(*decoder(normal), shape=shape)

    split = small.rewritten(model, split_concatenations)

    x = normal(*shape)
    assert small.operators(split).count("Concat") == 0
    assert small.operators(split).count("Conv") == 4
    np.testing.assert_allclose(small.run(split, x), small.run(model, x), atol=ERROR)


def test_joined_maps_right_before_the_dense_convolution_are_split_too(small, normal):
    nodes, constants = decoder(normal)
    nodes[5].input[0] = "cat"
    shape = (1, PARTS[1], 6, 6)
    model = small.build([*nodes[:3], nodes[5]], constants, shape=shape)

    split = small.rewritten(model, split_concatenations)

    x = normal(*shape)
    np.testing.assert_allclose(small.run(split, x), small.run(model, x), atol=ERROR)


@pytest.mark.parametrize("changes", [{"activation": "Softmax"}, {"kernel": 3}])
def test_what_mixes_channels_or_is_no_1x1_is_left_alone(small, normal, changes):
    model = small.build(*decoder(normal, **changes), shape=(1, PARTS[1], 8, 8))

    small.rewritten(model, split_concatenations, 0)


def test_a_joined_map_that_others_read_is_left_alone(small, normal):
    nodes, constants = decoder(normal)
    nodes[-1].output[0] = "z"
    constants["axes"] = np.array([1])
    nodes.append(helper.make_node("ReduceSum", ["cat", "axes"], ["s"]))
    nodes.append(helper.make_node("ReduceSum", ["z", "axes"], ["t"]))
    nodes.append(helper.make_node("Add", ["s", "s"], ["y"]))

    small.rewritten(
        small.build(nodes, constants, shape=(1, PARTS[1], 8, 8)), split_concatenations, 0
    )
