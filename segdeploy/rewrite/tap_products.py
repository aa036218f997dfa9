"""Winograd's minimal filtering F(m, 3): m outputs of a 3-tap filter from m + 2 products.

The construction is Toom and Cook's: both factors are evaluated at m + 1 points and at infinity,
multiplied there, and interpolated. Lavin and Gray, "Fast Algorithms for Convolutional Neural
Networks", CVPR 2016, applied its transpose to convolution.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

TAPS = 3
# Small points of both signs, so that no entry grows large: rounding grows with the entries.
POINTS = (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2))
SIZES = (2, 3, 4, 6)  # outputs a tile; beyond 6 rounding exceeds what parity allows
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Transforms:
    """`outputs` @ ((`taps` @ filter) * (`inputs` @ data)) is the filter at m places of the data."""

    outputs: Matrix  # (m, m + 2)
    taps: Matrix  # (m + 2, 3)
    inputs: Matrix  # (m + 2, m + 2)

    @property
    def size(self) -> int:
        """How many outputs: m."""
        return len(self.outputs)


@cache
def transforms(size: int) -> Transforms:
    """The three matrices of F(size, 3), computed in exact fractions.

    Column 1 of `outputs` holds ones (the point is 1): what is added to that product is added to
    every output.
    """
    points = [Fraction(point) for point in POINTS[: size + TAPS - 2]]
    outputs = [[p**i for p in points] + [Fraction(i == size - 1)] for i in range(size)]
    taps, inputs = [], []
    for k, point in enumerate(points):
        others = points[:k] + points[k + 1 :]
        divisor = _product([point - other for other in others])
        taps.append([point**i / divisor for i in range(TAPS)])
        inputs.append([*_polynomial(others), Fraction(0)])
    taps.append([Fraction(0), Fraction(0), Fraction(1)])
    inputs.append(_polynomial(points))
    return Transforms(*(np.array(rows, np.float64) for rows in (outputs, taps, inputs)))


def best_size(height: int | None, width: int | None) -> int:
    """The square tile that needs the fewest products on a map; None: a side may be any."""
    if height is None or width is None:
        return max(SIZES)

    def products(size: int) -> int:
        return tiles(height, size) * tiles(width, size) * (size + TAPS - 1) ** 2

    return min(SIZES, key=products)


def best_length(length: int) -> int:
    """The tile that needs the fewest products along one axis."""
    return min(SIZES, key=lambda size: tiles(length, size) * (size + TAPS - 1))


def tiles(length: int, size: int) -> int:
    """How many tiles of `size` cover an axis."""
    return -(-length // size)


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients of the product of (x - root), lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        raised = [Fraction(0), *coefficients]
        scaled = [*(-root * c for c in coefficients), Fraction(0)]
        coefficients = [a + b for a, b in zip(raised, scaled, strict=True)]
    return coefficients


def _product(values: list[Fraction]) -> Fraction:
    result = Fraction(1)
    for value in values:
        result *= value
    return result
