"""Pooled branches, upsampled into a 3x3 convolution, computed at their own tiny size.

PSPNet concatenates bilinear upsamplings of 1x1, 2x2, 3x3 and 6x6 maps with the features, DeepLabV3
a broadcast 1x1 map, and convolves all of it. Upsampling and convolution are both linear, so their
order is free: mix the channels of the tiny map for each of the nine taps, then apply tap and
interpolation together as one small matrix an axis, whose rows are zero where a tap leaves the map.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from segdeploy.rewrite.graph_edit import (
    Draft,
    constant,
    dense_3x3,
    ints,
    number,
    only_reader,
    operand,
    side,
    text,
    weights_of,
)

LARGEST = 64  # cells of a map that counts as pooled; PSPNet's largest has 36
TAPS = (-1, 0, 1)
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class _Branch:
    """A tiny map, and the weights of the channels that its upsampling fills."""

    source: ir.Value  # (N, channels, rows, columns)
    rows: int
    columns: int
    weights: Floats  # (K, channels, 3, 3)


def fold_pooled_branches(model: ir.Model) -> int:
    """Take upsampled tiny maps out of the concatenation before each 3x3 convolution."""
    changed = 0
    for node in list(model.graph):
        if dense_3x3(node) == 1:
            joined = operand(node).producer()
            if joined is not None and joined.op_type == "Concat":
                changed += _fold(node, joined)
    return changed


def _fold(convolution: ir.Node, joined: ir.Node) -> int:
    weights = weights_of(convolution)
    if number(joined, "axis", 0) != 1 or only_reader(joined.outputs[0]) is not convolution:
        return 0
    kept: list[tuple[ir.Value, Floats]] = []
    branches: list[_Branch] = []
    start = 0
    for value in joined.inputs:
        channels = None if value is None else side(value, 1)
        if value is None or channels is None:
            return 0
        part = weights[:, start : start + channels]
        start += channels
        tiny = _tiny_source(value)
        if tiny is None:
            kept.append((value, part))
        else:
            branches.append(_Branch(*tiny, part))
    if not branches or not kept:
        return 0
    draft = Draft(str(operand(convolution, 1).name))
    features = kept[0][0]
    if len(kept) > 1:
        features = draft.make("Concat", [value for value, _ in kept], "features", axis=1)
    rest = draft.store(np.concatenate([part for _, part in kept], axis=1), "features_weight")
    direct = draft.copy(convolution, [features, rest, *convolution.inputs[2:]], "features_only")
    pooled = _pooled_part(draft, branches, kept[0][0])
    draft.replace(convolution, draft.make("Add", [direct, pooled], "with_pooled"))
    return len(branches)


def _tiny_source(value: ir.Value) -> tuple[ir.Value, int, int] | None:
    """What `value` is the bilinear upsampling of, with its sides, if that is a tiny map."""
    node = value.producer()
    if node is None or node.op_type != "Resize" or (source := node.inputs[0]) is None:
        return None
    mode = text(node, "mode", "nearest")
    coordinates = text(node, "coordinate_transformation_mode", "half_pixel")
    rows, columns = side(source, 2), side(source, 3)
    if (mode, coordinates) != ("linear", "half_pixel") or rows is None or columns is None:
        return None
    return (source, rows, columns) if rows * columns <= LARGEST else None


def _pooled_part(draft: Draft, branches: Sequence[_Branch], features: ir.Value) -> ir.Value:
    """What the pooled channels add to the convolution's result: (N, K, H, W)."""
    wide = [
        draft.make("MatMul", [_mixed(draft, branch, k), matrix], f"wide{k}")
        for k, (branch, matrix) in enumerate(
            zip(branches, _across(draft, branches, features), strict=True)
        )
    ]
    tall = wide[0] if len(wide) == 1 else draft.make("Concat", wide, "tall", axis=2)
    return draft.make("MatMul", [_down(draft, branches, features), tall], "pooled")


def _mixed(draft: Draft, branch: _Branch, k: int) -> ir.Value:
    """The tiny map with its channels mixed for each tap: (N, K, 3 * rows, 3 * columns)."""
    outputs, channels = branch.weights.shape[:2]
    rows, columns = branch.rows, branch.columns
    taps = draft.store(branch.weights.transpose(1, 0, 2, 3).reshape(channels, -1), f"taps{k}")
    # Constants on the right: TensorRT-RTX 1.7 fails to build the other order for a dynamic batch.
    cells = draft.make("Transpose", [_flat(draft, branch, k)], f"cells{k}", perm=[0, 2, 1])
    mixed = draft.make("MatMul", [cells, taps], f"mixed{k}")
    apart = draft.reshape(mixed, (0, rows, columns, outputs, 3, 3), f"apart{k}")
    grid = draft.make("Transpose", [apart], f"grid{k}", perm=[0, 3, 4, 1, 5, 2])
    return draft.reshape(grid, (0, outputs, 3 * rows, 3 * columns), f"tapped{k}")


