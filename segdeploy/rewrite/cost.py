"""What a graph costs, read off its shapes: multiplications, bytes written, nodes."""

import math
from dataclasses import dataclass

import onnx

from segdeploy.rewrite.known_shapes import with_known_shapes
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
    known = with_known_shapes(model, (1, *size, 3))
    return Cost(
        macs=sum(_macs(node, known.shapes) for node in known.nodes),
        bytes=sum(
            known.bytes_of(name)
            for node in known.nodes
            if node.op_type not in FREE
            for name in node.output
        ),
        nodes=len(model.graph.node),
    )


def macs_by_node(model: onnx.ModelProto, size: Size) -> dict[str, int]:
    """Multiplications of each convolution and matrix product, named by its first output."""
    known = with_known_shapes(model, (1, *size, 3))
    counts = {node.output[0]: _macs(node, known.shapes) for node in known.nodes}
    return {name: count for name, count in counts.items() if count}


def _macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    result = shapes.get(node.output[0], (0,))
    if node.op_type == "Conv":
        return math.prod(result) * math.prod(shapes[node.input[1]][1:])
    if node.op_type in ("MatMul", "MatMulInteger"):
        return math.prod(result) * shapes.get(node.input[0], (0,))[-1]
    return 0
