"""The identity that starts ONNX Runtime's blocked layout changes no bit."""

import numpy as np
from onnx import helper

from segdeploy.rewrite.blocked_layout import start_blocked_layout


def resized(producer):
    constants = {"scales": np.array([1, 1, 2, 2], np.float32), "w": np.eye(3, dtype=np.float32)}
    constants["w"] = constants["w"][:, :, None, None]
    inputs = ["x", "w"] if producer == "Conv" else ["x"]
    nodes = [
        helper.make_node(producer, inputs, ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Resize", ["b", "", "scales"], ["y"], mode="linear"),
    ]
    return nodes, constants


def test_the_map_is_the_same_bit_for_bit(small, normal):
    model = small.build(*resized("Neg"), shape=(1, 3, 5, 6))

    started = small.rewritten(model, start_blocked_layout)

    x = normal(1, 3, 5, 6)
    assert "Conv" in small.operators(started)
    np.testing.assert_array_equal(small.run(started, x), small.run(model, x))


def test_a_convolution_has_started_the_layout_already(small):
    small.rewritten(small.build(*resized("Conv"), shape=(1, 3, 5, 6)), start_blocked_layout, 0)
