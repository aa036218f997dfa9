"""Rules of quantized graphs: what breaks one is valid ONNX, but slower or less accurate for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from segdeploy.artifacts import PREFIX
from segdeploy.graph import attribute
from segdeploy.lint_rules import Breach, LintTarget

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-40, 2.0**20  # far beyond what a network computes
HALF_SCALE_OPSET = 19  # ONNX: QuantizeLinear-19 is the first that takes them
BIAS_TOLERANCE = 1e-6  # of a float32 product: some units in the last place
SATURATING = frozenset({"Clip", "Max", "Min"})
IN_INTEGERS = SATURATING | {"Concat", "MaxPool", "Transpose", "Reshape"}  # of ONNX Runtime
FLOATING = frozenset(
    {"AveragePool", "GlobalAveragePool", "ReduceMean", "Resize", "ArgMax", "Softmax", "MatMul"}
)
ENDS = frozenset({"Conv", "ConvTranspose", "Shape", "Size"})  # before them, nothing is logits yet
UNKNOWN = np.array(np.nan)  # stands for what is computed at run time

Array = NDArray[Any]
Found = Iterator[tuple[str, str, str]]  # rule, found, wanted


@dataclass(frozen=True, eq=False)
class _Quantization:
    """What a QuantizeLinear or DequantizeLinear does."""

    scale: Array
    zero_point: Array
    dtype: str  # of the integers; "" is unknown
    axis: int

    def __str__(self) -> str:
        if self.scale.size != 1 or self.zero_point.size != 1:
            return f"{self.scale.size} scales along axis {self.axis}"
        return f"scale {self.scale.item():.9g}, zero point {self.zero_point.item():.0f}"


@dataclass(frozen=True, eq=False)
class _View:
    """A graph by its tensors; `_view_of` fills it, node by node."""

    target: LintTarget
    nodes: tuple[NodeProto, ...]
    constants: dict[str, Array]
    fixed: set[str]  # what depends on no input of the graph
    late: set[str]  # what reaches an output without a convolution
    makers: dict[str, NodeProto] = field(default_factory=dict)
    pairs: dict[str, NodeProto] = field(default_factory=dict)  # those of them that are DQ
    readers: dict[str, list[NodeProto]] = field(default_factory=dict)
    sources: dict[str, list[NodeProto]] = field(default_factory=dict)  # of integers: their Q

    def reading(self, name: str, *kinds: str) -> list[NodeProto]:
        """The nodes of some kinds that read a tensor."""
        return [node for node in self.readers.get(name, ()) if node.op_type in kinds]

    def is_result(self, pair: NodeProto) -> bool:
        """Whether a pair holds what a convolution, an Add or the activation behind them returns."""
        tensor = next((_name(source.input) for source in self.origins(pair)), "")
        maker = self.makers.get(tensor)
        if maker is not None and maker.op_type in ("Relu", "Clip"):
            maker = self.makers.get(_name(maker.input))
        return maker is not None and maker.op_type in ("Conv", "Add")

    def is_shared(self, pair: NodeProto) -> bool:
        """Whether an operator that needs integers reads what a DQ writes, beside a convolution.

        TensorRT-RTX and fallbacks leave some of the readers of a tensor floating.
        """
        joints = self.reading(_name(pair.output), "Add", "Concat")
        readers = self.reading(_name(pair.output), "Conv")
        return bool(joints) or any(_name(node.input, 1) in self.pairs for node in readers)

    def origins(self, node: NodeProto) -> list[NodeProto]:
        """The QuantizeLinear nodes whose integers a node reads."""
        return [source for name in node.input for source in self.sources.get(name, ())]

    def quantization(self, node: NodeProto) -> _Quantization:
        """The parameters of a node, with ONNX's defaults."""
        x, scale, zero_point = (self.constants.get(_name(node.input, k), UNKNOWN) for k in range(3))
        dtype, axis = zero_point.dtype, attribute(node, "axis", 1)
        if not _name(node.input, 2):
            zero_point = np.zeros(scale.shape)
            kind = attribute(node, "output_dtype", 0) or TensorProto.UINT8
            is_stored = node.op_type == DEQUANTIZE
            dtype = x.dtype if is_stored else helper.tensor_dtype_to_np_dtype(kind)
        text = "" if dtype == UNKNOWN.dtype else str(dtype)
        if not text and node.op_type == DEQUANTIZE and self.origins(node):
            text = self.quantization(self.origins(node)[0]).dtype
        return _Quantization(scale.astype(np.float64), zero_point.astype(np.float64), text, axis)

    def agree(self, one: NodeProto, other: NodeProto) -> bool:
        """Whether two nodes have the same parameters."""
        a, b = self.quantization(one), self.quantization(other)
        is_equal = list(one.input[1:]) == list(other.input[1:]) or (
            np.array_equal(a.scale.ravel(), b.scale.ravel())
            and np.array_equal(a.zero_point.ravel(), b.zero_point.ravel())
        )
        is_same_axis = a.axis == b.axis or min(a.axis, b.axis) < 0  # from the end: rank is unknown
        return is_equal and (a.scale.size == 1 or is_same_axis)


