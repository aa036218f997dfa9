"""What stands and moves in the street: trees, cars, people, poles, and our own bonnet."""

from collections.abc import Callable

import cv2
import numpy as np

from segdeploy.datasets.scenes.canvas import (
    CAR,
    CIRCLE,
    LEAVES,
    PERSON,
    POLE,
    ROAD,
    UP,
    VEGETATION,
    Box,
    Canvas,
    Random,
    board,
    floor,
    pick,
)
from segdeploy.datasets.scenes.street import Job, Street
from segdeploy.spec import IGNORE

PAINTS = (
    (28, 28, 32),
    (200, 202, 204),
    (128, 132, 138),
    (150, 32, 32),
    (34, 58, 120),
    (60, 92, 70),
    (176, 150, 96),
)
WHEELS = np.array([0.2, 0.8])  # of the length of a car
TYRES = np.array([[0.06, -0.45, 0.2, 0], [0.8, -0.45, 0.94, 0]])  # rectangles on its tail
LAMPS = np.array([[0.06, 0.55, 0.2, 0.8], [0.8, 0.55, 0.94, 0.8]])
SIGNS = ((190, 30, 30), (30, 70, 170), (225, 200, 40), (235, 235, 235))


def plan_greenery(canvas: Canvas, street: Street, rng: Random) -> list[Job]:
    """Trees along the sidewalk and between houses, and bushes."""
    jobs: list[Job] = []
    for _ in range(int(rng.integers(0, 12))):
        side = int(rng.integers(2))
        outwards = (-1, 1)[side]
        on_walk = rng.random() < 0.6
        edge = street.kerbs[side] if on_walk else street.walls[side]
        x, z = edge + outwards * rng.uniform(0.4, 1.2), rng.uniform(5, 45)
        jobs.append((z, _tree(canvas, (x, z), rng)))
    return jobs


def _tree(canvas: Canvas, at: tuple[float, float], rng: Random) -> Callable[[], None]:
    x, z = at
    leaf, bark = pick(rng, LEAVES, 18), np.array([74, 62, 50]) * rng.uniform(0.6, 1.4)
    is_bush = rng.random() < 0.25
    crown = 0.8 if is_bush else rng.uniform(3.2, 7)
    spread = rng.uniform(0.5, 0.9) if is_bush else rng.uniform(0.9, 2.2)
    puffs = rng.uniform(-1, 1, (12, 2)) * spread
    sizes, shades = rng.uniform(0.35, 0.7, 12) * spread, rng.uniform(0.7, 1.25, 12)

    def draw() -> None:
        canvas.fill(board(x, 0, z, 0.12 + spread * 0.12, crown), bark, VEGETATION)
        for (dx, dy), radius, shade in zip(puffs, sizes, shades, strict=True):
            canvas.disc((x + dx, max(crown + dy, radius), z), radius, leaf * shade, VEGETATION)

    return draw


def plan_traffic(canvas: Canvas, street: Street, rng: Random) -> list[Job]:
    """Cars in the lanes, at the kerbs, and across the crossing."""
    jobs: list[Job] = []
    left, right = street.kerbs
    for x in (*street.lanes, left + 1.1, right - 1.1):
        z = rng.uniform(5, 22)
        while z < 40:
            if rng.random() < 0.45:
                jobs.append((z, _car(canvas, (x + rng.uniform(-0.3, 0.3), z), rng, across=False)))
            z += rng.uniform(6, 22)
    if street.crossing:
        for _ in range(int(rng.integers(0, 4))):
            x, z = rng.uniform(-14, 12), rng.uniform(*street.crossing)
            jobs.append((z, _car(canvas, (x, z), rng, across=True)))
    return jobs


def _car(
    canvas: Canvas, at: tuple[float, float], rng: Random, *, across: bool
) -> Callable[[], None]:
    """A body, a cabin with windows, wheels and lamps; one in six is a van."""
    x, z = at
    paint, glass = pick(rng, PAINTS, 20), np.full(3, rng.uniform(20, 70))
    is_van = rng.random() < 0.17
    wide, length = rng.uniform(1.65, 1.95), rng.uniform(3.7, 4.8) + 1.5 * is_van
    belt, roof = (
        (1.2, rng.uniform(1.9, 2.9)) if is_van else (rng.uniform(0.8, 0.95), rng.uniform(1.35, 1.6))
    )
    along_x, along_z = (length, wide) if across else (wide, length)
    trim = 0.05 if is_van else 0.17  # of the length: bonnet and boot
    trim_x, trim_z = (trim * length, 0.06) if across else (0.1, trim * length)
    body = Box(x - along_x / 2, x + along_x / 2, 0.28, belt, z, z + along_z)
    cabin = Box(body.x0 + trim_x, body.x1 - trim_x, belt, roof, z + trim_z, z + along_z - trim_z)
    lamp = np.array([170, 30, 24] if rng.random() < 0.6 else [240, 236, 215], np.float64)
    tyre, plated = np.full(3, 20.0), rng.random() < 0.7

    def draw() -> None:
        shade = floor(body.x0 - 0.1, body.x1 + 0.1, body.z0 - 0.15, body.z1)
        canvas.fill(shade, np.full(3, 26.0), ROAD)
        body.draw(canvas, paint, CAR)
        cabin.draw(canvas, paint, CAR)
        panes = [face.patch(0.06, 0.12, 0.94, 0.85) for face in (cabin.flank, cabin.front)]
        canvas.fill(np.concatenate(panes), glass)
        if z > 30:  # metres: what follows would be a pixel or two
            return
        long_face = body.front if across else body.flank
        hub = long_face.corner + WHEELS[:, None] * long_face.along
        hub[..., 1] = 0.32
        unit = long_face.along / length
        canvas.fill(hub[:, None] + 0.32 * (CIRCLE[:, :1] * unit + CIRCLE[:, 1:] * UP), tyre, CAR)
        if not across:
            canvas.fill(body.front.patches(TYRES), tyre, CAR)
            canvas.fill(body.front.patches(LAMPS), lamp)
            if plated:
                canvas.fill(body.front.patch(0.36, 0.3, 0.64, 0.46), np.full(3, 205.0))

    return draw


