"""Two reports of one machine."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from segdeploy.measurement import Boundary, Measurement, Timing
from segdeploy.timing import Latency


@pytest.fixture(scope="session")
def sampled() -> Callable[..., Measurement]:
    """Called with a row, a median and a spread: the row with as many noisy steps."""

    def make(
        row: Measurement, median_ms: float, *, noise: float = 0.01, seed: int = 0, count: int = 120
    ) -> Measurement:
        dice = np.random.default_rng(seed)
        steps = median_ms * np.exp(noise * dice.standard_normal(count))
        timing = Timing(latency=Latency(tuple(map(float, steps))))
        return replace(row, boundaries={Boundary.MMSEG: timing})

    return make
