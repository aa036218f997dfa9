"""Why two artifacts differ: causes that are undone one by one, and which of them is named."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from segdeploy.spec import Image, LabelMap, Normalization

Floats = NDArray[np.float64]
Scores = NDArray[np.float32]
Bytes = NDArray[np.uint8]  # an image (H, W, 3) or a label map (H, W)

NAMED = 0.5  # of the disagreement: a cause that explains less is not named
SETTLED = 0.95  # where no further cause is tried
AS_GOOD = 0.1  # of the disagreement: within it, the narrower cause is named, not the wider one
# A few classes can be renamed so that any two label maps agree better; renaming all that were
# really exchanged leaves next to nothing.
NAMED_CLASSES = 0.8
# One scale is sought among many; set right, it leaves what int8 usually does (docs/int8.md has
# 98.86 to 99.53 % equal labels), or it was another fault.
SOUND_INT8 = 0.985
LEAST_GAIN = 5e-4  # of the pixels: less is noise of the rounding
SEEN = 1e-3  # of what a first layer makes of colours: a border that shows less is not padded
LISTED = 3  # classes in a phrase


class Cause(StrEnum):
    """What can be wrong, the narrower before the wider: new weights would undo most of them."""

    BUILD = "engine build"
    CLASSES = "order of the classes"
    FLIPPED = "mirrored image"
    CHANNELS = "swapped channels"
    MEAN = "wrong mean or deviation"
    ALIGN_CORNERS = "align_corners"
    NEAREST = "nearest-resized mask"
    SHIFT = "shifted image"
    SIZE = "wrong size"
    OVERFLOW = "fp16 overflow"
    HALF = "rounding to fp16"
    SCALE = "one scale"
    BIAS = "logits of one class"
    CHECKPOINT = "other checkpoint"


@dataclass(frozen=True)
class Attempt:
    """A cause undone: the share of equal pixels before and after, on so many images."""

    cause: Cause
    what: str  # was done, behind "with": "the channels of the image swapped"
    before: float
    after: float
    images: int

    @property
    def explained(self) -> float:
        """The share of the disagreement that is gone; negative where there is more of it."""
        return (self.after - self.before) / max(1 - self.before, 1e-12)

    @property
    def is_named(self) -> bool:
        """Whether it explains most of the disagreement."""
        least = NAMED_CLASSES if self.cause is Cause.CLASSES else NAMED
        if self.cause is Cause.SCALE and self.after < SOUND_INT8:
            return False
        return self.explained >= least and self.after - self.before >= LEAST_GAIN

    def __str__(self) -> str:
        return (
            f"with {self.what}, {percent(self.after)} of the pixels agree "
            f"instead of {percent(self.before)}"
        )


@dataclass(frozen=True)
class Fact:
    """What is certainly so and cannot be undone here, such as another checkpoint in an engine."""

    cause: Cause
    sentence: str


def likely(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that explains most; of several that explain all, the narrowest cause."""
    named = [attempt for attempt in attempts if attempt.is_named]
    if not named:
        return None
    best = max(attempt.explained for attempt in named)
    order = list(Cause)
    good = [attempt for attempt in named if attempt.explained >= best - AS_GOOD]
    return min(good, key=lambda attempt: (order.index(attempt.cause), -attempt.explained))


def percent(share: float) -> str:
    """Two digits behind the point; nearly all is never shown as all."""
    shown = min(100 * share, 99.99) if share < 1 else 100.0
    return f"{shown:.2f} %"


def equal_share(reference: LabelMap, other: LabelMap) -> float:
    """Of the pixels of two label maps of one size."""
    return float(np.mean(reference == other))


# Order of the classes


