"""Which images are calibrated on, and that none of them is scored."""

from pathlib import Path

import numpy as np
import pytest

from segdeploy.datasets import open_dataset
from segdeploy.errors import SegdeployError
from segdeploy.images import write_png
from segdeploy.pipeline.calibration import (
    CalibrationImages,
    check_unseen,
    default_calibration,
    open_calibration,
)
from segdeploy.spec import Size

TOML = 'dataset = "demo"\nsplit = "{split}"\nmethod = "mse"\n'


@pytest.fixture
def folder(tmp_path, blocks):
    """Three images, one of them of another size, and a file that is no image."""
    path = tmp_path / "frames"
    for index, size in enumerate([Size(40, 50), Size(40, 50), Size(64, 96)]):
        write_png(path / f"{index}.png", blocks(size, seed=index)[0])
    (path / "notes.txt").write_text("not an image")
    return path


def test_a_folder_is_calibrated_on_image_by_image(folder, tmp_path, blocks):
    calibration = open_calibration(str(folder), tmp_path)

    images = list(calibration.load())

    assert calibration.ids == ("0", "1", "2")
    assert [image.shape for image in images] == [(40, 50, 3), (40, 50, 3), (64, 96, 3)]
    assert np.array_equal(images[1], blocks(Size(40, 50), seed=1)[0])
    assert calibration.split == "folder:frames"
    assert calibration.summary.startswith("frames: 3 images of folder:frames, ")


def test_images_can_be_loaded_again(folder, tmp_path):
    calibration = open_calibration(str(folder), tmp_path)

    assert len(list(calibration.load())) == len(list(calibration.load())) == 3


def test_a_changed_image_is_other_content(folder, tmp_path, blocks):
    before = open_calibration(str(folder), tmp_path).content

    write_png(folder / "0.png", blocks(Size(40, 50), seed=9)[0])

    assert open_calibration(str(folder), tmp_path).content != before


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SegdeployError, match="holds no image to calibrate on"):
        open_calibration(str(tmp_path), tmp_path)


def test_a_recipe_draws_from_its_split(tmp_path):
    calibration = open_calibration("demo-64", tmp_path)

    first = next(calibration.load())

    assert calibration.split == "demo/train"
    assert len(calibration.ids) == 64
    assert all(name.startswith("train-") for name in calibration.ids)
    assert first.shape == (256, 512, 3)


def test_a_recipe_may_list_its_images(tmp_path):
    (tmp_path / "ids.txt").write_text("train-000007\ntrain-000003\n")
    path = tmp_path / "own.toml"
    path.write_text(TOML.format(split="train") + 'images = "ids.txt"')

    calibration = open_calibration(str(path), tmp_path)

    assert calibration.ids == ("train-000007", "train-000003")
    assert calibration.summary == "own: 2 images of demo/train, mse"


@pytest.mark.parametrize("unknown", ["val-000000", "../../secret", "/etc/hostname"])
def test_an_id_that_is_not_in_the_split_is_refused(tmp_path, unknown):
    (tmp_path / "ids.txt").write_text(f"train-000007\n{unknown}\n")
    path = tmp_path / "own.toml"
    path.write_text(TOML.format(split="train") + 'images = "ids.txt"')

    with pytest.raises(SegdeployError, match="has no image") as caught:
        open_calibration(str(path), tmp_path)

    assert unknown in caught.value.problem


def test_a_missing_data_set_is_named(tmp_path):
    with pytest.raises(SegdeployError, match="cityscapes"):
        open_calibration("cityscapes-64", tmp_path / "nowhere")


@pytest.mark.parametrize("dataset", ["cityscapes", "ade20k", "camvid", "demo"])
def test_every_data_set_has_a_calibration_set(dataset):
    assert default_calibration(dataset).startswith(dataset)


def test_a_model_of_no_data_set_needs_images_to_be_named():
    with pytest.raises(SegdeployError, match="the model names no data set") as caught:
        default_calibration(None)

    assert "--calibration" in caught.value.hint


def check(calibration: CalibrationImages) -> None:
    """Against the scored split of the drawn scenes."""
    dataset = open_dataset("demo", Path("nowhere"), "val")
    check_unseen(calibration.split, calibration.ids, dataset, "val")


def test_training_images_may_be_calibrated_on(tmp_path):
    check(open_calibration("demo-64", tmp_path))


def test_images_of_the_scored_split_are_refused(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(TOML.format(split="val") + "count = 2")

    with pytest.raises(SegdeployError, match="demo/val, the split that would be scored"):
        check(open_calibration(str(path), tmp_path))


def test_a_scored_image_in_a_folder_is_refused_by_name(tmp_path, blocks):
    write_png(tmp_path / "frames" / "val-000004.png", blocks(Size(40, 50))[0])

    with pytest.raises(SegdeployError, match=r"1 calibration images .* such as val-000004"):
        check(open_calibration(str(tmp_path / "frames"), tmp_path))
