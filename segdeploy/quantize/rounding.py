"""Weights and biases in integers.

On x86 processors with AVX2 or AVX-512 but without VNNI, ONNX Runtime adds products of uint8 and
int8 in 16 bits that saturate: on a DeepLabV3+ trained on CamVid the logits' signal-to-noise ratio
fell from 34 to 27 dB. A session that sets `session.x64quantprecision` to 1 is exact, and slower;
weights of 7 bits cannot saturate, keep the speed, and cost 3 dB on every processor.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.histograms import Floats

WEIGHT_STEPS = {8: 127, 7: 63}  # by bits; two products of 255 * 63 fit into 16 bits
INT32_STEPS = 2**30  # that a bias may take: half of int32, the rest is room for the accumulator
SINGLE = np.dtype(np.float32)
SMALLEST_SCALE = 2.0**-20  # also for what is zero throughout: a scale must be above zero


def round_weights(
    weights: Floats,
    steps: int = 127,
    smallest: float | Floats = SMALLEST_SCALE,
    dtype: np.dtype[Any] = SINGLE,
) -> tuple[NDArray[np.int8], NDArray[np.floating[Any]]]:
    """Weights (O, ...) as -steps..steps, one scale of at least `smallest` per output channel.

    The value -128 is never used, so that the format is symmetric. Scales have type `dtype`.
    """
    rows = weights.reshape(len(weights), -1)
    scale = np.maximum(np.abs(rows).max(axis=1) / steps, smallest).astype(dtype)
    integers = np.rint(rows / scale.astype(np.float64)[:, None]).clip(-steps, steps)
    return integers.astype(np.int8).reshape(weights.shape), scale


def smallest_scale(bias: Floats, input_scale: float) -> Floats:
    """What a channel's weight scale must be for its bias to fit into int32 beside it, (O,)."""
    return np.maximum(np.abs(bias) / (input_scale * INT32_STEPS), SMALLEST_SCALE)


def correct_bias(
    bias: Floats, weights: Floats, rounded: Floats, mean: Floats, *, depthwise: bool
) -> Floats:
    """The bias (O,) that takes back what rounded weights add on average.

    Args:
        bias: before.
        weights: (O, I, h, w) before rounding.
        rounded: after.
        mean: (I,) of the input.
        depthwise: whether output o reads input o alone.
    """
    lost = (rounded - weights).sum(axis=(2, 3))
    return np.asarray(bias - (lost[:, 0] * mean if depthwise else lost @ mean))
