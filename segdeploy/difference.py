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
# SQNR of a layer in dB, below which it departs. Measured on the demo, all layers of sound graphs:
# rewritten against plain fp32 at least 124, fp16 50, int8 22; logits 134, 60 and 33.
DEPARTS = {Precision.FP32: 60.0, Precision.FP16: 35.0, Precision.INT8: 18.0}
ALIKE = 1 - 1e-6  # of the pixels: what is nearly all
FEW = 1e-3  # of the pixels: how a class of fewer agrees says nothing


@dataclass(frozen=True, kw_only=True)
class Usual:
    """What rounding costs at most in a sound graph.

    Args:
        agreement: share of equal labels.
        miou: points that the mIoU loses.
        of_class: points that the IoU of a class loses.
        between: points that a class lacks to 100 against the labels of the reference.
    """

    agreement: float
    miou: float
    of_class: float
    between: float


# The README has 99.92 % equal labels for fp16; graphs in fp32 differ where classes tie. The points
# of 2, 4, 20 and 64 images of the demo were at most 0.01, 0.01 and 0.01 in fp32, 0.02, 0.13 and
# 0.33 in fp16, 0.13, 0.89 and 5.75 in int8; classes of other data are rarer.
USUAL = {
    Precision.FP32: Usual(agreement=0.9999, miou=0.1, of_class=0.5, between=1.0),
    Precision.FP16: Usual(agreement=0.998, miou=0.3, of_class=1.0, between=3.0),
    Precision.INT8: Usual(agreement=SOUND_INT8, miou=1.0, of_class=3.0, between=15.0),
}


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


@dataclass(frozen=True)
class ClassChange:
    """IoU of one class in both artifacts; without ground truth, against the reference's labels."""

    name: str
    before: float | None  # None: only the other predicts it, where there is none of it
    after: float | None  # None: nobody does any more

    @property
    def points(self) -> float:
        """Won, or lost where negative; 0 of a class that only the other predicts."""
        return (self.after or 0.0) - (self.before or 0.0)

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.name} absent -> {self.after:.2f}"
        return f"{self.name} {self.points:+.2f}"


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
        pixels: of each class in the labels of the reference.
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
    pixels: Mapping[str, int]
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
        # What is infinite is wrong, even where a runtime computes in more than fp16.
        wanted = [f for f in self.facts if f.cause is Cause.OVERFLOW or not self.is_usual]
        return next(iter(wanted), None)

    @property
    def sentence(self) -> str:
        """The result in one sentence, or two."""
        share = percent(self.agreement)
        names = f"{self.reference} and {self.other}"
        match self.likely:
            case Attempt(cause=cause, images=images) as attempt:
                counted = f"{images} image" + ("s" if images > 1 else "")
                return f"{_begin(cause)}: {attempt} ({counted})."
            case Fact(cause=cause, sentence=sentence):
                return f"{_begin(cause)}: {sentence}; {share} of the pixels agree."
        if self.agreement >= ALIKE:
            return f"No difference: {names} agree on {share} of the pixels."
        if self.is_usual:
            is_little = self.departs is not None or self._logits_depart
            start = "Little is wrong" if is_little else "Nothing is wrong"
            return (
                f"{start}: {names} agree on {share} of the pixels, and {self.precision} usually "
                f"leaves {percent(USUAL[self.precision].agreement)} or more."
                f"{self._where() if is_little else ''}"
            )
        lost = f", {losses}" if (losses := self._losses()) else ""
        return (
            f"Unexplained: {names} agree on {share} of the pixels{lost}, and none of "
            f"{len(self.attempts)} causes that were undone explains it.{self._where()}"
        )

    @property
    def is_usual(self) -> bool:
        """Whether labels, classes and mIoU are as rounding leaves them."""
        return self.agreement >= USUAL[self.precision].agreement and not self._losses()

    def _losses(self) -> str:
        """What is lost beyond what rounding costs: the worst class, in words; else empty."""
        usual = USUAL[self.precision]
        if self.before and self.after:
            points = self.after.miou - self.before.miou
            worst = min(self.class_changes, key=lambda change: change.points)
            if points < -usual.miou or worst.points < -usual.of_class:
                only = [c.name for c in self.class_changes if c.before is None]
                words = [f"only {self.other} predicts {only[0]}"] if only else []
                words.append(f"{worst.name} lost {-worst.points:.1f} points of IoU")
                return f"{', '.join(words)} (mIoU {points:+.2f})"
        least = max(FEW * sum(self.pixels.values()), 1)
        found = [
            (iou or 0.0, name)
            for name, iou in self.between.per_class.items()
            if self.pixels[name] >= least
        ]
        iou, name = min(found, default=(100.0, ""))
        if iou >= 100 - usual.between:
            return ""
        return f"{name} has an IoU of {iou:.1f} with the labels of {self.reference}"

    @property
    def _logits_depart(self) -> bool:
        return self.logits_sqnr_db is not None and self.logits_sqnr_db < DEPARTS[self.precision]

    def _where(self) -> str:
        words = ""
        if self.departs is not None:
            noise = "" if self.departs.not_finite else f" ({self.departs.sqnr_db:.1f} dB)"
            words = f" The first layer that departs is {self.departs.name}{noise}."
        elif self.layers:
            words = " No layer departs: look behind the last convolution."
        if self._logits_depart:
            words += f" The logits have {self.logits_sqnr_db:.1f} dB."
        return words

    @property
    def class_changes(self) -> tuple[ClassChange, ...]:
        """Those that only the other predicts first, then by what is lost."""
        after, before = self.between.per_class, dict[str, float | None]()
        if self.before and self.after:
            after, before = self.after.per_class, dict(self.before.per_class)
        else:
            before = {name: 100.0 if self.pixels[name] else None for name in after}
        changes = [ClassChange(name, before.get(name), iou) for name, iou in after.items()]
        known = [c for c in changes if (c.before, c.after) != (None, None)]
        return tuple(sorted(known, key=lambda c: (c.before is not None, c.points)))


def _begin(cause: str) -> str:
    is_code = "_" in cause or any(letter.isdigit() for letter in cause.partition(" ")[0])
    return cause if is_code else cause[0].upper() + cause[1:]
