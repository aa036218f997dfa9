"""Dilated 3x3 convolutions by Winograd's method, phase by phase.

A convolution of dilation d is d x d ordinary ones, each on every d-th row and column. On a map of
64 rows and dilation 24 such a phase has 3 rows, so that most taps of its border see padding: one
tile covers it, and its products are those of F(3) and F(6), 40 in place of 162.

The map is turned to (rows of a phase, phase, columns of a phase); row transforms see the phases
beside each other, column transforms below each other. Only for sizes known at export.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from segdeploy.rewrite.graph_edit import Draft, dense_3x3, operand, side, weights_of
from segdeploy.rewrite.tap_products import TAPS, best_length, tiles, transforms
from segdeploy.rewrite.winograd import LEAST_CHANNELS, tile_pixels, tile_products

# Of products by multiplications that see no padding. Measured at 64x128, 320 to 512 channels:
# dilation 12 (0.31) takes 128 instead of 202 ms, 24 (0.47) 145 instead of 174, 36 (0.82) 169
# instead of 144: ONNX Runtime itself leaves out taps outside the map.
LARGEST_SHARE = 0.5


@dataclass(frozen=True)
class _Axis:
    """One axis of the map: its length, cut into phases and those into tiles."""

    length: int
    dilation: int

    @property
    def phase(self) -> int:
        """Pixels of a phase."""
        return tiles(self.length, self.dilation)

    @property
    def size(self) -> int:
        """Of a tile."""
        return best_length(self.phase)

    @property
    def tiles(self) -> int:
        """Of a phase."""
        return tiles(self.phase, self.size)

    @property
    def places(self) -> int:
        """Of a tile."""
        return self.size + TAPS - 1

    @property
    def seen_taps(self) -> int:
        """Pixels times taps that do not see padding."""
        return TAPS * self.length - 2 * min(self.dilation, self.length)


def apply_dilated_winograd(model: ir.Model) -> int:
    """Replace each dense float32 3x3 convolution with dilation for which it pays."""
    changed = 0
    for node in list(model.graph):
        dilation = dense_3x3(node)
        if dilation is None or dilation == 1:
            continue
        height, width = side(operand(node), 2), side(operand(node), 3)
        if height is None or width is None:
            continue
        down, across = _Axis(height, dilation), _Axis(width, dilation)
        if _pays(node, down, across):
            draft = Draft(f"{operand(node, 1).name}.winograd")
            draft.replace(node, _convolution(draft, node, down, across))
            changed += 1
    return changed


def _pays(node: ir.Node, down: _Axis, across: _Axis) -> bool:
    weights = weights_of(node)
    if weights.dtype != np.float32 or min(weights.shape[:2]) < LEAST_CHANNELS:
        return False
    products = down.places * down.tiles * across.places * across.tiles * down.dilation**2
    return products <= LARGEST_SHARE * down.seen_taps * across.seen_taps


def _convolution(draft: Draft, node: ir.Node, down: _Axis, across: _Axis) -> ir.Value:
    weights = weights_of(node)
    channels = weights.shape[1]
    tile = (transforms(down.size), transforms(across.size))
    below = (0, channels, down.tiles * down.dilation**2, across.phase)
    products = tile_products(
        draft,
        _phases(draft, operand(node), channels, down, across),
        weights,
        node.inputs[2] if len(node.inputs) > 2 else None,
        tile,
        name="phases",
        between=lambda band, name: draft.reshape(band, below, name),
    )
    return _assembled(draft, tile_pixels(draft, products, tile), len(weights), down, across)


def _phases(draft: Draft, image: ir.Value, channels: int, down: _Axis, across: _Axis) -> ir.Value:
    """(N, C, H, W) -> (N, C, rows of a phase, phases * columns of a phase), padded with zeros."""
    dilation, rows, columns = down.dilation, down.phase, across.phase
    missing = [rows * dilation - down.length, columns * dilation - across.length]
    if any(missing):
        ends = draft.store(np.array([0] * 6 + missing, np.int64), "ends")
        image = draft.make("Pad", [image, ends], "padded")
    apart = draft.reshape(image, (0, channels, rows, dilation, columns, dilation), "apart")
    turned = draft.make("Transpose", [apart], "turned", perm=[0, 1, 2, 3, 5, 4])
    return draft.reshape(turned, (0, channels, rows, dilation**2 * columns), "by_phase")


def _assembled(
    draft: Draft, pixels: ir.Value, outputs: int, down: _Axis, across: _Axis
) -> ir.Value:
    """(N, pixels of a tile, K * tiles of all phases) -> the map (N, K, H, W)."""
    dilation = down.dilation
    parts = (down.size, across.size, outputs, down.tiles, dilation, dilation, across.tiles)
    apart = draft.reshape(pixels, (0, *parts), "pixels_apart")
    turned = draft.make("Transpose", [apart], "pixels_turned", perm=[0, 3, 4, 1, 5, 7, 2, 6])
    height = down.tiles * down.size * dilation
    width = across.tiles * across.size * dilation
    whole = draft.reshape(turned, (0, outputs, height, width), "whole")
    return draft.crop(whole, (down.length, across.length), "cropped")