def lint_model(model: ModelProto, target: LintTarget) -> tuple[Breach, ...]:
    """Hold a graph, of segdeploy or another tool, against every rule, in the graph's order.

    Subgraphs and functions are not looked into; the rule `subgraph` says where there are any.
    """
    view = _view_of(model, target)
    pairs = [node for node in view.nodes if node.op_type in (QUANTIZE, DEQUANTIZE)]
    half = [n for n in pairs if view.constants.get(_name(n.input, 1), UNKNOWN).itemsize == 2]
    opset = max((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=0)
    bodies = {(function.domain, function.name) for function in model.functions}
    breaches = [] if pairs else [Breach("quantized", model.graph.name, "no Q/DQ pair", "some")]
    for node in view.nodes:
        found: list[tuple[str, str, str]] = []
        if half and node is half[0] and opset < HALF_SCALE_OPSET:
            found.append(("opset", f"opset {opset}", f"opset {HALF_SCALE_OPSET} or later"))
        is_nested = any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute)
        if is_nested or (node.domain, node.op_type) in bodies:
            found.append(("subgraph", f"{node.op_type} with nodes within", "no nodes within"))
        for check in (_check_reader, *_CHECKS.get(node.op_type, ())):
            found += check(view, node)
        breaches += [Breach(rule, _label(node), text, wanted) for rule, text, wanted in found]
    return tuple(breaches)


def integer_convolutions(model: ModelProto) -> int:
    """How many convolutions read integers as data and as weights."""
    pairs = {n.output[0] for n in model.graph.node if n.op_type == DEQUANTIZE and n.output}
    return sum(n.op_type == "Conv" and pairs.issuperset(n.input[:2]) for n in model.graph.node)


def target_of(model: ModelProto) -> LintTarget:
    """What a graph of segdeploy was quantized for, as its manifest says; else `tensorrt`."""
    stored = {entry.key: entry.value for entry in model.metadata_props}
    form = stored.get(f"{PREFIX}quantization", "").strip('"')
    is_cpu = form.startswith(LintTarget.ONNXRUNTIME)
    return LintTarget.ONNXRUNTIME if is_cpu else LintTarget.TENSORRT


def _view_of(model: ModelProto, target: LintTarget) -> _View:
    nodes = tuple(model.graph.node)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    constants = {name: array for name, t in tensors.items() if (array := _array(t)) is not None}
    outputs = {output.name for output in model.graph.output}
    view = _View(target, nodes, constants, fixed=set(tensors), late=outputs)
    for node in nodes:
        _add_node(view, node)
    for node in reversed(nodes):
        if node.op_type not in ENDS and not view.late.isdisjoint(node.output):
            view.late.update(filter(None, node.input))
    return view


def _add_node(view: _View, node: NodeProto) -> None:
    inputs = [name for name in dict.fromkeys(node.input) if name]
    view.makers.update((name, node) for name in node.output if name)
    if node.op_type == DEQUANTIZE:
        view.pairs.update((name, node) for name in node.output if name)
    for name in inputs:
        view.readers.setdefault(name, []).append(node)
    if view.fixed.issuperset(inputs):
        view.fixed.update(node.output)
    value = view.constants.get(_name(node.input)) if node.op_type == "Identity" else None
    if node.op_type == "Constant" and node.attribute:
        value = _array(helper.get_attribute_value(node.attribute[0]))
    if value is not None:
        view.constants[_name(node.output)] = value
    sources = [node] if node.op_type == QUANTIZE else []
    if _stays_integer(view, node):
        sources = view.origins(node)
    view.sources.update((name, sources) for name in node.output if sources)


