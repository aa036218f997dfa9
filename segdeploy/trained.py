"""A convolution as quantization-aware training rounded it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STEPS = 127  # of int8 on either side of zero


@dataclass(frozen=True, eq=False)
class TrainedConvolution:
    """Weights in integers, with the scales that training learned.

    Args:
        weight: what a graph calls the weights.
        integers: (O, I, h, w) int8.
        scale: (O,) of the weights; what BatchNorm multiplies by is in it.
        input_scale: of the tensor that the convolution reads.
    """

    weight: str
    integers: NDArray[np.int8]
    scale: NDArray[np.float64]
    input_scale: float
