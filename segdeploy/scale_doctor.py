"""Whether the scales of a quantized graph, of whatever tool, suit the values that reach them.

Saturation alone says nothing: a scale may stand for a ReLU6, channel by channel, and clip what the
activation would. So where the floating graph is at hand, its activations tell what may be clipped.
Each channel of a quantized graph is that of the floating one, perhaps stretched and moved.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from segdeploy.complaints import Complaint, Fault, Severity
from segdeploy.spec import Images

Run = Callable[[Images], Iterator[tuple[str, NDArray[Any]]]]
Floats = NDArray[np.float64]

# Of other tools, without the floating graph: over 28 sound graphs (max, percentile 99.9 and 99.99,
# mse; of ONNX Runtime minmax, entropy and percentile; demo and CamVid; calibrated on other images)
# at most 0.5 % of a tensor's values were clipped and at least 48 % of the codes used. A scale 8
# times too small clipped 8 to 30 % of nine tensors in ten; one 8 times too large used up to 35 %.
CLIPPED = 0.01
# Ours, whose channels have thresholds of their own, beside the floating graph: 16 sound ones (mse,
# max, percentile, entropy; both forms; demo and CamVid) clipped up to 4.0 % and used 65 % and more.
# A scale 5.7 times too small clipped 6.3 to 15 % and more of nine tensors in ten.
CLIPPED_BESIDE_FLOATING = 0.06
CERTAINLY_CLIPPED = 0.1
USED, CERTAINLY_USED = 1 / 3, 1 / 16
ACTIVATIONS = {"Relu": (0.0, np.inf), "Clip": (0.0, 6.0)}  # what they leave; Clip is a ReLU6
RELU6 = 6.0  # a scale that ends here stands for the activation itself: nothing is lost above
NEARLY = 0.02  # of it
FLAT = 1e-3  # of the largest magnitude: a tensor that varies less has no scale of its own
POSITIONS, FEWEST = 1024, 8  # of a channel, by which it is compared with the floating one
SAMPLE = 8192  # values of a tensor of one batch, by which the scale it wants is chosen
OCTAVES, STEPS = 6, 4  # below the largest magnitude, in which a clipping threshold is sought


@dataclass(frozen=True)
class ActivationScale:
    """A QuantizeLinear of something that is computed: value = scale * (code - zero_point)."""

    tensor: str
    scale: float
    zero_point: int
    codes: tuple[int, int]  # the least and the largest of its type

    @property
    def is_symmetric(self) -> bool:
        """Whether zero is in the middle of the codes."""
        return 2 * self.zero_point - sum(self.codes) == 1

    @property
    def is_rectified(self) -> bool:
        """Whether it stands for a ReLU too: no code is below zero."""
        return self.zero_point == self.codes[0]

    @property
    def limits(self) -> tuple[float, float]:
        """The values of the first and the last code."""
        first, last = self.codes
        return (first - self.zero_point) * self.scale, (last - self.zero_point) * self.scale


@dataclass(frozen=True, eq=False)
class Fit:
    """How the values of a tensor lie in its scale; fits of several batches add up."""

    count: int
    clipped: int
    low: float
    high: float
    sample: Floats

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.count + other.count,
            self.clipped + other.clipped,
            min(self.low, other.low),
            max(self.high, other.high),
            np.concatenate([self.sample, other.sample]),
        )

    @classmethod
    def of(
        cls, values: NDArray[Any], scale: ActivationScale, limits: tuple[Floats, Floats] | None
    ) -> Self:
        """Count; what an activation cuts off is not counted as clipped.

        Args:
            values: (N, C, ...).
            scale: of the whole tensor.
            limits: (C,) least and largest value that the activation leaves in a channel; None:
                unknown, and guessed.
        """
        flat = np.asarray(values, np.float32)
        low, high = scale.limits
        if limits is not None:
            shape = (1, -1) + (1,) * (flat.ndim - 2)
            flat = flat.clip(limits[0].reshape(shape), limits[1].reshape(shape))
        if scale.is_rectified:
            flat = np.maximum(flat, 0)
        if abs(high - RELU6) <= NEARLY * RELU6 and not scale.is_symmetric:
            flat = np.minimum(flat, high)
        flat = flat.reshape(-1)
        margin = (0.5 + (limits is not None)) * scale.scale  # limits are estimates
        clipped = int(np.count_nonzero((flat > high + margin) | (flat < low - margin)))
        sample = flat[:: max(flat.size // SAMPLE, 1)].astype(np.float64)
        return cls(flat.size, clipped, float(flat.min()), float(flat.max()), sample)

    @property
    def clipped_share(self) -> float:
        """Of the values."""
        return self.clipped / self.count

    def used_share(self, scale: ActivationScale) -> float:
        """Of the codes: those up to the largest magnitude, or from the least to the largest."""
        low, high = np.clip((self.low, self.high), *scale.limits)
        if scale.is_symmetric:
            return float(max(-low, high) / scale.limits[1])
        return float((max(high, 0) - min(low, 0)) / (scale.limits[1] - scale.limits[0]))

    @property
    def is_flat(self) -> bool:
        """Whether the values hardly differ."""
        return self.high - self.low <= FLAT * max(abs(self.low), abs(self.high))


def activation_scales(model: ModelProto) -> tuple[ActivationScale, ...]:
    """Every scale of a computed tensor, in the order of computation; one a tensor only."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
    found = []
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in constants:
            continue
        if not all(name in constants for name in node.input[1:]):
            continue
        scale = numpy_helper.to_array(constants[node.input[1]])
        zero = np.zeros((), np.uint8)  # what ONNX takes if there is none
        if len(node.input) > 2:
            kind = helper.tensor_dtype_to_np_dtype(constants[node.input[2]].data_type)
            if kind.kind not in "iu":  # float8: it has no codes to count
                continue
            zero = numpy_helper.to_array(constants[node.input[2]])
        if scale.size != 1 or float(scale.reshape(())) <= 0:
            continue
        facts = np.iinfo(zero.dtype)
        codes = int(facts.min), int(facts.max)
        found.append(
            ActivationScale(node.input[0], float(scale.reshape(())), int(zero.reshape(())), codes)
        )
    return tuple(found)