def _stays_integer(view: _View, node: NodeProto) -> bool:
    """Whether ONNX Runtime applies a node to the integers between Q and DQ."""
    if view.target is not LintTarget.ONNXRUNTIME or node.op_type not in IN_INTEGERS:
        return False
    dtypes = {view.quantization(source).dtype for source in view.origins(node)}
    return node.op_type not in SATURATING or dtypes == {"uint8"}


def _check_reader(view: _View, node: NodeProto) -> Found:
    """Who reads integers, and who reads a pair."""
    origins = view.origins(node)
    if origins and node.op_type != DEQUANTIZE and not _stays_integer(view, node):
        yield "pair", f"{node.op_type} of what {_label(origins[0])} writes", f"{DEQUANTIZE} first"
    is_floating = node.op_type in FLOATING
    is_floating |= node.op_type == "MaxPool" and view.target is LintTarget.ONNXRUNTIME
    read = [view.pairs[name] for name in node.input if name in view.pairs]
    if is_floating and read and not view.is_result(read[0]):
        yield "floating", f"{node.op_type} of {_label(read[0])}", "the tensor before the pair"


def _check_parameters(view: _View, node: NodeProto) -> Found:
    """What a Q or DQ holds."""
    own = view.quantization(node)
    outside = own.scale[~((own.scale >= SMALLEST_SCALE) & (own.scale <= LARGEST_SCALE))]
    if outside.size and view.reading(_name(node.input, 1), QUANTIZE, DEQUANTIZE)[:1] in (
        [],
        [node],
    ):
        is_computed = _name(node.input, 1) not in view.constants
        found = "computed at run time" if is_computed else f"{outside[0]:.3g}"
        yield "scale", found, "a constant from 2^-40 to 2^20"
    for origin in view.origins(node) if node.op_type == DEQUANTIZE else ():
        if not view.agree(node, origin):
            yield "pair", str(own), f"{view.quantization(origin)}, as {_label(origin)}"
    is_first = node.op_type == QUANTIZE or not view.origins(node)
    if not is_first or view.fixed.issuperset(node.input[:1]):
        return
    is_onnxruntime = view.target is LintTarget.ONNXRUNTIME
    dtypes = ("int8", "uint8") if is_onnxruntime else ("int8",)
    if own.scale.size != 1:
        yield "activations", str(own), "one scale"
    if own.dtype not in ("", *dtypes):
        yield "activations", own.dtype, " or ".join(dtypes)
    if own.zero_point.any() and not is_onnxruntime:
        yield "activations", str(own), "zero point 0"


def _check_place(view: _View, node: NodeProto) -> Found:
    """Where a Q stands."""
    tensor, integers = _name(node.input), _name(node.output)
    first = next(iter(view.reading(tensor, QUANTIZE)), node)
    if first is not node:
        rule = "duplicate" if view.agree(first, node) else "one-pair"
        yield rule, f"{tensor} has a pair by {_label(first)} already", "one pair"
    if integers in view.late:
        yield "output", "its result reaches an output without a convolution", "floats"
    if not view.readers.get(integers):
        yield "pair", "nobody reads it", DEQUANTIZE
    maker = view.makers.get(tensor)
    if maker is None or maker.op_type not in ("Conv", "BatchNormalization"):
        return
    for pair in view.reading(integers, DEQUANTIZE):
        for reader in view.reading(_name(pair.output), "Relu", "Clip", "BatchNormalization"):
            low, high = (view.constants.get(_name(reader.input, k), UNKNOWN) for k in (1, 2))
            if reader.op_type != "Clip" or ((low == 0).all() and (high > 0).all()):
                found = f"between {_label(maker)} and {_label(reader)}"
                yield "fusion", found, f"behind {_label(reader)}"


def _check_convolution(view: _View, node: NodeProto) -> Found:
    data, weights, bias = (view.pairs.get(_name(node.input, k)) for k in range(3))
    shares = weights is None and data is not None and view.is_shared(data)
    if (data is None) != (weights is None) and not shares:
        found = "integer weights alone" if data is None else "integer data alone"
        yield "sides", found, "both integer or both floating"
    if weights is not None:
        groups = attribute(node, "group", 1)
        if groups > 1 and view.target is LintTarget.TENSORRT_RTX:
            yield "depthwise", f"integer weights in {groups} groups", "floating weights"
        yield from _check_weights(view, weights)
    if view.target is not LintTarget.ONNXRUNTIME:
        if bias is not None:
            yield "bias", f"quantized in {_label(bias)}", "floating"
    elif data is not None and weights is not None:
        results = [node, *view.reading(_name(node.output), "Relu", "Clip")]
        is_quantized = any(view.reading(_name(result.output), QUANTIZE) for result in results)
        if bias is not None:
            yield from _check_bias(view, data, weights, bias)
        elif _name(node.input, 2) and is_quantized:
            yield "bias", "floating", "int32 at the scale of data times weights"


