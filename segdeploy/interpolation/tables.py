"""What the loops read: tiles of rows and columns, source pixels and weights."""

from collections.abc import Callable
from typing import NamedTuple, ParamSpec, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Indices = NDArray[np.uint32]  # unsigned: numba then leaves out the test for counting from the end
Floats = NDArray[np.float32]
P = ParamSpec("P")
R = TypeVar("R")

LANES = 8  # pixels of a column tile: two SSE vectors or one of AVX
HALF = LANES // 2  # pixels that share both source columns where there is one resize: stride 4


class RowTables(NamedTuple):
    """Tiles of output rows, and for each row the source rows and weights of both resizes."""

    start: Indices  # (tiles + 1) output rows
    first: Indices  # (tiles) rows of the logits that a tile reads: first to last
    last: Indices
    low: Indices  # (network rows) of the logits
    high: Indices
    keep: Floats  # weight of `low`
    take: Floats  # weight of `high`
    low2: Indices  # (output rows) of the network's input
    high2: Indices
    keep2: Floats
    take2: Floats


class ColumnTables(NamedTuple):
    """Tiles of `LANES` output columns, filled up with copies of their own.

    One resize has one part. Two have two: the left and the right source column of the second.
    """

    tile: Indices  # (output columns) where each belongs
    pixel: Indices  # (tiles, LANES) output columns
    first: Indices  # (tiles) columns of the logits that a tile reads: first to last
    last: Indices
    low: Indices  # (parts, tiles, LANES) columns of the logits
    high: Indices
    keep: Floats  # weight of `low`
    take: Floats  # weight of `high`
    keep2: Floats  # (tiles, LANES)
    take2: Floats


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile at the first call, and keep the result on disk if there is a place for it."""
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        return njit(nogil=True, error_model="numpy")(function)