def match_classes(counts: NDArray[np.int64]) -> NDArray[np.intp]:
    """For each class id of the other artifact the id of the reference, one to one.

    Greedy by the largest count, then exchanged in pairs while that makes more pixels equal.

    Args:
        counts: (256, 256) pixels, row: the reference's class, column: the other's.
    """
    size = len(counts)
    match = np.full(size, -1, np.intp)
    taken = np.zeros(size, bool)
    rows, columns = np.nonzero(counts)
    # Ties keep an id where it is.
    order = np.lexsort((rows != columns, -counts[rows, columns]))
    for row, column in zip(rows[order], columns[order], strict=True):
        if match[column] < 0 and not taken[row]:
            match[column] = row
            taken[row] = True
    free = set(np.flatnonzero(~taken).tolist())
    for column in np.flatnonzero(match < 0).tolist():
        match[column] = column if column in free else min(free)
        free.remove(int(match[column]))
    used = np.flatnonzero(counts.sum(axis=0)).tolist()
    improved = True
    while improved:
        improved = False
        for place, first in enumerate(used):
            for second in used[place + 1 :]:
                a, b = match[first], match[second]
                now = counts[a, first] + counts[b, second]
                if counts[b, first] + counts[a, second] > now:
                    match[first], match[second] = b, a
                    improved = True
    return match


def try_classes(counts: NDArray[np.int64], names: Sequence[str], images: int) -> Iterator[Attempt]:
    """Rename the classes of the other artifact; nothing where that moves none."""
    match = match_classes(counts)
    moved = [k for k in np.flatnonzero(counts.sum(axis=0)).tolist() if match[k] != k]
    if not moved:
        return
    total = max(int(counts.sum()), 1)
    after = float(counts[match, np.arange(len(counts))].sum() / total)
    steps = {int(k - match[k]) for k in moved}
    what = _moved_classes(moved, match, names)
    if len(moved) > 1 and steps in ({1}, {-1}):
        what = f"each class id one {'lower' if steps == {1} else 'higher'}"
    yield Attempt(Cause.CLASSES, what, float(np.trace(counts) / total), after, images)


def _moved_classes(moved: Sequence[int], match: NDArray[np.intp], names: Sequence[str]) -> str:
    def name(k: int) -> str:
        return names[k] if k < len(names) else f"id {k}"

    shown = ", ".join(f"{name(k)} taken for {name(int(match[k]))}" for k in moved[:LISTED])
    return shown + (f" and {len(moved) - LISTED} more classes renamed" if moved[LISTED:] else "")


def class_offset(reference: Scores, other: Scores) -> tuple[int, float]:
    """The class whose logits are moved most, and by how much they must be raised.

    Args:
        reference: (C, h, w) logits.
        other: the same of the other artifact.
    """
    difference = (reference.astype(np.float64) - other).reshape(len(other), -1)
    offsets = np.median(difference, axis=1)
    offsets -= np.median(offsets)  # what moves all classes alike changes no label
    worst = int(np.abs(offsets).argmax())
    return worst, float(offsets[worst])


# Images and label maps, turned and moved


def mirrored(pixels: Bytes) -> Bytes:
    """Left and right exchanged, of an image or a label map."""
    return pixels[:, ::-1]


def upside_down(pixels: Bytes) -> Bytes:
    """Top and bottom exchanged."""
    return pixels[::-1]


def turned_round(pixels: Bytes) -> Bytes:
    """Turned by 180 degrees."""
    return pixels[::-1, ::-1]


def transposed(pixels: Bytes) -> Bytes:
    """Rows and columns exchanged."""
    return pixels.swapaxes(0, 1)


TURNS = {
    "left and right exchanged": mirrored,
    "top and bottom exchanged": upside_down,
    "a turn by 180 degrees": turned_round,
}
STEPS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))


def moved_image(step: tuple[int, int], image: Image) -> Image:
    """Moved down and right by so many pixels; the border is repeated."""
    y, x = step
    height, width = image.shape[:2]
    rows = np.clip(np.arange(height) - y, 0, height - 1)
    columns = np.clip(np.arange(width) - x, 0, width - 1)
    return np.ascontiguousarray(image[rows][:, columns])


def overlap(
    reference: LabelMap, other: LabelMap, step: tuple[int, int]
) -> tuple[LabelMap, LabelMap]:
    """Two label maps without a border, the second moved by a step of at most one pixel."""
    y, x = step
    height, width = reference.shape
    inner = other[1 - y : height - 1 - y, 1 - x : width - 1 - x]
    return reference[1:-1, 1:-1], inner


def step_words(step: tuple[int, int]) -> str:
    """Such as "one pixel down and right"."""
    y, x = step
    words = [("up", "", "down")[y + 1], ("left", "", "right")[x + 1]]
    return "one pixel " + " and ".join(filter(None, words))


# Mean and deviation


