"""Which convolution of one graph is which of another: by what rewriting and rounding leave."""

from collections.abc import Iterable
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto

TRUSTED = 0.9  # of the tensors with equal names that must belong to weights of equal shape
ENOUGH = 0.5  # of the convolutions that must be found by name; else their order is tried
Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerPair:
    """A convolution, and what the tensor it returns is called in either graph."""

    name: str
    reference: str
    other: str


@dataclass(frozen=True)
class _Convolution:
    tensor: str  # that it returns
    weight: str
    shape: Shape  # channels that it returns, and the kernel; what it reads may have one more


def pair_layers(reference: ModelProto, other: ModelProto) -> tuple[LayerPair, ...]:
    """Convolutions of the reference, in its order, with their counterparts.

    By the names of weights; then by those of tensors, which a quantized convolution keeps and a
    rewritten one leaves to what takes its place; and if few are found, by order and shape.
    """
    own, others = _convolutions(reference.graph), _convolutions(other.graph)
    found = {layer.tensor: tensor for layer, tensor in _by_weight(own, others)}
    if _names_agree(own, others):
        made = {name for node in other.graph.node for name in node.output}
        for layer in own:
            if layer.tensor in made:
                found.setdefault(layer.tensor, layer.tensor)
        written = {name for node in reference.graph.node for name in node.output}
        taken = set(found.values())
        for layer in others:
            if layer.tensor in written - found.keys() and layer.tensor not in taken:
                found[layer.tensor] = layer.tensor
    if len(found) < ENOUGH * len(own) and [c.shape for c in own] == [c.shape for c in others]:
        found = {a.tensor: b.tensor for a, b in zip(own, others, strict=True)}
    known = ((layer.tensor, _module(layer.weight)) for layer in (*others, *own))
    names = {tensor: module for tensor, module in known if module}
    order = [name for node in reference.graph.node for name in node.output]
    return tuple(
        LayerPair(names.get(tensor) or names.get(found[tensor]) or tensor, tensor, found[tensor])
        for tensor in order
        if tensor in found
    )


def weight_of(node: NodeProto, makers: dict[str, NodeProto]) -> str:
    """The constant that a convolution's weights are read from, through casts and a Q/DQ pair."""
    name = str(node.input[1])
    while (maker := makers.get(name)) is not None and maker.input:
        name = str(maker.input[0])
    return name


def makers_of(graph: GraphProto) -> dict[str, NodeProto]:
    """The node that makes each tensor."""
    return {str(name): node for node in graph.node for name in node.output}


def _convolutions(graph: GraphProto) -> list[_Convolution]:
    shapes = {str(tensor.name): tuple(tensor.dims) for tensor in graph.initializer}
    makers = makers_of(graph)
    found = []
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        weight = weight_of(node, makers)
        outputs, _, *kernel = shapes.get(weight, (0, 0))
        found.append(_Convolution(str(node.output[0]), weight, (outputs, *kernel)))
    return found


def _by_weight(
    own: Iterable[_Convolution], others: Iterable[_Convolution]
) -> Iterable[tuple[_Convolution, str]]:
    known = {(layer.weight.removesuffix(".scaled"), layer.shape): layer.tensor for layer in others}
    for layer in own:
        key = (layer.weight.removesuffix(".scaled"), layer.shape)
        if key in known and ".weight" in layer.weight:  # a name that says which layer it is
            yield layer, known[key]


def _names_agree(own: Iterable[_Convolution], others: Iterable[_Convolution]) -> bool:
    """Whether tensors of equal names seem to be the same: numbers may have been given anew."""
    shapes = {layer.tensor: layer.shape for layer in others}
    equal = [layer.shape == shapes[layer.tensor] for layer in own if layer.tensor in shapes]
    return bool(equal) and sum(equal) >= TRUSTED * len(equal)


def _module(weight: str) -> str:
    """The path of a module, such as backbone.layer2.0.conv.1; empty where the name has none."""
    if ".weight" not in weight:
        return ""
    path = weight.partition(".weight")[0].removesuffix(".conv")
    return path.removeprefix("segmentor.")
