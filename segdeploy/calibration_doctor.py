"""What is wrong with a calibration set, read off its images and what the network makes of them.

BatchNorm remembers the mean and the deviation of what it saw in training. The first convolution is
linear, so what it makes of the images tells by how much their pixels are off, colour by colour.
Whether red and blue are swapped it does not tell, for most scenes are nearly grey: that is asked of
the whole network, which decides with a larger margin when the colours are right.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import LayerMoments
from segdeploy.complaints import Complaint, Fault, Severity
from segdeploy.spec import Image, LabelMap, Normalization

Floats = NDArray[np.float64]

FEWEST_IMAGES = 8
FLAT = 2.0  # of 255, the deviation of a constant image; drawn scenes have 27 and more, CamVid 54
UNCORRELATED = 0.2  # neighbouring pixels of noise; scenes have 0.85 and more (the same images)
ROWS = 256  # of an image that are looked at
# Offset and gain that BatchNorm asks for. Of ten sound draws of 8 images each the largest were
# 13 and 0.90 (demo), 24 and 1.09 (CamVid); of frames of another data set 15 and 1.50 or 0.61. A
# mean left out asks for 104 to 124; a night at half the light for 54 and 2.0; values divided by
# 127.5 instead of 57 for a gain of 2.0 to 2.2, not divided at all for 0.017.
SHIFT, CERTAIN_SHIFT = 40.0, 60.0
GAIN, CERTAIN_GAIN = 1.8, 4.0
SAME_CONTRAST = 1.5  # an offset is certainly wrong only beside a gain of nearly 1: night is not
# Mean squared distance of a bottleneck's channel means from BatchNorm's, in its deviations: sound
# draws 0.001 to 0.003 (demo), 0.08 to 0.10 (CamVid), another data set 0.11, noise 1.1 to 1.3.
FAR = 0.5
SMALLEST_DEVIATION = 0.1  # of the layer's median: a channel that hardly varies says nothing
# Student's t of "the margin with red and blue swapped is larger", over 16 images. As they are, ten
# sound draws gave -8.3 to -4.5 (demo) and -7.9 to -4.1 (CamVid), swapped ones the same, positive.
SWAPPED, CERTAINLY_SWAPPED = 3.0, 4.0
SETTLED, LEAST_PAIRS = -3.0, 4  # where no further image need be asked
LEAST_DIFFERENCE = 0.02  # of the margin; the draws had 0.04 and more, a grey image has 0
UNSEEN_SHARE = 5e-4  # of an image that the network takes for a class when it only errs
NAMED, LISTED = 3, 12  # ids and classes in a sentence


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, sum and sum of squares per channel; they add up."""

    count: int
    total: Floats
    squares: Floats

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.count + other.count, self.total + other.total, self.squares + other.squares
        )

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Of (N, C, H, W), without the border, where padding is seen."""
        inner = np.asarray(values[:, :, 1:-1, 1:-1], np.float64)
        total, squares = inner.sum((0, 2, 3)), np.square(inner).sum((0, 2, 3))
        return cls(inner.size // inner.shape[1], total, squares)

    @property
    def mean(self) -> Floats:
        """(C,)."""
        return self.total / self.count

    @property
    def deviation(self) -> Floats:
        """(C,)."""
        return np.sqrt(np.maximum(self.squares / self.count - self.mean**2, 0))


@dataclass(frozen=True, eq=False)
class ColorResponse:
    """What the first convolution makes of a flat image."""

    rest: Floats  # (C,), of the colour that is subtracted
    slope: Floats  # (C, 3), per step of 255 of red, green and blue


@dataclass(frozen=True)
class PixelFit:
    """What brings the first convolution to BatchNorm's own: mean + gain (pixel - mean) + offset."""

    gain: float
    offset: tuple[float, float, float]

    @property
    def shift(self) -> float:
        """The largest offset of a colour."""
        return max(map(abs, self.offset))

    def swapped(self, color: Floats) -> Self:
        """The fit of the same images with red and blue swapped; `color` (3,) is their mean."""
        offset = np.subtract(self.offset, self.gain * (color[::-1] - color))
        return type(self)(self.gain, _triple(offset))


