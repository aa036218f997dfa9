"""Reports for the page: one with everything, one with hostile names."""

from dataclasses import replace

import numpy as np
import pytest
from measured import INT8, PYTORCH, report

from segdeploy.html.page import html_page
from segdeploy.html.pictures import Panel, Picture
from segdeploy.measurement import Boundary, Measurement, Part, Tally, Timing
from segdeploy.report import Report
from segdeploy.telemetry import GpuState, MachineState
from segdeploy.timing import Latency

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;{{ 7 * 7 }}$x$"


def noisy(median_ms: float, count: int = 60, seed: int = 0) -> Latency:
    """Steps that a quiet machine might have, with one spike."""
    dice = np.random.default_rng(seed)
    steps = median_ms * (1 + 0.01 * dice.standard_normal(count))
    steps[count // 2] *= 2
    return Latency(tuple(map(float, steps)), (median_ms * 3,))


def at_every_boundary(median_ms: float) -> dict[Boundary, Timing]:
    gpu = GpuState(clock_mhz=1980, temperature_c=61, power_w=310.5)
    timings = {
        boundary: Timing(
            latency=noisy(median_ms * share, seed=seed),
            before=MachineState(cores_s=0, busy_s=0, own_s=0, clock_mhz=2900),
            after=MachineState(cores_s=100, busy_s=81, own_s=80, clock_mhz=2850, gpu=gpu),
        )
        for seed, (boundary, share) in enumerate(zip(Boundary, (0.9, 0.95, 1, 1.3), strict=True))
    }
    parts = dict.fromkeys(Part, (median_ms / 10,) * 60)
    timings[Boundary.HOST] = replace(timings[Boundary.HOST], parts_ms=parts)
    return timings


def named(measurement: Measurement, name: str) -> Measurement:
    """The same row, with this name wherever a file can put one."""
    assert measurement.tally is not None
    classes = tuple(f"{name} {k}" for k in range(len(measurement.tally.classes)))
    tally = Tally(images=500, classes=classes, counts=measurement.tally.counts)
    return replace(
        measurement, title=name, artifact=name, calibration=name, note=name, dataset=name,
        tally=tally, resolution=name, artifact_sha256=name,
    )  # fmt: skip


@pytest.fixture(scope="session")
def full() -> Report:
    """Two rows with every boundary."""
    rows = (
        replace(PYTORCH, boundaries=at_every_boundary(100.0)),
        replace(INT8, boundaries=at_every_boundary(20.0)),
    )
    return report(*rows)


@pytest.fixture(scope="session")
def hostile(full) -> Report:
    """The same, with names that try to be HTML."""
    rows = tuple(named(m, HOSTILE) for m in full.measurements)
    environment = replace(full.environment, cpu=HOSTILE, versions=((HOSTILE, HOSTILE),))
    targets = {m: replace(t, note=HOSTILE, device=HOSTILE) for m, t in full.targets.items()}
    return replace(
        full, measurements=rows, environment=environment, command=HOSTILE, created=HOSTILE,
        targets=targets,
    )  # fmt: skip


@pytest.fixture(scope="session")
def picture() -> Picture:
    image = np.full((16, 32, 3), 90, np.uint8)
    captions = ("image", "ground truth", "PyTorch", "ONNX Runtime")
    return Picture("town/1", tuple(Panel(caption, image) for caption in captions))


@pytest.fixture(scope="session")
def whole(full, picture) -> str:
    """The page of the full report."""
    return html_page(full, (picture,))
