"""Which classes can win in a tile: where one alone can, the tile is filled with it."""

import numpy as np
from numpy.typing import NDArray

from segdeploy.interpolation.tables import ColumnTables, Indices, RowTables, compiled
from segdeploy.spec import LabelMap, Logits

MIXED = 255  # in place of a class: no single one wins; classes end at 254
# Scores of two classes that differ by this part of the largest magnitude keep their order; see
# docs/masks.md for the bound, 2^-20, of which this is twice.
CLEAR = np.float32(2.0**-19)
TINY = np.float32(2.0**-100)  # magnitude below which products could lose more by underflow
NOT_FINITE = 0x7F800000  # bits of float32 infinity: NaN is above it
SIGNLESS = 0x7FFFFFFF


@compiled
def find_winners(planes: Logits, top: np.int64, bottom: np.int64, keys: LabelMap) -> np.float32:
    """Write the best class of each logit, or MIXED where an earlier one is nearly as good.

    Returns:
        The margin within which rounding could change an order; -1 if a score is not finite.
    """
    classes, _, width = planes.shape
    bits = planes.view(np.int32)
    best = np.empty(width, np.float32)
    winner = np.empty(width, np.int32)
    earlier = np.empty(width, np.float32)
    lead = np.empty((bottom - top, width), np.float32)
    peak = np.int32(0)
    for y in range(top, bottom):
        for x in range(width):
            best[x] = -np.inf
            earlier[x] = -np.inf
            winner[x] = 0
        for k in range(classes):
            scores, raw = planes[k, y], bits[k, y]
            for x in range(width):
                peak = max(peak, raw[x] & np.int32(SIGNLESS))
            for x in range(width):
                score, old = scores[x], best[x]
                better = score > old
                earlier[x] = old if better else earlier[x]
                best[x] = score if better else old
                winner[x] = np.int32(k) if better else winner[x]
        for x in range(width):
            lead[y - top, x] = best[x] - earlier[x]
            keys[y, x] = winner[x]
    if peak >= NOT_FINITE:
        return np.float32(-1)
    margin = max(np.int32(peak).view(np.float32), TINY) * CLEAR
    for y in range(top, bottom):
        for x in range(width):
            keys[y, x] = keys[y, x] if lead[y - top, x] > margin else np.uint8(MIXED)
    return margin


@compiled
def fill_agreed(
    keys: LabelMap, tile: int, rows: RowTables, columns: ColumnTables, labels: LabelMap
) -> Indices:
    """Label where all logits of a tile have the same winner, and return the other column tiles."""
    width, count = keys.shape[1], len(columns.first)
    merged = np.empty(width, np.uint8)
    merged[:] = keys[rows.first[tile]]
    for y in range(rows.first[tile] + 1, rows.last[tile] + 1):
        row = keys[y]
        for x in range(width):
            merged[x] = merged[x] if merged[x] == row[x] else np.uint8(MIXED)
    agreed = np.empty(count, np.uint8)
    mixed = np.empty(count, np.uint32)
    found = 0
    for k in range(count):
        key = merged[columns.first[k]]
        for x in range(columns.first[k] + 1, columns.last[k] + 1):
            key = key if merged[np.uint32(x)] == key else np.uint8(MIXED)
        agreed[k] = key
        mixed[found] = k
        found += key == MIXED
    line = labels[rows.start[tile]]
    for x in range(len(line)):
        line[x] = agreed[columns.tile[x]]
    for y in range(rows.start[tile] + 1, rows.start[tile + 1]):
        copy = labels[y]
        for x in range(len(line)):  # not a slice: numba compiles this one to a plain copy
            copy[x] = line[x]
    return mixed[:found]


@compiled
def find_contenders(
    planes: Logits, first: int, last: int, margin: np.float32, mixed: Indices, columns: ColumnTables
) -> tuple[NDArray[np.uint8], Indices]:
    """For each of the tiles `mixed`: its classes that can win, ascending, and their number.

    A class cannot win where its best logit is worse than the worst logit of some other class.
    """
    width = planes.shape[2]
    span = np.int64((columns.last - columns.first).max())
    highest = np.empty((len(planes), width), np.float32)
    lowest = np.empty(width, np.float32)
    floor = np.full(width, -np.inf, np.float32)
    for k in range(len(planes)):
        high = highest[k]
        row = planes[k, first]
        for x in range(width):
            high[x] = row[x]
            lowest[x] = row[x]
        for y in range(first + 1, last + 1):
            row = planes[k, y]
            for x in range(width):
                high[x] = max(high[x], row[x])
                lowest[x] = min(lowest[x], row[x])
        for _ in range(span):  # after it x stands for x to x + span
            for x in range(width - 1):
                high[x] = max(high[x], high[x + 1])
            for x in range(width - 1):
                lowest[x] = min(lowest[x], lowest[x + 1])
        for x in range(width):
            floor[x] = max(floor[x], lowest[x])
    count = len(mixed)
    classes = np.empty((count, len(planes) + 1), np.uint8)  # one more: written, then not counted
    counts = np.zeros(count, np.uint32)
    at = np.empty(count, np.uint32)
    wanted = np.empty(count, np.float32)
    for j in range(count):
        at[j] = columns.first[mixed[j]]
        wanted[j] = floor[at[j]] - margin
    for k in range(len(planes)):
        high = highest[k]
        for j in range(count):
            found = counts[j]
            classes[j, found] = k
            counts[j] = found + np.uint32(high[at[j]] >= wanted[j])
    return classes, counts


@compiled
def sort_by_count(counts: Indices, classes: int) -> Indices:
    """Indices of `counts`, the largest first: those with a k-th class stand at the front."""
    places = np.zeros(classes + 2, np.uint32)
    for count in counts:
        places[count] += np.uint32(1)
    for k in range(classes, -1, -1):
        places[k] += places[k + 1]
    order = np.empty(len(counts), np.uint32)
    for j in range(len(counts)):
        place = places[counts[j] + np.uint32(1)]
        order[place] = j
        places[counts[j] + np.uint32(1)] = place + np.uint32(1)
    return order
