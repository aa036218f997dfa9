"""INT8 graphs: Q/DQ pairs with scales from calibrated statistics, where a runtime fuses them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto

from segdeploy.errors import SegdeployError
from segdeploy.histograms import Statistics
from segdeploy.placement import Placement, QuantizationForm, graph_sha256, place_pairs
from segdeploy.quantize.activations import Activation, Method, condition, read_activations
from segdeploy.quantize.cpu_form import to_cpu_form
from segdeploy.quantize.draft import Draft, dequantized
from segdeploy.quantize.network import Network
from segdeploy.quantize.pixels import take_exact_pixels
from segdeploy.quantize.rounding import (
    SMALLEST_SCALE,
    WEIGHT_STEPS,
    correct_bias,
    round_weights,
    smallest_scale,
)
from segdeploy.thresholds import PERCENTILE, check_method


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """How a floating graph becomes an int8 one."""

    form: QuantizationForm = QuantizationForm.TENSORRT
    method: str = "mse"  # how a range is read off a histogram, see `thresholds`
    percentile: float = PERCENTILE
    keep_fp32: tuple[str, ...] = ()  # nodes or modules left floating, see `placement.place_pairs`
    quantize_depthwise: bool = True  # TensorRT-RTX pads their int8 weights 4x: not for it
    weight_bits: int = 8  # or 7 for ONNX Runtime on x86 without VNNI
    condition: bool = True  # activations made easy to round first, see `activations`
    exact_pixels: bool = True  # see `pixels`
    correct_biases: bool = True  # see `rounding.correct_bias`

    def __post_init__(self) -> None:
        if self.weight_bits not in WEIGHT_STEPS:
            raise SegdeployError(f"weights of {self.weight_bits} bits; wanted 8 or 7")
        check_method(self.method, self.percentile)


def quantize_model(
    model: ModelProto, statistics: Statistics, options: QuantizeOptions
) -> ModelProto:
    """Return a copy with int8 convolutions: per-channel weights, per-tensor activations.

    Args:
        model: fp32, or for the TensorRT form fp16, in topological order.
        statistics: collected on this very graph.
        options: how.
    """
    network = Network(model)
    _check_same_graph(model, statistics)
    if options.form is not QuantizationForm.TENSORRT and network.dtype != np.float32:
        raise SegdeployError(
            f"the onnxruntime form starts from a float32 graph, this one is {network.dtype}",
            hint="quantize the fp32 graph",
        )
    placement = place_pairs(
        model.graph, keep_fp32=options.keep_fp32, quantize_depthwise=options.quantize_depthwise
    )
    if not placement.convolutions:
        raise SegdeployError(
            "every convolution would stay floating, so the graph would not be int8",
            hint="keep fewer nodes floating",
        )
    _check_calibrated(placement, statistics)
    method = Method(options.method, options.percentile)
    full_range = options.form is QuantizationForm.FULL_RANGE
    if options.condition:
        activations = condition(
            network, placement, statistics.histograms, method, full_range=full_range
        )
    else:
        activations = read_activations(
            placement.pairs, placement, statistics.histograms, method, full_range=full_range
        )
    if options.exact_pixels:
        activations |= take_exact_pixels(network)
    renamed = network.renamed
    activations = {renamed.get(name, name): found for name, found in activations.items()}
    pairs = {renamed.get(name, name) for name in placement.pairs}
    quantized = _write(network, placement, pairs, activations, options)
    return quantized if options.form is QuantizationForm.TENSORRT else to_cpu_form(quantized)


def _write(
    network: Network,
    placement: Placement,
    pairs: Collection[str],
    activations: Mapping[str, Activation],
    options: QuantizeOptions,
) -> ModelProto:
    draft = Draft(network.dtype)
    for tensor in network.graph.input:
        if tensor.name in pairs:
            _add_pair(tensor.name, activations[tensor.name], draft)
    for node in network.graph.node:
        name = node.output[0]
        if name in placement.convolutions:
            _round_convolution(network, node, activations[node.input[0]], options, draft)
        elif name in network.weights:
            _keep_convolution(network, node, draft)
        for index, source in enumerate(node.input):
            if source in pairs:
                node.input[index] = dequantized(source)
        draft.nodes.append(node)
        for written in node.output:
            if written in pairs:
                _add_pair(written, activations[written], draft)
    return draft.finish(network.model)


def _add_pair(name: str, activation: Activation, draft: Draft) -> None:
    draft.add_pair(name, activation.step, from_zero=activation.from_zero)


def _round_convolution(
    network: Network, node: NodeProto, x: Activation, options: QuantizeOptions, draft: Draft
) -> None:
    """Weights in int8; the bias corrected, and in steps that int32 has at their scales."""
    name = node.output[0]
    weights, bias, step = network.weights[name], network.biases[name], max(x.step, SMALLEST_SCALE)
    smallest = np.maximum(smallest_scale(bias, step), network.smallest_scale)
    steps = WEIGHT_STEPS[options.weight_bits]
    integers, scale = round_weights(weights, steps, smallest, network.dtype)
    rounded = integers.astype(np.float64) * scale[:, None, None, None].astype(np.float64)
    if options.correct_biases:
        bias = correct_bias(bias, weights, rounded, x.mean, depthwise=network.is_depthwise(node))
    if network.dtype == np.float32:
        unit = (np.float32(step) * scale).astype(np.float64)
        bias = np.rint(bias / unit) * unit
    del node.input[1:]
    node.input.append(draft.add_weights(name, integers, scale))
    node.input.append(draft.store(f"{name}_bias", bias.astype(network.dtype)))


def _keep_convolution(network: Network, node: NodeProto, draft: Draft) -> None:
    name = node.output[0]
    del node.input[1:]
    for kind, values in (("weight", network.weights[name]), ("bias", network.biases[name])):
        node.input.append(draft.store(f"{name}_{kind}_kept", values.astype(network.dtype)))


def _check_same_graph(model: ModelProto, statistics: Statistics) -> None:
    found = graph_sha256(model)
    if statistics.graph_sha256 != found:
        raise SegdeployError(
            f"the statistics are of graph {statistics.graph_sha256[:12]}, this is {found[:12]}",
            hint="calibrate this graph: tensors of other graphs may have the same names",
        )


def _check_calibrated(placement: Placement, statistics: Statistics) -> None:
    for name in sorted({*placement.pairs, *placement.joined.values()}):
        if name not in statistics.histograms:
            raise SegdeployError(
                f"tensor {name} has no calibrated range", hint="calibrate this graph again"
            )