def plan_sidewalk(canvas: Canvas, street: Street, rng: Random) -> list[Job]:
    """People, mostly on the sidewalks, and poles at the kerbs."""
    jobs: list[Job] = []
    for _ in range(int(rng.integers(1, 11))):
        side = int(rng.integers(2))
        on_road = rng.random() < 0.15
        span = street.kerbs if on_road else sorted((street.kerbs[side], street.walls[side]))
        x, z = rng.uniform(*span), rng.uniform(4, 14)
        jobs.append((z, _person(canvas, (x, z), rng)))
    for _ in range(int(rng.integers(2, 11))):
        side = int(rng.integers(2))
        x = street.kerbs[side] + (-1, 1)[side] * rng.uniform(0.3, 0.8)
        z = rng.uniform(4, 14)
        jobs.append((z, _pole(canvas, (x, z), rng)))
    return jobs


def _person(canvas: Canvas, at: tuple[float, float], rng: Random) -> Callable[[], None]:
    x, z = at
    tall, stout, stride = rng.uniform(1.2, 1.95), rng.uniform(0.8, 1.2), rng.uniform(0.02, 0.22)
    coat, trousers = rng.uniform(15, 220, 3), rng.uniform(15, 130, 3)
    skin = np.array([205, 160, 130]) * rng.uniform(0.35, 1.1)

    def draw() -> None:
        k = tall / 1.75
        for sign in (-1, 1):
            leg = board(x + sign * (0.08 + stride / 2) * k, 0, z, 0.15 * stout * k, 0.86 * k)
            leg[0, 2:, 0] -= sign * stride / 2 * k  # towards the hip
            canvas.fill(leg, trousers * (1 if sign < 0 else 0.8), PERSON)
            arm = board(x + sign * 0.25 * stout * k, 0.75 * k, z, 0.11 * k, 0.65 * k)
            canvas.fill(arm, coat * 0.8, PERSON)
        canvas.fill(board(x, 0.78 * k, z, 0.42 * stout * k, 0.68 * k), coat, PERSON)
        canvas.disc((x, 1.6 * k, z), 0.13 * k, skin, PERSON)

    return draw


def _pole(canvas: Canvas, at: tuple[float, float], rng: Random) -> Callable[[], None]:
    """A lamp post, a sign or a traffic light."""
    x, z = at
    steel = np.full(3, rng.uniform(35, 170)) + rng.uniform(-8, 8, 3)
    kind, tall, thick = int(rng.integers(3)), rng.uniform(2.4, 3.4), rng.uniform(0.22, 0.36)
    tall += 3.5 * (kind == 0)
    face = np.array(SIGNS[rng.integers(len(SIGNS))], np.float64)
    arm = -1.6 if x > 0 else 1.6

    def draw() -> None:
        canvas.fill(board(x, 0, z, thick, tall), steel, POLE)
        if kind == 0:
            canvas.fill(board(x + arm / 2, tall - thick, z, abs(arm), thick), steel, POLE)
            canvas.fill(board(x + arm, tall - 0.2, z, 0.5, 0.2), steel * 1.2, POLE)
        elif kind == 1:
            canvas.fill(board(x, tall - 0.7, z, 0.66, 0.7), face, POLE)
        else:
            canvas.fill(board(x, tall - 0.95, z, 0.36, 0.95), np.full(3, 28.0), POLE)
            canvas.disc((x, tall - 0.3, z), 0.1, np.array([230.0, 60, 40]), POLE)

    return draw


def draw_hood(canvas: Canvas, rng: Random) -> None:
    """The bonnet of our own car, which nobody labels; absent in every fifth scene."""
    height, width = canvas.labels.shape
    paint = np.full(3, rng.uniform(15, 110)) + rng.uniform(-10, 10, 3)
    rise, is_seen = rng.uniform(0.03, 0.1), rng.random() < 0.8
    if not is_seen:
        return
    axes = (int(width * 0.56), max(int(height * rise), 1))
    colour = float(paint[0]), float(paint[1]), float(paint[2])
    cv2.ellipse(canvas.image, (width // 2, height), axes, 0, 180, 360, colour, -1)
    cv2.ellipse(canvas.labels, (width // 2, height), axes, 0, 180, 360, IGNORE, -1)
