"""Costs are those that can be counted by hand."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from segdeploy.graph import read_model
from segdeploy.rewrite.cost import macs_by_node, measure_cost
from segdeploy.spec import Method, Size, Tuning

SIZE = Size(6, 8)


@pytest.mark.parametrize("shape", [(1, 6, 8, 3), ("batch", "height", "width", 3)])
def test_multiplications_bytes_and_nodes_are_counted(small, normal, shape):
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["b", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "g"], ["d"], group=4, strides=[2, 2]),
        helper.make_node("Reshape", ["d", "flat"], ["e"]),
        helper.make_node("MatMul", ["m", "e"], ["y"]),
    ]
    constants = {
        "w": normal(4, 3, 3, 3),
        "g": normal(4, 1, 1, 1),
        "m": normal(5, 4),
        "flat": np.array([0, 4, 12]),
    }
    model = small.build(nodes, constants, shape=shape, dtype=TensorProto.UINT8)

    cost = measure_cost(model, SIZE)

    assert cost.macs == 48 * 4 * 27 + 12 * 4 + 5 * 4 * 12
    assert cost.bytes == 4 * (48 * 3 + 48 * 3 + 48 * 4 + 12 * 4 + 12 * 5)
    assert cost.nodes == 6
    assert macs_by_node(model, SIZE) == {"c": 48 * 4 * 27, "d": 12 * 4, "y": 5 * 4 * 12}


def test_a_dynamic_network_costs_what_a_static_one_does(exported):
    size = Size(64, 96)
    graphs = (exported(Method.FCN, size=side, tuning=Tuning.PLAIN) for side in (size, None))
    static, dynamic = (measure_cost(read_model(graph.path), size) for graph in graphs)

    assert dynamic.macs == static.macs
    assert dynamic.bytes == pytest.approx(static.bytes, rel=1e-3)  # a few shapes are computed
