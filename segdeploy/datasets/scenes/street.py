"""The street itself: sky, ground, markings, shadows and the houses on both sides."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from segdeploy.datasets.scenes.canvas import (
    BUILDING,
    CIRCLE,
    FAR,
    LEAVES,
    NEAR,
    ROAD,
    SIDEWALK,
    SKIES,
    VEGETATION,
    Box,
    Canvas,
    Colour,
    Points,
    Random,
    board,
    floor,
    pick,
)
from segdeploy.datasets.scenes.exposure import scaled, smooth_noise
from segdeploy.spec import Size

WALLS = (
    (170, 120, 95),
    (190, 178, 155),
    (128, 126, 124),
    (205, 205, 200),
    (112, 84, 72),
    (148, 152, 132),
)

Job = tuple[float, Callable[[], None]]  # distance in metres, and what draws there


@dataclass(frozen=True)
class Street:
    """Where things lie across the street, in metres from the camera: (left, right)."""

    kerbs: tuple[float, float]
    walls: tuple[float, float]
    lanes: tuple[float, ...]  # centres
    crossing: tuple[float, float] | None  # z0, z1 of a street that crosses


def plan_street(rng: Random) -> Street:
    """Two to four lanes and two sidewalks, perhaps with parking and a crossing."""
    lane = rng.uniform(2.9, 3.6)
    left, right = int(rng.integers(1, 3)), int(rng.integers(0, 2))  # lanes beside ours
    kerb_left, kerb_right = -lane * (left + 0.5), lane * (right + 0.5)
    parking = rng.uniform(1.6, 2.4, 2) * (rng.random(2) < 0.6)
    kerbs = (kerb_left - float(parking[0]), kerb_right + float(parking[1]))
    walks = rng.uniform(1.8, 5.0, 2)
    start = rng.uniform(10, 45)
    crossing = (start, start + rng.uniform(6, 11)) if rng.random() < 0.4 else None
    return Street(
        kerbs=kerbs,
        walls=(kerbs[0] - float(walks[0]), kerbs[1] + float(walks[1])),
        lanes=tuple(lane * k for k in range(-left, right + 1)),
        crossing=crossing,
    )


def draw_sky(canvas: Canvas, rng: Random) -> None:
    """A gradient down to the haze, with clouds; its label is there from the start."""
    height, width = canvas.labels.shape
    horizon = min(int(canvas.center[1]) + 1, height)
    ramp = np.linspace(0, 1, horizon)[:, None, None] ** 2
    sky = pick(rng, SKIES, 16)
    sheet = np.broadcast_to(sky + (canvas.haze - sky) * ramp, (horizon, width, 3)).astype(np.uint8)
    clouds = smooth_noise(rng, Size(horizon, width), Size(6, 9))
    cover = np.clip(clouds.astype(np.int32) - int(rng.integers(90, 230)), 0, 100)[..., None]
    white = int(rng.integers(190, 250))
    canvas.image[:horizon] = sheet + (white - sheet.astype(np.int32)) * cover // 160


def draw_ground(canvas: Canvas, street: Street, rng: Random) -> None:
    """Grass, sidewalks, road, markings and shadows, and haze over all of it, by the row."""
    height = canvas.labels.shape[0]
    image = canvas.image
    clear = replace(canvas, visibility=1e9)  # haze comes at the end
    left, right = street.kerbs
    asphalt = np.full(3, rng.uniform(60, 108)) + rng.uniform(-6, 6, 3)
    paving = np.full(3, rng.uniform(120, 185)) + np.array([8, 2, -6]) * rng.uniform(-0.5, 2.5)
    is_paved = rng.random() < 0.55  # beyond the sidewalk
    ground, label = (paving, SIDEWALK) if is_paved else (pick(rng, LEAVES, 14) + 18, VEGETATION)
    clear.fill(floor(-400, 400, NEAR, 4 * FAR), ground, label)
    clear.fill(floor(street.walls[0], street.walls[1], NEAR, 4 * FAR), paving, SIDEWALK)
    for x in street.kerbs:
        clear.fill(floor(x - 0.15, x + 0.15, NEAR, FAR), paving * 1.15, SIDEWALK)
    clear.fill(floor(left, right, NEAR, 4 * FAR), asphalt, ROAD)
    if street.crossing:
        clear.fill(floor(-400, 400, *street.crossing), asphalt * rng.uniform(0.9, 1.1), ROAD)
    _draw_markings(clear, street, rng)
    for _ in range(int(rng.integers(0, 5))):  # patched asphalt
        x, z = rng.uniform(left, right - 1), rng.uniform(4, 40)
        patch = floor(x, min(x + rng.uniform(0.5, 3), right), z, z + rng.uniform(1, 8))
        clear.fill(patch, asphalt * rng.uniform(0.7, 1.15))
    _draw_shadows(clear, street, rng)
    top = max(int(canvas.center[1]) + 1, 0)
    rows = np.arange(top, height) - canvas.center[1]
    distance = canvas.focal * canvas.height / np.maximum(rows, 0.5)
    share = (256 * distance / (distance + canvas.visibility)).astype(np.int32)[:, None, None]
    ground_rows = image[top:].astype(np.int32)
    image[top:] = ground_rows + ((canvas.haze.astype(np.int32) - ground_rows) * share >> 8)


def _draw_markings(canvas: Canvas, street: Street, rng: Random) -> None:
    white = np.full(3, rng.uniform(150, 235))
    dashes = np.arange(rng.uniform(1, 5), 70, rng.uniform(5, 10))
    between = [(a + b) / 2 for a, b in pairwise(street.lanes)]
    for x in between:
        solid = rng.random() < 0.25
        spans = [(NEAR, FAR)] if solid else [(z, z + 3) for z in dashes]
        canvas.fill(np.stack([floor(x - 0.07, x + 0.07, *span) for span in spans]), white)
    if rng.random() < 0.3:
        z = street.crossing[0] - 4 if street.crossing else rng.uniform(5, 25)
        stripes = np.arange(street.kerbs[0] + 0.3, street.kerbs[1] - 0.5, 1.0)
        canvas.fill(np.stack([floor(x, x + 0.5, z, z + 3) for x in stripes]), white)


def _draw_shadows(canvas: Canvas, street: Street, rng: Random) -> None:
    """Darken what buildings and crowns keep from the sun; labels stay."""
    mask = np.zeros(canvas.labels.shape, np.uint8)
    if rng.random() < 0.5:
        side, reach = (street.walls[0], 1) if rng.random() < 0.5 else (street.walls[1], -1)
        edges = np.arange(NEAR, 90, rng.uniform(6, 20))
        for z0, z1 in pairwise(edges):
            shadow = floor(side, side + reach * rng.uniform(1, 9), z0, z1)
            cv2.fillPoly(mask, [canvas.project(shadow)], 1)
    for _ in range(int(rng.integers(0, 7))):
        x, z, r = rng.uniform(-8, 8), rng.uniform(3, 40), rng.uniform(0.8, 3)
        blot = np.stack([x + r * CIRCLE[:, 0], np.zeros(12), z + r * CIRCLE[:, 1]], axis=1)
        cv2.fillPoly(mask, [canvas.project(blot)], 1)
    table = np.array([256, int(rng.integers(110, 200))], np.int16)
    top = max(int(canvas.center[1]), 0)  # no ground above
    canvas.image[top:] = scaled(canvas.image[top:], table[mask[top:]])


def plan_buildings(canvas: Canvas, street: Street, rng: Random) -> list[Job]:
    """Two rows of houses with gaps, and a skyline behind them."""
    jobs: list[Job] = []
    x = -150.0
    while x < 150:
        width, tall = rng.uniform(8, 30), rng.uniform(2, 26)
        is_wood = rng.random() < 0.4
        colour = pick(rng, LEAVES, 16) if is_wood else pick(rng, WALLS, 30)
        shape = board(x + width / 2, 0, FAR, width + 1, tall * (0.6 if is_wood else 1))
        jobs.append((FAR, _filling(canvas, shape, colour, VEGETATION if is_wood else BUILDING)))
        x += width
    for wall, outwards in zip(street.walls, (-1, 1), strict=True):
        z = rng.uniform(-6, 10)
        while z < 110:
            depth = rng.uniform(7, 26)
            crossed = (
                street.crossing
                and z < street.crossing[1] + 2
                and z + depth > street.crossing[0] - 2
            )
            if z + depth > 4 and not crossed and rng.random() < 0.8:
                near = wall + outwards * rng.uniform(0, 2) ** 2
                far = near + outwards * rng.uniform(8, 20)
                tall = rng.uniform(4, 24)
                box = Box(min(near, far), max(near, far), 0, tall, max(z, NEAR + 0.5), z + depth)
                jobs.append((z + depth / 2, _housing(canvas, box, rng)))
            z += depth + rng.uniform(0, 6) * (rng.random() < 0.4)
    return jobs


def _filling(canvas: Canvas, shape: Points, colour: Colour, label: int) -> Callable[[], None]:
    return lambda: canvas.fill(shape, colour, label)


def _housing(canvas: Canvas, box: Box, rng: Random) -> Callable[[], None]:
    """A block with rows of windows, a ground floor of its own, and sometimes a roof line."""
    wall = pick(rng, WALLS, 26)
    glass = pick(rng, SKIES, 30) * rng.uniform(0.2, 0.9)
    floor_m, window_m = rng.uniform(2.8, 3.6), rng.uniform(1.8, 4.0)
    fill_u, fill_v = rng.uniform(0.3, 0.8), rng.uniform(0.4, 0.75)
    shop = wall * rng.uniform(0.5, 1.2) if rng.random() < 0.5 else None
    floors = max(int((box.y1 - box.y0) / floor_m), 1)

    def draw() -> None:
        box.draw(canvas, wall, BUILDING)
        for face, span, light in (
            (box.flank, box.z1 - box.z0, box.flank_light(canvas)),
            (box.front, box.x1 - box.x0, canvas.sun[1]),
        ):
            columns = max(int(span / window_m), 1)
            if shop is not None:
                canvas.fill(face.patch(0, 0, 1, 0.9 / floors), shop * light)
            if window_m * canvas.focal < 8 * box.z0:  # under 8 pixels a window is a blur
                continue
            v, u = np.divmod(np.arange(columns * floors), columns)
            u, v = u + 0.5, v + 0.55
            panes = np.stack(
                [u - fill_u / 2, v - fill_v / 2, u + fill_u / 2, v + fill_v / 2], axis=1
            )
            panes /= np.array([columns, floors, columns, floors])
            canvas.fill(face.patches(panes), glass * light)
            canvas.fill(face.patch(0, 0.97, 1, 1), wall * light * 0.7)

    return draw