@dataclass(frozen=True)
class Activated:
    """A tensor of the floating graph behind its activation, and what that leaves."""

    tensor: str
    low: float = -np.inf
    high: float = np.inf


@dataclass(frozen=True)
class Floating:
    """The graph that a quantized one was made of."""

    tensors: Mapping[str, Activated]  # by the tensor of the quantized graph
    run: Run  # images -> the tensors that are named in `tensors`


def activated_tensors(
    floating: ModelProto, scales: Iterable[ActivationScale]
) -> dict[str, Activated]:
    """Where the floating graph has the tensors of a quantized one, which keep their names."""
    makers = {name: node for node in floating.graph.node for name in node.output}
    readers: dict[str, list[NodeProto]] = {}
    for node in floating.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for name in {scale.tensor for scale in scales} & makers.keys():
        behind = readers.get(name, [])
        nodes = [makers[name], *(behind if len(behind) == 1 else [])]
        node = next((node for node in nodes if node.op_type in ACTIVATIONS), None)
        limits = ACTIVATIONS[node.op_type] if node else ()
        found[name] = Activated(str(node.output[0]) if node else name, *limits)
    return found


def check_scales(
    model: ModelProto, run: Run, images: Iterable[Images], floating: Floating | None = None
) -> tuple[Complaint, ...]:
    """Name the first scale that clips a lot, or of whose codes few are used.

    The first only: what lies behind a wrong scale sees wrong values, and seems wrong itself.

    Args:
        model: a graph with Q/DQ pairs.
        run: images -> the tensors that `activation_scales` names, in any order.
        images: a few batches.
        floating: what it was made of. Without it, a scale that takes the place of an activation
            seems to clip, unless it begins at 0 and ends nowhere or at 6.
    """
    scales = activation_scales(model)
    by_tensor: dict[str, list[ActivationScale]] = {}
    for scale in scales:
        by_tensor.setdefault(scale.tensor, []).append(scale)
    fits: dict[ActivationScale, Fit] = {}
    for batch in images:
        true = {name: _channels(values) for name, values in floating.run(batch)} if floating else {}
        for name, values in run(batch):
            known = floating.tensors.get(name) if floating else None
            limits = _limits(_channels(values), true[known.tensor], known) if known else None
            for scale in by_tensor.get(name, ()):
                fit = Fit.of(values, scale, limits)
                fits[scale] = fits[scale] + fit if scale in fits else fit
    used = _used_shares(fits)
    for scale in scales:
        if scale in fits:
            is_known = floating is not None and scale.tensor in floating.tensors
            most = CLIPPED_BESIDE_FLOATING if is_known else CLIPPED
            share = used[scale.scale, scale.zero_point]
            if (wrong := _judge(scale, fits[scale], share, most)) is not None:
                return (wrong,)
    return ()


