"""A graph whose images have one known size: every shape in it is a number."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

WEIGHTS = 4096  # elements of a constant that is no shape: shapes have a handful
DATA = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")


@dataclass(frozen=True)
class KnownGraph:
    """What computes on images; what computes shapes alone is done already.

    Args:
        nodes: in the order of the graph.
        shapes: of every tensor and constant.
        item_bytes: of every tensor that a node makes, and of the inputs.
        inputs: names.
        outputs: names.
    """

    nodes: tuple[onnx.NodeProto, ...]
    shapes: dict[str, tuple[int, ...]]
    item_bytes: dict[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def bytes_of(self, name: str) -> int:
        """Of a tensor that a node makes; 0 of what no node makes."""
        return math.prod(self.shapes.get(name, (0,))) * self.item_bytes.get(name, 0)


def with_known_shapes(model: onnx.ModelProto, shape: tuple[int, ...]) -> KnownGraph:
    """Infer every shape for images of `shape` (N, H, W, 3); a fixed axis stays as it is."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dim, length in zip(fixed.graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        if not dim.HasField("dim_value"):
            dim.dim_value = length
    del fixed.graph.value_info[:]  # they name dynamic sides
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")
    known = _inferred(fixed)
    while _compute_shapes(fixed, known):  # a shape may depend on what an earlier one let us infer
        known = _inferred(fixed)
    return known


def infer_shapes(model: onnx.ModelProto, *, strict: bool = False) -> onnx.ModelProto:
    """The model with the shape of every tensor, inferred without the bytes of its weights.

    ONNX writes a model to bytes for it and reads it back, twice: 300 MB of weights take seconds.

    Raises:
        onnx.shape_inference.InferenceError: `strict`, and shapes contradict each other.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    found = _infer_lightly(model, strict=strict)
    for values in ("value_info", "output"):
        whole.graph.ClearField(values)
        getattr(whole.graph, values).extend(getattr(found, values))
    return whole


def _infer_lightly(model: onnx.ModelProto, *, strict: bool) -> onnx.GraphProto:
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if math.prod(tensor.dims) > WEIGHTS:
            for data in DATA:
                tensor.ClearField(data)
    return onnx.shape_inference.infer_shapes(light, strict_mode=strict, data_prop=True).graph


def _inferred(model: onnx.ModelProto) -> KnownGraph:
    graph = _infer_lightly(model, strict=False)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    item_bytes: dict[str, int] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        dims = tensor.shape.dim
        item_bytes[value.name] = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return KnownGraph(
        nodes=tuple(graph.node),
        shapes=shapes,
        item_bytes=item_bytes,
        inputs=tuple(value.name for value in graph.input),
        outputs=tuple(value.name for value in graph.output),
    )


def _compute_shapes(model: onnx.ModelProto, known: KnownGraph) -> bool:
    """Put constants in place of nodes that compute on known shapes; say whether there were any.

    Shape inference follows integers through few operators: not to the Range that pools a map of
    any size.
    """
    if all(name in known.shapes for node in known.nodes for name in node.output):
        return False
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made: dict[str, NDArray[Any]] = {}
    folded, left = [], []
    computed: set[str] = set()
    for node in model.graph.node:
        given = [name for name in node.input if name]
        if node.op_type == "Shape" and node.input[0] in known.shapes:
            ends = {attribute.name: attribute.i for attribute in node.attribute}
            shape = known.shapes[node.input[0]][ends.get("start") : ends.get("end")]
            made[node.output[0]] = np.array(shape, np.int64)
        elif computed.union(made).intersection(given) and all(
            name in made or name in computed or name in constants for name in given
        ):
            folded.append(node)
            computed.update(node.output)
        else:
            left.append(node)
    if not made:
        return False
    made |= _run(folded, made, constants, model)
    del model.graph.node[:]
    model.graph.node.extend(left)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in made.items()
    )
    return True


def _run(
    nodes: list[onnx.NodeProto],
    given: dict[str, NDArray[Any]],
    constants: dict[str, onnx.TensorProto],
    model: onnx.ModelProto,
) -> dict[str, NDArray[Any]]:
    from onnx.reference import ReferenceEvaluator

    if not nodes:
        return {}
    names = [name for node in nodes for name in node.output]
    used = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        "shapes",
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, value.shape)
            for name, value in given.items()
        ],
        [onnx.helper.make_empty_tensor_value_info(name) for name in names],
        [tensor for name, tensor in constants.items() if name in used],
    )
    opset = model.opset_import
    small = onnx.helper.make_model(graph, opset_imports=opset, ir_version=model.ir_version)
    return dict(zip(names, ReferenceEvaluator(small).run(names, given), strict=True))
