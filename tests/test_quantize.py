"""Q/DQ pairs stand where each runtime fuses them, and the graph still computes the same."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from segdeploy.calibrate import Ranges, collect_ranges, observe_graph
from segdeploy.errors import SegdeployError
from segdeploy.placement import QuantizationForm, graph_sha256, place_pairs
from segdeploy.quantize import asymmetric_uint8, per_channel_int8, quantize_model, symmetric_int8

onnxruntime = pytest.importorskip("onnxruntime")

TENSORRT, ONNXRUNTIME = QuantizationForm.TENSORRT, QuantizationForm.ONNXRUNTIME
# Signal to noise of the logits; measured 38.3 to 38.5 (tensorrt; onnxruntime with 7 bits), 40.8.
LEAST_SNR_DB = 35
CHANNELS, HEIGHT, WIDTH = 8, 12, 16


def convolution(name: str, x: str, y: str, *, groups: int = 1) -> NodeProto:
    return helper.make_node(
        "Conv", [x, f"{name}.weight", f"{name}.bias"], [y], name, group=groups, pads=[1] * 4
    )


def tiny_model(dtype: type = np.float32) -> ModelProto:
    """Every pattern of the real networks: ReLU6, depthwise, residual, Concat, Resize, logits."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=int(TensorProto.FLOAT)),
        helper.make_node("Transpose", ["pixels"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["nchw", "std"], ["scaled"], "normalize"),
        helper.make_node(
            "Cast", ["scaled"], ["x"], to=int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
        ),
        convolution("stem", "x", "stem_out"),
        convolution("net.expand", "stem_out", "expand_out"),
        helper.make_node("Clip", ["expand_out", "zero", "six"], ["expanded"]),
        convolution("net.depthwise", "expanded", "depthwise_out", groups=CHANNELS),
        helper.make_node("Clip", ["depthwise_out", "zero", "six"], ["filtered"]),
        convolution("net.project", "filtered", "project_out"),
        helper.make_node("Add", ["stem_out", "project_out"], ["sum"], "residual"),
        helper.make_node("ReduceMean", ["sum", "axes"], ["mean"], "mean_node"),
        convolution("pool", "mean", "pool_out"),
        helper.make_node("Relu", ["pool_out"], ["pooled"]),
        helper.make_node("Resize", ["pooled", "", "", "sizes"], ["resized"], "up", mode="linear"),
        helper.make_node("Concat", ["sum", "resized"], ["cat"], "cat_node", axis=1),
        convolution("head", "cat", "head_out"),
        helper.make_node("Relu", ["head_out"], ["features"]),
        convolution("classifier", "features", "logits"),
    ]
    constants = {
        "std": np.array(60, np.float32),
        "zero": np.array(0, dtype),
        "six": np.array(6, dtype),
        "axes": np.array([2, 3]),
        "sizes": np.array([1, CHANNELS, HEIGHT, WIDTH]),
    }
    for node in nodes:
        if node.op_type == "Conv":
            inputs = {"stem": 3, "net.depthwise": 1, "head": 2 * CHANNELS}.get(node.name, CHANNELS)
            kernel = (CHANNELS, inputs, 3, 3)
            weights = rng.standard_normal(kernel) / np.sqrt(9 * inputs)
            constants[f"{node.name}.weight"] = weights.astype(dtype)
            constants[f"{node.name}.bias"] = rng.standard_normal(CHANNELS).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, (1, HEIGHT, WIDTH, 3))],
        [helper.make_tensor_value_info("logits", kind, (1, CHANNELS, HEIGHT, WIDTH))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def images(count: int = 4) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, HEIGHT, WIDTH, 3), np.uint8)


def session(model: ModelProto, optimized_file: str = "") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    if optimized_file:
        options.optimized_model_filepath = optimized_file
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def calibrated(model: ModelProto) -> Ranges:
    observer = session(observe_graph(model))
    names = [output.name for output in observer.get_outputs()]
    return collect_ranges(
        lambda batch: dict(zip(names, observer.run(names, {"image": batch}), strict=True)),
        (image[None] for image in images()),
        graph_sha256=graph_sha256(model),
        method="max",
    )


@pytest.fixture(scope="module")
def model() -> ModelProto:
    return tiny_model()


@pytest.fixture(scope="module")
def ranges(model) -> Ranges:
    return calibrated(model)


def placed(model: ModelProto, form: QuantizationForm, **options: object) -> dict[str, set[str]]:
    """The tensors that get a pair, with the outputs of the nodes that read it."""
    pairs = place_pairs(model.graph, form, **options).pairs
    return {name: set(readers) for name, readers in pairs.items()}


def snr_db(model: ModelProto, quantized: ModelProto) -> float:
    floating, integer = session(model), session(quantized)
    signal = noise = 0.0
    for image in images():
        wanted = floating.run(None, {"image": image[None]})[0].astype(np.float64)
        found = integer.run(None, {"image": image[None]})[0]
        signal += (wanted**2).sum()
        noise += ((found - wanted) ** 2).sum()
    return float(10 * np.log10(signal / noise))


