"""Changes to a graph that undo one fault each: a repaired copy shows whether it was that fault."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from segdeploy.layer_pairs import makers_of, weight_of

COORDINATES = ("coordinate_transformation_mode", "mode", "nearest_mode", "cubic_coeff_a")
PAIRS_BACK = 2  # Q/DQ pairs before a convolution whose scales are looked at
SAME_WEIGHTS = 2e-3  # of the largest: fp16 rounds to 5e-4
HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT


def takes_floats(model: ModelProto) -> bool:
    """Whether pixels of any value can be put in: the graph casts them before it computes."""
    image = model.graph.input[0].name
    readers = {node.op_type for node in model.graph.node if image in node.input}
    return "Cast" in readers and readers <= {"Cast", "Shape"}


def scores_tensor(model: ModelProto) -> str | None:
    """What the best class is taken of, before any resize; None in a graph that does neither."""
    makers = makers_of(model.graph)
    best = next((node for node in model.graph.node if node.op_type == "ArgMax"), None)
    if best is None:
        return None
    maker = makers.get(best.input[0])
    return str(maker.input[0] if maker is not None and maker.op_type == "Resize" else best.input[0])


def is_half(model: ModelProto) -> bool:
    """Whether some weights are fp16."""
    return any(tensor.data_type == HALF for tensor in model.graph.initializer)


def in_float32(model: ModelProto) -> ModelProto:
    """A copy that computes in single precision what it computed in half."""
    copy = _copy(model)
    for tensor in copy.graph.initializer:
        _widen(tensor)
    for node in copy.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            if (node.op_type, attribute.name, attribute.i) == ("Cast", "to", HALF):
                attribute.i = SINGLE
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.elem_type == HALF:
            value.type.tensor_type.elem_type = SINGLE
    return copy


def _widen(tensor: TensorProto) -> None:
    if tensor.data_type == HALF:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def with_resizes_of(model: ModelProto, like: ModelProto) -> ModelProto | None:
    """A copy whose maps are resized as in `like`; None if they are, or cannot be paired."""
    copy = _copy(model)
    own, others = (
        [node for node in graph.node if node.op_type == "Resize"]
        for graph in (copy.graph, like.graph)
    )
    if len(own) != len(others) or [_coordinates(n) for n in own] == [
        _coordinates(n) for n in others
    ]:
        return None
    for node, wanted in zip(own, others, strict=True):
        kept = [attribute for attribute in node.attribute if attribute.name not in COORDINATES]
        given = [attribute for attribute in wanted.attribute if attribute.name in COORDINATES]
        del node.attribute[:]
        node.attribute.extend([*kept, *given])
    return copy


def resize_words(model: ModelProto, like: ModelProto) -> str:
    """How the first map that differs is resized in either."""
    pairs = zip(_resizes(model), _resizes(like), strict=True)
    found, wanted = next(pair for pair in pairs if pair[0] != pair[1])
    return f"maps resized as {' '.join(wanted.values())}, not {' '.join(found.values())}"


def _resizes(model: ModelProto) -> list[dict[str, str]]:
    return [_coordinates(node) for node in model.graph.node if node.op_type == "Resize"]


def _coordinates(node: NodeProto) -> dict[str, str]:
    """What decides the source pixels, with the defaults of ONNX."""
    given = {a.name: a.s.decode() for a in node.attribute if a.name in COORDINATES[:3]}
    mode = given.get("mode", "nearest")
    found = {"mode": mode, COORDINATES[0]: given.get(COORDINATES[0], "half_pixel")}
    if mode == "nearest":
        found["nearest_mode"] = given.get("nearest_mode", "round_prefer_floor")
    return found


def with_weights_of(model: ModelProto, like: ModelProto) -> tuple[ModelProto, int, int] | None:
    """A copy with the weights of `like` where they have the same name and shape.

    Returns:
        The copy, how many convolutions have other weights, of how many; None if none has.
    """
    copy = _copy(model)
    wanted = {tensor.name: tensor for tensor in like.graph.initializer}
    makers = makers_of(copy.graph)
    own = {tensor.name: tensor for tensor in copy.graph.initializer}
    differing = compared = 0
    for node in copy.graph.node:
        if node.op_type != "Conv":
            continue
        constants = [weight_of(node, makers), *node.input[2:]]
        pairs = [(own[n], wanted[n]) for n in constants if n in own and n in wanted]
        if not pairs or any(_kind(a) != _kind(b) for a, b in pairs):
            continue
        compared += 1
        if any(_differ(a, b) for a, b in pairs):
            differing += 1
            for tensor, other in pairs:
                tensor.CopyFrom(other)
    return (copy, differing, compared) if differing else None


def _kind(tensor: TensorProto) -> tuple[int, ...]:
    return (int(tensor.data_type), *tensor.dims)


def _differ(first: TensorProto, second: TensorProto) -> bool:
    a, b = (numpy_helper.to_array(tensor).astype(np.float64) for tensor in (first, second))
    return bool(np.abs(a - b).max(initial=0) > SAME_WEIGHTS * np.abs(b).max(initial=0))


@dataclass(frozen=True)
class QuantizedTensor:
    """A tensor with a Q/DQ pair."""

    tensor: str
    scale: str  # the constant
    codes: tuple[int, int] | None  # that a Clip behind it leaves; None: there is no such Clip
    weight_scales: tuple[str, ...]  # of the convolutions that it is made of


def quantized_before(model: ModelProto, tensor: str) -> tuple[QuantizedTensor, ...]:
    """The quantized tensors that the convolution returning `tensor` depends on, nearest first."""
    makers = makers_of(model.graph)
    node = makers.get(tensor)
    if node is None or node.op_type != "Conv":
        return ()
    constants = {t.name: t for t in model.graph.initializer}
    found = dict.fromkeys(_pairs_before(node.input[0], makers, PAIRS_BACK))
    pairs = [makers[name] for name in found]
    return tuple(
        QuantizedTensor(
            str(pair.input[0]),
            str(pair.input[1]),
            _clipped_codes(model, pair, constants),
            tuple(dict.fromkeys(_weight_scales(pair.input[0], makers))),
        )
        for pair in pairs
        if pair.input[1] in constants
    )


def _pairs_before(name: str, makers: dict[str, NodeProto], pairs: int) -> Iterator[str]:
    """What QuantizeLinear nodes return, back to the convolutions before."""
    node = makers.get(name)
    if node is None or node.op_type == "Conv" or not pairs:
        return
    if node.op_type == "QuantizeLinear":
        yield name
        pairs -= 1
    for source in node.input[:1] if "Linear" in node.op_type else node.input:
        yield from _pairs_before(source, makers, pairs)


def _weight_scales(name: str, makers: dict[str, NodeProto]) -> Iterator[str]:
    """Of the convolutions right before a tensor."""
    node = makers.get(name)
    if node is None or node.op_type == "DequantizeLinear":
        return
    if node.op_type != "Conv":
        for source in node.input:
            yield from _weight_scales(source, makers)
        return
    maker = makers.get(node.input[1])
    if maker is not None and maker.op_type == "DequantizeLinear":
        yield str(maker.input[1])


def _clipped_codes(
    model: ModelProto, pair: NodeProto, constants: dict[str, TensorProto]
) -> tuple[int, int] | None:
    readers = [node for node in model.graph.node if pair.output[0] in node.input]
    if len(readers) != 1 or readers[0].op_type != "Clip":
        return None
    low, high = (int(numpy_helper.to_array(constants[name])) for name in readers[0].input[1:3])
    return low, high


def with_scale(model: ModelProto, constant: str, factor: float) -> ModelProto:
    """A copy with one scale multiplied; all its channels, where it has several."""
    copy = _copy(model)
    for tensor in copy.graph.initializer:
        if tensor.name == constant:
            values = numpy_helper.to_array(tensor)
            scaled = (values.astype(np.float64) * factor).astype(values.dtype)
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(scaled), tensor.name))
    return copy


def scale_value(model: ModelProto, constant: str) -> float:
    """Of one scale; the median of its channels."""
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == constant)
    return float(np.median(numpy_helper.to_array(stored)))


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    return copy
