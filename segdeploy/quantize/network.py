"""A floating graph, opened: who makes and reads each tensor, and weights in double precision."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from segdeploy.errors import SegdeployError
from segdeploy.histograms import Floats
from segdeploy.placement import activated, consumers, groups_of
from segdeploy.quantize.rounding import SMALLEST_SCALE

OLDEST_OPSET = 19  # brought half-precision scales
SMALLEST_HALF = 2.0**-14  # that float16 holds with all its digits


class Network:
    """A copy of a model whose convolutions can be changed before they are rounded.

    Weights are (O, I, h, w); a convolution is known by its output, which is unique.
    """

    def __init__(self, model: ModelProto) -> None:
        """Copy and open `model`."""
        _check_floating(model)
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        del self.graph.value_info[:]  # shapes may change, and nobody downstream needs them
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        self.readers = consumers(self.graph)
        self.returned = {tensor.name for tensor in self.graph.output}
        self.convolutions = [
            node
            for node in self.graph.node
            if node.op_type == "Conv" and node.input[1] in self.constants
        ]
        self.renamed: dict[str, str] = {}  # a tensor whose maker was taken out -> what takes over
        self.weights: dict[str, Floats] = {}
        self.biases: dict[str, Floats] = {}
        for node in self.convolutions:
            weights = self.array(node.input[1])
            self.weights[node.output[0]] = weights
            given = len(node.input) > 2 and node.input[2] in self.constants
            zeros = np.zeros(len(weights))
            self.biases[node.output[0]] = self.array(node.input[2]) if given else zeros
        if not self.convolutions:
            raise SegdeployError("the graph has no convolution, so there is nothing to quantize")
        found = {self.constants[node.input[1]].data_type for node in self.convolutions}
        if len(found) > 1 or not found <= {TensorProto.FLOAT, TensorProto.FLOAT16}:
            names = ", ".join(sorted(TensorProto.DataType.Name(kind).lower() for kind in found))
            raise SegdeployError(f"convolution weights are {names}; wanted float or float16")
        self.dtype: np.dtype[Any] = helper.tensor_dtype_to_np_dtype(found.pop())

    @property
    def smallest_scale(self) -> float:
        """Below it, half precision loses digits; single precision has room for all."""
        return SMALLEST_HALF if self.dtype == np.float16 else SMALLEST_SCALE

    def representable(self, value: float) -> float:
        """The nearest number that the graph can hold."""
        return float(self.dtype.type(value))

    def array(self, name: str) -> Floats:
        """A constant in double precision."""
        return np.asarray(numpy_helper.to_array(self.constants[name]), np.float64)

    def activated(self, name: str) -> str:
        """The tensor behind the activation that follows `name`, or `name` itself."""
        return activated(name, self.readers)

    def is_pointwise(self, node: NodeProto) -> bool:
        """Whether a convolution reads single pixels, so that no padding gets in."""
        return groups_of(node) == 1 and self.weights[node.output[0]].shape[2:] == (1, 1)

    def is_depthwise(self, node: NodeProto) -> bool:
        """Whether each channel has a filter of its own."""
        return groups_of(node) == len(self.weights[node.output[0]]) > 1

    def scale_result(self, node: NodeProto, scale: Floats, offset: Floats) -> None:
        """Make a convolution return scale * (x - offset), per channel (O,)."""
        name = node.output[0]
        self.weights[name] = self.weights[name] * _outputs(scale)
        self.biases[name] = (self.biases[name] - offset) * scale

    def scale_input(self, node: NodeProto, scale: Floats, offset: Floats) -> None:
        """Make a convolution return the same although its input is now scale * (x - offset)."""
        name = node.output[0]
        weights = self.weights[name]
        if offset.any():
            self.biases[name] = self.biases[name] + weights.sum(axis=(2, 3)) @ offset
        along = _outputs(scale) if self.is_depthwise(node) else scale[None, :, None, None]
        self.weights[name] = weights / along

    def add_constant(self, name: str, values: NDArray[Any]) -> str:
        """Store values under a new name."""
        tensor = numpy_helper.from_array(values, name)
        self.graph.initializer.append(tensor)
        self.constants[name] = tensor
        return name

    def drop(self, node: NodeProto) -> None:
        """Take out a node with one input: who read its result reads its input."""
        source, result = node.input[0], node.output[0]
        self.renamed[result] = source
        for reader in self.readers.pop(result, []):
            for index, name in enumerate(reader.input):
                if name == result:
                    reader.input[index] = source
        self.graph.node.remove(node)


def _outputs(values: Floats) -> Floats:
    return values[:, None, None, None]


def _check_floating(model: ModelProto) -> None:
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise SegdeployError(
            "the graph is quantized already", hint="quantize the floating graph it was made from"
        )
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    if opset < OLDEST_OPSET:
        raise SegdeployError(
            f"the graph has opset {opset}; wanted {OLDEST_OPSET} or later", hint="export it again"
        )