def _channels(values: NDArray[Any]) -> Floats:
    """(C, k) of (N, C, ...): some positions, the same in every tensor of this shape."""
    rows = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    return rows[:, :: max(rows.shape[1] // POSITIONS, 1)].astype(np.float64)


def _limits(values: Floats, true: Floats, known: Activated) -> tuple[Floats, Floats]:
    """What the activation leaves, in the stretched and moved channels of the quantized graph.

    The line from a true channel to its own is fitted where the activation changes nothing.
    """
    inside = (true > known.low) & (true < known.high)
    count = np.maximum(inside.sum(axis=1), 1)
    x_mean = (true * inside).sum(axis=1) / count
    y_mean = (values * inside).sum(axis=1) / count
    x, y = (true - x_mean[:, None]) * inside, (values - y_mean[:, None]) * inside
    slope = (x * y).sum(axis=1) / np.maximum((x * x).sum(axis=1), 1e-12)
    slope = np.where(slope == 0, 1e-12, slope)  # so that infinite stays infinite
    ends = [y_mean + slope * (end - x_mean) for end in (known.low, known.high)]
    silent = count < FEWEST  # a channel that the activation leaves nothing of
    return np.where(silent, 0, np.minimum(*ends)), np.where(silent, 0, np.maximum(*ends))


def _used_shares(fits: dict[ActivationScale, Fit]) -> dict[tuple[float, int], float]:
    """By scale and zero point: tensors that are joined share them, and the largest decides."""
    used: dict[tuple[float, int], float] = {}
    for scale, fit in fits.items():
        key = scale.scale, scale.zero_point
        used[key] = max(used.get(key, 0.0), fit.used_share(scale))
    return used


def _judge(
    scale: ActivationScale, fit: Fit, used_share: float, most_clipped: float
) -> Complaint | None:
    if fit.is_flat:
        return None
    if fit.clipped_share > most_clipped:
        is_certain = fit.clipped_share > CERTAINLY_CLIPPED
        fault, what = Fault.CLIPPING, f"clips {100 * fit.clipped_share:.1f} % of its values"
    elif used_share < USED:
        is_certain = used_share < CERTAINLY_USED
        fault, what = Fault.WASTE, f"uses {100 * used_share:.0f} % of its codes"
    else:
        return None
    return Complaint(
        Severity.REFUSE if is_certain else Severity.WARN,
        fault,
        f"tensor {scale.tensor}: its scale {scale.scale:.3g} {what}; "
        f"{_wanted_scale(scale, fit):.3g} would fit the images",
        "calibrate again on these images; if the scale comes from another tool, correct it there",
    )


def _wanted_scale(scale: ActivationScale, fit: Fit) -> float:
    """The one with the least squared error of rounding and clipping."""
    first, last = scale.codes
    low, high = min(fit.low, 0.0), max(fit.high, 0.0)
    if scale.is_symmetric:
        high = max(-low, high)
        low = -high
        first = -last
    best, least = scale.scale, np.inf
    for fraction in 2.0 ** (-np.arange(OCTAVES * STEPS) / STEPS):
        step = (high - low) * fraction / (last - first)
        codes = np.rint(fit.sample.clip(low * fraction, high * fraction) / step)
        error = float(np.mean((fit.sample - codes * step) ** 2))
        if error < least:
            best, least = step, error
    return best
