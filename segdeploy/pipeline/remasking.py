"""Masks made of logits as they should not be: with other coordinates, or of the nearest label."""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from segdeploy.resampling import Scores, Stretch
from segdeploy.spec import LabelMap, Size

BAND = 64  # rows at a time: all scores of an image at its own size would be large


class Resizing(StrEnum):
    """How logits, or labels, are brought to the size of the image."""

    ALIGN_CORNERS = "with align_corners=True"
    ASYMMETRIC = "without the half pixel"
    NEAREST = "by the nearest label, rounded down"
    NEAREST_CENTRE = "by the nearest label, by pixel centres"


def remask(logits: Scores, size: Size, resizing: Resizing) -> LabelMap:
    """(C, h, w) to the label map that such a resize leaves."""
    _, height, width = logits.shape
    if resizing in (Resizing.NEAREST, Resizing.NEAREST_CENTRE):
        labels = logits.argmax(axis=0).astype(np.uint8)
        place = _floor if resizing is Resizing.NEAREST else _centre
        found: LabelMap = labels[place(height, size.height)][:, place(width, size.width)]
        return found
    between = _aligned if resizing is Resizing.ALIGN_CORNERS else _asymmetric
    rows, columns = between(height, size.height), between(width, size.width)
    wide = columns.apply(logits, axis=2)
    labels = np.empty(size, np.uint8)
    for top in range(0, size.height, BAND):
        band = slice(top, min(top + BAND, size.height))
        source, part = rows.window(band)
        labels[band] = part.apply(wide[:, source], axis=1).argmax(axis=0)
    return labels


def _floor(old: int, new: int) -> NDArray[np.intp]:
    return np.minimum(np.arange(new) * old // new, old - 1)


def _centre(old: int, new: int) -> NDArray[np.intp]:
    """Half-way it goes down, as ONNX's round_prefer_floor does."""
    at = (np.arange(new) + 0.5) * old / new - 0.5
    return np.clip(np.ceil(at - 0.5), 0, old - 1).astype(np.intp)


def _aligned(old: int, new: int) -> Stretch:
    return _stretch(np.arange(new, dtype=np.float64) * ((old - 1) / max(new - 1, 1)), old)


def _asymmetric(old: int, new: int) -> Stretch:
    return _stretch(np.arange(new, dtype=np.float64) * (old / new), old)


def _stretch(at: NDArray[np.float64], old: int) -> Stretch:
    low = np.minimum(at.astype(np.intp), old - 1)
    weight = np.asarray(at - low, np.float32)
    return Stretch(low, np.minimum(low + 1, old - 1), weight)
