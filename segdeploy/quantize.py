"""INT8 graphs: Q/DQ pairs with scales from calibrated ranges, in the form that a runtime fuses.

On x86 processors with AVX2 or AVX-512 but without VNNI, ONNX Runtime adds products of uint8 and
int8 in 16 bits that saturate: on a DeepLabV3+ trained on CamVid the logits' signal-to-noise ratio
fell from 34 to 27 dB. A session that sets `session.x64quantprecision` to 1 is exact, and slower;
weights of 7 bits cannot saturate, keep the speed, and cost 3 dB on every processor.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from segdeploy.errors import SegdeployError
from segdeploy.placement import QuantizationForm, graph_sha256, place_pairs

OLDEST_OPSET = 19  # brought half-precision scales
WEIGHT_STEPS = {8: 127, 7: 63}  # by bits; two products of 255 * 63 fit into 16 bits
INT8_STEPS = 127  # on either side of zero; -128 stays unused, so that the format is symmetric
UINT8_STEPS = 255
INT32_STEPS = 2**30  # that a bias may take: half of int32, the rest is room for the accumulator
SMALLEST_SCALE = 2.0**-20  # also for what is zero throughout: a scale must be above zero


class CalibratedRanges(Protocol):
    """What is asked of `calibrate.Ranges`: low and high per tensor, of which floating graph."""

    @property
    def values(self) -> Mapping[str, tuple[float, float]]: ...  # noqa: D102
    @property
    def graph_sha256(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Quantization:
    """How floats become integers: value = scale * (integer - zero_point)."""

    scale: NDArray[np.floating[Any]]  # () or (channels,)
    zero_point: NDArray[np.integer[Any]]  # same shape; its type is the integer type


def quantize_model(
    model: ModelProto,
    ranges: CalibratedRanges,
    *,
    form: QuantizationForm = QuantizationForm.TENSORRT,
    keep_fp32: Collection[str] = (),
    quantize_depthwise: bool = True,
    weight_bits: int = 8,
) -> ModelProto:
    """Return a copy with int8 convolutions: per-channel weights, per-tensor activations.

    Args:
        model: fp32, or for the TensorRT form fp16, in topological order.
        ranges: collected on this very graph.
        form: which runtime it is for.
        keep_fp32: nodes or modules left floating, see `placement.place_pairs`.
        quantize_depthwise: TensorRT-RTX pads depthwise int8 weights 4x and computes the padding, so
            leave them floating for it.
        weight_bits: 8, or 7 for ONNX Runtime on x86 without VNNI.
    """
    if weight_bits not in WEIGHT_STEPS:
        raise SegdeployError(f"weights of {weight_bits} bits; wanted 8 or 7")
    _check_floating(model, ranges)
    graph = model.graph
    placement = place_pairs(graph, form, keep_fp32=keep_fp32, quantize_depthwise=quantize_depthwise)
    if not placement.convolutions:
        raise SegdeployError(
            "every convolution would stay floating, so the graph would not be int8",
            hint="keep fewer nodes floating",
        )
    constants = {tensor.name: tensor for tensor in graph.initializer}
    dtype = _activation_dtype(graph, placement.convolutions, constants)
    if form is QuantizationForm.ONNXRUNTIME and dtype != np.float32:
        raise SegdeployError(
            f"the onnxruntime form starts from a float32 graph, this one computes in {dtype}",
            hint="quantize the fp32 graph",
        )
    scales = _activation_scales(placement.pairs, ranges, form, dtype)
    nodes: list[NodeProto] = []
    parameters: list[TensorProto] = []
    for tensor in graph.input:
        if tensor.name in scales:
            _add_pair(tensor.name, scales[tensor.name], nodes, parameters)
    for original in graph.node:
        node = NodeProto()
        node.CopyFrom(original)
        name = node.output[0]
        if name in placement.convolutions:
            x = scales[node.input[0]] if form is QuantizationForm.ONNXRUNTIME else None
            steps = WEIGHT_STEPS[weight_bits]
            _quantize_parameters(node, x, steps, constants, nodes, parameters)
        for index, read in enumerate(original.input):
            if name in placement.pairs.get(read, ()):
                node.input[index] = _dequantized(read)
        nodes.append(node)
        for written in node.output:
            if written in scales:
                _add_pair(written, scales[written], nodes, parameters)
    return _with_nodes(model, nodes, parameters)


def symmetric_int8(low: float, high: float, dtype: np.dtype[Any]) -> Quantization:
    """Int8 around zero, as TensorRT wants it."""
    scale = max(abs(low), abs(high)) / INT8_STEPS
    return Quantization(np.array(max(scale, SMALLEST_SCALE), dtype), np.array(0, np.int8))


def asymmetric_uint8(low: float, high: float) -> Quantization:
    """Uint8 over `low` to `high`, widened to hold zero: padding and ReLU need an exact zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / UINT8_STEPS, SMALLEST_SCALE)
    return Quantization(np.array(scale, np.float32), np.array(round(-low / scale), np.uint8))


def per_channel_int8(
    weights: NDArray[np.floating[Any]],
    steps: int = INT8_STEPS,
    smallest: float | NDArray[np.float64] = SMALLEST_SCALE,
) -> tuple[NDArray[np.int8], Quantization]:
    """Weights (O, ...) as -steps..steps, one scale of at least `smallest` per output channel."""
    rows = weights.astype(np.float64).reshape(len(weights), -1)
    scale = np.maximum(np.abs(rows).max(axis=1) / steps, smallest).astype(weights.dtype)
    integers = np.rint(rows / scale.astype(np.float64)[:, None]).clip(-steps, steps)
    quantization = Quantization(scale, np.zeros(len(scale), np.int8))
    return integers.astype(np.int8).reshape(weights.shape), quantization


