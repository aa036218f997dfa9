"""Every rule of quantized graphs is broken by a small graph, and kept by graphs of both forms."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from segdeploy.lint import integer_convolutions, lint_model, target_of
from segdeploy.lint_rules import RULES, LintTarget

TENSORRT, RTX, ONNXRUNTIME = LintTarget
CHANNELS = 4
ZERO, HALF_ZERO = np.int8(0), np.uint8(128)


class Sketch:
    """A graph in the making: each method adds nodes and returns the tensor they write."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def node(self, kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}.y"], name, **attributes))
        return f"{name}.y"

    def store(self, name: str, value: object) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def parameters(self, name: str, scale: object, zero_point: object) -> list[str]:
        scale = scale if isinstance(scale, np.ndarray) else np.float32(scale)
        stored = self.store(f"{name}.scale", scale)
        if zero_point is None:
            return [stored]
        return [stored, self.store(f"{name}.zero_point", zero_point)]

    def quantize(self, x: str, name: str, scale: object = 0.1, zero_point: object = ZERO) -> str:
        return self.node("QuantizeLinear", [x, *self.parameters(name, scale, zero_point)], name)

    def dequantize(
        self, x: str, name: str, scale: object = 0.1, zero_point: object = ZERO, **axis: int
    ) -> str:
        parameters = self.parameters(name, scale, zero_point)
        return self.node("DequantizeLinear", [x, *parameters], name, **axis)

    def pair(self, x: str, name: str, scale: object = 0.1, zero_point: object = ZERO) -> str:
        integers = self.quantize(x, f"{name}.q", scale, zero_point)
        return self.dequantize(integers, f"{name}.dq", scale, zero_point)

    def weights(self, name: str, integers: np.ndarray | None = None, **options: object) -> str:
        stored = np.full((CHANNELS, CHANNELS, 1, 1), 3, np.int8) if integers is None else integers
        self.store(f"{name}.integers", stored)
        scale = np.full(len(stored), 0.5, np.float32)
        defaults = {"scale": scale, "zero_point": np.zeros(len(stored), stored.dtype), "axis": 0}
        return self.dequantize(f"{name}.integers", name, **{**defaults, **options})

    def floats(self, name: str, groups: int = 1) -> str:
        return self.store(name, np.ones((CHANNELS, CHANNELS // groups, 1, 1), np.float32))

    def bias(self, name: str, scale: float = 0.05, **options: object) -> str:
        """By default at the scale of a default pair times that of default weights."""
        self.store(f"{name}.integers", np.arange(CHANNELS, dtype=np.int32))
        scales = np.full(CHANNELS, scale, np.float32)
        return self.dequantize(f"{name}.integers", name, scales, None, axis=0, **options)

    def conv(self, x: str, name: str, weights: str = "", **attributes: object) -> str:
        """Integer by default, from a pair that stands on `x` already."""
        weights = weights or self.weights(f"{name}.w")
        return self.node("Conv", [x, weights], name, **attributes)

    def end(self, *tensors: str, opset: int = 20) -> ModelProto:
        """A floating convolution on each tensor, whose result the graph returns."""
        for tensor in tensors:
            self.conv(tensor, f"last.{tensor}", self.floats(f"last.{tensor}.w"))
        return self.model(*(f"last.{tensor}.y" for tensor in tensors), opset=opset)

    def model(self, *outputs: str, opset: int = 20) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "sketch",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, CHANNELS, 6, 6))],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, "nchw") for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9
        )


@dataclass(frozen=True)
class Broken:
    """A rule, the node to blame, for whom it is broken, and how to draw the graph."""

    rule: str
    node: str
    draw: Callable[[Sketch], ModelProto]
    target: LintTarget = TENSORRT

    def __str__(self) -> str:
        return self.draw.__name__


EXAMPLES: list[Broken] = []


def breaks(rule: str, node: str, target: LintTarget = TENSORRT) -> Callable:
    """Declare that a graph breaks one rule at one node, and nothing else."""

    def declare(draw: Callable[[Sketch], ModelProto]) -> Callable[[Sketch], ModelProto]:
        EXAMPLES.append(Broken(rule, node, draw, target))
        return draw

    return declare


@breaks("quantized", "sketch")
def a_floating_graph(s):
    return s.end(s.node("Relu", ["x"], "relu"))


@breaks("opset", "in.q")
def half_scales_at_opset_18(s):
    half = s.node("Cast", ["x"], "half", to=TensorProto.FLOAT16)
    data = s.pair(half, "in", np.array(0.1, np.float16))
    weights = s.weights("w", scale=np.full(CHANNELS, 0.5, np.float16))
    single = s.node("Cast", [s.conv(data, "conv", weights)], "single", to=TensorProto.FLOAT)
    return s.end(single, opset=18)


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
def test_a_scale_is_a_number_that_calibration_gives(scale):
    s = Sketch()
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


