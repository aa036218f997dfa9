"""Graphs of both forms keep every rule, and odd graphs are linted too."""

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from segdeploy.lint import integer_convolutions, lint_model, target_of
from segdeploy.lint_rules import LintTarget

TENSORRT, RTX, ONNXRUNTIME = LintTarget
CHANNELS = 4  # of the sketches
KERNEL = (CHANNELS, CHANNELS, 1, 1)
ZERO, HALF_ZERO = np.int8(0), np.uint8(128)


def tensorrt_network(s) -> ModelProto:
    """ReLU6, depthwise, residual, pooled branch, Concat, floating logits and argmax."""
    bounds = [s.store("zero", np.float32(0)), s.store("six", np.float32(6))]
    stem = s.node("Clip", [s.conv(s.pair("x", "in"), "stem"), *bounds], "stem.act")
    skip = s.pair(stem, "skip")
    depthwise = s.weights("depthwise.w", np.ones((CHANNELS, 1, 1, 1), np.int8))
    filtered = s.node("Relu", [s.conv(skip, "depthwise", depthwise, group=CHANNELS)], "filtered")
    bias = s.store("bias", np.ones(CHANNELS, np.float32))
    inputs = [s.pair(filtered, "filtered"), s.weights("project.w"), bias]
    projected = s.pair(s.node("Conv", inputs, "project"), "projected", 0.3)
    total = s.node("Add", [skip, projected], "residual")
    pooled = s.node("GlobalAveragePool", [total], "pool")
    shifted = s.node("Add", [total, pooled], "broadcast")
    scaled = s.node("Add", [s.pair(shifted, "a"), s.store("shift", np.float32(1))], "shift")
    features = [s.pair(scaled, "b"), s.pair(s.node("Relu", [shifted], "relu"), "c")]
    head = s.conv(s.pair(s.node("Concat", features, "cat", axis=2), "d"), "head")
    leaky = s.node("LeakyRelu", [s.pair(head, "head")], "leaky")
    logits = s.conv(s.pair(leaky, "leaky"), "logits")
    return s.model(s.node("Neg", [logits], "neg"))


def onnxruntime_network(s) -> ModelProto:
    """Uint8 with zero points, int32 biases, integer operators between Q and DQ."""
    data = s.pair("x", "in", 0.1, HALF_ZERO)
    stem = s.node("Conv", [data, s.weights("stem.w"), s.bias("stem.b")], "stem")
    low, high = s.store("low", np.uint8(128)), s.store("high", np.uint8(200))
    clipped = s.node("Clip", [s.quantize(stem, "stem.q", 0.1, HALF_ZERO), low, high], "clip")
    pooled = s.node("MaxPool", [clipped], "max", kernel_shape=[3, 3], pads=[1] * 4)
    moved = s.node("Transpose", [pooled], "move", perm=[0, 1, 3, 2])
    parts = [moved, s.quantize(s.node("Neg", ["x"], "neg"), "other", 0.1, HALF_ZERO)]
    joined = s.node("Concat", parts, "cat", axis=0)
    skip = s.dequantize(joined, "skip", 0.1, HALF_ZERO)
    relu = s.node("Relu", [s.conv(skip, "body")], "relu")
    total = s.pair(s.node("Add", [skip, s.pair(relu, "relu", 0.2, np.uint8(0))], "add"), "add")
    bias = s.store("bias", np.ones(CHANNELS, np.float32))
    head = s.node("Conv", [total, s.weights("head.w"), bias], "head")
    return s.end(head)


@pytest.mark.parametrize(
    ("draw", "target", "convolutions"),
    [(tensorrt_network, TENSORRT, 5), (onnxruntime_network, ONNXRUNTIME, 3)],
)
def test_a_graph_in_the_form_of_its_runtime_breaks_no_rule(sketch, draw, target, convolutions):
    model = draw(sketch())
    onnx.checker.check_model(model, full_check=True)

    assert lint_model(model, target) == ()
    assert integer_convolutions(model) == convolutions


def a_tensor_with_a_pair_that_another_reads_floating(s):
    pooled = s.node("GlobalAveragePool", ["x"], "pool")
    return s.end(s.conv(s.pair("x", "in"), "conv"), pooled)


def max_pooling_of_a_pair(s):
    pooled = s.node("MaxPool", [s.pair("x", "in")], "pool", kernel_shape=[2, 2])
    return s.end(s.conv(s.pair(pooled, "pooled"), "conv"))


def one_q_with_two_dq(s):
    integers = s.quantize("x", "q")
    return s.end(*(s.conv(s.dequantize(integers, name), f"{name}.conv") for name in "ab"))


def weights_quantized_in_the_graph(s):
    s.store("w", np.full(KERNEL, 63, np.float32))
    parameters = s.parameters("w", np.full(CHANNELS, 0.5, np.float32), np.zeros(CHANNELS, np.int8))
    integers = s.node("QuantizeLinear", ["w", *parameters], "w.q", axis=0)
    weights = s.node("DequantizeLinear", [integers, parameters[0]], "w.dq", axis=-4)
    return s.end(s.conv(s.pair("x", "in"), "conv", weights))


