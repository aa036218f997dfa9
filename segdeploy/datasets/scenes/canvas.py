"""What a scene is drawn on, and the solids it is drawn of."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from segdeploy.spec import Image, LabelMap, Size

ROAD, SIDEWALK, BUILDING, VEGETATION, SKY, CAR, PERSON, POLE = range(8)  # models/classes/demo.toml

NEAR, FAR = 1.0, 160.0  # metres ahead between which anything is drawn
SKIES = ((96, 140, 205), (196, 202, 208), (228, 214, 196), (128, 150, 176), (205, 214, 226))
LEAVES = ((62, 92, 44), (86, 108, 52), (48, 74, 46), (112, 112, 52), (138, 98, 46))
UP = np.array([0.0, 1.0, 0.0])
CIRCLE = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1)

Random = np.random.Generator
Colour = NDArray[np.float64]  # (3,) RGB, 0..255
Points = NDArray[np.float64]  # (..., 3) metres


@dataclass(frozen=True)
class Canvas:
    """Image and labels under one camera; the air between takes its share of every colour."""

    image: Image
    labels: LabelMap
    focal: float  # pixels
    center: tuple[float, float]  # x, y of the vanishing point, pixels
    height: float  # of the camera, metres
    haze: Colour
    visibility: float  # metres at which half of a colour is haze
    sun: tuple[float, float, float]  # light on faces that look left, towards the camera, right

    def project(self, points: Points) -> NDArray[np.int32]:
        """(..., 3) metres -> (..., 2) pixels."""
        scale = self.focal / np.maximum(points[..., 2], NEAR)
        pixels = np.empty((*points.shape[:-1], 2))
        pixels[..., 0] = scale * points[..., 0] + self.center[0]
        pixels[..., 1] = scale * (self.height - points[..., 1]) + self.center[1]
        return np.rint(pixels).astype(np.int32)

    def seen(self, colour: Colour, distance: float) -> tuple[float, float, float]:
        """`colour` through `distance` metres of air."""
        share = distance / (distance + self.visibility)
        red, green, blue = (colour + (self.haze - colour) * share).tolist()
        return red, green, blue

    def fill(self, polygons: Points, colour: Colour, label: int | None = None) -> None:
        """Paint polygons (N, K, 3), or one (K, 3); `label` None leaves the labels as they are."""
        pixels = self.project(polygons if polygons.ndim == 3 else polygons[None])
        distance = max(float(polygons.item(2)), NEAR)  # of the first corner: it is a near one
        cv2.fillPoly(self.image, list(pixels), self.seen(colour, distance))
        if label is not None:
            cv2.fillPoly(self.labels, list(pixels), label)

    def disc(
        self, at: tuple[float, float, float], radius: float, colour: Colour, label: int
    ) -> None:
        """Paint a circle that faces the camera."""
        scale = self.focal / max(at[2], NEAR)
        x = round(self.center[0] + scale * at[0])
        y = round(self.center[1] + scale * (self.height - at[1]))
        pixels = round(radius * scale)
        cv2.circle(self.image, (x, y), pixels, self.seen(colour, at[2]), -1)
        cv2.circle(self.labels, (x, y), pixels, label, -1)


@dataclass(frozen=True)
class Face:
    """A flat rectangle in the world: a corner and its two edges."""

    corner: Points
    along: Points
    up: Points

    def patches(self, rectangles: NDArray[np.float64]) -> Points:
        """(N, 4) rectangles u0, v0, u1, v1 in 0..1 of the face -> (N, 4, 3)."""
        u = rectangles.take((0, 2, 2, 0), axis=1)[..., None]
        v = rectangles.take((1, 1, 3, 3), axis=1)[..., None]
        return self.corner + u * self.along + v * self.up

    def patch(self, u0: float, v0: float, u1: float, v1: float) -> Points:
        """One rectangle (1, 4, 3)."""
        return self.patches(np.array([[u0, v0, u1, v1]]))


@dataclass(frozen=True)
class Box:
    """An upright block: x0 to x1, y0 to y1, z0 to z1, in metres."""

    x0: float
    x1: float
    y0: float
    y1: float
    z0: float
    z1: float

    @property
    def front(self) -> Face:
        """The face towards the camera."""
        return face((self.x0, self.y0, self.z0), (self.x1 - self.x0, 0, 0), self.y1 - self.y0)

    @property
    def flank(self) -> Face:
        """The side face that the camera, at x = 0, can see."""
        x = self.x0 if self.x0 + self.x1 > 0 else self.x1
        return face((x, self.y0, self.z0), (0, 0, self.z1 - self.z0), self.y1 - self.y0)

    @property
    def top(self) -> Points:
        """The corners of the upper face (4, 3)."""
        x0, x1, y, z0, z1 = self.x0, self.x1, self.y1, self.z0, self.z1
        return np.array([(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)])

    def flank_light(self, canvas: Canvas) -> float:
        """The sun on the flank."""
        return canvas.sun[0] if self.x0 + self.x1 > 0 else canvas.sun[2]

    def draw(self, canvas: Canvas, colour: Colour, label: int) -> None:
        """All that is seen of a block of one colour."""
        if self.y1 < canvas.height:
            canvas.fill(self.top, colour * 1.1, label)
        canvas.fill(self.flank.patch(0, 0, 1, 1), colour * self.flank_light(canvas), label)
        canvas.fill(self.front.patch(0, 0, 1, 1), colour * canvas.sun[1], label)


def face(
    corner: tuple[float, float, float], along: tuple[float, float, float], height: float
) -> Face:
    """An upright face over the ground line from `corner` to `corner + along`."""
    return Face(np.array(corner), np.array(along, np.float64), UP * height)


def board(x: float, y: float, z: float, width: float, height: float) -> Points:
    """A rectangle (1, 4, 3) that faces the camera, standing on y and centred on x."""
    x0, x1, y1 = x - width / 2, x + width / 2, y + height
    return np.array([[(x0, y, z), (x1, y, z), (x1, y1, z), (x0, y1, z)]])


def floor(x0: float, x1: float, z0: float, z1: float) -> Points:
    """A rectangle (4, 3) on the ground."""
    return np.array([(x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)], np.float64)


def pick(rng: Random, colours: tuple[tuple[int, int, int], ...], spread: float) -> Colour:
    """One of `colours`, moved by up to `spread` in lightness and half of that in each channel."""
    base = np.array(colours[rng.integers(len(colours))], np.float64)
    moved = base + rng.uniform(-spread, spread) + rng.uniform(-spread / 2, spread / 2, 3)
    return np.clip(moved, 4, 250)


def empty_canvas(rng: Random, size: Size) -> Canvas:
    """Haze all over, labelled sky, under a random camera, sun and weather."""
    height, width = size
    haze = np.clip(pick(rng, SKIES, 12) * 0.5 + 105, 0, 255)
    return Canvas(
        image=np.full((height, width, 3), haze, np.uint8),
        labels=np.full((height, width), SKY, np.uint8),
        focal=height * rng.uniform(0.95, 1.3),
        center=(width * rng.uniform(0.36, 0.64), height * rng.uniform(0.36, 0.5)),
        height=rng.uniform(1.2, 2.0),
        haze=haze,
        visibility=rng.uniform(60, 200),
        sun=(rng.uniform(0.55, 1.1), rng.uniform(0.6, 1.05), rng.uniform(0.55, 1.1)),
    )
