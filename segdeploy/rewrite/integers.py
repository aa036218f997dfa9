"""Integers in a Q/DQ graph in the form of ONNX Runtime's CPU kernels, as the passes see them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from segdeploy.rewrite.graph_edit import Draft, constant, only_reader, operand


@dataclass(frozen=True)
class Integers:
    """A value in integers, with the constants that tell what it stands for."""

    value: ir.Value
    scale: ir.Value
    zero: ir.Value

    @property
    def scales(self) -> NDArray[Any]:
        """The scale, or one for each output channel of a convolution's weights."""
        array = constant(self.scale)
        assert array is not None
        return array

    @property
    def zeros(self) -> NDArray[Any]:
        """The zero point or points."""
        array = constant(self.zero)
        assert array is not None
        return array

    @property
    def is_activation(self) -> bool:
        """Whether it is uint8 with one scale."""
        return self.zeros.dtype == np.uint8 and self.zeros.ndim == self.scales.ndim == 0

    def dequantized(self, draft: Draft, value: ir.Value, name: str) -> ir.Value:
        """Other integers of the same meaning, as floating numbers."""
        return draft.make("DequantizeLinear", [value, self.scale, self.zero], name, axis=0)

    def quantized(self, draft: Draft, value: ir.Value, name: str) -> ir.Value:
        """Floating numbers as integers of the same meaning."""
        return draft.make("QuantizeLinear", [value, self.scale, self.zero], name)

    def replace(self, draft: Draft, value: ir.Value) -> None:
        """Let a value of the draft stand for these integers, which a QuantizeLinear wrote."""
        quantize = self.value.producer()
        assert quantize is not None
        draft.replace(quantize, value)


@dataclass(frozen=True)
class IntegerConvolution:
    """A convolution from integers to integers."""

    node: ir.Node
    source: Integers
    weights: Integers
    array: NDArray[np.int8]  # (O, I, h, w), the weights
    result: Integers


def made_of(value: ir.Value | None) -> Integers | None:
    """The integers that a value is dequantized from."""
    node = None if value is None else value.producer()
    return _of(node, operand(node)) if node and node.op_type == "DequantizeLinear" else None


def activation_of(value: ir.Value | None) -> Integers | None:
    """The same, of an activation."""
    found = made_of(value)
    return found if found is not None and found.is_activation else None


def result_of(node: ir.Node) -> Integers | None:
    """The activation that a node's result is quantized to, if nothing else reads the result."""
    reader = only_reader(node.outputs[0])
    if reader is None or reader.op_type != "QuantizeLinear":
        return None
    found = _of(reader, reader.outputs[0])
    return found if found is not None and found.is_activation else None


def weights_in(node: ir.Node) -> tuple[Integers, NDArray[Any]] | None:
    """Integer weights (O, I, h, w) of a convolution, symmetric, and a scale for each output."""
    found = made_of(node.inputs[1]) if node.op_type == "Conv" else None
    array = None if found is None else constant(found.value)
    if found is None or array is None or array.dtype != np.int8 or found.zeros.any():
        return None
    return found, array


def integer_convolution(node: ir.Node) -> IntegerConvolution | None:
    """The node as such, if it is one."""
    weights = weights_in(node)
    source, result = (activation_of(node.inputs[0]), result_of(node)) if weights else (None, None)
    if weights is None or source is None or result is None:
        return None
    return IntegerConvolution(node, source, *weights, result)


def _of(node: ir.Node, value: ir.Value) -> Integers | None:
    if len(node.inputs) < 3 or constant(node.inputs[1]) is None or constant(node.inputs[2]) is None:
        return None
    return Integers(value, operand(node, 1), operand(node, 2))
