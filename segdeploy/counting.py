"""Compiled loops that count: magnitudes channel by channel, pairs of labels pixel by pixel."""

import numba
import numpy as np
from numpy.typing import NDArray

OCTAVES = 40  # that are told apart
SMALLEST = -24  # exponent of the first: what is smaller than 2**-24 counts as zero
PER_OCTAVE = 16  # bins: 3 to 6 % wide
BINS = OCTAVES * PER_OCTAVE + 1  # the first holds zero, the last everything from its lower edge on
_SHIFT = np.uint32(19)  # leaves the exponent and four bits of the mantissa of a float32
_FIRST = np.int32((127 + SMALLEST) * PER_OCTAVE - 1)  # what is left of the first edge, minus one
_TOP = np.int32(BINS - 1)
_MAGNITUDE = np.uint32(0x7FFFFFFF)  # all but the sign
_NOT_FINITE = np.uint32(0x7F800000)


@numba.njit(nogil=True, cache=True)
def count_magnitudes(
    values: NDArray[np.float32],
    counts: NDArray[np.int64],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    start: int,
    stop: int,
) -> bool:
    """Add the values of the channels from `start` to `stop` to their counts.

    Two rows of counters take turns, so that equal neighbours do not wait for each other.

    Args:
        values: (N, C, pixels).
        counts: (2, C, BINS): of values without and with a minus sign.
        low: (C,), lowered where a value is smaller.
        high: (C,), raised where a value is larger.
        start: the first channel.
        stop: the channel behind the last.

    Returns:
        Whether every value is finite.
    """
    bits = values.view(np.uint32)
    finite = True
    for channel in range(start, stop):
        rows = np.zeros((2, 2, BINS), np.uint32)
        smallest, largest = low[channel], high[channel]
        for image in range(values.shape[0]):
            plane, words = values[image, channel], bits[image, channel]
            for pixel in range(plane.shape[0]):
                word = words[pixel]
                beyond = np.int32((word & _MAGNITUDE) >> _SHIFT) - _FIRST
                place = max(np.int32(0), min(beyond, _TOP))
                rows[pixel & 1, word >> np.uint32(31), place] += np.uint32(1)
                smallest = min(smallest, plane[pixel])
                largest = max(largest, plane[pixel])
                finite = finite and (word & _NOT_FINITE) != _NOT_FINITE
        low[channel], high[channel] = smallest, largest
        for sign in range(2):
            for column in range(BINS):
                found = np.int64(rows[0, sign, column]) + np.int64(rows[1, sign, column])
                if found:  # a page of zeros that is left alone takes no memory
                    counts[sign, channel, column] += found
    return finite


@numba.njit(nogil=True, cache=True)
def count_pairs(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], counts: NDArray[np.int64]
) -> None:
    """Add how often each label of one map meets each label of another.

    Neighbours are mostly equal: a run of equal pairs is added at once.

    Args:
        truth: (pixels,).
        prediction: (pixels,).
        counts: (65536,), by 256 times the first label plus the second.
    """
    last, run = np.int64(0), np.int64(0)
    for pixel in range(truth.shape[0]):
        pair = np.int64(truth[pixel]) << np.int64(8) | np.int64(prediction[pixel])
        if pair != last:
            counts[last] += run
            last, run = pair, np.int64(0)
        run += np.int64(1)
    counts[last] += run
