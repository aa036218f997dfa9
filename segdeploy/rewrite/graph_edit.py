"""What the passes ask of a graph: attributes, constants, shapes, and where new nodes go."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir import tape


def operand(node: ir.Node, index: int = 0) -> ir.Value:
    """An input that the operator cannot do without."""
    value = node.inputs[index]
    assert value is not None
    return value


def weights_of(node: ir.Node) -> NDArray[Any]:
    """The weights of a convolution that is known to have constant ones."""
    weights = constant(operand(node, 1))
    assert weights is not None
    return weights


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The array of an initializer; None if the value is computed."""
    if value is None or value.const_value is None or not value.is_initializer():
        return None
    array: NDArray[Any] = value.const_value.numpy()
    return array


def ints(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An attribute that is a list of integers."""
    attribute = node.attributes.get(name)
    return tuple(default) if attribute is None else tuple(attribute.as_ints())


def number(node: ir.Node, name: str, default: int) -> int:
    """An attribute that is an integer."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def text(node: ir.Node, name: str, default: str) -> str:
    """An attribute that is a string."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()


def side(value: ir.Value, axis: int) -> int | None:
    """The length of one axis; None if it is dynamic or unknown."""
    if value.shape is None:
        return None
    length = value.shape[axis]
    return length if isinstance(length, int) else None


def only_reader(value: ir.Value) -> ir.Node | None:
    """The node that reads the value, if it is the only one and the graph does not return it.

    Who asks for its shape does not count.
    """
    readers = [use.node for use in value.uses() if use.node.op_type != "Shape"]
    return readers[0] if len(readers) == 1 and not value.is_graph_output() else None


def dense_3x3(node: ir.Node) -> int | None:
    """The dilation of a square, ungrouped, "same" 3x3 convolution of constant weights."""
    weights = constant(node.inputs[1]) if node.op_type == "Conv" else None
    return None if weights is None else same_3x3(node, weights.shape)


def same_3x3(node: ir.Node, shape: tuple[int, ...]) -> int | None:
    """The dilation of a square, ungrouped, "same" 3x3 convolution with weights of this shape."""
    dilations = ints(node, "dilations", (1, 1))
    dilation = dilations[0]
    is_dense = (
        shape[2:] == (3, 3)
        and side(operand(node), 1) in (None, shape[1])
        and number(node, "group", 1) == 1
        and ints(node, "strides", (1, 1)) == (1, 1)
        and dilations == (dilation, dilation)
        and ints(node, "pads", (0, 0, 0, 0)) == (dilation,) * 4
        and text(node, "auto_pad", "NOTSET") == "NOTSET"
    )
    return dilation if is_dense else None


def concatenated_parts(value: ir.Value) -> tuple[ir.Value, ...]:
    """What a concatenation of channels joins, if one node alone reads it; else the value itself."""
    node = value.producer()
    if node is None or node.op_type != "Concat" or number(node, "axis", 0) != 1:
        return (value,)
    parts = tuple(part for part in node.inputs if part is not None)
    is_known = only_reader(value) is not None and all(side(part, 1) for part in parts)
    return parts if is_known else (value,)


class Draft(tape.Tape):
    """New nodes that will stand where an old one stood, with names under one prefix."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def make(
        self, op_type: str, inputs: Sequence[ir.Value | None], name: str, **attributes: Any
    ) -> ir.Value:
        """One node and its result, both called PREFIX.NAME."""
        full = f"{self.prefix}.{name}"
        return self.op(op_type, inputs, attributes, name=full, output=ir.Value(name=full))

    def copy(self, node: ir.Node, inputs: Sequence[ir.Value | None], name: str) -> ir.Value:
        """A node of the same kind and attributes on other inputs."""
        attributes = {key: attribute.value for key, attribute in node.attributes.items()}
        return self.make(node.op_type, inputs, name, **attributes)

    def store(self, array: NDArray[Any], name: str) -> ir.Value:
        """A constant called PREFIX.NAME."""
        # Not ascontiguousarray: it makes a vector of a scalar, which Range has to be given.
        stored = np.asarray(array, order="C")
        return self.initializer(ir.tensor(stored), f"{self.prefix}.{name}")

    def reshape(self, value: ir.Value, shape: Sequence[int], name: str) -> ir.Value:
        """Reshape to constant sides: 0 keeps a side, -1 is what is left."""
        sides = self.store(np.array(shape, np.int64), f"{name}_shape")
        return self.make("Reshape", [value, sides], name)

    def length(self, value: ir.Value, axis: int, name: str) -> ir.Value:
        """The length of one axis at run time, an int64 scalar."""
        sides = self.make("Shape", [value], f"{name}_shape", start=axis, end=axis + 1)
        return self.make("Squeeze", [sides], name)

    def split(
        self, value: ir.Value, sizes: Sequence[int], name: str, *, axis: int
    ) -> list[ir.Value]:
        """Parts of the given sizes along one axis."""
        parts = [ir.Value(name=f"{self.prefix}.{name}{k}") for k in range(len(sizes))]
        lengths = self.store(np.array(sizes, np.int64), f"{name}_sizes")
        self.op_multi_out(
            "Split",
            [value, lengths],
            {"axis": axis},
            outputs=parts,
            name=f"{self.prefix}.{name}_split",
        )
        return parts

    def crop(self, value: ir.Value, size: tuple[int, int] | ir.Value, name: str) -> ir.Value:
        """The upper left part of a map (N, C, H, W)."""
        if isinstance(size, tuple):
            size = self.store(np.array(size, np.int64), f"{name}_size")
        origin = self.store(np.zeros(2, np.int64), f"{name}_origin")
        axes = self.store(np.array([2, 3], np.int64), f"{name}_axes")
        return self.make("Slice", [value, origin, size, axes], name)

    def replace(self, node: ir.Node, result: ir.Value) -> None:
        """Put the draft where `node` is; who read the node's output reads `result` instead."""
        graph = node.graph
        assert isinstance(graph, ir.Graph)
        old = node.outputs[0]
        result.type, result.shape = old.type, old.shape
        for value in self.initializers:
            graph.register_initializer(value)
        ir.convenience.replace_nodes_and_values(
            graph, node, [node], list(self.nodes), [old], [result]
        )
