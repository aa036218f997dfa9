"""A graph as TensorRT's ONNX parser understands it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from segdeploy.engine.layers import Convolution, origins
from segdeploy.errors import SegdeployError
from segdeploy.nvinfer import drop_driver_line, last_error
from segdeploy.shapes import TensorInfo
from segdeploy.spec import Precision

HINTS = {  # what the parser refuses, by words of its message
    "has type UInt8": "cast the pixels to float before any other operation",
    "has type Int32": "quantize again, without quantizing biases",
    "Non-zero zero point": "quantize again, in the form tensorrt: symmetric int8",
}


@dataclass(frozen=True)
class Network:
    """TensorRT's network of a graph; `parser` owns its weights and must live as long."""

    definition: Any
    parser: Any
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    convolutions: tuple[Convolution, ...]


def parse_graph(library: ModuleType, builder: Any, log: Any, graph: Path) -> Network:
    """Parse an ONNX file into a strongly typed network.

    Raises:
        SegdeployError: the parser refuses a node, or finds nothing in the file.
    """
    definition = builder.create_network(_creation_flags(library))
    parser = library.OnnxParser(definition, log)
    start = len(log.lines)
    if not parser.parse_from_file(str(graph)):
        raise _refusal(graph, parser, last_error(log.lines[start:]))
    inputs = tuple(_info(library, definition.get_input(i)) for i in range(definition.num_inputs))
    outputs = tuple(_info(library, definition.get_output(i)) for i in range(definition.num_outputs))
    if not (definition.num_layers and inputs and outputs):  # an empty file parses without an error
        raise SegdeployError(
            f"{graph}: holds {definition.num_layers} layers, {len(inputs)} inputs and "
            f"{len(outputs)} outputs; wanted a network",
            hint="the file is empty or damaged: export it again",
        )
    convolutions = tuple(_convolutions(library, definition, graph))
    return Network(definition, parser, inputs, outputs, convolutions)


def _creation_flags(library: ModuleType) -> int:
    flag = library.NetworkDefinitionCreationFlag  # its values move between versions
    names = ("EXPLICIT_BATCH", "STRONGLY_TYPED")  # the first is gone from TensorRT 11 and RTX
    return sum(1 << int(getattr(flag, name)) for name in names if hasattr(flag, name))


def _refusal(graph: Path, parser: Any, logged: str) -> SegdeployError:
    if not parser.num_errors:
        return SegdeployError(f"{graph}: cannot be parsed ({logged or 'no reason was given'})")
    error = parser.get_error(0)  # the cause; later ones follow from it
    what = drop_driver_line(error.desc())
    node = f"{error.node_operator()} {error.node_name()}".strip()
    hint = next((hint for words, hint in HINTS.items() if words in what), "")
    return SegdeployError(f"{graph}: the parser refuses {node or 'the file'}: {what}", hint=hint)


def _info(library: ModuleType, tensor: Any) -> TensorInfo:
    dtype = np.dtype(library.nptype(tensor.dtype)).name
    return TensorInfo(tensor.name, dtype, tuple(tensor.shape))


def _convolutions(library: ModuleType, definition: Any, graph: Path) -> Iterator[Convolution]:
    """Each convolution with its precision: int8 where data and weights are dequantized."""
    kinds, types = library.LayerType, library.DataType
    precisions = {types.FLOAT: Precision.FP32, types.HALF: Precision.FP16}
    layers = [definition.get_layer(i) for i in range(definition.num_layers)]
    dequantized = {layer.get_output(0).name for layer in layers if layer.type == kinds.DEQUANTIZE}
    for layer in layers:
        if layer.type != kinds.CONVOLUTION:
            continue
        source = layer.get_input(0)
        # The node's name; TensorRT's own differs where two nodes share one.
        name = next(iter(origins(layer.metadata)), layer.name)
        weights = layer.get_input(1) if layer.num_inputs > 1 else None
        if source.name in dequantized and weights is not None and weights.name in dequantized:
            yield Convolution(name, Precision.INT8)
        elif source.dtype in precisions:
            yield Convolution(name, precisions[source.dtype])
        else:
            raise SegdeployError(
                f"{graph}: the convolution {name} takes {source.dtype.name}; "
                f"wanted {', '.join(Precision)}"
            )
