import hashlib

import numpy as np
import pytest

from segdeploy.datasets.scenes import SIZE, SPLIT_SEEDS, draw_scene, scene_seed
from segdeploy.datasets.scenes.canvas import PERSON, SKY
from segdeploy.errors import SegdeployError
from segdeploy.recipes import MODELS, load_model, read_classes
from segdeploy.spec import IGNORE, Size

CLASSES = len(read_classes(MODELS / "classes" / "demo.toml"))
# Labels of train-000000 to train-000003: the demo checkpoint was trained on scenes like these.
LABELS_SHA256 = "9a43531df39aa5008a7428aca5f5f8f0cc95e5caa49c25365eba2967aa41d7ae"


def test_a_seed_gives_the_same_labels_on_every_machine():
    digest = hashlib.sha256()

    for index in range(4):
        digest.update(draw_scene(scene_seed("train", index))[1].tobytes())

    assert digest.hexdigest() == LABELS_SHA256


def test_a_seed_gives_the_same_image_again():
    first, _ = draw_scene(5)

    second, _ = draw_scene(5)

    np.testing.assert_array_equal(first, second)


def test_seeds_give_different_scenes():
    labels = [draw_scene(seed)[1] for seed in range(6)]

    shares = [np.mean(a != b) for a in labels for b in labels if a is not b]

    assert min(shares) > 0.05


def test_every_class_and_ignore_occur_within_twenty_scenes():
    scenes = [draw_scene(scene_seed("val", index))[1] for index in range(20)]

    found = set(np.unique(scenes).tolist())

    assert found == {*range(CLASSES), IGNORE}


def test_pixels_without_a_label_are_few():
    scenes = [draw_scene(seed)[1] for seed in range(10)]

    assert 0.01 < np.mean(np.array(scenes) == IGNORE) < 0.10


@pytest.mark.parametrize(
    "size", [SIZE, Size(97, 131), Size(300, 64), Size(64, 300), Size(1, 1)], ids=str
)
def test_any_size_can_be_drawn(size):
    image, labels = draw_scene(3, size)

    assert image.shape == (*size, 3)
    assert labels.shape == tuple(size)
    assert image.dtype == labels.dtype == np.uint8


def test_a_scene_has_contrast_noise_and_colour():
    image, labels = draw_scene(scene_seed("val", 0))

    assert image.std() > 15
    assert np.unique(image.reshape(-1, 3), axis=0).shape[0] > 5000
    assert labels.max() == IGNORE or labels.max() < CLASSES


def test_the_same_street_is_seen_at_another_size():
    _, small = draw_scene(11, Size(128, 256))

    _, large = draw_scene(11, Size(256, 512))

    agreement = np.mean(small == large[::2, ::2])
    assert agreement > 0.9  # all but outlines


def test_people_stand_on_the_ground_and_not_in_the_sky():
    for seed in range(10):
        _, labels = draw_scene(seed)
        rows_of_people = np.nonzero(labels == PERSON)[0]
        rows_of_sky = np.nonzero(labels == SKY)[0]

        if rows_of_people.size and rows_of_sky.size:
            assert np.median(rows_of_people) > np.median(rows_of_sky)


def test_train_and_val_share_no_seed():
    train, val = SPLIT_SEEDS["train"], SPLIT_SEEDS["val"]

    assert max(train.start, val.start) >= min(train.stop, val.stop)
    assert scene_seed("train", 0) in train
    assert scene_seed("val", 0) in val


@pytest.mark.parametrize(("split", "index"), [("test", 0), ("val", -1), ("train", 10**9)])
def test_a_scene_outside_the_splits_is_refused(split, index):
    with pytest.raises(SegdeployError, match="demo"):
        scene_seed(split, index)


def test_the_demo_model_names_the_classes_that_are_drawn():
    spec = load_model("demo")

    assert spec.size == SIZE
    assert spec.classes is not None
    assert spec.classes.names[PERSON] == "person"
    assert spec.classes.names[SKY] == "sky"