def test_tensorrt_pairs_stand_on_convolution_inputs_and_on_the_skip_that_has_one(model):
    pairs = placed(model, TENSORRT)

    assert pairs == {
        "x": {"stem_out"},
        "stem_out": {"expand_out", "sum"},  # the residual Add reads the pair of the convolution
        "expanded": {"depthwise_out"},
        "filtered": {"project_out"},
        "mean": {"pool_out"},
        "cat": {"head_out"},
        "features": {"logits"},
    }


def test_onnxruntime_pairs_stand_on_every_tensor_between_integer_operators(model):
    pairs = placed(model, ONNXRUNTIME)

    assert pairs == {
        "x": {"stem_out"},
        "stem_out": {"expand_out", "sum"},
        "expanded": {"depthwise_out"},
        "filtered": {"project_out"},
        "project_out": {"sum"},
        "sum": {"mean", "cat"},
        "mean": {"pool_out"},
        "pooled": {"resized"},
        "resized": {"cat"},
        "cat": {"head_out"},
        "features": {"logits"},
    }


def test_the_logits_of_the_onnxruntime_form_stay_floating(model):
    convolutions = place_pairs(model.graph, ONNXRUNTIME).convolutions

    assert "logits" not in convolutions
    assert "head_out" in convolutions


def test_depthwise_convolutions_stay_floating_on_request(model):
    pairs = placed(model, TENSORRT, quantize_depthwise=False)

    assert "expanded" not in pairs
    assert "filtered" in pairs


@pytest.mark.parametrize(
    ("keep", "gone"),
    [
        ("net.depthwise", {"expanded"}),  # a node
        ("net", {"stem_out", "expanded", "filtered"}),  # a module
        ("residual", set()),
    ],
)
def test_what_is_kept_reads_floats_as_before(model, ranges, keep, gone):
    quantized = quantize_model(model, ranges, keep_fp32=[keep])

    originals = {node.output[0]: node for node in model.graph.node}
    kept = {
        name
        for name, node in originals.items()
        if node.name == keep or node.name.startswith(f"{keep}.")
    }
    for node in quantized.graph.node:
        if node.output[0] in kept:
            assert node == originals[node.output[0]]
    assert placed(model, TENSORRT).keys() - placed(model, TENSORRT, keep_fp32=[keep]).keys() == gone


@pytest.mark.parametrize(
    ("form", "options"),
    [
        (TENSORRT, {}),
        (TENSORRT, {"quantize_depthwise": False}),
        (ONNXRUNTIME, {}),
        (ONNXRUNTIME, {"weight_bits": 7}),
        (ONNXRUNTIME, {"keep_fp32": ["residual", "cat_node"]}),
    ],
)
def test_a_quantized_graph_is_valid_and_close_to_the_floating_one(model, ranges, form, options):
    quantized = quantize_model(model, ranges, form=form, **options)

    onnx.checker.check_model(quantized, full_check=True)
    assert snr_db(model, quantized) > LEAST_SNR_DB


def test_a_half_precision_graph_keeps_its_type_around_the_pairs():
    model = tiny_model(np.float16)

    quantized = quantize_model(model, calibrated(model))

    onnx.checker.check_model(quantized, full_check=True)
    scales = [t for t in quantized.graph.initializer if t.name.endswith("_scale")]
    assert {scale.data_type for scale in scales} == {TensorProto.FLOAT16}
    assert snr_db(model, quantized) > LEAST_SNR_DB


def test_onnxruntime_makes_integer_kernels_of_its_form(model, ranges, tmp_path):
    quantized = quantize_model(model, ranges, form=ONNXRUNTIME)

    session(quantized, str(tmp_path / "optimized.onnx"))

    kernels = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert kernels["QLinearConv"] == 6  # all but the classifier
    assert kernels["QLinearAdd"] == kernels["QLinearConcat"] == 1
    assert kernels["Clip"] == kernels["Relu"] == 0  # saturation does their work


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("quantize_depthwise", [True, False])
def test_tensorrt_rtx_builds_the_tensorrt_form(dtype, quantize_depthwise):
    trt = pytest.importorskip("tensorrt_rtx")
    model = tiny_model(dtype)
    quantized = quantize_model(model, calibrated(model), quantize_depthwise=quantize_depthwise)
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)

    is_parsed = parser.parse(quantized.SerializeToString())

    assert is_parsed, [parser.get_error(i).desc() for i in range(parser.num_errors)]
    assert builder.build_serialized_network(network, builder.create_builder_config()) is not None


