"""Tiles of an image, labelled: filled where one class wins, interpolated where several can."""

import numpy as np
from numpy.typing import NDArray

from segdeploy.interpolation.contest import (
    fill_agreed,
    find_contenders,
    find_winners,
    sort_by_count,
)
from segdeploy.interpolation.tables import (
    HALF,
    LANES,
    ColumnTables,
    Floats,
    Indices,
    RowTables,
    compiled,
)
from segdeploy.spec import LabelMap, Labels, Logits

CHUNK = 64  # column tiles interpolated together: their scores stay in the first cache level


@compiled
def label_tiles(
    logits: Logits,
    labels: Labels,
    start: int,
    stop: int,
    rows: RowTables,
    columns: ColumnTables,
) -> bool:
    """Label the row tiles from `start` to `stop`, counted through the batch; False: not finite.

    Every row of the logits is looked at by the call that has the tile above or below it.
    """
    height = logits.shape[2]
    tiles = len(rows.first)
    keys = np.empty(logits.shape[2:], np.uint8)
    while start < stop:
        image = start // tiles
        begin = start - image * tiles
        end = min(tiles, begin + stop - start)
        start += end - begin
        top = np.int64(0 if begin == 0 else rows.first[begin])
        bottom = np.int64(height)
        if end < tiles:
            bottom = np.int64(max(rows.last[end - 1] + 1, rows.first[end]))
        margin = find_winners(logits[image], top, bottom, keys)
        if margin < 0:
            return False
        for tile in range(begin, end):
            mixed = fill_agreed(keys, tile, rows, columns, labels[image])
            if len(mixed) == 0:
                continue
            first, last = rows.first[tile], rows.last[tile]
            classes, counts = find_contenders(logits[image], first, last, margin, mixed, columns)
            order = sort_by_count(counts, logits.shape[1])
            for at in range(0, len(order), CHUNK):
                chosen = order[at : at + CHUNK]
                _interpolate(
                    logits[image],
                    tile,
                    rows,
                    columns,
                    mixed,
                    classes,
                    counts,
                    chosen,
                    labels[image],
                )
    return True


@compiled
def _interpolate(
    planes: Logits,
    tile: int,
    rows: RowTables,
    columns: ColumnTables,
    mixed: Indices,
    classes: NDArray[np.uint8],
    counts: Indices,
    order: Indices,
    labels: LabelMap,
) -> None:
    """Interpolate the contenders of some tiles pixel by pixel, and label by the best."""
    parts, count = len(columns.low), len(order)
    lanes = count * LANES
    top, height = rows.start[tile], rows.start[tile + 1] - rows.start[tile]
    first = rows.first[tile]
    span = rows.last[tile] + 1 - first
    keep = np.empty((parts, count, LANES), np.float32)
    take = np.empty((parts, count, LANES), np.float32)
    keep2 = np.empty((count, LANES), np.float32)
    take2 = np.empty((count, LANES), np.float32)
    for j in range(count):
        k = mixed[order[j]]
        for part in range(parts):
            for lane in range(LANES):
                keep[part, j, lane] = columns.keep[part, k, lane]
                take[part, j, lane] = columns.take[part, k, lane]
        for lane in range(LANES):
            keep2[j, lane] = columns.keep2[k, lane]
            take2[j, lane] = columns.take2[k, lane]
    low = np.empty((span, count, LANES), np.float32)
    high = np.empty((span, count, LANES), np.float32)
    wide = np.empty((parts, span, lanes), np.float32)
    held = np.empty((2, lanes), np.float32)
    best = np.full((height, lanes), -np.inf, np.float32)
    rank_of_best = np.zeros((height, count, LANES), np.uint32)
    active = count
    for rank in range(counts[order[0]]):
        while counts[order[active - 1]] <= rank:
            active -= 1
        used = active * LANES
        for part in range(parts):
            _gather(planes, first, part, rank, columns, mixed, classes, order[:active], low, high)
            for y in range(span):
                _mix(
                    low[y].reshape(-1),
                    high[y].reshape(-1),
                    keep[part].reshape(-1),
                    take[part].reshape(-1),
                    wide[part, y],
                    used,
                )
        have0, have1 = np.int64(-1), np.int64(-1)
        for y in range(height):
            row = top + y
            if parts == 1:
                above, below = wide[0, rows.low[row] - first], wide[0, rows.high[row] - first]
                weights = rows.keep[row], rows.take[row]
            else:
                for side in range(2):
                    m = np.int64(rows.high2[row] if side else rows.low2[row])
                    if (have1 if m & 1 else have0) == m:
                        continue
                    if m & 1:
                        have1 = m
                    else:
                        have0 = m
                    a, b = rows.low[m] - first, rows.high[m] - first
                    _mix_both(
                        wide[:, a],
                        wide[:, b],
                        rows.keep[m],
                        rows.take[m],
                        keep2.reshape(-1),
                        take2.reshape(-1),
                        held[m & 1],
                        used,
                    )
                above, below = held[rows.low2[row] & 1], held[rows.high2[row] & 1]
                weights = rows.keep2[row], rows.take2[row]
            _compete(
                above,
                below,
                weights[0],
                weights[1],
                best[y],
                rank_of_best[y].reshape(-1),
                rank,
                used,
            )
    for y in range(height):
        line = labels[top + y]
        for j in range(count):
            k = order[j]
            for lane in range(LANES):
                line[columns.pixel[mixed[k], lane]] = classes[k, rank_of_best[y, j, lane]]


