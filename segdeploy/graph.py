"""ONNX files: read with suspicion, written whole, with their manifest and without local traces."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message

from segdeploy.artifacts import Graph, Manifest, writing
from segdeploy.errors import SegdeployError

OPSET = 20  # 19 brought half-precision Q/DQ scales; TensorRT 10.0 documents up to 20


@dataclass(frozen=True)
class TensorFacts:
    """Name, ONNX element type and dims of an input or output; a dynamic dim is a name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} ({', '.join(map(str, self.shape))})"


def read_model(path: Path) -> onnx.ModelProto:
    """Parse and check an ONNX file; weights must lie in the file itself."""
    try:
        model = onnx.load(path, load_external_data=False)
        # External data would let a file name any path of this machine.
        if any(t.data_location == onnx.TensorProto.EXTERNAL for t in _tensors(model)):
            raise SegdeployError(
                f"{path}: keeps weights in another file; wanted one file",
                hint="onnx.save(onnx.load(path), path, save_as_external_data=False) puts them in",
            )
        onnx.checker.check_model(model)
    except FileNotFoundError as error:
        raise SegdeployError(f"{path}: no such file") from error
    except (DecodeError, onnx.checker.ValidationError, UnicodeDecodeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SegdeployError(f"{path}: is not a valid ONNX file ({reason})") from error
    return model


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every constant: initializers, attributes of nodes, and those of graphs within."""
    for descriptor, value in message.ListFields():
        if descriptor.type == descriptor.TYPE_MESSAGE:
            for child in value if descriptor.is_repeated else [value]:
                if isinstance(child, onnx.TensorProto):
                    yield child
                else:
                    yield from _tensors(child)


def read_graph(path: Path) -> Graph:
    """An ONNX file of ours, by its manifest."""
    model = read_model(path)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    return Graph(path, Manifest.from_strings(properties, path))


def save_graph(model: onnx.ModelProto, manifest: Manifest, path: Path) -> Graph:
    """Write the model with its manifest, stripped of stack traces and local paths, and checked."""
    strip_traces(model)
    onnx.helper.set_model_props(model, manifest.to_strings())
    onnx.checker.check_model(model, full_check=True)
    with writing(path) as temporary:
        onnx.save(model, temporary)
    return Graph(path, manifest)


def strip_traces(message: Message) -> None:
    """Empty every `metadata_props` and `doc_string`: exporters leave paths and source lines."""
    for descriptor, value in message.ListFields():
        if descriptor.name in ("metadata_props", "doc_string"):
            message.ClearField(descriptor.name)
        elif descriptor.type == descriptor.TYPE_MESSAGE:
            for child in value if descriptor.is_repeated else [value]:
                strip_traces(child)


def inputs_and_outputs(model: onnx.ModelProto) -> tuple[list[TensorFacts], list[TensorFacts]]:
    """What the graph takes and returns."""
    return _facts(model.graph.input), _facts(model.graph.output)


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy that returns these tensors too, after its own outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    copy.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in present
    )
    return copy


def up_to(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy that returns these tensors alone, with the nodes that they need alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    del copy.graph.output[:]
    copy.graph.output.extend(map(onnx.helper.make_empty_tensor_value_info, dict.fromkeys(names)))
    drop_unread(copy.graph)
    return copy


def drop_unread(graph: onnx.GraphProto) -> None:
    """Take out nodes and constants that no output depends on."""
    needed = {output.name for output in graph.output}
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if needed.isdisjoint(node.output):
            del graph.node[place]
        else:
            needed.update(node.input)
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in needed:
            del graph.initializer[place]


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of a node's attribute, or what it is where it is left out."""
    values = (onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return next(values, default)


def taking_floats(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for pixels of any value: the graph casts them to float32 before it computes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return copy


def convolved(model: onnx.ModelProto, weight: str) -> str | None:
    """What the convolution of this weight returns, or of its scaled form; None: there is none."""
    names = {weight, f"{weight}.scaled"}  # as rewrite.input_scale calls it
    found = (n.output[0] for n in model.graph.node if n.op_type == "Conv" and n.input[1] in names)
    return next(found, None)


@dataclass(frozen=True)
class Piece:
    """A part of a graph between tensors of interest: what it reads, and what it hands on."""

    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    finished: tuple[str, ...]  # tensors that no later piece reads


@dataclass(frozen=True)
class Cut:
    """A graph in pieces, in their order; `names` are the tensors of interest."""

    input: str
    names: frozenset[str]
    pieces: tuple[Piece, ...]


def cut_graph(model: onnx.ModelProto, names: Iterable[str]) -> Cut:
    """Cut behind each of the tensors, so that none has to outlive those who read it.

    What comes behind the last of them is left out.
    """
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    types = {value.name: value for value in (*graph.input, *graph.output, *graph.value_info)}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    wanted = set(names)
    parts: list[list[onnx.NodeProto]] = [[]]
    for node in graph.node:
        parts[-1].append(node)
        if wanted & {*node.output}:
            parts.append([])
    parts.pop()
    made = {value.name: -1 for value in graph.input}
    made |= {name: k for k, part in enumerate(parts) for node in part for name in node.output}
    read = {name: k for k, part in enumerate(parts) for node in part for name in node.input}
    pieces = []
    for k, part in enumerate(parts):
        needed = {name for node in part for name in node.input}
        inputs = sorted(name for name in needed if made.get(name, k) < k)
        outputs = [name for name in made if made[name] == k and _outlives(name, k, read, wanted)]
        inner = onnx.helper.make_graph(
            part,
            f"piece{k}",
            [types[name] for name in inputs],
            [types[name] for name in outputs],
            [constants[name] for name in sorted(needed & constants.keys())],
        )
        bound = onnx.helper.make_model(
            inner, opset_imports=model.opset_import, ir_version=model.ir_version
        )
        finished = tuple(name for name in made if made[name] <= k and read.get(name, k) <= k)
        pieces.append(Piece(bound.SerializeToString(), tuple(inputs), tuple(outputs), finished))
    return Cut(graph.input[0].name, frozenset(wanted), tuple(pieces))


def _outlives(name: str, piece: int, read: dict[str, int], wanted: set[str]) -> bool:
    return name in wanted or read.get(name, piece) > piece


def logits_tensor(model: onnx.ModelProto) -> str:
    """The head's logits: what is resized before ArgMax, or the output of a logits graph."""
    producers = {output: node for node in model.graph.node for output in node.output}
    best = next((node for node in model.graph.node if node.op_type == "ArgMax"), None)
    if best is None:
        return str(model.graph.output[0].name)
    resize = producers[best.input[0]]
    if resize.op_type != "Resize":
        raise SegdeployError(f"ArgMax is fed by {resize.op_type}; wanted the Resize of the logits")
    return str(resize.input[0])


def operator_counts(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each operator, most frequent first."""
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _facts(values: object) -> list[TensorFacts]:
    found = []
    for value in values:  # type: ignore[attr-defined]  # a protobuf container
        tensor = value.type.tensor_type
        shape = tuple(
            d.dim_param or (d.dim_value if d.HasField("dim_value") else "?")
            for d in tensor.shape.dim
        )
        found.append(
            TensorFacts(value.name, onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), shape)
        )
    return found
