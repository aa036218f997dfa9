"""Logits to label maps at the original size: mmseg's two bilinear resizes, then argmax.

Equal to resizing every class and taking the best, without doing so: see docs/masks.md.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from segdeploy.errors import SegdeployError
from segdeploy.interpolation.tables import HALF, LANES, ColumnTables, RowTables
from segdeploy.interpolation.tiles import label_tiles
from segdeploy.resampling import Stretch
from segdeploy.spec import IGNORE, LabelMap, Labels, Logits, Size

ROWS = 16  # output rows of a tile where there is one resize; a cell of stride 8 has 8
ROWS_TWICE = 8  # where there are two: tiles span cells, and few rows keep the mixed ones few
SPAN = 6  # rows or columns of the logits that a tile of two resizes reads at most
Places = NDArray[np.intp]


def labels_from_logits(
    logits: Logits, network: Size, original: Size, *, threads: int = 1
) -> LabelMap:
    """Resize to the network's input size, from there to the original size, and take the best class.

    Both steps are needed: resizing at once changes 0.3 to 1.6 % of the labels.

    Args:
        logits: (1, C, h, w) or (C, h, w) float32, from the decode head.
        network: size of the image that the network saw.
        original: size of the label map to return.
        threads: how many share the work.
    """
    batch = logits[np.newaxis] if logits.ndim == 3 else logits
    if len(batch) != 1:
        raise ValueError(f"logits are {logits.dtype} {logits.shape}; wanted float32 (1, C, h, w)")
    labels: LabelMap = batch_labels(batch, network, original, threads=threads)[0]
    return labels


def batch_labels(
    logits: Logits,
    network: Size,
    original: Size,
    *,
    threads: int = 1,
    out: Labels | None = None,
) -> Labels:
    """The same for a batch: (N, C, h, w) float32 -> (N, H, W), into `out` if it is given.

    The first call waits for `compile_loops`.

    Raises:
        SegdeployError: a score is infinite or not a number.
    """
    if logits.ndim != 4 or logits.dtype != np.float32:
        raise ValueError(f"logits are {logits.dtype} {logits.shape}; wanted float32 (N, C, h, w)")
    count, classes, *sides = logits.shape
    if classes > IGNORE:
        raise ValueError(f"logits of {classes} classes; uint8 labels hold {IGNORE} and `ignore`")
    scores = np.require(logits, requirements=["C", "W", "A"])
    rows, columns = _tables(Size(*sides), network, original)
    labels = np.empty((count, *original), np.uint8) if out is None else out
    # Shares of the row tiles of all images, one after the other.
    edges = [count * len(rows.first) * k // threads for k in range(threads + 1)]
    shares = [share for share in pairwise(edges) if share[0] < share[1]]

    def label(share: tuple[int, int]) -> bool:
        return bool(label_tiles(scores, labels, *share, rows, columns))

    if len(shares) == 1:
        done = [label(shares[0])]
    else:
        with ThreadPoolExecutor(len(shares)) as pool:
            done = list(pool.map(label, shares))
    if not all(done):
        raise SegdeployError(
            "the network's scores are not finite numbers",
            hint="in fp16 this is an overflow: try fp32",
        )
    return labels


def compile_loops() -> None:
    """Load the compiled loops, 0.3 s; the first time on a machine compile them, 10 s."""
    batch_labels(np.zeros((1, 2, 1, 1), np.float32), Size(1, 1), Size(1, 1))


@lru_cache(maxsize=32)
def _tables(logits: Size, network: Size, original: Size) -> tuple[RowTables, ColumnTables]:
    """Source pixels and weights; a data set has few sizes, and they come again and again."""
    if logits == network:  # the first resize changes nothing
        network = original
    once = network == original
    heights = _resizes(logits.height, network.height, original.height)
    widths = _resizes(logits.width, network.width, original.width)
    return _row_tables(*heights, once=once), _column_tables(*widths, once=once)


def _resizes(logits: int, network: int, original: int) -> tuple[Stretch, Stretch]:
    """Both resizes along one axis; the second of `network` to itself changes nothing."""
    return Stretch.between(logits, network), Stretch.between(network, original)


def _row_tables(first: Stretch, second: Stretch, *, once: bool) -> RowTables:
    top, bottom = first.low[second.low], first.high[second.high]
    if once:
        start = np.array([0, *(edge for run in _runs(top) for edge in _cut(*run, ROWS)[1:])])
    else:
        start = _group(top, bottom, ROWS_TWICE)
    return RowTables(
        start=_indices(start),
        first=_indices(top[start[:-1]]),
        last=_indices(bottom[start[1:] - 1]),
        low=_indices(first.low),
        high=_indices(first.high),
        keep=1 - first.weight,
        take=first.weight,
        low2=_indices(second.low),
        high2=_indices(second.high),
        keep2=1 - second.weight,
        take2=second.weight,
    )


def _column_tables(first: Stretch, second: Stretch, *, once: bool) -> ColumnTables:
    left, right = first.low[second.low], first.high[second.high]
    if once:
        pixel = _half_tiles(left)
    else:
        edges = _group(left, right, LANES)
        pixel = np.minimum(edges[:-1, None] + np.arange(LANES), edges[1:, None] - 1)
    start = np.append(pixel[:, 0], len(left))
    between = pixel[None] if once else np.stack([second.low[pixel], second.high[pixel]])
    return ColumnTables(
        tile=_indices(np.repeat(np.arange(len(pixel)), np.diff(start))),
        pixel=_indices(pixel),
        first=_indices(left[start[:-1]]),
        last=_indices(right[start[1:] - 1]),
        low=_indices(first.low[between]),
        high=_indices(first.high[between]),
        keep=(1 - first.weight)[between],
        take=first.weight[between],
        keep2=(1 - second.weight)[pixel],
        take2=second.weight[pixel],
    )


def _runs(values: Places) -> list[tuple[int, int]]:
    """Begin and end of each run of equal values: the pixels between two source pixels."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(pairwise(edges))


