"""From flat colours to a photograph: texture, optics, light and sensor noise, all in integers."""

import cv2
import numpy as np
from numpy.typing import NDArray

from segdeploy.datasets.scenes.canvas import (
    BUILDING,
    CAR,
    PERSON,
    POLE,
    ROAD,
    SIDEWALK,
    SKY,
    VEGETATION,
    Canvas,
    Random,
)
from segdeploy.spec import IGNORE, Image, Size

# Strength of (fine, coarse) texture by label, in 1/256 of the colour: leaves are rough.
TEXTURE = {
    ROAD: (22, 14),
    SIDEWALK: (26, 16),
    BUILDING: (22, 26),
    VEGETATION: (96, 64),
    SKY: (3, 0),
    CAR: (8, 8),
    PERSON: (24, 16),
    POLE: (10, 8),
    IGNORE: (6, 10),
}


def expose(canvas: Canvas, rng: Random) -> Image:
    """Texture by label, optics, light and sensor noise, in integers throughout."""
    size = Size(*canvas.labels.shape)
    fine_table, coarse_table = np.zeros(256, np.int16), np.zeros(256, np.int16)
    for label, (fine, coarse) in TEXTURE.items():
        fine_table[label], coarse_table[label] = fine, coarse
    cells = Size(max(size.height // 7, 2), max(size.width // 7, 2))
    fine_noise = rng.integers(-128, 128, size, np.int16)
    coarse_noise = smooth_noise(rng, size, cells).astype(np.int16) - 128
    gain = fine_noise * fine_table[canvas.labels] + coarse_noise * coarse_table[canvas.labels]
    image = np.clip(scaled(canvas.image, 256 + (gain >> 7)), 0, 255).astype(np.uint8)
    kernel = int(rng.choice((1, 3, 3)))
    image = np.asarray(cv2.GaussianBlur(image, (kernel, kernel), 0))
    light = rng.uniform(0.7, 1.15) * rng.uniform(0.9, 1.1, 3)
    curve = np.clip(np.arange(256)[:, None] * light + rng.uniform(0, 20), 0, 255).astype(np.uint8)
    exposed = cv2.LUT(image, curve[None])
    strength = int(rng.integers(2, 12))
    noise = rng.integers(-128, 128, image.shape, np.int8).astype(np.int16) * strength >> 7
    return np.asarray(cv2.add(exposed, noise, dtype=cv2.CV_8U), np.uint8)


def scaled(image: Image, gain: NDArray[np.int16]) -> NDArray[np.int32]:
    """The image times `gain` (H, W), in 1/256."""
    gain_hwc = cv2.merge([gain, gain, gain])  # numpy is slow where only the last axis is repeated
    return np.multiply(image, gain_hwc, dtype=np.int32) >> 8


def smooth_noise(rng: Random, size: Size, grid: Size) -> NDArray[np.uint8]:
    """(H, W): noise of `grid` cells, blown up by an interpolation that is bit-exact everywhere."""
    cells = rng.integers(0, 256, grid, np.uint8)
    return np.asarray(
        cv2.resize(cells, (size.width, size.height), interpolation=cv2.INTER_LINEAR_EXACT)
    )
