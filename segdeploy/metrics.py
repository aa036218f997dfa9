"""Pixel counts and the scores read off them: mIoU as MMSegmentation's IoUMetric defines it."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from segdeploy.errors import needs
from segdeploy.spec import IGNORE, LabelMap

Scores = NDArray[np.float64]  # (C,), fractions of 1; NaN: nothing to divide by


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Pixel counts (C + 1, C + 1) int64: row is the true class, column the predicted one.

    The last row and column hold ids outside 0..C-1. IoUMetric's histograms have no bin for those,
    but the other half of such a pixel counts: a true class that is missed, or a false positive.
    Ignored pixels (true class 255) are in no cell.
    """

    counts: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.counts.ndim != 2 or len(set(self.counts.shape)) != 1 or len(self.counts) < 2:
            raise ValueError(f"counts have shape {self.counts.shape}; wanted (C + 1, C + 1)")
        if self.counts.dtype != np.int64:
            raise ValueError(f"counts are {self.counts.dtype}; wanted int64")

    @classmethod
    def zeros(cls, classes: int) -> Self:
        """No pixel yet."""
        return cls(np.zeros((classes + 1, classes + 1), np.int64))

    @classmethod
    def from_labels(cls, truth: LabelMap, prediction: LabelMap, classes: int) -> Self:
        """Count one image; both label maps are (H, W) uint8."""
        if truth.shape != prediction.shape:
            raise ValueError(
                f"truth is {truth.shape}, prediction {prediction.shape}: wanted equal shapes"
            )
        if truth.dtype != np.uint8 or prediction.dtype != np.uint8:
            raise ValueError(f"labels are {truth.dtype} and {prediction.dtype}; wanted uint8")
        with needs("numba", extra="onnxruntime"):
            from segdeploy.counting import count_pairs
        pairs = np.zeros(256 * 256, np.int64)
        count_pairs(
            np.ascontiguousarray(truth).ravel(), np.ascontiguousarray(prediction).ravel(), pairs
        )
        known = np.delete(pairs.reshape(256, 256), IGNORE, axis=0)
        counts = np.zeros((classes + 1, 256), np.int64)
        counts[:classes], counts[classes] = known[:classes], known[classes:].sum(axis=0)
        outside = counts[:, classes:].sum(axis=1, keepdims=True)
        return cls(np.hstack([counts[:, :classes], outside]))

    @property
    def classes(self) -> int:
        """The number of classes, C."""
        return len(self.counts) - 1

    def __add__(self, other: Self) -> Self:
        """Images add up; a score is read off at the end."""
        if self.classes != other.classes:
            raise ValueError(
                f"matrices of {self.classes} and {other.classes} classes do not add up"
            )
        return type(self)(self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfusionMatrix) and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]  # an array has no hash

    def iou(self) -> Scores:
        """Intersection over union of each class; NaN for a class that neither side has."""
        hits, truth, predicted = self._areas()
        return _divide(hits, truth + predicted - hits)

    def accuracy(self) -> Scores:
        """Recall of each class; NaN for a class that the ground truth does not have."""
        hits, truth, _ = self._areas()
        return _divide(hits, truth)

    def miou(self) -> float:
        """Mean IoU over the classes that occur in the ground truth or the predictions."""
        return _nanmean(self.iou())

    def macc(self) -> float:
        """Mean accuracy over the classes that occur in the ground truth."""
        return _nanmean(self.accuracy())

    def aacc(self) -> float:
        """Accuracy over all pixels of known true class."""
        hits, truth, _ = self._areas()
        return float(_divide(hits.sum(), truth.sum()))

    def _areas(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        classes = self.classes
        hits = self.counts.diagonal()[:classes]
        return hits, self.counts.sum(axis=1)[:classes], self.counts.sum(axis=0)[:classes]


def _divide(part: NDArray[np.int64] | np.int64, whole: NDArray[np.int64] | np.int64) -> Scores:
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN on purpose
        return np.asarray(np.true_divide(part, whole), np.float64)


def _nanmean(scores: Scores) -> float:
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if known.size else float("nan")
