"""Pixels in int8 without any rounding: 0..255 moves to -128..127, with a scale of one.

A graph subtracts the mean before its first convolution, whose padding stands for mean pixels. With
128 subtracted instead, padding would stand for pixels of 128. So a fourth channel tells where the
image is: it holds `MARK` inside and, like everything, 0 in the padding, and its weights add what
the mean and 128 differ by.
"""

import numpy as np
from onnx import NodeProto, helper

from segdeploy.quantize.activations import Activation
from segdeploy.quantize.network import Network

HALF = 128.0
IN_HALF = 64.0  # pixels to the unit there; a power of two, so that nothing is rounded
MARK = 64.0  # its weights are then about as large as those of a colour


def take_exact_pixels(network: Network) -> dict[str, Activation]:
    """Change the graph's first layers; return what the tensor before them becomes, if they fit."""
    first = next((node for node in network.convolutions if _path(network, node)), None)
    if first is None or len(network.readers[first.input[0]]) != 1:
        return {}
    path, name, read = _path(network, first), first.output[0], first.input[0]
    subtraction = next(node for node in path if node.op_type == "Sub")
    mean = network.array(subtraction.input[1]).reshape(-1)
    weights = network.weights[name]
    unit = 1.0
    for node in path:
        if node.op_type in ("Div", "Mul"):
            factor = network.array(node.input[1])
            weights = weights / factor if node.op_type == "Div" else weights * factor
            if node.op_type == "Div" and network.dtype == np.float16:
                # Weights for whole pixels would need scales that half precision cannot hold.
                unit = IN_HALF
                divisor = np.full(
                    (1, 3, 1, 1),
                    IN_HALF,
                    helper.tensor_dtype_to_np_dtype(network.constants[node.input[1]].data_type),
                )
                node.input[1] = network.add_constant("pixel_unit", divisor)
            else:
                network.drop(node)
    weights = weights * unit
    read = network.renamed.pop(read, read)
    moved = (weights * (HALF - mean)[None, :, None, None]).sum(axis=1, keepdims=True) / MARK
    network.weights[name] = np.concatenate([weights, moved], axis=1)
    dtype = helper.tensor_dtype_to_np_dtype(network.constants[subtraction.input[1]].data_type)
    half = np.full((1, 1, 1, 1), HALF, dtype)
    subtraction.input[1] = network.add_constant("pixel_half", half)
    ends = network.add_constant("pixel_mark_ends", np.array([0, 0, 0, 0, 0, 1, 0, 0], np.int64))
    mark = network.add_constant("pixel_mark", np.array(MARK / unit, network.dtype))
    marked = "marked_pixels"
    padding = helper.make_node("Pad", [first.input[0], ends, mark], [marked], name="mark_pixels")
    place = [node.output[0] for node in network.graph.node].index(first.input[0])
    network.graph.node.insert(place + 1, padding)
    first.input[0] = marked
    network.renamed[read] = marked
    return {read: Activation(1 / unit, np.concatenate([mean - HALF, [MARK]]) / unit)}


def _path(network: Network, convolution: NodeProto) -> list[NodeProto]:
    """From a convolution back to the image, where only its normalization lies between."""
    image, name, path = network.graph.input[0].name, convolution.input[0], []
    while name != image:
        node = network.makers.get(name)
        if node is None or node.op_type not in ("Cast", "Transpose", "Sub", "Div", "Mul"):
            return []
        if node.op_type in ("Sub", "Div", "Mul") and not _is_colour(network, node.input[1]):
            return []
        if len(network.readers[name]) != 1:
            return []
        path.append(node)
        name = node.input[0]
    return path if [node.op_type for node in path].count("Sub") == 1 else []


def _is_colour(network: Network, name: str) -> bool:
    """Whether a constant has one value for each colour."""
    return name in network.constants and network.array(name).shape == (1, 3, 1, 1)
