"""How two artifacts differ on the same images: labels, logits, layers, and the likely cause.

Nothing here runs a network. Quantization stretches and moves channels, layer by layer, and undoes
it in the next; so a layer of an int8 graph is compared after the line from its channels to those of
the reference is fitted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from segdeploy.accuracy import Score
from segdeploy.causes import SOUND_INT8, Attempt, Cause, Fact, likely, percent
from segdeploy.spec import LabelMap, Precision

Floats = NDArray[np.float64]

IDS = 256  # of labels in a byte
POSITIONS = 4096  # of a map that are compared, the same in both
# Equal labels that rounding leaves: the README has 99.92 % for fp16; graphs in fp32 differ where
# classes tie.
USUAL = {Precision.FP32: 0.9999, Precision.FP16: 0.998, Precision.INT8: SOUND_INT8}
# SQNR of a layer in dB, below which it departs. Measured on the demo, all layers of sound graphs:
# rewritten against plain fp32 at least 124, fp16 50, int8 22.
DEPARTS = {Precision.FP32: 60.0, Precision.FP16: 35.0, Precision.INT8: 18.0}
ALIKE = 1 - 1e-6  # of the pixels: what is nearly all


@dataclass(frozen=True, eq=False)
class PairedMoments:
    """Sums per channel (C,) of one layer in both artifacts; images add up."""

    count: int
    sums: Floats  # (2, C)
    products: Floats  # (3, C): reference squared, both, other squared
    error: Floats  # (C,), squared
    not_finite: int  # values of the other that are infinite or not a number

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.count + other.count,
            self.sums + other.sums,
            self.products + other.products,
            self.error + other.error,
            self.not_finite + other.not_finite,
        )

    @classmethod
    def of(cls, reference: NDArray[Any], other: NDArray[Any]) -> Self:
        """Of samples (C, k); values that are not finite count as 0."""
        finite = np.isfinite(other)
        x, y = reference.astype(np.float64), np.where(finite, other, 0).astype(np.float64)
        return cls(
            x.shape[1],
            np.stack([x.sum(axis=1), y.sum(axis=1)]),
            np.stack([(x * x).sum(axis=1), (x * y).sum(axis=1), (y * y).sum(axis=1)]),
            np.square(x - y).sum(axis=1),
            int(finite.size - np.count_nonzero(finite)),
        )

    def sqnr_db(self, *, fitted: bool) -> float:
        """Power of what varies in the reference by that of the error; infinite if there is none.

        Args:
            fitted: with each channel of the other on its best line to the reference.
        """
        mean_x, mean_y = self.sums / self.count
        xx, xy, yy = self.products / self.count
        signal = np.maximum(xx - mean_x**2, 0)
        noise = self.error / self.count
        if fitted:
            shared = (xy - mean_x * mean_y) ** 2 / np.maximum(yy - mean_y**2, 1e-30)
            noise = np.maximum(signal - shared, 0)
        return decibels(float(signal.sum()), float(noise.sum()))


def decibels(signal: float, noise: float) -> float:
    """Of a ratio of powers."""
    if noise <= 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def sample(values: NDArray[Any]) -> NDArray[Any]:
    """(C, k) of the first image of (N, C, H, W): some positions, by the shape alone."""
    rows = values[0].reshape(values.shape[1], -1)
    step = max(rows.shape[1] // POSITIONS, 1) | 1  # odd, or whole columns would never be seen
    return np.array(rows[:, ::step], np.float32)


@dataclass(frozen=True)
class LayerNoise:
    """One layer in both artifacts."""

    name: str
    reference: str  # the tensor there
    other: str
    sqnr_db: float
    not_finite: int = 0  # values of the other that are infinite or not a number


def first_departure(layers: Sequence[LayerNoise], precision: Precision) -> LayerNoise | None:
    """The first, in the order of computation, with more noise than rounding makes."""
    least = DEPARTS[precision]
    return next((layer for layer in layers if layer.not_finite or layer.sqnr_db < least), None)


def count_pairs(reference: LabelMap, other: LabelMap) -> NDArray[np.int64]:
    """(256, 256) pixels by the reference's label (row) and the other's (column)."""
    cells = reference.astype(np.intp) * IDS + other
    return np.bincount(cells.ravel(), minlength=IDS * IDS).reshape(IDS, IDS)


def score_of(counts: NDArray[np.int64], names: Sequence[str]) -> Score:
    """IoU in percent of the other's labels, with the reference's for the truth."""
    hits = counts.diagonal()
    union = counts.sum(axis=0) + counts.sum(axis=1) - hits
    per_class = {
        name: 100 * float(hits[k] / union[k]) if union[k] else None for k, name in enumerate(names)
    }
    known = [iou for iou in per_class.values() if iou is not None]
    return Score(sum(known) / len(known) if known else 0.0, per_class)


@dataclass(frozen=True)
class ImageMatch:
    """One image, and the share of its pixels that get the same label."""

    id: str
    agreement: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """All that was found.

    Args:
        reference: what the other is held against, as the user named it.
        other: the other artifact.
        dataset: where the images are from.
        images: all that were run.
        precision: the coarser of the two.
        agreement: share of the pixels with the same label.
        between: IoU of the other against the labels of the reference.
        before: IoU of the reference against the ground truth; None: there is none.
        after: the same of the other.
        logits_sqnr_db: None: one of them has no logits to show.
        layers: in the order of computation; none where one has no graph.
        attempts: causes that were undone.
        facts: what is certain without.
        untried: causes that could not be undone here, and why.
        notes: on what was compared.
    """

    reference: str
    other: str
    dataset: str
    images: tuple[ImageMatch, ...]
    precision: Precision
    agreement: float
    between: Score
    before: Score | None = None
    after: Score | None = None
    logits_sqnr_db: float | None = None
    layers: tuple[LayerNoise, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    facts: tuple[Fact, ...] = ()
    untried: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def departs(self) -> LayerNoise | None:
        """The first layer that does."""
        return first_departure(self.layers, self.precision)

    @property
    def likely(self) -> Attempt | Fact | None:
        """The cause that is named: what undoing shows, else what is certain."""
        tested = likely(self.attempts)
        if tested is not None:
            return tested
        is_usual = self.agreement >= USUAL[self.precision]
        # What is infinite is wrong, even where a runtime computes in more than fp16.
        wanted = [fact for fact in self.facts if fact.cause is Cause.OVERFLOW or not is_usual]
        return next(iter(wanted), None)

    @property
    def sentence(self) -> str:
        """The result in one sentence, or two."""
        share, usual = percent(self.agreement), USUAL[self.precision]
        names = f"{self.reference} and {self.other}"
        match self.likely:
            case Attempt(cause=cause, images=images) as attempt:
                counted = f"{images} image" + ("s" if images > 1 else "")
                return f"{_begin(cause)}: {attempt} ({counted})."
            case Fact(cause=cause, sentence=sentence):
                return f"{_begin(cause)}: {sentence}; {share} of the pixels agree."
        if self.agreement >= ALIKE:
            return f"No difference: {names} agree on {share} of the pixels."
        if self.agreement >= usual:
            start = "Nothing is wrong" if self.departs is None else "Little is wrong"
            return (
                f"{start}: {names} agree on {share} of the pixels, and {self.precision} "
                f"usually leaves {percent(usual)} or more.{self._where() if self.departs else ''}"
            )
        return (
            f"Unexplained: {names} agree on {share} of the pixels, and none of "
            f"{len(self.attempts)} causes that were undone explains it.{self._where()}"
        )

    def _where(self) -> str:
        if not self.layers:
            return ""
        if self.departs is None:
            return " No layer departs: look behind the last convolution."
        noise = "" if self.departs.not_finite else f" ({self.departs.sqnr_db:.1f} dB)"
        return f" The first layer that departs is {self.departs.name}{noise}."

    @property
    def class_changes(self) -> Mapping[str, float]:
        """By class, worst first: points of IoU lost or won; without ground truth, what differs."""
        before = (
            self.before.per_class if self.before else dict.fromkeys(self.between.per_class, 100.0)
        )
        after = (self.after or self.between).per_class
        changes = {
            name: (after.get(name) or 0.0) - iou for name, iou in before.items() if iou is not None
        }
        return dict(sorted(changes.items(), key=lambda item: item[1]))


def _begin(cause: str) -> str:
    is_code = "_" in cause or any(letter.isdigit() for letter in cause.partition(" ")[0])
    return cause if is_code else cause[0].upper() + cause[1:]
