"""The CPU form is the TensorRT form: the same integers, 128 higher."""

import numpy as np
import pytest
from onnx import ModelProto

from segdeploy.graph import with_outputs
from segdeploy.placement import QuantizationForm
from segdeploy.quantize.cpu_form import to_cpu_form
from segdeploy.quantize.model import QuantizeOptions, quantize_model

# Both add the same integers; one in float32, whose rounding decides where a value lies halfway
# between two steps. Measured on the tiny network: none; on DeepLabV3+ 2e-5 a layer.
MOST_TIES = 1e-3


def stored(tiny, model: ModelProto) -> dict[str, np.ndarray]:
    """The integers of every pair on an image, in the order of their computation."""
    integers = {
        node.input[0]: node.input[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        and not node.name.endswith(("weight_dequantize", "bias_dequantize"))
    }
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    exposed = with_outputs(model, integers).SerializeToString()
    opened = onnxruntime.InferenceSession(exposed, options)
    names = [output.name for output in opened.get_outputs()]
    return dict(zip(names, opened.run(None, {"image": tiny.images(1)}), strict=True))


@pytest.mark.parametrize("method", ["max", "mse"])
def test_every_quantized_value_is_the_same(tiny, model, statistics, method):
    symmetric = quantize_model(model, statistics, QuantizeOptions(method=method))
    expected, found = stored(tiny, symmetric), stored(tiny, to_cpu_form(symmetric))

    compared = [name for name in expected if name.endswith("_quantized")]
    assert len(compared) == 11
    for name in compared:
        assert expected[name].dtype == np.int8
        assert found[name].dtype == np.uint8
        differ = found[name].astype(int) - 128 != expected[name]
        assert differ.mean() <= MOST_TIES, name
    np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-4)


def test_the_form_that_is_asked_for_is_the_one_derived_from_tensorrts(model, statistics):
    derived = to_cpu_form(quantize_model(model, statistics, QuantizeOptions()))
    options = QuantizeOptions(form=QuantizationForm.ONNXRUNTIME)

    assert quantize_model(model, statistics, options) == derived


def test_pixels_reach_the_first_convolution_without_a_float(model, statistics):
    options = QuantizeOptions(form=QuantizationForm.ONNXRUNTIME)

    found = quantize_model(model, statistics, options)

    first = [node.op_type for node in found.graph.node[:3]]
    assert first == ["Transpose", "Pad", "DequantizeLinear"]


def test_deriving_twice_changes_nothing(model, statistics):
    once = to_cpu_form(quantize_model(model, statistics, QuantizeOptions()))

    assert to_cpu_form(once) == once
