"""The Q/DQ graph that is being written: its nodes in order, and its constants."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from segdeploy.graph import drop_unread
from segdeploy.quantize.rounding import SMALLEST_SCALE


@dataclass
class Draft:
    """Nodes and constants of a graph whose floating numbers have type `dtype`."""

    dtype: np.dtype[Any]
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def store(self, name: str, values: NDArray[Any]) -> str:
        """Add a constant."""
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def add_pair(
        self, tensor: str, step: float, *, from_zero: bool = False, name: str | None = None
    ) -> str:
        """Quantize and dequantize a tensor; return what the result is called.

        Args:
            tensor: that is read.
            step: between two integers.
            from_zero: uint8 from 0 on instead of int8 around 0.
            name: of the pair, where a tensor has several; None: the tensor's.
        """
        name = name or tensor
        scale = [
            self.store(f"{name}_scale", np.array(max(step, SMALLEST_SCALE), self.dtype)),
            self.store(f"{name}_zero_point", np.array(0, np.uint8 if from_zero else np.int8)),
        ]
        stored, result = f"{name}_quantized", dequantized(name)
        quantize = helper.make_node(
            "QuantizeLinear", [tensor, *scale], [stored], name=f"{name}_quantize"
        )
        dequantize = helper.make_node(
            "DequantizeLinear", [stored, *scale], [result], name=f"{name}_dequantize"
        )
        self.nodes += [quantize, dequantize]
        return result

    def add_weights(
        self, name: str, integers: NDArray[np.int8], scale: NDArray[np.floating[Any]]
    ) -> str:
        """Store a convolution's weights and dequantize them."""
        inputs = [
            self.store(f"{name}_weight_int8", integers),
            self.store(f"{name}_weight_scale", scale),
            self.store(f"{name}_weight_zero_point", np.zeros(len(scale), np.int8)),
        ]
        result = f"{name}_weight_dequantized"
        self.nodes.append(
            helper.make_node(
                "DequantizeLinear", inputs, [result], name=f"{name}_weight_dequantize", axis=0
            )
        )
        return result

    def finish(self, model: ModelProto) -> ModelProto:
        """The model with these nodes, and without constants that nothing reads now."""
        finished = ModelProto()
        finished.CopyFrom(model)
        del finished.graph.node[:]
        finished.graph.node.extend(self.nodes)
        finished.graph.initializer.extend(self.constants)
        drop_unread(finished.graph)
        return finished


def dequantized(name: str) -> str:
    """What a tensor, or a pair, is called behind its pair."""
    return f"{name}_dequantized"