def test_tensorrt_biases_stay_floating_and_onnxruntime_biases_fit_the_accumulator(model, ranges):
    for form in QuantizationForm:
        quantized = quantize_model(model, ranges, form=form)

        constants = {t.name: numpy_helper.to_array(t) for t in quantized.graph.initializer}
        conv = next(node for node in quantized.graph.node if node.name == "head")
        if form is TENSORRT:
            assert constants[conv.input[2]].dtype == np.float32
            continue
        names = ("cat_scale", "head_out_weight_scale", "head_out_bias_scale")
        x, weight, bias = (constants[name] for name in names)
        np.testing.assert_array_equal(bias, x * weight)
        np.testing.assert_allclose(
            constants["head_out_bias_int32"] * bias, constants_of(model)["head.bias"], atol=1e-4
        )


def constants_of(model: ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def test_a_dead_channel_keeps_its_bias():
    model = tiny_model()
    for tensor in model.graph.initializer:
        if tensor.name == "head.weight":
            weights = numpy_helper.to_array(tensor).copy()
            weights[2] = 1e-12
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
        if tensor.name == "head.bias":
            biases = numpy_helper.to_array(tensor).copy()
            biases[2] = 5.0
            tensor.CopyFrom(numpy_helper.from_array(biases, tensor.name))

    quantized = quantize_model(model, calibrated(model), form=ONNXRUNTIME)

    found = constants_of(quantized)
    restored = found["head_out_bias_int32"][2] * found["head_out_bias_scale"][2]
    assert restored == pytest.approx(5, rel=1e-6)


def test_int8_weights_are_stored_once_and_the_floats_are_gone(model, ranges):
    quantized = quantize_model(model, ranges)

    weights = {t.name: t for t in quantized.graph.initializer if t.name.endswith("weight_int8")}
    assert len(weights) == 7
    assert all(t.data_type == TensorProto.INT8 for t in weights.values())
    assert not any(t.name.endswith(".weight") for t in quantized.graph.initializer)


def test_seven_bit_weights_cannot_saturate_sixteen_bits(model, ranges):
    quantized = quantize_model(model, ranges, form=ONNXRUNTIME, weight_bits=7)

    largest = max(
        int(np.abs(values.astype(int)).max())
        for name, values in constants_of(quantized).items()
        if name.endswith("weight_int8")
    )
    assert largest == 63
    assert 2 * 255 * largest < 2**15


def test_symmetric_int8_is_an_exact_zero_and_covers_the_longer_side():
    found = symmetric_int8(-2.0, 6.35, np.dtype(np.float32))

    assert found.zero_point == 0
    assert float(found.scale) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("low", "high", "zero_point"), [(0, 6, 0), (1, 6, 0), (-1, 1, 128), (-2, 0, 255), (-2, -1, 255)]
)
def test_uint8_holds_zero_exactly(low, high, zero_point):
    found = asymmetric_uint8(low, high)

    assert found.zero_point == zero_point


def test_weights_are_scaled_by_channel():
    weights = np.array([[1.0, -127.0], [0.5, 0.25]], np.float32).reshape(2, 2, 1, 1)

    integers, found = per_channel_int8(weights)

    assert integers.reshape(2, 2).tolist() == [[1, -127], [127, 64]]
    np.testing.assert_allclose(found.scale, [1, 0.5 / 127], rtol=1e-6)


def test_ranges_of_another_graph_are_refused(model, ranges):
    other = ModelProto()
    other.CopyFrom(model)
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(61), "std"))

    with pytest.raises(SegdeployError, match="the ranges are of graph"):
        quantize_model(other, ranges)


def test_a_missing_range_is_named(model, ranges):
    values = {name: bounds for name, bounds in ranges.values.items() if name != "cat"}

    with pytest.raises(SegdeployError, match="tensor cat has no calibrated range"):
        quantize_model(model, replace(ranges, values=values))


def test_a_quantized_graph_is_refused(model, ranges):
    quantized = quantize_model(model, ranges)

    with pytest.raises(SegdeployError, match="quantized already"):
        quantize_model(quantized, ranges)


def test_a_graph_without_convolutions_is_refused():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1,))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1,))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "none", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])

    with pytest.raises(SegdeployError, match="no convolution"):
        quantize_model(model, Ranges({}, "max", 1, graph_sha256(model)))


def test_a_name_that_keeps_nothing_is_refused(model, ranges):
    with pytest.raises(SegdeployError, match="keep_fp32 names 'nowhere'"):
        quantize_model(model, ranges, keep_fp32=["nowhere"])


def test_keeping_everything_is_refused(model, ranges):
    everything = [node.name for node in model.graph.node if node.op_type == "Conv"]

    with pytest.raises(SegdeployError, match="every convolution would stay floating"):
        quantize_model(model, ranges, keep_fp32=everything)


def test_the_onnxruntime_form_of_a_half_precision_graph_is_refused():
    model = tiny_model(np.float16)

    with pytest.raises(SegdeployError, match="starts from a float32 graph"):
        quantize_model(model, calibrated(model), form=ONNXRUNTIME)
