"""What a graph costs, read off its shapes: multiplications, bytes written, nodes."""

import math
from dataclasses import dataclass

import onnx

from segdeploy.spec import Size

# They give a tensor another shape and move nothing.
FREE = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Constant"})


@dataclass(frozen=True)
class Cost:
    """Of one image: `macs` of convolutions and matrix products, `bytes` that all nodes write."""

    macs: int
    bytes: int
    nodes: int


def measure_cost(model: onnx.ModelProto, size: Size) -> Cost:
    """Count at image size `size`, which a static graph has already; batch 1 where it is dynamic."""
    known = _with_known_shapes(model, size)
    shapes, widths = _shapes(known), {}
    for value in (*known.input, *known.value_info, *known.output):
        tensor = value.type.tensor_type
        widths[value.name] = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    macs = written = 0
    for node in known.node:
        macs += _macs(node, shapes)
        if node.op_type not in FREE:
            written += sum(
                math.prod(shapes.get(name, ())) * widths.get(name, 0) for name in node.output
            )
    return Cost(macs, written, len(known.node))


def macs_by_node(model: onnx.ModelProto, size: Size) -> dict[str, int]:
    """Multiplications of each convolution and matrix product, named by its first output."""
    known = _with_known_shapes(model, size)
    shapes = _shapes(known)
    counts = {node.output[0]: _macs(node, shapes) for node in known.node}
    return {name: count for name, count in counts.items() if count}


def _with_known_shapes(model: onnx.ModelProto, size: Size) -> onnx.GraphProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for dim, length in zip(
        fixed.graph.input[0].type.tensor_type.shape.dim, (1, *size, 3), strict=True
    ):
        if not dim.HasField("dim_value"):
            dim.dim_value = length
    del fixed.graph.value_info[:]  # they name dynamic sides
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph


def _shapes(known: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in known.initializer}
    for value in (*known.input, *known.value_info, *known.output):
        dims = value.type.tensor_type.shape.dim
        shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    result = shapes.get(node.output[0], ())
    if node.op_type == "Conv":
        return math.prod(result) * math.prod(shapes[node.input[1]][1:])
    if node.op_type in ("MatMul", "MatMulInteger"):
        return math.prod(result) * shapes.get(node.input[0], (0,))[-1]
    return 0
