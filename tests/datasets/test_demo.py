"""The drawn data set: always there, always the same."""

import numpy as np
import pytest

from segdeploy.datasets import open_dataset


def test_a_split_has_its_number_of_scenes():
    sizes = {split: len(open_dataset("demo", None, split)) for split in ("train", "val")}

    assert sizes == {"train": 1000, "val": 100}


def test_ids_name_split_and_index():
    dataset = open_dataset("demo", None, "val")

    assert (dataset.ids[0], dataset.ids[-1]) == ("val-000000", "val-000099")


def test_a_scene_has_the_nominal_size_and_known_classes():
    dataset = open_dataset("demo", None, "val")

    sample = dataset.load(3)

    assert sample.id == "val-000003"
    assert sample.image.shape == (*dataset.nominal_size, 3)
    assert sample.labels.shape == dataset.nominal_size
    assert set(np.unique(sample.labels)) <= {*range(len(dataset.classes)), 255}


def test_a_scene_is_the_same_each_time():
    first, second = (open_dataset("demo", None, "val").load(7) for _ in range(2))

    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.labels, second.labels)


def test_the_splits_share_no_scene():
    train, val = (open_dataset("demo", None, split).load_image(0) for split in ("train", "val"))

    assert (train != val).any()


def test_an_image_is_that_of_its_sample():
    dataset = open_dataset("demo", None, "train")

    np.testing.assert_array_equal(dataset.load_image(5), dataset.load(5).image)


def test_there_is_no_scene_beyond_the_last():
    with pytest.raises(IndexError):
        open_dataset("demo", None, "val").load(100)
