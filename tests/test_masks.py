"""Label maps from logits, against torch's interpolate: the function that MMSegmentation calls."""

import numpy as np
import pytest

from segdeploy.errors import SegdeployError
from segdeploy.masks import labels_from_logits, resize_plane
from segdeploy.spec import Size

torch = pytest.importorskip("torch")

# Largest error measured over the sizes below: 4e-6 on values of up to 18.
RESIZE_ATOL = 1e-5


def torch_resize(planes, size):
    batch = torch.from_numpy(np.ascontiguousarray(planes))[None]
    return torch.nn.functional.interpolate(
        batch, size=tuple(size), mode="bilinear", align_corners=False
    )[0].numpy()


def random_logits(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 4, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Size(64, 128), Size(512, 1024)),
        (Size(31, 63), Size(241, 497)),
        (Size(33, 43), Size(257, 343)),
        (Size(512, 683), Size(375, 500)),
        (Size(512, 683), Size(1200, 1601)),
        (Size(96, 512), Size(75, 400)),
        (Size(17, 5), Size(3, 41)),
        (Size(1, 1), Size(7, 9)),
        (Size(40, 40), Size(1, 1)),
    ],
    ids=lambda size: str(size),
)
def test_a_plane_is_resized_as_torch_does(old, new):
    plane = random_logits(*old)

    resized = resize_plane(plane, new)

    np.testing.assert_allclose(resized, torch_resize(plane[None], new)[0], rtol=0, atol=RESIZE_ATOL)


@pytest.mark.parametrize("classes", [19, 150])
@pytest.mark.parametrize(
    ("logits_size", "network", "original"),
    [
        (Size(32, 64), Size(256, 512), Size(256, 512)),
        (Size(32, 43), Size(256, 341), Size(150, 200)),
        (Size(33, 43), Size(257, 343), Size(391, 522)),
        (Size(61, 125), Size(241, 497), Size(241, 497)),
    ],
)
def test_labels_equal_two_torch_resizes_and_argmax(classes, logits_size, network, original):
    logits = random_logits(1, classes, *logits_size, seed=classes)

    labels = labels_from_logits(logits, network, original)

    scores = torch_resize(torch_resize(logits[0], network), original)
    runner_up, best = np.sort(scores, axis=0)[-2:]
    clear = best - runner_up > 2 * RESIZE_ATOL
    assert labels.shape == original
    assert labels.dtype == np.uint8
    assert clear.mean() > 0.999
    np.testing.assert_array_equal(labels[clear], scores.argmax(axis=0)[clear])


def test_the_batch_axis_is_optional():
    logits = random_logits(1, 5, 8, 8)
    size = Size(60, 61)

    with_axis, without = (labels_from_logits(each, size, size) for each in (logits, logits[0]))

    np.testing.assert_array_equal(with_axis, without)


def test_of_equal_scores_the_first_class_wins():
    logits = np.zeros((1, 3, 4, 4), np.float32)
    logits[0, 1:] = 2

    labels = labels_from_logits(logits, Size(32, 32), Size(32, 32))

    assert (labels == 1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    logits = random_logits(1, 3, 4, 4)
    logits[0, 1, 2, 2] = value

    with pytest.raises(SegdeployError, match="not finite"):
        labels_from_logits(logits, Size(32, 32), Size(32, 32))


@pytest.mark.parametrize(
    "logits",
    [
        np.zeros((2, 3, 4, 4), np.float32),
        np.zeros((3, 4, 4), np.float16),
        np.zeros((256, 1, 1), np.float32),
    ],
    ids=["batch", "dtype", "classes"],
)
def test_logits_of_another_form_are_refused(logits):
    with pytest.raises(ValueError, match="logits"):
        labels_from_logits(logits, Size(8, 8), Size(8, 8))
