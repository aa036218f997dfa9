"""How an image passes through the network: whole or in crops, once or at many scales, mirrored."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import Manifest
from segdeploy.errors import SegdeployError, needs
from segdeploy.images import network_input, resize, scaled_size
from segdeploy.pipeline.scores import add_probabilities, add_resized
from segdeploy.resampling import Scores
from segdeploy.runtime import Session
from segdeploy.spec import MIN_SIDE, Image, LabelMap, Output, Size

RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # img_ratios in mmseg's configs of the data sets
DYNAMIC = "segdeploy export --output logits --dynamic makes one of any size"


@dataclass(frozen=True, kw_only=True)
class Mode:
    """How an image passes through the network; the default is once, as a whole.

    Args:
        crop: of mmseg's `slide` mode: the size of the parts whose scores are averaged.
        stride: from one part to the next, down and across.
        tta: mmseg's test-time augmentation, "ms+flip": the mean over six scales and their mirror
            images. With `crop`, each of the twelve is passed in parts.
    """

    crop: Size | None = None
    stride: Size | None = None
    tta: bool = False

    def __post_init__(self) -> None:
        if self.crop is None or self.stride is None:
            if (self.crop, self.stride) != (None, None):
                raise SegdeployError("a crop and a stride go together; wanted both or neither")
            return
        if min(self.crop) < MIN_SIDE:
            raise SegdeployError(f"crop {self.crop}; wanted at least {MIN_SIDE} a side")
        if not all(1 <= step <= side for step, side in zip(self.stride, self.crop, strict=True)):
            raise SegdeployError(
                f"stride {self.stride} and crop {self.crop}; wanted a stride of 1 to the crop's "
                "side, or pixels are left out"
            )

    def __str__(self) -> str:
        parts = ["ms+flip"] if self.tta else []
        if self.crop:
            parts.append(f"slide {self.crop} by {self.stride}")
        return " of ".join(parts) or "whole"


WHOLE = Mode()


def check_mode(manifest: Manifest, mode: Mode) -> None:
    """Refuse an artifact that cannot be run so: it returns labels, or takes another size."""
    if mode == WHOLE:
        return
    if manifest.output is Output.LABELS:
        raise SegdeployError(
            f"{manifest.model}: the artifact returns labels; {mode} averages scores",
            hint="export it with --output logits --dynamic",
        )
    if manifest.size is None or manifest.size == mode.crop:
        return
    if mode.crop is None:
        raise SegdeployError(
            f"{manifest.model}: the artifact takes {manifest.size} only; {mode} has many sizes",
            hint=DYNAMIC,
        )
    raise SegdeployError(
        f"{manifest.model}: the artifact takes {manifest.size}, asked for crops of {mode.crop}",
        hint=f"--crop {manifest.size}; or {DYNAMIC}",
    )


def mode_input(image: Image, scale: tuple[int, int] | None, mode: Mode) -> Image:
    """The image at the test scale; tta takes it as it is, since its ratios are of the original."""
    return image if mode.tta else network_input(image, scale)


def segment_averaged(session: Session, image: Image, original: Size, mode: Mode) -> LabelMap:
    """An image to its label map at the original size, by the mean of several passes.

    Args:
        session: that returns logits.
        image: from `mode_input`.
        original: size of the image before that.
        mode: another than `WHOLE`.
    """
    check_mode(session.manifest, mode)
    if not mode.tta:
        scores = _scores(session, image, mode)
        return best_labels(scores, Size(*image.shape[:2]), original)
    total = np.zeros((len(session.manifest.classes), *original), np.float32)
    for size in view_sizes(original):
        view = resize(image, size)
        for mirrored in (False, True):
            scores = _scores(session, view[:, ::-1] if mirrored else view, mode)
            add_probabilities(total, scores, size, mirrored=mirrored)
    total /= 2 * len(RATIOS)
    return best_labels(total, original, original)


def view_sizes(size: Size) -> list[Size]:
    """The scales of tta, as mmcv's Resize(scale_factor, keep_ratio=True) rounds: twice."""
    rounded = [Size(int(size.height * r + 0.5), int(size.width * r + 0.5)) for r in RATIOS]
    return [scaled_size(size, limit) for limit in rounded]


def crops(size: Size, crop: Size, stride: Size) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of each part, as mmseg lays them: the last ones are moved back inside."""
    for y in _starts(size.height, crop.height, stride.height):
        for x in _starts(size.width, crop.width, stride.width):
            yield slice(y, y + crop.height), slice(x, x + crop.width)


def _starts(side: int, crop: int, stride: int) -> list[int]:
    count = max(side - crop + stride - 1, 0) // stride + 1
    return [max(min(k * stride, side - crop), 0) for k in range(count)]


def _scores(session: Session, image: Image, mode: Mode) -> Scores:
    """Logits of a whole image at the head's stride, or the mean of its crops' at its own size."""
    if mode.crop is None or mode.stride is None:
        return _finite(run_one(session, image))
    size = Size(*image.shape[:2])
    fixed = session.manifest.size
    if fixed is not None and (size.height < fixed.height or size.width < fixed.width):
        raise SegdeployError(
            f"an image of {size} is smaller than the crops of {fixed} that the artifact takes",
            hint=DYNAMIC,
        )
    total = np.zeros((len(session.manifest.classes), *size), np.float32)
    count = np.zeros(size, np.float32)
    for rows, columns in crops(size, mode.crop, mode.stride):
        add_resized(total[:, rows, columns], _finite(run_one(session, image[rows, columns])))
        count[rows, columns] += 1
    total /= count
    return total


def _finite(scores: Scores) -> Scores:
    if not np.isfinite(scores).all():
        raise SegdeployError(
            "the network's scores are not finite numbers",
            hint="in fp16 this is an overflow: try fp32",
        )
    return scores


def run_one(session: Session, image: Image) -> NDArray[Any]:
    """Labels or logits of one image; the batch of a static artifact is filled with copies."""
    batch = np.repeat(image[None], session.manifest.batch or 1, axis=0)
    first: NDArray[Any] = session.run(batch)[0]
    return first


def best_labels(scores: Scores, network: Size, original: Size) -> LabelMap:
    """Scores to the label map of the original image, by the two resizes of `masks.py`."""
    with needs("numba", extra="onnxruntime"):
        from segdeploy.masks import labels_from_logits
    return labels_from_logits(scores, network, original)
