"""Upsampled tiny maps are convolved at their own size, exactly, wherever the pattern holds."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from segdeploy.rewrite.pooled_branches import fold_pooled_branches, tap_matrix

ERROR = 2e-5  # of outputs around 1 to 10; measured: at most 7e-6
HALF_ERROR = 3e-2  # measured: 1.2e-2
FEATURES, POOLED, OUTPUTS = 5, 4, 6


def psp(normal, bins, *, shape, half=False, mode="linear", convolved=True):
    """Features joined with upsampled maps of some pixels of the input."""
    dtype = np.float16 if half else np.float32
    constants = {
        "w": (normal(OUTPUTS, FEATURES + POOLED * len(bins), 3, 3) / 3).astype(dtype),
        "b": normal(OUTPUTS).astype(dtype),
    }
    nodes = [helper.make_node("Shape", ["x"], ["size"], start=2, end=4)]
    joined = ["x"]
    for k, count in enumerate(bins):
        constants[f"tiny_sizes{k}"] = np.array([1, FEATURES, count, count])
        inputs = ["x", "", "", f"tiny_sizes{k}"]
        nodes.append(helper.make_node("Resize", inputs, [f"tiny{k}"], mode="nearest"))
        source = f"tiny{k}"
        if convolved:
            constants |= {
                f"w{k}": normal(POOLED, FEATURES, 1, 1).astype(dtype),
                f"b{k}": normal(POOLED).astype(dtype),
            }
            inputs = [source, f"w{k}", f"b{k}"]
            nodes.append(helper.make_node("Conv", inputs, [f"conv{k}"], kernel_shape=[1, 1]))
            nodes.append(helper.make_node("Relu", [f"conv{k}"], [f"relu{k}"]))
            source = f"relu{k}"
        constants["rest"] = np.array([1, POOLED if convolved else FEATURES])
        nodes.append(helper.make_node("Concat", ["rest", "size"], [f"sizes{k}"], axis=0))
        inputs = [source, "", "", f"sizes{k}"]
        nodes.append(helper.make_node("Resize", inputs, [f"up{k}"], mode=mode))
        joined.insert(k, f"up{k}")  # some in front of the features, as in DeepLabV3
    if not convolved:
        constants["w"] = normal(OUTPUTS, FEATURES * (len(bins) + 1), 3, 3).astype(dtype)
    nodes.append(helper.make_node("Concat", joined, ["cat"], axis=1))
    nodes.append(helper.make_node("Conv", ["cat", "w", "b"], ["y"], pads=[1, 1, 1, 1]))
    return nodes, constants, shape, TensorProto.FLOAT16 if half else TensorProto.FLOAT


@pytest.mark.parametrize("bins", [(1,), (1, 2, 3, 6)])
@pytest.mark.parametrize(("height", "width"), [(12, 24), (13, 7), (6, 6), (9, 31)])
def test_a_static_graph_gives_the_same_map(small, normal, bins, height, width):
    nodes, constants, shape, _ = psp(normal, bins, shape=(1, FEATURES, height, width))
    model = small.build(nodes, constants, shape=shape)

    folded = small.rewritten(model, fold_pooled_branches, len(bins))

    x = normal(*shape)
    assert small.operators(folded).count("Resize") == len(bins)  # those that make the tiny maps
    assert small.operators(folded).count("Conv") == 1
    np.testing.assert_allclose(small.run(folded, x), small.run(model, x), atol=ERROR)


@pytest.mark.parametrize(("height", "width"), [(12, 24), (13, 7), (6, 6)])
def test_a_dynamic_graph_gives_the_same_map_at_every_size(small, normal, height, width):
    shape = (1, FEATURES, "height", "width")
    nodes, constants, _, _ = psp(normal, (1, 3, 6), shape=shape)
    model = small.build(nodes, constants, shape=shape)

    folded = small.rewritten(model, fold_pooled_branches, 3)

    x = normal(1, FEATURES, height, width)
    np.testing.assert_allclose(small.run(folded, x), small.run(model, x), atol=ERROR)


def test_a_dynamic_graph_may_be_given_a_size(small, normal):
    """What runs it then infers every shape, and refuses a range that begins at a vector."""
    shape = (1, FEATURES, "height", "width")
    nodes, constants, _, _ = psp(normal, (1, 3, 6), shape=shape)
    model = small.build(nodes, constants, shape=shape)
    x = normal(1, FEATURES, 12, 24)

    folded = small.rewritten(model, fold_pooled_branches, 3)
    for dim, length in zip(folded.graph.input[0].type.tensor_type.shape.dim, x.shape, strict=True):
        dim.dim_value = length

    np.testing.assert_allclose(small.run(folded, x), small.run(model, x), atol=ERROR)


def test_half_precision_holds(small, normal):
    shape = (1, FEATURES, 12, 24)
    nodes, constants, _, dtype = psp(normal, (1, 2, 3, 6), shape=shape, half=True)
    model = small.build(nodes, constants, shape=shape, dtype=dtype)

    folded = small.rewritten(model, fold_pooled_branches, 4)

    x = normal(*shape).astype(np.float16)
    found, expected = small.run(folded, x), small.run(model, x)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, atol=HALF_ERROR)


def test_a_map_that_no_convolution_made_is_folded_too(small, normal):
    nodes, constants, shape, _ = psp(normal, (2,), shape=(1, FEATURES, 8, 9), convolved=False)
    model = small.build(nodes, constants, shape=shape)

    folded = small.rewritten(model, fold_pooled_branches)

    x = normal(*shape)
    np.testing.assert_allclose(small.run(folded, x), small.run(model, x), atol=ERROR)


def test_other_ways_to_resize_are_left_alone(small, normal):
    nodes, constants, shape, _ = psp(normal, (2,), shape=(1, FEATURES, 8, 9), mode="nearest")

    small.rewritten(small.build(nodes, constants, shape=shape), fold_pooled_branches, 0)


def test_a_map_that_is_not_tiny_is_left_alone(small, normal):
    nodes, constants, shape, _ = psp(normal, (9,), shape=(1, FEATURES, 18, 18))

    small.rewritten(small.build(nodes, constants, shape=shape), fold_pooled_branches, 0)


def test_weights_of_a_place_add_up_to_one_inside_and_to_zero_outside():
    matrix = tap_matrix([6], 13).reshape(3, 6, 13)

    np.testing.assert_allclose(matrix[1].sum(0), 1)
    np.testing.assert_allclose(matrix[0].sum(0), [0, *[1] * 12])
    np.testing.assert_allclose(matrix[2].sum(0), [*[1] * 12, 0])
