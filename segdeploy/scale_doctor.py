"""Whether the scales of a quantized graph, of whatever tool, suit the values that reach them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from segdeploy.complaints import Complaint, Fault, Severity
from segdeploy.spec import Images

Run = Callable[[Images], Iterator[tuple[str, NDArray[Any]]]]
Floats = NDArray[np.float64]

# Over 28 sound graphs (max, percentile 99.9 and 99.99, mse; of ONNX Runtime minmax, entropy and
# percentile; both forms; demo and CamVid; calibrated on other images) at most 0.46 % of a tensor's
# values were clipped and at least 48 % of the codes used. A scale 8 times too small clipped 0.9 %
# of the worst tensor and 8 to 30 % of nine in ten; one 8 times too large used at most 35 %.
CLIPPED, CERTAINLY_CLIPPED = 0.007, 0.1
USED, CERTAINLY_USED = 1 / 3, 1 / 16
RELU6 = 6.0  # a scale that ends here stands for the activation itself: nothing is lost above
NEARLY = 0.02  # of it
FLAT = 1e-3  # of the largest magnitude: a tensor that varies less has no scale of its own
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
    def of(cls, values: NDArray[Any], scale: ActivationScale) -> Self:
        """Count; what a fused activation cuts off is not counted as clipped."""
        flat = np.asarray(values, np.float32).reshape(-1)
        low, high = scale.limits
        if scale.is_rectified:
            flat = np.maximum(flat, 0)
        if abs(high - RELU6) <= NEARLY * RELU6 and not scale.is_symmetric:
            flat = np.minimum(flat, high)
        margin = scale.scale / 2
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


def check_scales(model: ModelProto, run: Run, images: Iterable[Images]) -> tuple[Complaint, ...]:
    """Name the first scale that clips a lot, or of whose codes few are used.

    The first only: what lies behind a wrong scale sees wrong values, and seems wrong itself.

    Args:
        model: a graph with Q/DQ pairs.
        run: images -> the tensors that `activation_scales` names, in any order.
        images: a few batches.
    """
    scales = activation_scales(model)
    by_tensor: dict[str, list[ActivationScale]] = {}
    for scale in scales:
        by_tensor.setdefault(scale.tensor, []).append(scale)
    fits: dict[ActivationScale, Fit] = {}
    for batch in images:
        for name, values in run(batch):
            for scale in by_tensor.get(name, ()):
                fit = Fit.of(values, scale)
                fits[scale] = fits[scale] + fit if scale in fits else fit
    used = _used_shares(fits)
    wrong = [
        found for scale in scales if scale in fits and (found := _judge(scale, fits[scale], used))
    ]
    return tuple(wrong[:1])


def _used_shares(fits: dict[ActivationScale, Fit]) -> dict[tuple[float, int], float]:
    """By scale and zero point: tensors that are joined share them, and the largest decides."""
    used: dict[tuple[float, int], float] = {}
    for scale, fit in fits.items():
        key = scale.scale, scale.zero_point
        used[key] = max(used.get(key, 0.0), fit.used_share(scale))
    return used


def _judge(
    scale: ActivationScale, fit: Fit, used: dict[tuple[float, int], float]
) -> Complaint | None:
    share = used[scale.scale, scale.zero_point]
    if fit.is_flat:
        return None
    if fit.clipped_share > CLIPPED:
        is_certain = fit.clipped_share > CERTAINLY_CLIPPED
        fault, what = Fault.CLIPPING, f"clips {100 * fit.clipped_share:.1f} % of its values"
    elif share < USED:
        is_certain = share < CERTAINLY_USED
        fault, what = Fault.WASTE, f"uses {100 * share:.0f} % of its codes"
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
