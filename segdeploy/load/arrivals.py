"""When queries come: schedules that know nothing of who answers them, or how fast."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Arrival(NamedTuple):
    """A query that comes at a moment, from a stream."""

    at_s: float
    stream: int = 0


def poisson_arrivals(rate: float, seed: int) -> Iterator[Arrival]:
    """Queries of independent users, `rate` of them per second in the long run; without end."""
    dice = np.random.default_rng(seed)
    now = 0.0
    while True:
        now += float(dice.exponential(1 / rate))
        yield Arrival(now)


def camera_arrivals(streams: int, fps: float, seed: int) -> Iterator[Arrival]:
    """Frames of cameras at one rate, each of which began at a moment of its own; without end."""
    begins = sorted(np.random.default_rng(seed).uniform(0, 1 / fps, streams).tolist())
    for frame in itertools.count():
        for stream, begin in enumerate(begins):
            yield Arrival(begin + frame / fps, stream)


def all_at_once(count: int) -> Iterator[Arrival]:
    """Queries that are all there at the beginning."""
    return iter([Arrival(0.0)] * count)
