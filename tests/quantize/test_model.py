"""Q/DQ pairs stand where runtimes fuse them, and the graph still computes the same."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from segdeploy.errors import SegdeployError
from segdeploy.histograms import Statistics
from segdeploy.lint import integer_convolutions, lint_model
from segdeploy.lint_rules import LintTarget
from segdeploy.placement import QuantizationForm, graph_sha256, place_pairs
from segdeploy.quantize.model import QuantizeOptions, quantize_model

TENSORRT, ONNXRUNTIME = QuantizationForm.TENSORRT, QuantizationForm.ONNXRUNTIME
FULL_RANGE = QuantizationForm.FULL_RANGE
LEAST_SNR_DB = 32  # measured: 34.1 to 45.8, see `test_a_quantized_graph_is_valid_and_close`
CASES = [
    {},
    {"quantize_depthwise": False},
    {"condition": False},
    {"exact_pixels": False, "correct_biases": False},
    {"method": "entropy"},
    {"keep_fp32": ("net",)},
    {"form": ONNXRUNTIME},
    {"form": ONNXRUNTIME, "weight_bits": 7},
    {"form": ONNXRUNTIME, "keep_fp32": ("residual", "head")},
    {"form": FULL_RANGE},
]


def constants_of(model: ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def quantized(model: ModelProto, statistics: Statistics, **options: object) -> ModelProto:
    return quantize_model(model, statistics, QuantizeOptions(**options))


def test_pairs_stand_on_what_integer_operators_read(model):
    placed = place_pairs(model.graph)

    assert placed.pairs == {
        "x", "stem_out", "expanded", "filtered", "project_out", "sum", "resized", "pooled",
        "mean", "cat", "features",
    }  # fmt: skip
    assert placed.joined == {"sum": "cat", "resized": "cat"}
    assert len(placed.convolutions) == 7


def test_depthwise_convolutions_stay_floating_on_request(model):
    pairs = place_pairs(model.graph, quantize_depthwise=False).pairs

    assert "expanded" not in pairs
    assert "filtered" in pairs


@pytest.mark.parametrize("options", CASES, ids=str)
def test_a_quantized_graph_is_valid_and_close_to_the_floating_one(tiny, model, statistics, options):
    found = quantized(model, statistics, **options)

    onnx.checker.check_model(found, full_check=True)
    assert tiny.snr_db(model, found) > LEAST_SNR_DB


@pytest.mark.parametrize("options", CASES, ids=str)
def test_a_quantized_graph_breaks_no_rule(model, statistics, options):
    target = LintTarget.ONNXRUNTIME if "form" in options else LintTarget.TENSORRT

    assert lint_model(quantized(model, statistics, **options), target) == ()


def test_conditioned_activations_lose_less(tiny, model, statistics):
    plain = tiny.snr_db(model, quantized(model, statistics, condition=False))
    conditioned = tiny.snr_db(model, quantized(model, statistics))
    full = tiny.snr_db(model, quantized(model, statistics, form=FULL_RANGE))

    assert plain + 1 < conditioned < full  # measured on real networks: 30.6, 33.9, 35.0


def test_a_half_precision_graph_keeps_its_type_around_the_pairs(tiny):
    model = tiny.model(np.float16)

    found = quantized(model, tiny.calibrated(model))

    onnx.checker.check_model(found, full_check=True)
    scales = [t for t in found.graph.initializer if t.name.endswith("_scale")]
    assert {scale.data_type for scale in scales} == {TensorProto.FLOAT16}
    assert tiny.snr_db(model, found) > LEAST_SNR_DB


@pytest.mark.parametrize("form", [ONNXRUNTIME, FULL_RANGE])
def test_onnxruntime_makes_integer_kernels_of_its_forms(tiny, model, statistics, form, tmp_path):
    found = quantized(model, statistics, form=form)

    tiny.session(found, str(tmp_path / "optimized.onnx"))

    kernels = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kernels["QLinearConv"] == 6  # all but the classifier
    assert kernels["QLinearAdd"] == kernels["QLinearConcat"] == 1
    assert kernels["Relu"] == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("quantize_depthwise", [True, False])
def test_tensorrt_rtx_builds_the_tensorrt_form(tiny, dtype, quantize_depthwise):
    trt = pytest.importorskip("tensorrt_rtx")
    model = tiny.model(dtype)
    found = quantized(model, tiny.calibrated(model), quantize_depthwise=quantize_depthwise)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)

    is_parsed = parser.parse(found.SerializeToString())

    assert is_parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    assert builder.build_serialized_network(network, builder.create_builder_config()) is not None


@pytest.mark.parametrize("keep", ["net.depthwise", "net", "head"])
def test_what_is_kept_has_floating_weights(model, statistics, keep):
    found = quantized(model, statistics, keep_fp32=(keep,))

    kept = [n for n in found.graph.node if n.name == keep or n.name.startswith(f"{keep}.")]
    constants = constants_of(found)
    assert kept
    assert all(constants[node.input[1]].dtype == np.float32 for node in kept)
    assert integer_convolutions(found) == 7 - len(kept)


def test_a_dead_channel_keeps_its_bias(tiny):
    model = tiny.model()
    for tensor in model.graph.initializer:
        if tensor.name in ("head.weight", "head.bias"):
            values = numpy_helper.to_array(tensor).copy()
            values[2] = 1e-12 if tensor.name == "head.weight" else 5.0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    found = constants_of(quantized(model, tiny.calibrated(model), form=ONNXRUNTIME))

    scale = found["head_out_bias_scale"][2]
    stretched = found["head_out_bias_int32"][2] * scale
    assert np.isfinite(stretched)
    assert abs(found["head_out_bias_int32"][2]) <= 2**30


def test_int8_weights_are_stored_once_and_the_floats_are_gone(model, statistics):
    found = quantized(model, statistics)

    weights = {t.name: t for t in found.graph.initializer if t.name.endswith("weight_int8")}
    assert len(weights) == 7
    assert all(t.data_type == TensorProto.INT8 for t in weights.values())
    assert not any(t.name.endswith(".weight") for t in found.graph.initializer)


def test_seven_bit_weights_cannot_saturate_sixteen_bits(model, statistics):
    found = quantized(model, statistics, form=ONNXRUNTIME, weight_bits=7)

    largest = max(
        int(np.abs(values.astype(int)).max())
        for name, values in constants_of(found).items()
        if name.endswith("weight_int8")
    )
    assert largest == 63
    assert 2 * 255 * largest < 2**15


def test_statistics_of_another_graph_are_refused(model, statistics):
    other = ModelProto()
    other.CopyFrom(model)
    other.graph.initializer[0].float_data.append(1)

    with pytest.raises(SegdeployError, match="the statistics are of graph"):
        quantized(other, statistics)


def test_a_missing_range_is_named(model, statistics):
    histograms = {k: seen for k, seen in statistics.histograms.items() if k != "cat"}

    with pytest.raises(SegdeployError, match="has no calibrated range"):
        quantized(model, replace(statistics, histograms=histograms))


def test_a_quantized_graph_is_refused(model, statistics):
    with pytest.raises(SegdeployError, match="quantized already"):
        quantized(quantized(model, statistics), statistics)


def test_a_graph_without_convolutions_is_refused():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1,))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1,))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "none", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])

    with pytest.raises(SegdeployError, match="no convolution"):
        quantized(model, Statistics({}, 1, graph_sha256(model)))


def test_a_name_that_keeps_nothing_is_refused(model, statistics):
    with pytest.raises(SegdeployError, match="keep_fp32 names 'nowhere'"):
        quantized(model, statistics, keep_fp32=("nowhere",))


def test_keeping_everything_is_refused(model, statistics):
    everything = tuple(node.name for node in model.graph.node if node.op_type == "Conv")

    with pytest.raises(SegdeployError, match="every convolution would stay floating"):
        quantized(model, statistics, keep_fp32=everything)


def test_the_onnxruntime_form_of_a_half_precision_graph_is_refused(tiny):
    model = tiny.model(np.float16)

    with pytest.raises(SegdeployError, match="starts from a float32 graph"):
        quantized(model, tiny.calibrated(model), form=ONNXRUNTIME)


def test_nine_bits_are_refused():
    with pytest.raises(SegdeployError, match="weights of 9 bits"):
        QuantizeOptions(weight_bits=9)
