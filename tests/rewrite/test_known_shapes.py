"""Shapes are inferred without weights, and are those that ONNX infers with them."""

import onnx
import pytest

from segdeploy.graph import read_model
from segdeploy.rewrite.known_shapes import infer_shapes
from segdeploy.spec import Method


@pytest.mark.parametrize("method", [Method.PSPNET, Method.DEEPLABV3PLUS])
def test_shapes_are_those_of_onnx_and_weights_stay(exported, method):
    model = read_model(exported(method).path)
    del model.graph.value_info[:]
    before = model.SerializeToString()

    found = infer_shapes(model, strict=True)

    whole = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert found.graph.value_info == whole.graph.value_info
    assert found.graph.output == whole.graph.output
    assert found.graph.initializer == model.graph.initializer
    assert len(found.graph.value_info) > 100
    assert model.SerializeToString() == before
