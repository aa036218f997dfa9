"""A padded integer convolution in parts without padding, cut where taps enter or leave the map."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from segdeploy.rewrite.graph_edit import Draft
from segdeploy.rewrite.integers import IntegerConvolution

TAPS = range(3)


@dataclass(frozen=True)
class Band:
    """Results along one axis whose taps inside the map are the same."""

    first: int  # of the results
    taps: slice  # of the three
    start: int  # of what is read
    stop: int


Bias = Callable[[Draft, Band, Band, str], list[ir.Value | None]]  # of a part; none: an empty list


def bands(length: int, *, dilation: int = 1, stride: int = 1) -> list[Band]:
    """Of a "same" convolution with three taps along an axis of this length."""

    def inside(result: int) -> tuple[int, ...]:
        places = ((tap, result * stride + (tap - 1) * dilation) for tap in TAPS)
        return tuple(tap for tap, place in places if 0 <= place < length)

    found = []
    for taps, group in groupby(range(0, -(-length // stride)), inside):
        results = list(group)
        start = results[0] * stride + (taps[0] - 1) * dilation
        stop = results[-1] * stride + (taps[-1] - 1) * dilation + 1
        found.append(Band(results[0], slice(taps[0], taps[-1] + 1), start, stop))
    return found


def convolve_in_bands(
    prefix: str,
    given: IntegerConvolution,
    source: ir.Value,
    weights: NDArray[np.int8],
    bias: Bias,
    size: tuple[int, int],
    **geometry: int,
) -> None:
    """Put the parts, joined, in the place of the whole.

    Args:
        prefix: of the new names.
        given: the convolution.
        source: what is read instead of its source, in the same integers (N, C, H, W).
        weights: (O, C, 3, 3) for it.
        bias: makes the bias of the part of a row and a column of bands.
        size: H and W.
        geometry: dilation or stride, as `bands` takes them.
    """
    draft = Draft(prefix)
    down, across = (bands(length, **geometry) for length in size)
    axes = draft.store(np.array([2, 3], np.int64), "axes")
    attributes = {f"{name}s": [value] * 2 for name, value in geometry.items()}
    rows = []
    for row in down:
        parts = []
        for column in across:
            name = f"at{row.first}_{column.first}"
            begin = draft.store(np.array([row.start, column.start], np.int64), f"{name}_start")
            end = draft.store(np.array([row.stop, column.stop], np.int64), f"{name}_stop")
            read = draft.make("Slice", [source, begin, end, axes], f"{name}_read")
            taps = draft.store(weights[:, :, row.taps, column.taps], f"{name}_weights")
            inputs = [
                given.source.dequantized(draft, read, f"{name}_x"),
                given.weights.dequantized(draft, taps, f"{name}_taps"),
                *bias(draft, row, column, name),
            ]
            y = draft.make("Conv", inputs, f"{name}_y", **attributes)
            parts.append(given.result.quantized(draft, y, name))
        rows.append(draft.make("Concat", parts, f"row{row.first}", axis=3))
    given.result.replace(draft, draft.make("Concat", rows, "whole", axis=2))
