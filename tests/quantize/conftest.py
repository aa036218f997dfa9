"""A small network with every pattern of the real ones, and its statistics."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from segdeploy.calibrate import collect_statistics
from segdeploy.graph import cut_graph
from segdeploy.histograms import Statistics
from segdeploy.placement import activations_to_quantize, graph_sha256

onnxruntime = pytest.importorskip("onnxruntime")

CHANNELS, HEIGHT, WIDTH = 8, 12, 16


def convolution(name: str, x: str, y: str, *, groups: int = 1, kernel: int = 3) -> NodeProto:
    return helper.make_node(
        "Conv",
        [x, f"{name}.weight", f"{name}.bias"],
        [y],
        name,
        group=groups,
        kernel_shape=[kernel] * 2,
        pads=[kernel // 2] * 4,
    )


def tiny_model(dtype: type = np.float32) -> ModelProto:
    """Every pattern of the real networks: ReLU6, depthwise, residual, Concat, Resize, logits."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=int(TensorProto.FLOAT)),
        helper.make_node("Transpose", ["pixels"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["nchw", "mean_rgb"], ["centred"], "centre"),
        helper.make_node("Div", ["centred", "std"], ["scaled"], "normalize"),
        helper.make_node(
            "Cast", ["scaled"], ["x"], to=int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
        ),
        convolution("stem", "x", "stem_out"),
        convolution("net.expand", "stem_out", "expand_out", kernel=1),
        helper.make_node("Clip", ["expand_out", "zero", "six"], ["expanded"]),
        convolution("net.depthwise", "expanded", "depthwise_out", groups=CHANNELS),
        helper.make_node("Clip", ["depthwise_out", "zero", "six"], ["filtered"]),
        convolution("net.project", "filtered", "project_out", kernel=1),
        helper.make_node("Add", ["stem_out", "project_out"], ["sum"], "residual"),
        helper.make_node("ReduceMean", ["sum", "axes"], ["mean"], "mean_node"),
        convolution("pool", "mean", "pool_out"),
        helper.make_node("Relu", ["pool_out"], ["pooled"]),
        helper.make_node("Resize", ["pooled", "", "", "sizes"], ["resized"], "up", mode="linear"),
        helper.make_node("Concat", ["sum", "resized"], ["cat"], "cat_node", axis=1),
        convolution("head", "cat", "head_out"),
        helper.make_node("Relu", ["head_out"], ["features"]),
        convolution("classifier", "features", "logits", kernel=1),
    ]
    constants = {
        "mean_rgb": np.array([120, 110, 100], np.float32).reshape(1, 3, 1, 1),
        "std": np.array([60, 58, 56], np.float32).reshape(1, 3, 1, 1),
        "zero": np.array(0, dtype),
        "six": np.array(6, dtype),
        "axes": np.array([2, 3]),
        "sizes": np.array([1, CHANNELS, HEIGHT, WIDTH]),
    }
    for node in nodes:
        if node.op_type == "Conv":
            inputs = {"stem": 3, "net.depthwise": 1, "head": 2 * CHANNELS}.get(node.name, CHANNELS)
            side = next(a.ints[0] for a in node.attribute if a.name == "kernel_shape")
            weights = rng.standard_normal((CHANNELS, inputs, side, side)) / np.sqrt(
                side**2 * inputs
            )
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
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, disabled_optimizers=["WeightBiasQuantization"]
    )


def calibrated(model: ModelProto) -> Statistics:
    from segdeploy.runtime.onnxruntime import PieceByPiece

    runner = PieceByPiece(cut_graph(model, activations_to_quantize(model)), threads=1)
    return collect_statistics(
        runner.run, (image[None] for image in images()), graph_sha256=graph_sha256(model)
    )


def snr_db(model: ModelProto, quantized: ModelProto) -> float:
    """Signal to noise of the logits, over the images."""
    floating, integer = session(model), session(quantized)
    signal = noise = 0.0
    for image in images():
        wanted = floating.run(None, {"image": image[None]})[0].astype(np.float64)
        found = integer.run(None, {"image": image[None]})[0]
        signal += (wanted**2).sum()
        noise += ((found - wanted) ** 2).sum()
    return float(10 * np.log10(signal / noise))


class Tiny:
    """What the tests of this folder share; fixtures, since test folders are no packages."""

    model = staticmethod(tiny_model)
    images = staticmethod(images)
    session = staticmethod(session)
    calibrated = staticmethod(calibrated)
    snr_db = staticmethod(snr_db)


@pytest.fixture(scope="session")
def tiny() -> type[Tiny]:
    return Tiny


@pytest.fixture(scope="session")
def model() -> ModelProto:
    return tiny_model()


@pytest.fixture(scope="session")
def statistics(model) -> Statistics:
    return calibrated(model)
