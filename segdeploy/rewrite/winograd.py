"""Dense 3x3 convolutions by Winograd's F(m x m, 3x3), in operators that every runtime has.

Rows and columns of the map are transformed by depthwise convolutions of stride m, one for each of
the m + 2 places of a tile; a 1x1 convolution for each pair of places multiplies with the filters,
transformed here in float64; one matrix product makes m x m pixels of the (m + 2)^2 products. F(6)
needs 64 products for 36 pixels where the direct form needs 324.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from segdeploy.rewrite.graph_edit import (
    Draft,
    concatenated_parts,
    dense_3x3,
    operand,
    side,
    weights_of,
)
from segdeploy.rewrite.tap_products import Transforms, best_size, tiles, transforms

# In and out: from here on faster on every map, on one thread and on two; with 128 not on all
# (benchmarks/results/winograd-cpu.json).
LEAST_CHANNELS = 256
ONE = 1  # the place whose products reach every pixel with weight 1: where a bias is added


@dataclass(frozen=True)
class _Layer:
    """A convolution taken apart: its input as parts of channels, and the tile."""

    parts: tuple[ir.Value, ...]
    weights: tuple[NDArray[np.float32], ...]  # (K, channels of the part, 3, 3) each
    bias: ir.Value | None
    height: int | None  # of the map; None: dynamic
    width: int | None
    size: int  # of a tile

    @property
    def outputs(self) -> int:
        return len(self.weights[0])


def apply_winograd(model: ir.Model) -> int:
    """Replace each dense float32 3x3 convolution for which it pays."""
    changed = 0
    for node in list(model.graph):
        if dense_3x3(node) == 1 and (layer := _layer(node)) is not None:
            draft = Draft(f"{operand(node, 1).name}.winograd")
            draft.replace(node, _convolution(draft, layer))
            changed += 1
    return changed


def _layer(node: ir.Node) -> _Layer | None:
    """What is to be computed, or None where the direct form is as fast."""
    image, weights = operand(node), weights_of(node)
    if weights.dtype != np.float32 or min(weights.shape[:2]) < LEAST_CHANNELS:
        return None
    height, width = side(image, 2), side(image, 3)
    parts = concatenated_parts(image)
    edges = np.cumsum([side(part, 1) for part in parts])[:-1]
    return _Layer(
        parts=parts,
        weights=tuple(np.split(weights, edges, axis=1)),
        bias=node.inputs[2] if len(node.inputs) > 2 else None,
        height=height,
        width=width,
        size=best_size(height, width),
    )


def _convolution(draft: Draft, layer: _Layer) -> ir.Value:
    tile = transforms(layer.size)
    total: list[ir.Value] = []
    for p, (part, weights) in enumerate(zip(layer.parts, layer.weights, strict=True)):
        bias = None if total else layer.bias
        products = tile_products(draft, part, weights, bias, (tile, tile), name=f"part{p}")
        if total:  # the runtime adds while it convolves
            pairs = enumerate(zip(total, products, strict=True))
            products = [draft.make("Add", pair, f"sum{p}_{k}") for k, pair in pairs]
        total = products
    return _assembled(draft, layer, tile_pixels(draft, total, (tile, tile)), total[0])


def tile_products(
    draft: Draft,
    image: ir.Value,
    weights: NDArray[np.float32],
    bias: ir.Value | None,
    tile: tuple[Transforms, Transforms],
    *,
    name: str,
    between: Callable[[ir.Value, str], ir.Value] | None = None,
) -> list[ir.Value]:
    """For each pair of places (N, K, tiles down, tiles across), row by row.

    Args:
        draft: where the nodes go.
        image: (N, C, H, W).
        weights: (K, C, 3, 3).
        bias: (K,), added to one of the products.
        tile: transforms down and across.
        name: of the part of the network.
        between: what happens to the transformed rows before their columns are.
    """
    down, across = tile
    exact = weights.astype(np.float64)
    filters = np.einsum("ai,kcij,bj->abkc", down.taps, exact, across.taps, optimize=True)
    filters = filters[..., None, None].astype(np.float32)
    products = []
    for a, row in enumerate(down.inputs):
        band = _places(draft, image, row, down, len(weights[0]), f"{name}_row{a}", axis=0)
        if between is not None:
            band = between(band, f"{name}_band{a}")
        for b, column in enumerate(across.inputs):
            here = f"{name}_{a}_{b}"
            place = _places(draft, band, column, across, len(weights[0]), f"{here}_place", axis=1)
            inputs = [place, draft.store(filters[a, b], f"{here}_filter")]
            if bias is not None and (a, b) == (ONE, ONE):
                inputs.append(bias)
            products.append(draft.make("Conv", inputs, here, kernel_shape=[1, 1]))
    return products


def tile_pixels(
    draft: Draft, products: Sequence[ir.Value], tile: tuple[Transforms, Transforms]
) -> ir.Value:
    """Products to (N, pixels of a tile, K * tiles)."""
    down, across = tile
    joined = draft.make("Concat", products, "products", axis=1)
    places = draft.reshape(joined, (0, len(products), -1), "places")
    matrix = np.kron(down.outputs, across.outputs).astype(np.float32)
    return draft.make("MatMul", [draft.store(matrix, "outputs"), places], "pixels")


def _places(
    draft: Draft,
    image: ir.Value,
    coefficients: NDArray[np.float64],
    tile: Transforms,
    channels: int,
    name: str,
    *,
    axis: int,
) -> ir.Value:
    """One place of each tile along an axis: a depthwise convolution that steps by tiles."""
    used = np.flatnonzero(coefficients)
    first, last = int(used[0]), int(used[-1])
    step = 2 if all((used - first) % 2 == 0) else 1  # outer places use every other pixel
    taps = coefficients[first : last + 1 : step].astype(np.float32)
    # A tile starts one pixel early, for its first tap; the end is padded for the last tile.
    begin, end = 1 - first, last - 1
    shape = [channels, 1, 1, 1]
    shape[2 + axis] = len(taps)
    kernel = np.broadcast_to(taps.reshape([1, 1, *shape[2:]]), shape)

    def along(value: int, other: int) -> list[int]:
        return [value, other] if axis == 0 else [other, value]

    return draft.make(
        "Conv",
        [image, draft.store(kernel, f"{name}_taps")],
        name,
        group=channels,
        kernel_shape=shape[2:],
        strides=along(tile.size, 1),
        dilations=along(step, 1),
        pads=[*along(begin, 0), *along(end, 0)],
    )


def _assembled(draft: Draft, layer: _Layer, pixels: ir.Value, product: ir.Value) -> ir.Value:
    """(N, pixels of a tile, K * tiles) -> the map (N, K, H, W)."""
    height, width, depth = layer.height, layer.width, layer.size**2 * layer.outputs
    size: tuple[int, int] | ir.Value
    if height is not None and width is not None:
        counts = (tiles(height, layer.size), tiles(width, layer.size))
        blocks = draft.reshape(pixels, (0, depth, *counts), "blocks")
        size = (height, width)
    else:
        grid = draft.make("Shape", [product], "grid", start=2, end=4)
        start = draft.store(np.array([0, depth], np.int64), "depth")
        shape = draft.make("Concat", [start, grid], "blocks_shape", axis=0)
        blocks = draft.make("Reshape", [pixels, shape], "blocks")
        size = draft.make("Shape", [layer.parts[0]], "size", start=2, end=4)
    whole = draft.make("DepthToSpace", [blocks], "whole", blocksize=layer.size, mode="DCR")
    return draft.crop(whole, size, "cropped")
