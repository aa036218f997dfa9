"""`segdeploy calibrate`: images are examined first, and nothing is written of wrong ones."""

import json

import cv2
import numpy as np
import pytest

from segdeploy.artifacts import Store
from segdeploy.datasets import open_dataset
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.ranges import CalibrationRequest, calibrate_graph, find_graph
from segdeploy.spec import Precision

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's floating graph, and a store."""
    pytest.importorskip("torch")
    store = Store(tmp_path_factory.mktemp("store"))
    return find_graph("demo", None, Precision.FP32, store), store


def frames(folder, count: int, *, swapped: bool):
    """Training scenes of the demo as files; cv2 writes BGR."""
    folder.mkdir()
    scenes = open_dataset("demo", folder, "train")
    for index in range(count):
        image = scenes.load_image(index)
        cv2.imwrite(str(folder / f"{index}.png"), image if swapped else image[..., ::-1])
    return str(folder)


def test_sound_images_give_ranges_without_a_warning_of_colours(demo, tmp_path):
    graph, store = demo
    folder, out = frames(tmp_path / "sound", 16, swapped=False), tmp_path / "ranges.json"

    made = calibrate_graph(
        CalibrationRequest(graph=graph, store=store, calibration=folder, out=out)
    )

    assert len(json.loads(out.read_text())["values"]) == int(made.facts["tensors"])
    assert not any("red" in warning or "mean" in warning for warning in made.warnings)


def test_swapped_colours_are_refused_and_nothing_is_written(demo, tmp_path):
    graph, store = demo
    folder, out = frames(tmp_path / "swapped", 16, swapped=True), tmp_path / "ranges.json"

    with pytest.raises(SegdeployError, match="red and blue"):
        calibrate_graph(CalibrationRequest(graph=graph, store=store, calibration=folder, out=out))

    assert not out.exists()


def test_few_images_are_a_warning(demo, tmp_path):
    graph, store = demo
    folder = frames(tmp_path / "few", 3, swapped=False)

    made = calibrate_graph(CalibrationRequest(graph=graph, store=store, calibration=folder))

    assert any("3 images" in warning for warning in made.warnings)


def test_an_unknown_kind_of_file_is_refused_before_an_image_is_run(demo, tmp_path):
    graph, store = demo
    request = CalibrationRequest(graph=graph, store=store, out=tmp_path / "ranges.txt")

    with pytest.raises(SegdeployError, match="wanted a name that ends in"):
        calibrate_graph(request)


def test_shards_of_another_set_are_refused(demo, tmp_path):
    graph, store = demo
    folders = [frames(tmp_path / name, 8 + k, swapped=False) for k, name in enumerate("ab")]
    part = tmp_path / "part.npz"
    calibrate_graph(
        CalibrationRequest(graph=graph, store=store, calibration=folders[0], shard=(0, 2), out=part)
    )

    with pytest.raises(SegdeployError, match="another graph or on other images"):
        calibrate_graph(
            CalibrationRequest(graph=graph, store=store, calibration=folders[1], merge=(part,))
        )


def test_shards_add_up_to_the_whole(demo, tmp_path):
    graph, store = demo
    folder, parts = frames(tmp_path / "frames", 9, swapped=False), []
    for k in range(2):
        parts.append(tmp_path / f"{k}.npz")
        calibrate_graph(
            CalibrationRequest(
                graph=graph, store=store, calibration=folder, shard=(k, 2), out=parts[k]
            )
        )
    merged, whole = tmp_path / "merged.json", tmp_path / "whole.json"
    elsewhere = Store(tmp_path / "elsewhere")

    for out, merge, place in ((merged, tuple(parts), store), (whole, (), elsewhere)):
        calibrate_graph(
            CalibrationRequest(graph=graph, store=place, calibration=folder, merge=merge, out=out)
        )

    assert np.array_equal(merged.read_bytes(), whole.read_bytes())
