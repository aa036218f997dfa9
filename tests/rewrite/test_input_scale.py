"""The deviation moves into the weights; the border stays right, since zero padding is the mean."""

import numpy as np
import pytest
from onnx import helper

from segdeploy.rewrite.input_scale import fold_input_scale

ERROR = 1e-5  # measured: 2e-6


def normalizing(normal, *, readers=1):
    constants = {
        "mean": np.array([123.675, 116.28, 103.53], np.float32).reshape(1, 3, 1, 1),
        "std": np.array([58.395, 57.12, 57.375], np.float32).reshape(1, 3, 1, 1),
        "w": normal(4, 3, 3, 3),
        "b": normal(4),
    }
    convolve = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normalized"]),
        *(
            helper.make_node("Conv", ["normalized", "w", "b"], [f"y{k}"], **convolve)
            for k in range(readers)
        ),
        helper.make_node("Sum", [f"y{k}" for k in range(readers)], ["y"]),
    ]
    return nodes, constants


@pytest.mark.parametrize(("height", "width"), [(8, 12), (9, 7)])
def test_the_map_is_the_same_up_to_its_border(small, normal, height, width):
    model = small.build(*normalizing(normal), shape=(1, 3, height, width))

    folded = small.rewritten(model, fold_input_scale)

    x = np.abs(normal(1, 3, height, width)) * 100
    assert "Div" not in small.operators(folded)
    np.testing.assert_allclose(small.run(folded, x), small.run(model, x), atol=ERROR)


def test_a_quotient_that_two_nodes_read_stays(small, normal):
    model = small.build(*normalizing(normal, readers=2), shape=(1, 3, 8, 8))

    small.rewritten(model, fold_input_scale, 0)
