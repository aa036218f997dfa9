"""The same int8 network as ONNX Runtime's CPU kernels like it: not one number changes.

A symmetric int8 value is the uint8 value 128 above it, with zero point 128 and the same scale; a
ReLU before it is a maximum of 128 behind it. Biases become int32, for ONNX Runtime runs
"dequantize, convolve, quantize" in integers only with such a bias. The last convolution, whose
result is not rounded, runs in floating point on the same integers.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from segdeploy.graph import drop_unread
from segdeploy.placement import ACTIVATIONS, consumers

MIDDLE = 128  # uint8 of what is 0 in int8


class _Graph:
    """A Q/DQ graph, opened."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.readers = consumers(model.graph)
        self.returned = {tensor.name for tensor in model.graph.output}

    def add(self, name: str, values: NDArray[np.generic]) -> str:
        """Store a constant once."""
        if name not in self.constants:
            self.constants[name] = values
            self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def replace(self, node: NodeProto, *by: NodeProto) -> None:
        """Put other nodes in the place of one."""
        place = list(self.graph.node).index(node)
        del self.graph.node[place]
        for offset, new in enumerate(by):
            self.graph.node.insert(place + offset, new)

    def only_reader(self, name: str) -> NodeProto | None:
        """The one node that reads a tensor."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.returned else None


def to_cpu_form(model: ModelProto) -> ModelProto:
    """A copy of a Q/DQ graph with symmetric int8 activations, in uint8.

    Graphs of other tools are taken too: pairs with a zero point, or of uint8, stay as they are.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    opened = _Graph(copy)
    for node in list(copy.graph.node):
        if node.op_type == "QuantizeLinear":
            _to_uint8(opened, node)
    drop_unread(copy.graph)  # activations that went behind the pair
    opened = _Graph(copy)
    for node in list(copy.graph.node):
        if node.op_type == "Conv":
            _to_integers(opened, node)
    _take_pixels(_Graph(copy))
    drop_unread(copy.graph)
    return copy


def _to_uint8(opened: _Graph, quantize: NodeProto) -> None:
    """Zero point 128; an activation before the pair that saturation cannot replace goes behind."""
    zero = opened.constants.get(quantize.input[2]) if len(quantize.input) > 2 else None
    scale = opened.constants.get(quantize.input[1])
    if zero is None or scale is None or zero.ndim or zero.any():
        return
    bounds = _activation_before(opened, quantize)
    if zero.dtype == np.int8:
        middle = opened.add("uint8_middle", np.array(MIDDLE, np.uint8))
        quantize.input[2] = middle
        for reader in opened.readers.get(quantize.output[0], []):
            if reader.op_type == "DequantizeLinear":
                reader.input[2] = middle
    if bounds is None:
        return
    offset = MIDDLE if zero.dtype == np.int8 else 0
    codes = [int(np.clip(np.rint(b / scale) + offset, 0, 255)) for b in bounds]
    activation = opened.makers[quantize.input[0]]
    quantize.input[0] = activation.input[0]
    if codes != [0, 255]:
        rounded, clipped = f"{quantize.output[0]}_rounded", quantize.output[0]
        quantize.output[0] = rounded
        limits = [opened.add(f"uint8_{code}", np.array(code, np.uint8)) for code in codes]
        clip = helper.make_node("Clip", [rounded, *limits], [clipped], name=f"{clipped}_clip")
        opened.replace(quantize, quantize, clip)


def _activation_before(opened: _Graph, quantize: NodeProto) -> tuple[float, float] | None:
    """Bounds of a ReLU or Clip that stands between a convolution and the pair, and only there."""
    activation = opened.makers.get(quantize.input[0])
    if activation is None or activation.op_type not in ACTIVATIONS:
        return None
    maker = opened.makers.get(activation.input[0])
    if maker is None or maker.op_type not in ("Conv", "Add"):
        return None
    if opened.only_reader(activation.output[0]) is None:
        return None
    if activation.op_type == "Relu":
        return 0.0, np.inf
    if len(activation.input) < 3 or not {*activation.input[1:]} <= opened.constants.keys():
        return None
    low, high = (float(opened.constants[name]) for name in activation.input[1:])
    return low, high


def _to_integers(opened: _Graph, node: NodeProto) -> None:
    x, w = (opened.makers.get(name) for name in node.input[:2])
    if x is None or w is None or {x.op_type, w.op_type} != {"DequantizeLinear"}:
        return
    known = all(name in opened.constants for name in (*x.input[1:], *w.input))
    bias = opened.constants.get(node.input[2]) if len(node.input) > 2 else None
    if not known or bias is None or opened.constants[x.input[2]].dtype != np.uint8:
        return
    scale = opened.constants[x.input[1]] * opened.constants[w.input[1]]
    name = node.output[0]
    reader = opened.only_reader(name)
    if reader is None or reader.op_type != "QuantizeLinear":
        return
    integers = np.rint(bias.astype(np.float64) / scale).astype(np.int32)
    inputs = [
        opened.add(f"{name}_bias_int32", integers),
        opened.add(f"{name}_bias_scale", scale),
        opened.add(f"{name}_bias_zero_point", np.zeros(len(scale), np.int32)),
    ]
    node.input[2] = f"{name}_bias_dequantized"
    dequantize = helper.make_node(
        "DequantizeLinear", inputs, [node.input[2]], name=f"{name}_bias_dequantize", axis=0
    )
    opened.replace(node, dequantize, node)


def _take_pixels(opened: _Graph) -> None:
    """Where int8 is the pixel less 128, uint8 is the pixel itself: nothing is left to compute."""
    image = opened.graph.input[0].name
    path = []
    name = image
    while (node := opened.only_reader(name)) is not None and node.op_type != "QuantizeLinear":
        if node.op_type not in ("Cast", "Transpose", "Sub", "Pad"):
            return
        path.append(node)
        name = node.output[0]
    computed = [step for step in path if step.op_type != "Cast"]
    if node is None or [step.op_type for step in computed] != ["Transpose", "Sub", "Pad"]:
        return
    transpose, subtract, pad = computed
    half, mark = opened.constants[subtract.input[1]], opened.constants[pad.input[2]]
    scale, zero = (opened.constants[name] for name in node.input[1:])
    if (half.reshape(-1) != MIDDLE).any() or scale != 1 or zero != MIDDLE:
        return
    transpose.input[0] = image
    pad.input[0] = transpose.output[0]
    pad.input[2] = opened.add("uint8_mark", np.array(int(mark) + MIDDLE, np.uint8))
    pad.output[0] = node.output[0]
    for step in (*path, node):
        if step not in (transpose, pad):
            opened.graph.node.remove(step)
