"""Every rule of quantized graphs is broken by a small graph, which breaks nothing else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from segdeploy.lint import lint_model
from segdeploy.lint_rules import RULES, LintTarget

TENSORRT, RTX, ONNXRUNTIME = LintTarget
CHANNELS = 4  # of the sketches
KERNEL = (CHANNELS, CHANNELS, 1, 1)
ZERO, HALF_ZERO = np.int8(0), np.uint8(128)


@dataclass(frozen=True)
class Broken:
    """A rule, the node to blame, for whom it is broken, and how to draw the graph."""

    rule: str
    node: str
    draw: Callable[[Any], ModelProto]
    target: LintTarget = TENSORRT

    def __str__(self) -> str:
        return self.draw.__name__


EXAMPLES: list[Broken] = []


def breaks(rule: str, node: str, target: LintTarget = TENSORRT) -> Callable:
    """Declare that a graph breaks one rule at one node, and nothing else."""

    def declare(draw: Callable[[Any], ModelProto]) -> Callable[[Any], ModelProto]:
        EXAMPLES.append(Broken(rule, node, draw, target))
        return draw

    return declare


@breaks("quantized", "sketch")
def a_floating_graph(s):
    return s.end(s.node("Relu", ["x"], "relu"))


@breaks("opset", "in.q")
def half_scales_at_opset_18(s):
    return s.half_scales(opset=18)


@breaks("subgraph", "choice")
def a_branch(s):
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, "nchw")
    inner = helper.make_node("Identity", ["x"], ["inner"])
    body = helper.make_graph([inner], "body", [], [value])
    s.store("condition", True)
    chosen = s.node("If", ["condition"], "choice", then_branch=body, else_branch=body)
    return s.end(s.conv(s.pair(chosen, "in"), "conv"))


@breaks("pair", "moved")
def a_transpose_between_q_and_dq(s):
    moved = s.node("Transpose", [s.quantize("x", "q")], "moved", perm=[0, 1, 3, 2])
    return s.end(s.conv(s.dequantize(moved, "dq"), "conv"))


@breaks("pair", "dq")
def another_scale_behind(s):
    return s.end(s.conv(s.dequantize(s.quantize("x", "q"), "dq", 0.2), "conv"))


@breaks("pair", "dq", ONNXRUNTIME)
def another_zero_point_behind_a_saturating_clip(s):
    integers = s.quantize("x", "q", 0.1, HALF_ZERO)
    bounds = [s.store("low", np.uint8(128)), s.store("high", np.uint8(200))]
    clipped = s.node("Clip", [integers, *bounds], "clip")
    return s.end(s.conv(s.dequantize(clipped, "dq", 0.1, np.uint8(127)), "conv"))


@breaks("pair", "clip", ONNXRUNTIME)
def a_clip_of_signed_integers(s):
    bounds = [s.store("low", np.int8(0)), s.store("high", np.int8(99))]
    clipped = s.node("Clip", [s.quantize("x", "q"), *bounds], "clip")
    return s.end(s.conv(s.dequantize(clipped, "dq"), "conv"))


@breaks("pair", "dq", ONNXRUNTIME)
def a_concat_of_integers_at_two_scales(s):
    other = s.node("Neg", ["x"], "neg")
    parts = [s.quantize("x", "a"), s.quantize(other, "b", 0.3)]
    joined = s.dequantize(s.node("Concat", parts, "cat", axis=2), "dq")
    return s.end(s.conv(joined, "conv"))


@breaks("pair", "lonely")
def a_q_that_nobody_reads(s):
    s.quantize(s.node("Neg", ["x"], "neg"), "lonely")
    return s.end(s.conv(s.pair("x", "in"), "conv"))


@breaks("activations", "in.q")
def unsigned_activations_for_tensorrt(s):
    return s.end(s.conv(s.pair("x", "in", 0.1, np.uint8(0)), "conv"))


@breaks("activations", "in.q")
def the_default_type_of_q(s):
    return s.end(s.conv(s.pair("x", "in", 0.1, None), "conv"))


@breaks("activations", "in.q")
def a_zero_point_for_tensorrt(s):
    return s.end(s.conv(s.pair("x", "in", 0.1, np.int8(3)), "conv"))


@breaks("activations", "in.q", ONNXRUNTIME)
def activations_of_sixteen_bits(s):
    return s.end(s.conv(s.pair("x", "in", 0.1, np.uint16(0)), "conv"), opset=21)


@breaks("activations", "in.q", ONNXRUNTIME)
def a_scale_for_each_channel_of_an_activation(s):
    scales = np.full(CHANNELS, 0.1, np.float32)
    return s.end(s.conv(s.pair("x", "in", scales, np.zeros(CHANNELS, np.int8)), "conv"))


@pytest.mark.parametrize("scale", [0, -1, np.nan, np.inf, 2.0**-41, 2.0**21])
def test_a_scale_is_a_number_that_calibration_gives(sketch, scale):
    s = sketch()
    model = s.end(s.conv(s.pair("x", "in", scale), "conv"))

    found = lint_model(model, TENSORRT)

    assert {("scale", "in.q"), ("scale", "in.dq")} <= {(b.rule, b.node) for b in found}


@breaks("scale", "conv.w")
def a_dead_channel(s):
    scale = np.array([0.5, 0, 0.5, 0.5], np.float32)
    return s.end(s.conv(s.pair("x", "in"), "conv", s.weights("conv.w", scale=scale)))


@breaks("scale", "q")
def a_scale_computed_at_run_time(s):
    scale = s.node("ReduceMax", ["x"], "scale", keepdims=0)
    s.store("zero", ZERO)
    integers = s.node("QuantizeLinear", ["x", scale, "zero"], "q")
    return s.end(s.conv(s.node("DequantizeLinear", [integers, scale, "zero"], "dq"), "conv"))


@breaks("one-pair", "second.q")
def two_pairs_at_two_scales(s):
    first, second = s.pair("x", "first"), s.pair("x", "second", 0.2)
    return s.end(s.conv(first, "a"), s.conv(second, "b"))


@breaks("duplicate", "second.q")
def two_pairs_at_one_scale(s):
    return s.end(s.conv(s.pair("x", "first"), "a"), s.conv(s.pair("x", "second"), "b"))


@breaks("fusion", "mid.q")
def a_pair_before_relu(s):
    return s.conv_pair_activation("Relu")


@breaks("fusion", "mid.q", ONNXRUNTIME)
def a_pair_before_relu6(s):
    return s.conv_pair_activation("Clip", 0, 6)


@breaks("fusion", "mid.q")
def a_pair_before_batch_normalization(s):
    computed = s.conv(s.pair("x", "in"), "conv")
    parts = [s.store(name, np.ones(CHANNELS, np.float32)) for name in ("a", "b", "mean", "var")]
    inputs = [s.pair(computed, "mid"), *parts]
    return s.end(s.node("BatchNormalization", inputs, "act"))


@breaks("output", "logits.q")
def quantized_logits(s):
    logits = s.pair(s.conv(s.pair("x", "in"), "conv"), "logits")
    return s.model(s.node("Neg", [logits], "neg"))


@breaks("sides", "conv")
def integer_weights_of_floating_data(s):
    return s.end(s.conv("x", "conv"))


@breaks("sides", "conv", ONNXRUNTIME)
def floating_weights_of_integer_data(s):
    return s.end(s.conv(s.pair("x", "in"), "conv", s.floats("w")))


@breaks("depthwise", "conv", RTX)
def integer_depthwise_for_rtx(s):
    kernel = np.ones((CHANNELS, 1, 1, 1), np.int8)
    weights = s.weights("w", kernel)
    return s.end(s.conv(s.pair("x", "in"), "conv", weights, group=CHANNELS))


@breaks("weights", "conv")
def unsigned_weights(s):
    return s.one_conv(np.ones(KERNEL, np.uint8))


@breaks("weights", "conv")
def a_zero_point_of_weights(s):
    return s.one_conv(zero_point=np.array([0, 0, 1, 0], np.int8))


@breaks("weights", "conv")
def one_scale_for_all_channels(s):
    return s.one_conv(scale=0.5, zero_point=ZERO)


@breaks("weights", "conv")
def the_default_axis_of_weights(s):
    return s.one_conv(axis=1)


@breaks("weights", "conv")
def the_value_that_has_no_opposite(s):
    return s.one_conv(np.full(KERNEL, -128, np.int8))


@breaks("weights", "conv")
def floating_weights_that_round_to_it(s):
    s.store("w", np.full(KERNEL, -64, np.float32))  # 128 steps of 0.5
    parameters = s.parameters("w", np.full(CHANNELS, 0.5, np.float32), np.zeros(CHANNELS, np.int8))
    integers = s.node("QuantizeLinear", ["w", *parameters], "w.q", axis=0)
    weights = s.node("DequantizeLinear", [integers, *parameters], "w.dq", axis=0)
    return s.end(s.conv(s.pair("x", "in"), "conv", weights))


@breaks("weights", "conv")
def computed_weights(s):
    kernel = s.node("Reshape", ["x", s.store("shape", np.array([-1, CHANNELS, 1, 1]))], "kernel")
    return s.end(s.conv(s.pair("x", "in"), "conv", s.pair(kernel, "w")))


def with_bias(s, bias):
    return s.node("Conv", [s.pair("x", "in"), s.weights("w"), bias], "conv")


@breaks("bias", "conv")
def an_integer_bias_for_tensorrt(s):
    return s.end(with_bias(s, s.bias("b")))


@breaks("bias", "conv", ONNXRUNTIME)
def a_bias_at_a_scale_of_its_own(s):
    return s.end(with_bias(s, s.bias("b", 0.050001)))


@breaks("bias", "conv", ONNXRUNTIME)
def a_bias_of_one_scale(s):
    s.store("integers", np.zeros(CHANNELS, np.int32))
    return s.end(with_bias(s, s.dequantize("integers", "b", 0.05, None)))


@breaks("bias", "conv", ONNXRUNTIME)
def a_bias_of_eight_bits(s):
    s.store("integers", np.zeros(CHANNELS, np.int8))
    scales = np.full(CHANNELS, 0.05, np.float32)
    return s.end(with_bias(s, s.dequantize("integers", "b", scales, None, axis=0)))


@breaks("bias", "conv", ONNXRUNTIME)
def a_zero_point_of_the_bias(s):
    s.store("integers", np.zeros(CHANNELS, np.int32))
    scales, zero_points = np.full(CHANNELS, 0.05, np.float32), np.ones(CHANNELS, np.int32)
    return s.end(with_bias(s, s.dequantize("integers", "b", scales, zero_points, axis=0)))


@breaks("bias", "conv", ONNXRUNTIME)
def a_floating_bias_of_an_integer_convolution(s):
    relu = s.node("Relu", [with_bias(s, s.store("b", np.ones(CHANNELS, np.float32)))], "relu")
    return s.end(s.conv(s.pair(relu, "mid"), "next"))


@breaks("residual", "add")
def a_pair_on_one_addend(s):
    data = s.pair("x", "in")
    return s.end(s.node("Add", [s.conv(data, "conv"), data], "add"))


def joined(s, *parts):
    s.node("Concat", [*parts], "cat", axis=2)
    return "cat.y"


@breaks("concatenation", "cat")
def two_scales_joined(s):
    other = s.pair(s.node("Neg", ["x"], "neg"), "b", 0.2)
    return s.end(s.conv(s.pair(joined(s, s.pair("x", "a"), other), "out"), "conv"))


@breaks("concatenation", "cat")
def a_floating_input_joined(s):
    mixed = joined(s, s.pair("x", "a"), s.node("Neg", ["x"], "neg"))
    return s.end(s.conv(s.pair(mixed, "out"), "conv"))


@breaks("concatenation", "cat", ONNXRUNTIME)
def another_scale_behind_the_concat(s):
    other = s.pair(s.node("Neg", ["x"], "neg"), "b")
    return s.end(s.conv(s.pair(joined(s, s.pair("x", "a"), other), "out", 0.2), "conv"))


@breaks("floating", "reader")
def a_pooled_pair(s):
    return s.end(s.node("GlobalAveragePool", [s.pair("x", "in")], "reader"))


@breaks("floating", "reader", ONNXRUNTIME)
def a_resized_pair(s):
    scales = s.store("scales", np.float32([1, 1, 2, 2]))
    return s.end(s.node("Resize", [s.pair("x", "in"), "", scales], "reader"))


@breaks("floating", "reader")
def a_multiplied_pair(s):
    matrix = s.store("matrix", np.eye(6, dtype=np.float32))
    return s.end(s.node("MatMul", [s.pair("x", "in"), matrix], "reader"))


@breaks("floating", "reader", ONNXRUNTIME)
def a_pair_read_by_max_pooling(s):
    return s.end(s.node("MaxPool", [s.pair("x", "in")], "reader", kernel_shape=[2, 2]))


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_a_broken_rule_is_found_where_it_is_broken_and_nothing_else(sketch, example):
    model = example.draw(sketch())
    onnx.checker.check_model(model, full_check=example.rule != "opset")

    found = lint_model(model, example.target)

    assert [(breach.rule, breach.node) for breach in found] == [(example.rule, example.node)]
    assert all(breach.found and breach.wanted for breach in found)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_graph_that_breaks_it(rule):
    assert rule in {example.rule for example in EXAMPLES}


def test_depthwise_convolutions_may_be_integer_for_tensorrt_itself(sketch):
    model = integer_depthwise_for_rtx(sketch())

    assert lint_model(model, TENSORRT) == ()


def test_a_nameless_node_is_called_by_its_first_output(sketch):
    model = unsigned_activations_for_tensorrt(sketch())
    for node in model.graph.node:
        node.ClearField("name")

    assert [breach.node for breach in lint_model(model, TENSORRT)] == ["in.q.y"]


def test_a_breach_says_what_was_found_and_what_is_wanted(sketch):
    (breach,) = lint_model(another_scale_behind(sketch()), TENSORRT)

    assert breach.found == "scale 0.200000003, zero point 0"
    assert breach.wanted == "scale 0.100000001, zero point 0, as q"
