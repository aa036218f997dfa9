"""Which tensors of a graph get a quantize/dequantize (Q/DQ) pair, in the form a runtime fuses."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from onnx import GraphProto, ModelProto, NodeProto

from segdeploy.errors import SegdeployError

ACTIVATIONS = frozenset({"Relu", "Clip"})  # both runtimes fold them into the operator before
JOINTS = frozenset({"Add", "Concat"})  # have an integer kernel in ONNX Runtime; Resize has none


class QuantizationForm(StrEnum):
    """Where the pairs stand and what they hold.

    `tensorrt`: symmetric int8, on the inputs of convolutions only; TensorRT refuses a zero point.
    `onnxruntime`: uint8 with zero point, on every tensor between integer operators.
    """

    TENSORRT = "tensorrt"
    ONNXRUNTIME = "onnxruntime"


@dataclass(frozen=True)
class Placement:
    """The convolutions that become integer, and the tensors that get a pair with who reads it.

    A node is named by its first output: unlike node names, those are unique.
    """

    convolutions: frozenset[str]
    pairs: Mapping[str, frozenset[str]]


def place_pairs(
    graph: GraphProto,
    form: QuantizationForm,
    *,
    keep_fp32: Collection[str] = (),
    quantize_depthwise: bool = True,
) -> Placement:
    """Decide where Q/DQ pairs go.

    Args:
        graph: in topological order, as ONNX wants it.
        form: the runtime it is for.
        keep_fp32: nodes left floating: a node's name, or the module path of a weight
            (`segmentor.decode_head` leaves every convolution of the head floating).
        quantize_depthwise: whether convolutions with groups become integer too.
    """
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    if not convolutions:
        raise SegdeployError("the graph has no convolution, so there is nothing to quantize")
    kept = _kept_nodes(graph, keep_fp32)
    weights = {tensor.name for tensor in graph.initializer}
    integer = {
        node.output[0]
        for node in convolutions
        if node.output[0] not in kept
        and node.input[1] in weights
        and (quantize_depthwise or _groups(node) == 1)
    }
    if form is QuantizationForm.TENSORRT:
        return _tensorrt_placement(graph, integer, kept)
    return _onnxruntime_placement(graph, integer, kept)


def activations_to_quantize(model: ModelProto) -> tuple[str, ...]:
    """The tensors that get a scale in one form or the other, in the order of their computation."""
    placed = {name for form in QuantizationForm for name in place_pairs(model.graph, form).pairs}
    order = [tensor.name for tensor in model.graph.input]
    order += [name for node in model.graph.node for name in node.output]
    return tuple(name for name in order if name in placed)


def graph_sha256(model: ModelProto) -> str:
    """Hexadecimal sha256 of the graph with its weights; the metadata beside it does not count."""
    return hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()


def consumers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """The nodes that read each tensor."""
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            readers.setdefault(name, []).append(node)
    return readers


def _tensorrt_placement(graph: GraphProto, integer: set[str], kept: set[str]) -> Placement:
    """Convolution inputs, and the skip input of a residual Add where it has a pair already."""
    pairs: dict[str, set[str]] = {}
    for node in graph.node:
        if node.output and node.output[0] in integer:
            pairs.setdefault(node.input[0], set()).add(node.output[0])
    readers = consumers(graph)
    fusible = {name for name in integer if len(readers.get(name, ())) == 1}
    for node in graph.node:
        # TensorRT fuses convolution and Add into one int8 kernel when the other addend is int8 too.
        if node.op_type == "Add" and node.output[0] not in kept and fusible & {*node.input}:
            for skip in ({*node.input} - fusible) & pairs.keys():
                pairs[skip].add(node.output[0])
    return Placement(frozenset(integer), {name: frozenset(who) for name, who in pairs.items()})


def _onnxruntime_placement(graph: GraphProto, integer: set[str], kept: set[str]) -> Placement:
    """Every tensor between integer operators; all who read it read the pair.

    ONNX Runtime makes an integer kernel only of "dequantize, operator, quantize". The last
    convolution therefore stays floating: its result, the logits, is never quantized.
    """
    readers = consumers(graph)
    constants = {tensor.name for tensor in graph.initializer}
    before_convolution: set[str] = set()  # tensors that some later convolution depends on
    placed: set[str] = set()
    convolutions: set[str] = set()
    for node in reversed(graph.node):
        name = node.output[0]
        depended_on = not before_convolution.isdisjoint(node.output)
        if depended_on or node.op_type == "Conv":
            before_convolution.update(node.input)
        result = _activated(name, readers)
        if name in integer and depended_on:
            convolutions.add(name)
            placed |= {node.input[0], result}
        is_joint = node.op_type in JOINTS and constants.isdisjoint(node.input)
        if is_joint and name not in kept and result in placed:
            placed |= {*node.input}
    who = {name: frozenset(node.output[0] for node in readers[name]) for name in placed}
    return Placement(frozenset(convolutions), who)


def _activated(name: str, readers: Mapping[str, list[NodeProto]]) -> str:
    """The tensor behind the activation that follows `name`, or `name` itself."""
    reading = readers.get(name, [])
    if len(reading) == 1 and reading[0].op_type in ACTIVATIONS:
        return str(reading[0].output[0])
    return name


def _kept_nodes(graph: GraphProto, keep_fp32: Collection[str]) -> set[str]:
    kept = set()
    for wanted in keep_fp32:
        found = {
            node.output[0]
            for node in graph.node
            if node.name == wanted
            or (node.op_type == "Conv" and node.input[1].startswith(wanted.rstrip(".") + "."))
        }
        if not found:
            raise SegdeployError(
                f"keep_fp32 names {wanted!r}, but the graph has no such node or module",
                hint="give a node's name or the path of a module that holds convolutions",
            )
        kept |= found
    return kept


def _groups(node: NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
