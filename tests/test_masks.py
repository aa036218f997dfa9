"""Label maps from logits, against torch's interpolate: the function that MMSegmentation calls."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from segdeploy.errors import SegdeployError
from segdeploy.masks import batch_labels, labels_from_logits
from segdeploy.resampling import Stretch
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


def resize_planes(planes: np.ndarray, size: Size) -> np.ndarray:
    """Every class at full size, one axis after the other: what the compiled loops leave out."""
    if planes.shape[1:] == tuple(size):
        return planes
    across = Stretch.between(planes.shape[2], size.width).apply(planes, 2)
    return Stretch.between(planes.shape[1], size.height).apply(across, 1)


def reference_labels(planes: np.ndarray, network: Size, original: Size) -> np.ndarray:
    return resize_planes(resize_planes(planes, network), original).argmax(0).astype(np.uint8)


def smooth_logits(classes: int, size: Size, seed: int = 0) -> np.ndarray:
    """Regions with soft borders, as a trained network makes them, and some noise."""
    dice = np.random.default_rng(seed)
    coarse = dice.normal(0, 6, (classes, size.height // 8 + 2, size.width // 8 + 2))
    planes = resize_planes(coarse.astype(np.float32), size)
    return (planes + dice.normal(0, 0.2, planes.shape)).astype(np.float32)


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

    resized = resize_planes(plane[None], new)[0]

    np.testing.assert_allclose(resized, torch_resize(plane[None], new)[0], rtol=0, atol=RESIZE_ATOL)


CASES = [  # size of the logits, of the network's input, of the image
    (Size(32, 64), Size(256, 512), Size(256, 512)),  # stride 8
    (Size(64, 96), Size(256, 384), Size(256, 384)),  # stride 4
    (Size(31, 63), Size(241, 497), Size(241, 497)),  # odd
    (Size(32, 43), Size(256, 341), Size(150, 200)),  # two resizes, the second shrinks
    (Size(33, 43), Size(257, 343), Size(391, 522)),  # the second enlarges
    (Size(17, 5), Size(3, 41), Size(9, 7)),  # the first shrinks
    (Size(40, 40), Size(40, 40), Size(30, 13)),  # the first changes nothing
    (Size(40, 40), Size(40, 40), Size(40, 40)),  # neither does
    (Size(1, 1), Size(7, 9), Size(7, 9)),
    (Size(9, 9), Size(1, 1), Size(5, 3)),
    (Size(8, 8), Size(60, 61), Size(1, 1)),
]


@pytest.mark.parametrize("classes", [2, 19, 255])
@pytest.mark.parametrize(("logits_size", "network", "original"), CASES)
def test_labels_are_those_of_resizing_every_class_bit_for_bit(
    classes, logits_size, network, original
):
    dice = np.random.default_rng(classes)
    noise = random_logits(classes, *logits_size, seed=classes)
    ties = dice.integers(-2, 3, (classes, *logits_size)).astype(np.float32)

    for logits in (noise, ties, smooth_logits(classes, logits_size)):
        labels = labels_from_logits(logits, network, original)

        np.testing.assert_array_equal(labels, reference_labels(logits, network, original))


@pytest.mark.parametrize("gap", [0, 1, 2, 8, 64])
def test_scores_a_few_roundings_apart_are_compared_pixel_by_pixel(gap):
    """Where two classes are this close, rounding may let either win inside a cell."""
    first = random_logits(16, 24, seed=3)
    steps = np.random.default_rng(4).integers(-gap, gap + 1, first.shape)
    second = (first.view(np.int32) + steps.astype(np.int32)).view(np.float32)
    logits = np.stack([first, second, first - 9])
    network, original = Size(128, 192), Size(99, 201)

    for size in (network, original):
        labels = labels_from_logits(logits, network, size)

        np.testing.assert_array_equal(labels, reference_labels(logits, network, size))


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("original", [Size(256, 344), Size(150, 200)])
def test_neither_threads_nor_the_batch_change_a_label(threads, original):
    logits = np.stack([smooth_logits(7, Size(32, 43), seed) for seed in range(3)])
    network = Size(256, 344)

    labels = batch_labels(logits, network, original, threads=threads)

    expected = [reference_labels(planes, network, original) for planes in logits]
    np.testing.assert_array_equal(labels, expected)


def test_callers_in_several_threads_do_not_disturb_each_other():
    sizes = [Size(128, 160), Size(96, 160), Size(128, 96)]
    logits = [random_logits(5, 16, 20, seed=seed) for seed in range(3)]

    with ThreadPoolExecutor(3) as pool:
        found = list(
            pool.map(
                lambda k: labels_from_logits(logits[k % 3], sizes[k % 3], sizes[k % 3], threads=2),
                range(60),
            )
        )

    expected = [reference_labels(logits[k], sizes[k], sizes[k]) for k in range(3)]
    for k, labels in enumerate(found):
        np.testing.assert_array_equal(labels, expected[k % 3])


def test_logits_may_lie_in_memory_as_they_like():
    logits = random_logits(8, 8, 5).transpose(2, 0, 1)
    logits.flags.writeable = False

    labels = labels_from_logits(logits, Size(64, 64), Size(64, 64))

    np.testing.assert_array_equal(labels, reference_labels(logits, Size(64, 64), Size(64, 64)))


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


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("row", [0, 3, 6])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value, row, threads):
    logits = random_logits(1, 3, 7, 4)
    logits[0, 1, row, 2] = value

    with pytest.raises(SegdeployError, match="not finite"):
        labels_from_logits(logits, Size(56, 32), Size(56, 32), threads=threads)


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