def weights_without_a_zero_point(s):
    return s.one_conv(zero_point=None, axis=-4)


def one_output_channel_with_one_scale(s):
    weights = s.weights("w", np.ones((1, CHANNELS, 1, 1), np.int8), axis=1)
    narrow = s.conv(s.pair("x", "in"), "conv", weights)
    return s.model(narrow)


def constants_that_are_nodes(s):
    model = s.one_conv()
    held = list(model.graph.initializer)
    del model.graph.initializer[:]
    for tensor in reversed(held):
        copy = helper.make_node("Identity", [f"{tensor.name}.held"], [tensor.name])
        model.graph.node.insert(0, copy)
        model.graph.node.insert(
            0, helper.make_node("Constant", [], [f"{tensor.name}.held"], value=tensor)
        )
    return model


def a_scale_that_is_an_attribute(s):
    s.nodes.append(helper.make_node("Constant", [], ["scale"], value_float=0.1))
    s.store("zero", ZERO)
    integers = s.node("QuantizeLinear", ["x", "scale", "zero"], "q")
    return s.end(s.conv(s.node("DequantizeLinear", [integers, "scale", "zero"], "dq"), "conv"))


def half_scales_at_opset_19(s):
    return s.half_scales(opset=19)


def a_clip_that_is_no_activation(s):
    return s.conv_pair_activation("Clip", -1, 6)


def the_shape_of_a_quantized_map(s):
    data = s.pair("x", "in")
    return s.end(s.node("Expand", [s.conv(data, "conv"), s.node("Shape", [data], "shape")], "big"))


@pytest.mark.parametrize(
    "draw",
    [
        a_tensor_with_a_pair_that_another_reads_floating,
        max_pooling_of_a_pair,
        one_q_with_two_dq,
        weights_quantized_in_the_graph,
        weights_without_a_zero_point,
        one_output_channel_with_one_scale,
        constants_that_are_nodes,
        a_scale_that_is_an_attribute,
        half_scales_at_opset_19,
        a_clip_that_is_no_activation,
        the_shape_of_a_quantized_map,
    ],
)
def test_what_a_runtime_can_fuse_is_no_breach(sketch, draw):
    assert lint_model(draw(sketch()), TENSORRT) == ()


def test_breaches_come_in_the_order_of_the_graph(sketch):
    s = sketch()
    data = s.pair("x", "in", 0.1, np.uint8(0))
    pooled = s.node("GlobalAveragePool", [data], "pool")
    model = s.end(s.conv(data, "conv", s.floats("w")), pooled)

    found = [(breach.rule, breach.node) for breach in lint_model(model, TENSORRT)]

    assert found == [("activations", "in.q"), ("floating", "pool"), ("sides", "conv")]


def test_calls_of_functions_are_not_passed_over_in_silence(sketch):
    model = sketch().one_conv()
    model.graph.node.append(helper.make_node("Block", ["x"], ["y"], "call", domain="local"))
    body = [helper.make_node("Identity", ["a"], ["b"])]
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("local", "Block", ["a"], ["b"], body, opsets))

    assert [(b.rule, b.node) for b in lint_model(model, TENSORRT)] == [("subgraph", "call")]


@pytest.mark.parametrize("target", LintTarget)
def test_odd_graphs_are_linted_too(target):
    kinds = ["QuantizeLinear", "DequantizeLinear", "Conv", "Add", "Concat", "Clip", "Constant"]
    numbers = numpy_helper.from_array(np.ones(3, np.float32), "three")
    external = TensorProto(name="far", data_type=TensorProto.FLOAT, dims=[4])
    external.data_location = TensorProto.EXTERNAL
    texts = helper.make_tensor("texts", TensorProto.STRING, [1], [b"a"])
    empty = numpy_helper.from_array(np.ones(0, np.float32), "empty")
    tensors = [numbers, external, texts, empty]
    names = ["", "x", *(tensor.name for tensor in tensors)]
    nodes = [helper.make_node(kind, [], []) for kind in kinds]
    nodes += [helper.make_node(kind, [], [f"{kind}.out"]) for kind in kinds]
    for kind in kinds:
        for a in names:
            for b in [*names, "QuantizeLinear.out", "DequantizeLinear.out"]:
                nodes.append(helper.make_node(kind, [b, a, a], [f"{kind}{a}{b}", ""]))
                nodes.append(helper.make_node("Conv", [b, f"{kind}{a}{b}", b], [f"{a}{b}{kind}"]))
    graph = helper.make_graph(nodes, "odd", [], [], tensors)

    assert lint_model(helper.make_model(graph), target)


def test_a_graph_is_linted_for_the_form_that_its_manifest_names(sketch):
    model = sketch().one_conv()

    alien = target_of(model)
    helper.set_model_props(model, {"segdeploy.quantization": '"onnxruntime"'})

    assert alien is TENSORRT
    assert target_of(model) is ONNXRUNTIME
