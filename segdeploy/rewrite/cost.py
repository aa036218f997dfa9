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
    known = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes: dict[str, tuple[int, ...]] = {
        tensor.name: tuple(tensor.dims) for tensor in known.initializer
    }
    widths = {}
    for value in (*known.input, *known.value_info, *known.output):
        tensor = value.type.tensor_type
        shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
        widths[value.name] = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    macs = written = 0
    for node in known.node:
        macs += _macs(node, shapes)
        if node.op_type not in FREE:
            written += sum(
                math.prod(shapes.get(name, ())) * widths.get(name, 0) for name in node.output
            )
    return Cost(macs, written, len(known.node))


def _macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    result = shapes.get(node.output[0], ())
    if node.op_type == "Conv":
        return math.prod(result) * math.prod(shapes[node.input[1]][1:])
    if node.op_type == "MatMul":
        return math.prod(result) * shapes.get(node.input[0], (0,))[-1]
    return 0