def _flat(draft: Draft, branch: _Branch, k: int) -> ir.Value:
    """The tiny map as (N, channels, cells).

    The 1x1 convolution and ReLU that made it become a matrix product: no convolution is left in the
    branch, so that quantization leaves it alone.
    """
    cells = branch.rows * branch.columns
    relu = branch.source.producer()
    convolution = operand(relu).producer() if relu and relu.op_type == "Relu" else None
    if convolution is None or (parameters := _pointwise(convolution)) is None:
        return draft.reshape(branch.source, (0, -1, cells), f"flat{k}")
    weights, bias = parameters
    pooled = draft.reshape(operand(convolution), (0, weights.shape[1], cells), f"flat{k}")
    matrix = draft.store(weights[:, :, 0, 0], f"weight{k}")
    product = draft.make("MatMul", [matrix, pooled], f"product{k}")
    shifted = draft.make("Add", [product, draft.store(bias[:, None], f"bias{k}")], f"shifted{k}")
    return draft.make("Relu", [shifted], f"relu{k}")


def _pointwise(node: ir.Node) -> tuple[Floats, Floats] | None:
    """Weights and bias of a dense 1x1 convolution, if the node is one."""
    if node.op_type != "Conv" or len(node.inputs) != 3 or number(node, "group", 1) != 1:
        return None
    weights, bias = constant(node.inputs[1]), constant(node.inputs[2])
    if weights is None or bias is None or weights.shape[2:] != (1, 1):
        return None
    is_usual = not any(ints(node, "pads", (0,))) and set(ints(node, "strides", (1,))) == {1}
    return (weights, bias) if is_usual else None


def tap_matrix(bins: Sequence[int], length: int) -> NDArray[np.float64]:
    """What each cell, seen through each tap, gives to each place: (sum of 3 * bins, length).

    Entry (tap, cell), r is the weight of the cell in the bilinear upsampling (align_corners=False)
    at r + tap, and zero where that lies outside the map.
    """
    tap, count, cell = _rows(bins)
    place = np.arange(length) + tap
    source = ((place + 0.5) * count / length - 0.5).clip(0, count - 1)
    inside = (place >= 0) & (place < length)
    return (1 - np.abs(source - cell)).clip(min=0) * inside


def _rows(bins: Sequence[int]) -> tuple[NDArray[np.float64], ...]:
    """Tap, number of cells, and cell of each row of `tap_matrix`: three columns."""
    rows = [(tap, count, cell) for count in bins for tap in TAPS for cell in range(count)]
    return tuple(np.array(rows, np.float64).T[:, :, None])


def _across(draft: Draft, branches: Sequence[_Branch], features: ir.Value) -> list[ir.Value]:
    """For each branch (3 * columns, W)."""
    bins, dtype = [branch.columns for branch in branches], branches[0].weights.dtype
    width = side(features, 3)
    if width is not None:
        return [
            draft.store(tap_matrix([count], width).astype(dtype), f"across{k}")
            for k, count in enumerate(bins)
        ]
    whole = _computed_matrix(draft, "across", bins, draft.length(features, 3, "width"), dtype)
    if len(bins) == 1:
        return [whole]
    return draft.split(whole, [3 * count for count in bins], "across", axis=0)


def _down(draft: Draft, branches: Sequence[_Branch], features: ir.Value) -> ir.Value:
    """For all branches together (H, sum of 3 * rows)."""
    bins, dtype = [branch.rows for branch in branches], branches[0].weights.dtype
    height = side(features, 2)
    if height is not None:
        return draft.store(tap_matrix(bins, height).T.astype(dtype), "down")
    whole = _computed_matrix(draft, "down", bins, draft.length(features, 2, "height"), dtype)
    return draft.make("Transpose", [whole], "down", perm=[1, 0])


def _computed_matrix(
    draft: Draft, name: str, bins: Sequence[int], length: ir.Value, dtype: np.dtype[np.floating]
) -> ir.Value:
    """`tap_matrix` in operators, for a length that is known at run time only."""

    def make(op_type: str, inputs: Sequence[ir.Value], step: str, **attributes: int) -> ir.Value:
        return draft.make(op_type, inputs, f"{name}_{step}", **attributes)

    def store(array: NDArray[np.float64] | float, step: str) -> ir.Value:
        return draft.store(np.asarray(array, np.float32), f"{name}_{step}")

    tap, count, cell = _rows(bins)
    zero, one = store(0, "zero"), store(1, "one")
    size = make("Cast", [length], "size", to=int(ir.DataType.FLOAT))
    # Counted in integers: TensorRT's parser refuses a floating range of computed length.
    ends = [draft.store(np.array(end), f"{name}_{step}") for end, step in ((0, "from"), (1, "by"))]
    counted = make("Range", [ends[0], length, ends[1]], "range")
    index = make("Cast", [counted], "index", to=int(ir.DataType.FLOAT))
    place = make("Add", [index, store(tap, "tap")], "place")
    half = store(0.5, "half")
    stretched = make("Mul", [make("Add", [place, half], "middle"), store(count, "count")], "scaled")
    source = make("Sub", [make("Div", [stretched, size], "cells"), half], "source")
    clipped = make("Min", [make("Max", [source, zero], "low"), store(count - 1, "last")], "clipped")
    distance = make("Abs", [make("Sub", [clipped, store(cell, "cell")], "offset")], "distance")
    hat = make("Relu", [make("Sub", [one, distance], "closeness")], "hat")
    inside = make(
        "And",
        [make("GreaterOrEqual", [place, zero], "above"), make("Less", [place, size], "below")],
        "inside",
    )
    weights = make("Where", [inside, hat, zero], "weights")
    if dtype == np.float32:
        return weights
    return make("Cast", [weights], "half_weights", to=int(ir.DataType.FLOAT16))
