"""Which tensors of a graph get a quantize/dequantize (Q/DQ) pair, in the form a runtime fuses."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from onnx import GraphProto, ModelProto, NodeProto

from segdeploy.errors import SegdeployError

ACTIVATIONS = frozenset({"Relu", "Clip"})  # both runtimes fold them into the operator before


class QuantizationForm(StrEnum):
    """What the pairs hold; where they stand is the same.

    `tensorrt`: symmetric int8; TensorRT refuses a zero point.
    `onnxruntime`: the same numbers as uint8 around 128, with integer biases and clips.
    `onnxruntime-full-range`: for a CPU alone: what a ReLU returns takes all of uint8, from 0 on.
    """

    TENSORRT = "tensorrt"
    ONNXRUNTIME = "onnxruntime"
    FULL_RANGE = "onnxruntime-full-range"


@dataclass(frozen=True)
class Placement:
    """The convolutions that become integer, and the tensors that get a pair.

    A node is named by its first output: unlike node names, those are unique. Whoever reads a tensor
    with a pair reads the pair, so that it exists in integers only.
    """

    convolutions: frozenset[str]
    pairs: frozenset[str]
    joined: Mapping[str, str]  # tensors that share the scale of the Concat that joins them


def place_pairs(
    graph: GraphProto, *, keep_fp32: Collection[str] = (), quantize_depthwise: bool = True
) -> Placement:
    """Decide where Q/DQ pairs go.

    On what an integer convolution reads; on both addends of a sum and on all parts of a Concat that
    one reads; and on its result where another one depends on it through something else, such as a
    resize. Bias, pooling, resize, the mask, and the pooled branches, folded to small matrices, are
    computed in floating point.

    Args:
        graph: in topological order, as ONNX wants it.
        keep_fp32: nodes left floating: a node's name, or the module path of a weight
            (`segmentor.decode_head` leaves every convolution of the head floating).
        quantize_depthwise: whether convolutions with groups become integer too. Without them the
            graph is for TensorRT-RTX, whose integer convolutions return floats: then no result gets
            a pair that is not read by an integer convolution.
    """
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    if not convolutions:
        raise SegdeployError("the graph has no convolution, so there is nothing to quantize")
    kept = _kept_nodes(graph, keep_fp32)
    constants = {tensor.name for tensor in graph.initializer}
    integer = {
        node.output[0]
        for node in convolutions
        if node.output[0] not in kept
        and node.input[1] in constants
        and (quantize_depthwise or groups_of(node) == 1)
    }
    readers = consumers(graph)
    before_integers: set[str] = set()  # tensors that some integer convolution depends on
    pairs: set[str] = set()
    joined: dict[str, str] = {}
    for node in reversed(graph.node):
        name = node.output[0]
        depended_on = not before_integers.isdisjoint(node.output)
        if depended_on or name in integer:
            before_integers.update(node.input)
        result = activated(name, readers)
        if name in integer:
            pairs.add(node.input[0])
        computes = name in integer or (node.op_type == "Add" and not integer.isdisjoint(node.input))
        reading = {reader.op_type for reader in readers.get(result, [])}
        if quantize_depthwise and computes and depended_on and "Conv" not in reading:
            pairs.add(result)
        is_joint = node.op_type in ("Add", "Concat") and constants.isdisjoint(node.input)
        if is_joint and result in pairs:
            pairs.update(node.input)
            if node.op_type == "Concat":
                joined |= dict.fromkeys(node.input, joined.get(name, name))
    return Placement(frozenset(integer), frozenset(pairs), joined)


def activations_to_quantize(model: ModelProto) -> tuple[str, ...]:
    """The tensors that can get a scale, in the order of their computation."""
    placed = place_pairs(model.graph).pairs
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


def activated(name: str, readers: Mapping[str, list[NodeProto]]) -> str:
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


def groups_of(node: NodeProto) -> int:
    """Of a convolution."""
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