@compiled
def _gather(
    planes: Logits,
    first: int,
    part: int,
    rank: int,
    columns: ColumnTables,
    mixed: Indices,
    classes: NDArray[np.uint8],
    order: Indices,
    low: Floats,
    high: Floats,
) -> None:
    """The logits left and right of each pixel, of each tile's class of this rank."""
    parts = len(columns.low)
    for j in range(len(order)):
        k = order[j]
        tile = mixed[k]
        for y in range(len(low)):
            scores = planes[classes[k, rank], first + y]
            if parts == 1:
                a0 = scores[columns.low[0, tile, 0]]
                a1 = scores[columns.low[0, tile, HALF]]
                b0 = scores[columns.high[0, tile, 0]]
                b1 = scores[columns.high[0, tile, HALF]]
                for lane in range(HALF):
                    low[y, j, lane] = a0
                for lane in range(HALF, LANES):
                    low[y, j, lane] = a1
                for lane in range(HALF):
                    high[y, j, lane] = b0
                for lane in range(HALF, LANES):
                    high[y, j, lane] = b1
            else:
                for lane in range(LANES):
                    low[y, j, lane] = scores[columns.low[part, tile, lane]]
                for lane in range(LANES):
                    high[y, j, lane] = scores[columns.high[part, tile, lane]]


@compiled
def _mix(low: Floats, high: Floats, keep: Floats, take: Floats, out: Floats, count: int) -> None:
    """The first resize along a row."""
    for k in range(count):
        out[k] = low[k] * keep[k] + high[k] * take[k]


@compiled
def _mix_both(
    above: Floats,
    below: Floats,
    keep: float,
    take: float,
    keep2: Floats,
    take2: Floats,
    out: Floats,
    count: int,
) -> None:
    """The first resize down a column, left and right, and the second along the row."""
    left_above, right_above = above[0], above[1]
    left_below, right_below = below[0], below[1]
    for k in range(count):
        left = left_above[k] * keep + left_below[k] * take
        right = right_above[k] * keep + right_below[k] * take
        out[k] = left * keep2[k] + right * take2[k]


@compiled
def _compete(
    above: Floats,
    below: Floats,
    keep: float,
    take: float,
    best: Floats,
    winner: Indices,
    rank: int,
    count: int,
) -> None:
    """The last resize down a column; a class wins where it is better than all before it."""
    mine = np.uint32(rank)
    for k in range(count):
        score, old = above[k] * keep + below[k] * take, best[k]
        better = score > old
        best[k] = score if better else old
        winner[k] = mine if better else winner[k]