def conv_pair_activation(s, kind, *bounds):
    computed = s.conv(s.pair("x", "in"), "conv")
    stored = [s.store(f"bound{k}", np.float32(bound)) for k, bound in enumerate(bounds)]
    return s.end(s.node(kind, [s.pair(computed, "mid"), *stored], "act"))


@breaks("fusion", "mid.q")
def a_pair_before_relu(s):
    return conv_pair_activation(s, "Relu")


@breaks("fusion", "mid.q", ONNXRUNTIME)
def a_pair_before_relu6(s):
    return conv_pair_activation(s, "Clip", 0, 6)


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


def one_conv(s, *arguments, **options):
    return s.end(s.conv(s.pair("x", "in"), "conv", s.weights("conv.w", *arguments, **options)))


KERNEL = (CHANNELS, CHANNELS, 1, 1)


@breaks("weights", "conv")
def unsigned_weights(s):
    return one_conv(s, np.ones(KERNEL, np.uint8))


@breaks("weights", "conv")
def a_zero_point_of_weights(s):
    return one_conv(s, zero_point=np.array([0, 0, 1, 0], np.int8))


@breaks("weights", "conv")
def one_scale_for_all_channels(s):
    return one_conv(s, scale=0.5, zero_point=ZERO)


@breaks("weights", "conv")
def the_default_axis_of_weights(s):
    return one_conv(s, axis=1)


@breaks("weights", "conv")
def the_value_that_has_no_opposite(s):
    return one_conv(s, np.full(KERNEL, -128, np.int8))


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
def test_a_broken_rule_is_found_where_it_is_broken_and_nothing_else(example):
    model = example.draw(Sketch())
    onnx.checker.check_model(model, full_check=example.rule != "opset")

    found = lint_model(model, example.target)

    assert [(breach.rule, breach.node) for breach in found] == [(example.rule, example.node)]
    assert all(breach.found and breach.wanted for breach in found)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_graph_that_breaks_it(rule):
    assert rule in {example.rule for example in EXAMPLES}


def tensorrt_network(s: Sketch) -> ModelProto:
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


def onnxruntime_network(s: Sketch) -> ModelProto:
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
def test_a_graph_in_the_form_of_its_runtime_breaks_no_rule(draw, target, convolutions):
    model = draw(Sketch())
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
    return one_conv(s, zero_point=None, axis=-4)


def one_output_channel_with_one_scale(s):
    weights = s.weights("w", np.ones((1, CHANNELS, 1, 1), np.int8), axis=1)
    narrow = s.conv(s.pair("x", "in"), "conv", weights)
    return s.model(narrow)


def constants_that_are_nodes(s):
    model = one_conv(s)
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
    model = half_scales_at_opset_18(s)
    model.opset_import[0].version = 19
    return model


def a_clip_that_is_no_activation(s):
    return conv_pair_activation(s, "Clip", -1, 6)


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
def test_what_a_runtime_can_fuse_is_no_breach(draw):
    assert lint_model(draw(Sketch()), TENSORRT) == ()


def test_depthwise_convolutions_may_be_integer_for_tensorrt_itself():
    model = integer_depthwise_for_rtx(Sketch())

    assert lint_model(model, TENSORRT) == ()


def test_a_nameless_node_is_called_by_its_first_output():
    model = unsigned_activations_for_tensorrt(Sketch())
    for node in model.graph.node:
        node.ClearField("name")

    assert [breach.node for breach in lint_model(model, TENSORRT)] == ["in.q.y"]


def test_breaches_come_in_the_order_of_the_graph():
    s = Sketch()
    data = s.pair("x", "in", 0.1, np.uint8(0))
    pooled = s.node("GlobalAveragePool", [data], "pool")
    model = s.end(s.conv(data, "conv", s.floats("w")), pooled)

    found = [(breach.rule, breach.node) for breach in lint_model(model, TENSORRT)]

    assert found == [("activations", "in.q"), ("floating", "pool"), ("sides", "conv")]


def test_a_breach_says_what_was_found_and_what_is_wanted():
    (breach,) = lint_model(another_scale_behind(Sketch()), TENSORRT)

    assert breach.found == "scale 0.200000003, zero point 0"
    assert breach.wanted == "scale 0.100000001, zero point 0, as q"


def test_calls_of_functions_are_not_passed_over_in_silence():
    model = one_conv(Sketch())
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


def test_a_graph_is_linted_for_the_form_that_its_manifest_names():
    model = one_conv(Sketch())

    alien = target_of(model)
    helper.set_model_props(model, {"segdeploy.quantization": '"onnxruntime"'})

    assert alien is TENSORRT
    assert target_of(model) is ONNXRUNTIME
