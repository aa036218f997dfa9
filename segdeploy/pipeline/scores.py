"""Score maps (C, H, W): torch's bilinear resize, some rows at a time, and sums of its results."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from segdeploy.resampling import Scores, Stretch
from segdeploy.spec import Size

BAND = 32  # rows at a time: of 19 classes at 2048 pixels 5 MB, which a processor's cache holds


def add_resized(total: Scores, scores: Scores) -> None:
    """Add score maps to `total`, resized to its size."""
    for rows, band in _resized(scores, [Size(*total.shape[1:])], mirrored=False):
        total[:, rows] += band


def add_probabilities(total: Scores, scores: Scores, network: Size, *, mirrored: bool) -> None:
    """Add the softmax of score maps to `total`: resized to `network`, turned back, then resized.

    Args:
        total: (C, H, W), at the size of the original image.
        scores: (C, h, w), of an image of size `network`.
        network: size of the image that the network saw.
        mirrored: whether left and right were exchanged in it.
    """
    for rows, band in _resized(scores, [network, Size(*total.shape[1:])], mirrored=mirrored):
        band = band - band.max(axis=0)  # a new array: the band may be a part of `scores`
        np.exp(band, out=band)
        band /= band.sum(axis=0)
        total[:, rows] += band


def _resized(
    scores: Scores, sizes: Sequence[Size], *, mirrored: bool
) -> Iterator[tuple[slice, Scores]]:
    """Bands of rows of what resizing to each size in turn gives; mirrored after the first.

    The two axes are resized independently of each other. All steps of the width come first, while
    the rows are few: the order changes the last bit only.
    """
    heights = _steps([scores.shape[1], *(size.height for size in sizes)])
    widths = _steps([scores.shape[2], *(size.width for size in sizes)], mirrored=mirrored)
    for top in range(0, sizes[-1].height, BAND):
        rows = window = slice(top, min(top + BAND, sizes[-1].height))
        narrowed: list[Stretch] = []
        for step in reversed(heights):
            window, part = step.window(window)
            narrowed.insert(0, part)
        band = scores[:, window]
        for step in widths:
            band = step.apply(band, axis=2)
        for step in narrowed:
            band = step.apply(band, axis=1)
        yield rows, band


def _steps(lengths: Sequence[int], *, mirrored: bool = False) -> list[Stretch]:
    """From each length to the next, without the steps that change nothing."""
    steps = []
    for k, (old, new) in enumerate(pairwise(lengths)):
        step = Stretch.between(old, new)
        if mirrored and k == 0:
            steps.append(step.mirrored())
        elif old != new:
            steps.append(step)
    return steps