def _cut(begin: int, end: int, most: int) -> list[int]:
    """Edges of equal parts of at most `most` pixels."""
    parts = -(-(end - begin) // most)
    return [begin + (end - begin) * k // parts for k in range(parts + 1)]


def _group(first: Places, last: Places, most: int) -> Places:
    """Edges of tiles of at most `most` pixels that read at most SPAN source pixels.

    A tile ends where a run does, if that keeps half of it.
    """
    ends_of_runs = {end for _, end in _runs(first)}
    edges = [0]
    while (begin := edges[-1]) < len(first):
        end = min(begin + most, len(first))
        while end > begin + 1 and last[end - 1] - first[begin] >= SPAN:
            end -= 1
        kept = next((k for k in range(end, begin, -1) if k in ends_of_runs), begin)
        edges.append(kept if 2 * (kept - begin) >= end - begin else end)
    return np.array(edges)


def _half_tiles(first: Places) -> Places:
    """Pixels (tiles, LANES): each half lies in one run, filled up with copies of its last pixel."""
    tiles: list[list[int]] = []
    lone: list[int] = []  # the half tile of a short run, which waits for one of the next
    for run in _runs(first):
        edges = _cut(*run, HALF)
        halves = [[min(begin + k, end - 1) for k in range(HALF)] for begin, end in pairwise(edges)]
        if len(halves) == 1 and lone:
            tiles.append(lone + halves[0])
            lone = []
            continue
        if lone:
            tiles.append(lone + lone)
            lone = []
        if len(halves) == 1:
            lone = halves[0]
            continue
        tiles += [_pair(halves[k : k + 2]) for k in range(0, len(halves), 2)]
    return np.array([*tiles, lone + lone] if lone else tiles)


def _pair(halves: Sequence[list[int]]) -> list[int]:
    return halves[0] + halves[-1]


def _indices(values: Places) -> NDArray[np.uint32]:
    return values.astype(np.uint32)
