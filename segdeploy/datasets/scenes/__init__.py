"""Street scenes drawn from a seed: the `demo` data set, and a realistic test image of any size.

The world is metric: x to the right, y up, z ahead of the camera, ground at y = 0. Every surface is
a polygon in it, filled into the image and the label map together, far to near: labels are exact.
Corners are rounded to pixels before anything is drawn, and all that follows is integer arithmetic:
a seed gives the same scene on every machine.
"""

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from segdeploy.artifacts import sha256_of
from segdeploy.datasets.scenes.canvas import empty_canvas
from segdeploy.datasets.scenes.exposure import expose
from segdeploy.datasets.scenes.objects import draw_hood, plan_greenery, plan_sidewalk, plan_traffic
from segdeploy.datasets.scenes.street import draw_ground, draw_sky, plan_buildings, plan_street
from segdeploy.errors import SegdeployError
from segdeploy.spec import Image, LabelMap, Size

__all__ = ["SIZE", "SPLIT_SEEDS", "draw_scene", "drawn_by", "scene_seed"]

SIZE = Size(256, 512)  # of the demo data set: a quarter of Cityscapes along each axis
SPLIT_SEEDS = {"train": range(0, 10**9), "val": range(10**9, 2 * 10**9)}


def scene_seed(split: str, index: int) -> int:
    """The seed of scene `index` of "train" or "val"; the two splits share none."""
    if split not in SPLIT_SEEDS:
        raise SegdeployError(f"demo: split {split!r}; wanted one of {', '.join(SPLIT_SEEDS)}")
    if not 0 <= index < len(SPLIT_SEEDS[split]):
        raise SegdeployError(
            f"demo: scene {index} of {split}; wanted 0 to {len(SPLIT_SEEDS[split]) - 1}"
        )
    return SPLIT_SEEDS[split][index]


def draw_scene(seed: int, size: Size = SIZE) -> tuple[Image, LabelMap]:
    """Image (H, W, 3) uint8 RGB and labels (H, W) uint8, the same for the same arguments."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    canvas = empty_canvas(rng, size)
    draw_sky(canvas, rng)
    street = plan_street(rng)
    draw_ground(canvas, street, rng)
    jobs = plan_buildings(canvas, street, rng)
    jobs += plan_greenery(canvas, street, rng)
    jobs += plan_traffic(canvas, street, rng)
    jobs += plan_sidewalk(canvas, street, rng)
    for _, draw in sorted(jobs, key=lambda job: -job[0]):
        draw()
    draw_hood(canvas, rng)
    return expose(canvas, rng), canvas.labels


@cache
def drawn_by() -> tuple[str, ...]:
    """All that decides about a scene beside its seed: the sources here, and what they draw with."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return (*map(sha256_of, sources), np.__version__, cv2.__version__)