def check_images(named_images: Iterable[tuple[str, Image]]) -> tuple[Complaint, ...]:
    """Look at each image on its own, one at a time, and at how many there are."""
    constant, noisy, repeated = [], [], []
    seen: dict[bytes, str] = {}
    count = 0
    for name, image in named_images:
        count += 1
        rows = image[:: max(len(image) // ROWS, 1)].astype(np.float32)
        if rows.std(axis=(0, 1)).max() < FLAT:
            constant.append(name)
        elif _neighbour_correlation(rows[..., 1]) < UNCORRELATED:
            noisy.append(name)
        content = hashlib.blake2b(repr(image.shape).encode() + image.tobytes()).digest()
        if content in seen:
            repeated.append(f"{name} as {seen[content]}")
        seen.setdefault(content, name)
    found = []
    if count < FEWEST_IMAGES:
        sentence = f"{count} images; wanted {FEWEST_IMAGES} or more, better 32 to 64"
        hint = "add images of the training data: a range must hold what is rare too"
        found.append(Complaint(Severity.WARN, Fault.COUNT, sentence, hint))
    for severity, fault, names, what, hint in (
        (Severity.REFUSE, Fault.CONSTANT, constant, "of one colour", "take it out of the set"),
        (Severity.REFUSE, Fault.NOISE, noisy, "noise: neighbouring pixels have nothing in common",
         "wanted photographs like those the network will see"),
        (Severity.WARN, Fault.DUPLICATE, repeated, "there before", "each image once is enough"),
    ):  # fmt: skip
        if names:
            found.append(Complaint(severity, fault, _sentence(names, what), hint))
    return tuple(found)


def check_classes(
    names: Sequence[str], label_maps: Iterable[LabelMap], *, predicted: bool
) -> tuple[Complaint, ...]:
    """Name the classes that never appear, in one complaint.

    Args:
        names: by class id.
        label_maps: of the set; reading stops when every class has been seen.
        predicted: they come from the network, which errs: it sees a bit of a class anywhere.
    """
    largest, count = np.zeros(256), 0
    least = UNSEEN_SHARE if predicted else 0.0
    for labels in label_maps:
        count += 1
        largest = np.maximum(largest, np.bincount(labels.ravel(), minlength=256) / labels.size)
        if (largest[: len(names)] > least).all():
            return ()
    missing = [name for name, share in zip(names, largest, strict=False) if share <= least]
    if not (count and missing):
        return ()
    where = "images, says the network itself" if predicted else "label maps"
    shown = ", ".join(missing[:LISTED]) + (" ..." if len(missing) > LISTED else "")
    which = f"{len(missing)} classes appear" if len(missing) > 1 else "one class appears"
    sentence = f"{which} in none of {count} {where}: {shown}"
    hint = "add images that show it: what it activates most may be clipped"
    if predicted:
        hint += "; but a network that hardly ever finds it says so of any set"
    return (Complaint(Severity.WARN, Fault.CLASS, sentence, hint),)


def fit_pixels(expected: LayerMoments, found: Moments, response: ColorResponse) -> PixelFit:
    """The gain, then by least squares the offsets, that the first convolution asks for."""
    wanted, deviations = np.array(expected.means), _deviations(expected)
    varied = np.maximum(found.deviation, 1e-9 * deviations)
    gain = float(np.exp(np.median(np.log(deviations / varied))))
    missing = wanted - response.rest - gain * (found.mean - response.rest)
    offset = np.linalg.lstsq(response.slope / deviations[:, None], missing / deviations)[0]
    return PixelFit(gain, _triple(offset))


def distance(expected: LayerMoments, found: Moments) -> float:
    """Mean squared distance of the channel means from BatchNorm's, in its deviations."""
    difference = (found.mean - np.array(expected.means)) / _deviations(expected)
    return float(np.mean(difference**2))


def check_pixels(
    normalization: Normalization,
    fit: PixelFit,
    color: Floats,
    distances: Sequence[float],
    margins: Iterable[tuple[float, float]],
) -> tuple[Complaint, ...]:
    """Name the one fault that explains what the network makes of the images, if any does.

    Args:
        normalization: the graph's own.
        fit: of its first convolution.
        color: (3,), the mean of the images.
        distances: of the bottlenecks behind it.
        margins: of each image as it is, and with red and blue swapped; read until it is settled.
    """
    if (wrong := _check_gain(normalization, fit)) is not None:
        return (wrong,)
    may_be_swapped = fit.swapped(color).shift <= SHIFT
    if may_be_swapped and (wrong := check_color_order(margins)) is not None:
        return (wrong,)
    if (wrong := _check_mean(normalization, fit)) is not None:
        return (wrong,)
    far = float(np.mean(distances)) if distances else 0.0
    if far <= FAR:
        return ()
    sentence = (
        f"activations are far from what BatchNorm saw in training: {far:.1f} of its variances, "
        f"where {FAR} is much; neither colours nor normalization explain it"
    )
    hint = "are they images of the kind that the network was trained on, whole and upright?"
    return (Complaint(Severity.WARN, Fault.FAR, sentence, hint),)


def check_color_order(margins: Iterable[tuple[float, float]]) -> Complaint | None:
    """Ask the network: (as it is, swapped) are the mean margins of its decisions on an image."""
    differences: list[float] = []
    total = t = 0.0
    for straight, swapped in margins:
        differences.append(swapped - straight)
        total += straight + swapped
        t = _student(differences)
        if len(differences) >= LEAST_PAIRS and t <= SETTLED:
            return None
    count = len(differences)
    if count < LEAST_PAIRS or t < SWAPPED or 2 * sum(differences) < LEAST_DIFFERENCE * total:
        return None
    wins = sum(difference > 0 for difference in differences)
    return Complaint(
        Severity.REFUSE if t >= CERTAINLY_SWAPPED else Severity.WARN,
        Fault.COLOUR_ORDER,
        f"red and blue look swapped: on {wins} of {count} images the network is surer of itself "
        f"with BGR taken for RGB, by {200 * sum(differences) / total:.0f} % on average",
        "images must be RGB: cv2.imread returns BGR; or the graph was exported for the other order",
    )


def _check_gain(normalization: Normalization, fit: PixelFit) -> Complaint | None:
    size = max(fit.gain, 1 / fit.gain)
    if size < GAIN:
        return None
    mean, std = _fitting(normalization, fit)
    kind = "small" if fit.gain > 1 else "large"
    return Complaint(
        Severity.REFUSE if size >= CERTAIN_GAIN else Severity.WARN,
        Fault.GAIN,
        f"pixels reach the first layer {size:.3g} times too {kind}: they are normalized with "
        f"{_normalized(normalization.mean, normalization.std)}, {_normalized(mean, std)} would fit",
        "mean and std count in 0..255; or the images have another contrast than the training data",
    )


def _check_mean(normalization: Normalization, fit: PixelFit) -> Complaint | None:
    if fit.shift < SHIFT:
        return None
    mean, _ = _fitting(normalization, fit)
    is_plain = 1 / SAME_CONTRAST <= fit.gain <= SAME_CONTRAST
    off = ", ".join(
        f"{colour} {-offset:+.0f}"
        for colour, offset in zip(("red", "green", "blue"), fit.offset, strict=True)
    )
    return Complaint(
        Severity.REFUSE if is_plain and fit.shift >= CERTAIN_SHIFT else Severity.WARN,
        Fault.MEAN,
        f"the mean is wrong: pixels reach the first layer off by {off} of 255; "
        f"{_numbers(normalization.mean)} is subtracted, {_numbers(mean)} would fit",
        "see mean in the model's TOML, in 0..255 and in the order R, G, B; or the images are far "
        "brighter or darker than the training data",
    )


def _fitting(normalization: Normalization, fit: PixelFit) -> tuple[Floats, Floats]:
    """Mean and deviation that would do by themselves what the fit does to the pixels."""
    mean = np.array(normalization.mean) - np.array(fit.offset) / fit.gain
    return mean, np.array(normalization.std) / fit.gain


def _deviations(expected: LayerMoments) -> Floats:
    deviations = np.array(expected.deviations, np.float64)
    least = max(SMALLEST_DEVIATION * float(np.median(deviations)), 1e-9)
    return np.asarray(np.maximum(deviations, least), np.float64)


def _student(differences: Sequence[float]) -> float:
    if len(differences) < 2:
        return 0.0
    error = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return float(np.mean(differences)) / max(error, 1e-12)


def _neighbour_correlation(rows: NDArray[np.float32]) -> float:
    """Of each value of (h, w) with the one to its right."""
    left, right = rows[:, :-1] - rows[:, :-1].mean(), rows[:, 1:] - rows[:, 1:].mean()
    spread = math.sqrt(float((left**2).mean()) * float((right**2).mean()))
    return float((left * right).mean()) / max(spread, 1e-12)


def _sentence(names: Sequence[str], what: str) -> str:
    shown = ", ".join(names[:NAMED]) + (" ..." if len(names) > NAMED else "")
    return f"{len(names)} image{'s are' if len(names) > 1 else ' is'} {what}: {shown}"


def _triple(values: NDArray[Any]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _normalized(mean: Iterable[float], std: Iterable[float]) -> str:
    return f"mean {_numbers(mean)} and std {_numbers(std)}"


def _numbers(values: Iterable[float]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in values) + ")"


def margin_of(logits: NDArray[Any]) -> float:
    """How far the best class of (N, C, h, w) is above the second, on average over the pixels."""
    best = np.partition(np.asarray(logits, np.float32), -2, axis=1)[:, -2:]
    return float((best[:, 1] - best[:, 0]).mean())
