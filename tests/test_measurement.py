"""One row: what it must name, what is read off it, what it never says."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from measured import CLASSES, INT8, PYTORCH, timed

from segdeploy.errors import SegdeployError
from segdeploy.measurement import Agreement, Boundary, Part, Tally, Timing
from segdeploy.metrics import ConfusionMatrix
from segdeploy.spec import Precision, Runtime
from segdeploy.telemetry import MachineState
from segdeploy.timing import Latency, Timer


def test_a_row_has_raw_times_and_what_is_read_off_them() -> None:
    row = json.loads(json.dumps(INT8.to_row(), allow_nan=False))

    timing = row["boundaries"]["mmseg"]
    found = row["derived"]["boundaries"]["mmseg"]
    assert row["model"] == "fcn-cityscapes"
    assert (row["precision"], row["runtime"], row["device"]) == ("int8", "onnxruntime", "cpu")
    assert timing["latency"] == {"steps_ms": [20, 20, 35], "warmup_ms": []}
    assert (found["p50_ms"], found["max_ms"], found["steps"]) == (20, 35, 3)
    assert found["p90_ms"] == pytest.approx(32)
    assert found["p95_ms"] == pytest.approx(33.5)
    assert found["p99_ms"] == pytest.approx(34.7)
    assert found["p999_ms"] == pytest.approx(34.97)
    assert found["verdict"] == "inconclusive"
    assert "too few steps: 3 of 20" in found["reasons"]
    assert row["derived"]["fps"] == pytest.approx(40)
    assert row["derived"]["peak_memory_mb"] == 900
    assert row["derived"]["agreement_percent"] == {"pytorch fp32": 99.5}


def test_scores_are_read_off_the_counts() -> None:
    assert PYTORCH.miou == pytest.approx(65)
    assert PYTORCH.macc == pytest.approx(85)
    assert PYTORCH.aacc == pytest.approx(100 * 100 / 130)
    assert PYTORCH.per_class_iou == pytest.approx({"road": 70, "car": 60, "train": None})
    assert PYTORCH.tally is not None
    assert PYTORCH.tally.per_class_accuracy == pytest.approx(
        {"road": 70, "car": 100, "train": None}
    )
    assert PYTORCH.images == 500


def test_a_tally_keeps_what_was_counted() -> None:
    truth, found = np.array([[0, 1, 255]], np.uint8), np.array([[0, 2, 1]], np.uint8)
    matrix = ConfusionMatrix.from_labels(truth, found, 2)

    tally = Tally.of(matrix, ("a", "b"), images=1)

    assert tally.counts == ((1, 0, 0), (0, 0, 1), (0, 0, 0))
    assert tally.matrix == matrix


def test_fps_counts_every_image_of_a_batch() -> None:
    assert PYTORCH.fps == 10
    assert replace(PYTORCH, batch=4).fps == 40


def test_random_weights_never_have_an_miou() -> None:
    with pytest.raises(SegdeployError, match="random weights"):
        replace(PYTORCH, weights="random:0")


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": ""},
        {"weights": "mine"},
        {"batch": 0},
        {"boundaries": {Boundary.HOST: PYTORCH.boundaries[Boundary.MMSEG]}},
    ],
)
def test_impossible_measurement_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SegdeployError, match="fcn-cityscapes"):
        replace(PYTORCH, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"images": 0},
        {"classes": ("road", "car")},
        {"classes": ("road", "road", "car")},
        {"classes": (), "counts": ((1,),)},
        {"counts": ((1, 0, 0, 0),) * 3},
        {"counts": ((-1, 0, 0, 0),) * 4},
        {"counts": ((1 << 62, 0, 0, 0),) * 4},
    ],
)
def test_impossible_counts_are_refused(change: dict[str, Any]) -> None:
    tally = Tally(images=1, classes=CLASSES, counts=((1, 0, 0, 0),) * 4)

    with pytest.raises(SegdeployError, match="confusion matrix"):
        replace(tally, **change)


@pytest.mark.parametrize(("pixels", "equal"), [(0, 0), (4, 5), (4, -1)])
def test_impossible_agreement_is_refused(pixels: int, equal: int) -> None:
    with pytest.raises(SegdeployError, match="labels agree"):
        Agreement(
            runtime=Runtime.PYTORCH, precision=Precision.FP32, pixels=pixels, equal_pixels=equal
        )


def test_parts_belong_to_the_steps() -> None:
    latency = Latency((3.0, 4.0))

    timing = Timing(latency=latency, parts_ms={Part.UPLOAD: (0.5, 0.7), Part.COMPUTE: (2.0, 3.0)})

    derived = timing.derived(timing.steadiness(None))
    assert derived["parts_p50_ms"] == pytest.approx({"upload": 0.6, "compute": 2.5})
    with pytest.raises(SegdeployError, match="upload has 1 times"):
        Timing(latency=latency, parts_ms={Part.UPLOAD: (0.5,)})
    with pytest.raises(SegdeployError, match="upload has a time"):
        Timing(latency=latency, parts_ms={Part.UPLOAD: (0.5, float("nan"))})


def test_a_part_that_takes_longer_than_the_whole_spoils_both() -> None:
    steps = {"engine": 50.0, "host": 40.0, "mmseg": 41.0, "e2e": 39.0}
    boundaries = {
        Boundary(name): Timing(latency=Latency((step,) * 40)) for name, step in steps.items()
    }

    row = replace(PYTORCH, boundaries=boundaries)

    told = {name: row.steadiness_of(Boundary(name)).reasons for name in steps}
    assert told["engine"] == (
        "took 25% longer than host, of which it is a part",
        "took 22% longer than mmseg, of which it is a part",
        "took 28% longer than e2e, of which it is a part",
    )
    assert told["mmseg"] == (
        "engine, a part of it, took 22% longer",
        "took 5% longer than e2e, of which it is a part",
    )
    assert row.steadiness.verdict == "inconclusive"
    assert row.to_row()["derived"]["boundaries"]["host"]["reasons"] == [
        "engine, a part of it, took 25% longer"
    ]
    usual = replace(PYTORCH, boundaries={**boundaries, Boundary.ENGINE: boundaries[Boundary.E2E]})
    assert usual.steadiness_of(Boundary.ENGINE).is_stable


def test_the_verdict_knows_the_clock_and_the_machine() -> None:
    quiet = Timing(latency=Latency((10.0,) * 40))
    before = MachineState(cores_s=0, busy_s=0, own_s=0)
    loaded = replace(quiet, before=before, after=MachineState(cores_s=10, busy_s=9, own_s=5))

    assert quiet.steadiness(Timer(70, 40)).is_stable
    assert quiet.steadiness(Timer(1e6, 1)).reasons == ("reading the clock takes 10% of a step",)
    assert loaded.steadiness(None).reasons == ("other work took 40% of the cores",)
    assert not replace(PYTORCH, boundaries=timed(*[1.0, 2.0] * 20)).steadiness.is_stable