def _check_floating(model: ModelProto, ranges: CalibratedRanges) -> None:
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise SegdeployError(
            "the graph is quantized already", hint="quantize the floating graph it was made from"
        )
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if opset < OLDEST_OPSET:
        raise SegdeployError(
            f"the graph has opset {opset}; wanted {OLDEST_OPSET} or later", hint="export it again"
        )
    found = graph_sha256(model)
    if ranges.graph_sha256 != found:
        raise SegdeployError(
            f"the ranges are of graph {ranges.graph_sha256[:12]}, this is graph {found[:12]}",
            hint="calibrate this graph: tensors of other graphs may have the same names",
        )


def _activation_dtype(
    graph: GraphProto, convolutions: Collection[str], constants: Mapping[str, TensorProto]
) -> np.dtype[Any]:
    """What the convolutions compute in, read off their weights."""
    weights = [node.input[1] for node in graph.node if node.output[0] in convolutions]
    dtypes = {helper.tensor_dtype_to_np_dtype(constants[name].data_type) for name in weights}
    if len(dtypes) > 1 or not dtypes <= {np.dtype(np.float32), np.dtype(np.float16)}:
        found = ", ".join(sorted(map(str, dtypes)))
        raise SegdeployError(f"convolution weights are {found}; wanted float32 or float16")
    return dtypes.pop()


def _activation_scales(
    pairs: Collection[str],
    ranges: CalibratedRanges,
    form: QuantizationForm,
    dtype: np.dtype[Any],
) -> dict[str, Quantization]:
    scales = {}
    for name in pairs:
        if name not in ranges.values:
            raise SegdeployError(
                f"tensor {name} has no calibrated range", hint="calibrate this graph again"
            )
        low, high = ranges.values[name]
        scales[name] = (
            symmetric_int8(low, high, dtype)
            if form is QuantizationForm.TENSORRT
            else asymmetric_uint8(low, high)
        )
    return scales


def _quantize_parameters(
    node: NodeProto,
    x: Quantization | None,
    steps: int,
    constants: Mapping[str, TensorProto],
    nodes: list[NodeProto],
    parameters: list[TensorProto],
) -> None:
    """Make the weights of convolution `node` int8 and, given its input's scale, the bias int32.

    ONNX Runtime adds the bias in the accumulator; TensorRT adds it in floating point.
    """
    name = node.output[0]
    weights = numpy_helper.to_array(constants[node.input[1]])
    bias = constants.get(node.input[2]) if len(node.input) > 2 else None
    if x is None or bias is None:
        integers, quantization = per_channel_int8(weights, steps)
        node.input[1] = _add_dequantized(
            f"{name}_weight", integers, quantization, nodes, parameters
        )
        return
    values = numpy_helper.to_array(bias).astype(np.float64)
    x_scale = float(x.scale)
    smallest = np.maximum(np.abs(values) / (x_scale * INT32_STEPS), SMALLEST_SCALE)
    integers, quantization = per_channel_int8(weights, steps, smallest)
    node.input[1] = _add_dequantized(f"{name}_weight", integers, quantization, nodes, parameters)
    bias_scale = x.scale * quantization.scale
    bias_integers = np.rint(values / bias_scale.astype(np.float64)).astype(np.int32)
    exact = Quantization(bias_scale, np.zeros(len(values), np.int32))
    node.input[2] = _add_dequantized(f"{name}_bias", bias_integers, exact, nodes, parameters)


def _add_dequantized(
    name: str,
    integers: NDArray[np.integer[Any]],
    quantization: Quantization,
    nodes: list[NodeProto],
    parameters: list[TensorProto],
) -> str:
    """Store integers (O, ...) and the node that makes floats of them; return what it writes."""
    stored = f"{name}_{integers.dtype}"
    parameters.append(numpy_helper.from_array(integers, stored))
    inputs = [stored, *_store(name, quantization, parameters)]
    nodes.append(
        helper.make_node(
            "DequantizeLinear", inputs, [_dequantized(name)], name=f"{name}_dequantize", axis=0
        )
    )
    return _dequantized(name)


def _add_pair(
    name: str, quantization: Quantization, nodes: list[NodeProto], parameters: list[TensorProto]
) -> None:
    stored, floating = f"{name}_quantized", _dequantized(name)
    scale = _store(name, quantization, parameters)
    nodes.append(
        helper.make_node("QuantizeLinear", [name, *scale], [stored], name=f"{name}_quantize")
    )
    nodes.append(
        helper.make_node(
            "DequantizeLinear", [stored, *scale], [floating], name=f"{name}_dequantize"
        )
    )


def _store(name: str, quantization: Quantization, parameters: list[TensorProto]) -> list[str]:
    names = [f"{name}_scale", f"{name}_zero_point"]
    values = [quantization.scale, quantization.zero_point]
    parameters.extend(map(numpy_helper.from_array, values, names))
    return names


def _dequantized(name: str) -> str:
    return f"{name}_dequantized"


def _with_nodes(
    model: ModelProto, nodes: list[NodeProto], parameters: list[TensorProto]
) -> ModelProto:
    """The model with other nodes, more constants, and without constants that nothing reads now."""
    quantized = ModelProto()
    quantized.CopyFrom(model)
    read = {name for node in nodes for name in node.input}
    read |= {tensor.name for tensor in model.graph.output}
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del quantized.graph.node[:]
    del quantized.graph.initializer[:]
    quantized.graph.node.extend(nodes)
    quantized.graph.initializer.extend([*constants, *parameters])
    return quantized