def _check_weights(view: _View, pair: NodeProto) -> Found:
    own, integers = view.quantization(pair), _stored_integers(view, pair)
    if not integers.ndim:
        yield "weights", "computed at run time", "a constant"
        return
    if own.dtype != "int8":
        yield "weights", own.dtype or "an unknown type", "int8"
    elif integers.min(initial=0) < -127:
        yield "weights", "the value -128", "-127 to 127"
    if own.zero_point.any():
        yield "weights", f"zero points up to {own.zero_point.max():.0f}", "zero point 0"
    channels, is_across = len(integers), own.axis % integers.ndim > 0
    if own.scale.size != channels or own.scale.ndim > 1 or (channels > 1 and is_across):
        yield "weights", str(own), f"{channels} scales along axis 0"


def _check_bias(view: _View, data: NodeProto, weights: NodeProto, bias: NodeProto) -> Found:
    own = view.quantization(bias)
    scale = view.quantization(data).scale.max(initial=0) * view.quantization(weights).scale.ravel()
    if own.dtype not in ("", "int32"):
        yield "bias", own.dtype, "int32"
    if own.zero_point.any():
        yield "bias", f"zero points up to {own.zero_point.max():.0f}", "zero point 0"
    if own.scale.size != scale.size:
        yield "bias", str(own), f"{scale.size} scales"
    elif not (close := np.isclose(own.scale.ravel(), scale, rtol=BIAS_TOLERANCE, atol=0)).all():
        k = int(np.argmin(close))
        yield "bias", f"scale {own.scale.flat[k]:.9g}", f"{scale[k]:.9g}: data times weights"


def _check_joint(view: _View, node: NodeProto) -> Found:
    """An Add or a Concat."""
    pairs = [view.pairs[name] for name in node.input if name in view.pairs]
    if not pairs:
        return
    share = f"{len(pairs)} of {len(node.input)} inputs have a pair"
    if node.op_type == "Add":
        if len(pairs) == 1 and view.fixed.isdisjoint(node.input):
            yield "residual", share, "all or none"
        return
    results = view.reading(_name(node.output), QUANTIZE)
    if not results:  # it joins floats
        return
    if len(pairs) < len(node.input):
        yield "concatenation", share, "all or none"
    for other in [*pairs[1:], *results]:
        if not view.agree(pairs[0], other):
            found = f"{view.quantization(other)} in {_label(other)}"
            yield "concatenation", found, f"{view.quantization(pairs[0])}, as {_label(pairs[0])}"


_CHECKS = {
    QUANTIZE: (_check_parameters, _check_place),
    DEQUANTIZE: (_check_parameters,),
    "Conv": (_check_convolution,),
    "Add": (_check_joint,),
    "Concat": (_check_joint,),
}


def _stored_integers(view: _View, pair: NodeProto) -> Array:
    """What a DequantizeLinear reads: constants, or what its QuantizeLinear makes of constants."""
    maker = view.makers.get(_name(pair.input))
    if maker is None or maker.op_type != QUANTIZE:
        return view.constants.get(_name(pair.input), UNKNOWN)
    floats = view.constants.get(_name(maker.input), UNKNOWN).astype(np.float64)
    scale = view.quantization(maker).scale
    if not floats.ndim or scale.size not in (1, len(floats)):
        return np.zeros(floats.shape)  # its scales are a breach of their own
    with np.errstate(all="ignore"):
        return np.rint(floats / scale.reshape(-1, *[1] * (floats.ndim - 1)))


def _array(value: Any) -> Array | None:
    """The numbers of a tensor or attribute; None for texts, and for what another file holds."""
    is_tensor = isinstance(value, TensorProto)
    if is_tensor and value.data_location == TensorProto.EXTERNAL:
        return None
    array = numpy_helper.to_array(value) if is_tensor else np.array(value)
    return None if array.dtype.kind in "OSU" else array


def _name(tensors: Sequence[str], index: int = 0) -> str:
    return tensors[index] if index < len(tensors) else ""


def _label(node: NodeProto) -> str:
    return node.name or _name(node.output) or node.op_type