@dataclass(frozen=True, eq=False)
class ColorResponse:
    """What a first convolution, which is linear, makes of flat images, or what borders lack."""

    black: Floats  # (C,)
    slope: Floats  # (C, 3), per step of 255 of red, green and blue


def fit_normalization(
    own: Normalization, reference: ColorResponse, other: ColorResponse
) -> Normalization | None:
    """What the other artifact subtracts and divides by, if that is how first layers differ.

    Args:
        own: what the reference does.
        reference: of its first layer.
        other: of the same layer there, not stretched.
    """
    power = (reference.slope**2).sum(axis=0)
    gain = (reference.slope * other.slope).sum(axis=0) / np.maximum(power, 1e-30)
    if not (np.isfinite(gain).all() and (gain > 0).all()):
        return None
    offset = np.linalg.lstsq(reference.slope, other.black - reference.black)[0]
    mean = (np.array(own.mean) - offset) / gain
    deviation = np.array(own.std) / gain
    if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
        return None
    return Normalization(_triple(mean), _triple(deviation))


def mean_by_padding(
    inside: ColorResponse, lacking: ColorResponse
) -> tuple[float, float, float] | None:
    """What is subtracted before zeros are padded: at the mean, a flat image shows no border.

    Int8 moves channels, which cancels between the inside and a border, and stretches them, which is
    divided out. So they need not be fitted to another graph's.

    Args:
        inside: (C,), where no padding is seen.
        lacking: the same less the response at each of several borders, (borders x C,).

    Returns:
        None where the layer shows no border: it pads nothing, or not zeros.
    """
    stretch = np.maximum(np.linalg.norm(inside.slope, axis=1), 1e-30)
    stretch = np.tile(stretch, len(lacking.black) // len(stretch))
    slope, black = lacking.slope / stretch[:, None], lacking.black / stretch
    if not (np.isfinite(slope).all() and np.isfinite(black).all()):
        return None
    if np.linalg.svd(slope, compute_uv=False)[-1] < SEEN:
        return None
    mean: Floats = -np.linalg.lstsq(slope, black)[0]
    return _triple(mean)


def usual_mistakes(own: Normalization) -> dict[str, Normalization]:
    """Normalizations that are used in place of one of 0..255, by what is wrong about them."""
    mean, std = np.array(own.mean), np.array(own.std)
    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return {
        "no mean subtracted": Normalization(zero, own.std),
        "no deviation divided by": Normalization(own.mean, one),
        "neither mean nor deviation": Normalization(zero, one),
        "pixels divided by 255 alone": Normalization(zero, (255.0,) * 3),
        "pixels moved to -1..1": Normalization((127.5,) * 3, (127.5,) * 3),
        "mean and deviation in the order B, G, R": Normalization(own.mean[::-1], own.std[::-1]),
        "pixels divided by 255 before a mean of 0..255": Normalization(
            _triple(255 * mean), _triple(255 * std)
        ),
        "a mean of 0..1 for pixels of 0..255": Normalization(
            _triple(mean / 255), _triple(std / 255)
        ),
    }


def swapped_behind(image: Image, own: Normalization, *, divided: bool) -> NDArray[np.float32]:
    """Pixels that `own` makes of channels swapped behind the mean, or behind the deviation too."""
    mean = np.array(own.mean)
    std = np.array(own.std) if divided else np.ones(3)
    return np.asarray(((image - mean) / std)[..., ::-1] * std + mean, np.float32)


def pixels_as_if(image: Image, own: Normalization, other: Normalization) -> NDArray[np.float32]:
    """Pixels that `own` makes of what `other` would make of the image."""
    mean, std = (np.array(values, np.float64) for values in (own.mean, own.std))
    pixels = (image - np.array(other.mean)) / np.array(other.std) * std + mean
    return np.asarray(pixels, np.float32)


def is_close(first: Normalization, second: Normalization) -> bool:
    """Whether they leave nearly the same of pixels."""
    means = np.allclose(first.mean, second.mean, rtol=0.01, atol=0.5)
    return bool(means and np.allclose(first.std, second.std, rtol=0.01))


def normalization_words(found: Normalization) -> str:
    """Its numbers."""
    mean = ", ".join(f"{round(value, 2) + 0:g}" for value in found.mean)
    return f"mean ({mean}) and deviation ({', '.join(f'{value:.4g}' for value in found.std)})"


def _triple(values: Floats) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue
