"""How much memory a graph's tensors take at once on a GPU, estimated before anything is built.

Kernels are taken to be what the build logs of TensorRT-RTX 1.7 list: what works element by element
is done by the kernel in front of it, the parts of a concatenation are written in their place, and
weights are no activations. It is the least that a planner can do: docs/engines.md compares it with
what engines take.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from segdeploy.rewrite.known_shapes import KnownGraph, with_known_shapes

# Done by the kernel that makes their input, where nobody else reads that.
POINTWISE = frozenset(
    ("Add", "BatchNormalization", "Cast", "Clip", "Div", "Mul", "QuantizeLinear", "Relu", "Sub")
)
LAYOUT = "Transpose"  # pixels are transposed by the kernel that normalizes them
# Another name of the same memory: who reads a dequantized tensor reads the integers.
VIEWS = frozenset(("DequantizeLinear", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"))
FLOAT_BYTES = 4
# Of each convolution beside its tensors, whatever its shape: what TensorRT-RTX 1.7 adds to graphs
# of one or two convolutions.
SCRATCH_BYTES = 8_192_000
INDEX_BYTES = 4  # of ArgMax, which also writes the largest value


@dataclass
class _Buffer:
    size: int
    first: int  # the kernel that writes it; kernels are numbered by their last node
    last: int  # the last kernel that reads it


def activation_bytes(model: onnx.ModelProto, shape: tuple[int, ...], *, rounds_apart: bool) -> int:
    """The most bytes that tensors between kernels, and convolutions beside them, take at once.

    Inputs and outputs are the caller's and not counted. Convolutions that read the same tensor run
    at the same time.

    Args:
        model: a graph of ours.
        shape: (N, H, W, 3) of the images; where the graph is fixed, its own counts.
        rounds_apart: whether int8 convolutions write float32 that another kernel rounds, as those
            of TensorRT-RTX do.
    """
    buffers = _Planner(with_known_shapes(model, shape), rounds_apart).buffers()
    return max(
        (
            sum(buffer.size for buffer in buffers if buffer.first <= now <= buffer.last)
            for now in {buffer.first for buffer in buffers}
        ),
        default=0,
    )


class _Planner:
    """Which tensors of a graph lie in memory, and from which kernel to which."""

    def __init__(self, graph: KnownGraph, rounds_apart: bool) -> None:
        self._graph = graph
        self._nodes = graph.nodes
        self._made = {name: k for k, node in enumerate(self._nodes) for name in node.output if name}
        self._readers: dict[str, list[int]] = {name: [] for name in self._made}
        for k, node in enumerate(self._nodes):
            for name in dict.fromkeys(node.input):
                if name in self._made:
                    self._readers[name].append(k)
        self._apart = {k for k in range(len(self._nodes)) if rounds_apart and self._is_int8(k)}
        self._kernel = list(range(len(self._nodes)))
        self._fused = set(self._fuse())

    def _fuse(self) -> Iterator[str]:
        """Give each node the number of its kernel, and yield what never reaches memory."""
        taken: set[int] = set()  # pointwise nodes that have a kernel in front already
        for k in reversed(range(len(self._nodes))):
            readers = self._readers[self._nodes[k].output[0]]
            if self._nodes[k].output[0] in self._graph.outputs or len(readers) != 1:
                continue
            reader = readers[0]
            is_pixels = self._nodes[reader].op_type == LAYOUT and self._is_pixels(k)
            is_pointwise = self._nodes[reader].op_type in POINTWISE and k not in self._apart
            if reader not in taken and (is_pixels or is_pointwise) and self._is_kernel(k):
                taken.add(reader)
                self._kernel[k] = self._kernel[reader]
                yield self._nodes[k].output[0]

    def _is_kernel(self, k: int) -> bool:
        """Whether the node computes, and one value at a time: ArgMax returns two."""
        return self._nodes[k].op_type not in (*VIEWS, "ArgMax", "Concat")

    def _is_pixels(self, k: int) -> bool:
        """Whether nothing but the image goes into the node."""
        return self._nodes[k].op_type == "Cast" and self._nodes[k].input[0] in self._graph.inputs

    def _is_int8(self, k: int) -> bool:
        node = self._nodes[k]
        source = self._made.get(node.input[0]) if node.op_type == "Conv" else None
        return source is not None and self._nodes[source].op_type == "DequantizeLinear"

    def buffers(self) -> list[_Buffer]:
        """One for each piece of memory; parts of a concatenation and views share one."""
        places = self._places()
        outside = {*self._graph.inputs, *self._graph.outputs}
        buffers: dict[str, _Buffer] = {}
        for name, k in self._made.items():
            place = places[name]
            if name in self._fused or place not in self._made or place in outside:
                continue
            first = self._kernel[k]
            last = max((self._kernel[reader] for reader in self._readers[name]), default=first)
            found = buffers.setdefault(place, _Buffer(self._size(place), first, last))
            found.first, found.last = min(found.first, first), max(found.last, last)
        return [*buffers.values(), *self._scratch()]

    def _scratch(self) -> Iterator[_Buffer]:
        together: dict[str, list[int]] = {}
        for k, node in enumerate(self._nodes):
            if node.op_type == "Conv":
                together.setdefault(node.input[0], []).append(self._kernel[k])
        for kernels in together.values():
            yield _Buffer(SCRATCH_BYTES * len(kernels), min(kernels), max(kernels))

    def _places(self) -> dict[str, str]:
        """Of each tensor: the one that stands for its memory."""
        parents: dict[str, str] = {}
        for node in self._nodes:
            if node.op_type in VIEWS:
                parents[node.output[0]] = node.input[0]
        for node in self._nodes:
            if node.op_type == "Concat":
                for part in node.input:
                    parents.setdefault(part, node.output[0])
        places = {}
        for name in self._made:
            place = name
            while place in parents:
                place = parents[place]
            places[name] = place
        return places

    def _size(self, name: str) -> int:
        k = self._made[name]
        count = self._graph.bytes_of(name) // self._graph.item_bytes[name]
        if k in self._apart:
            return count * FLOAT_BYTES
        if self._nodes[k].op_type == "ArgMax":
            return count * (INDEX_BYTES + self._graph.item_bytes[self._nodes[k].input[0]])
        return self._graph.bytes_of(name)
