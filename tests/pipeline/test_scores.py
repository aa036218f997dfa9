"""Score maps against torch: the functions that MMSegmentation calls."""

import numpy as np
import pytest

from segdeploy.pipeline.scores import BAND, add_probabilities, add_resized
from segdeploy.spec import Size

torch = pytest.importorskip("torch")

# Largest errors measured below: 1.9e-6 on scores of up to 17, 6.6e-7 on probabilities.
SCORE_ATOL = 1e-5
PROBABILITY_ATOL = 4e-6


def random_scores(size: Size, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 4, (5, *size)).astype(np.float32)


def torch_resize(scores, size):
    return torch.nn.functional.interpolate(
        scores, size=tuple(size), mode="bilinear", align_corners=False
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Size(16, 16), Size(128, 128)),
        (Size(17, 33), Size(129, 257)),
        (Size(61, 125), Size(241, 497)),
        (Size(90, 50), Size(41, 33)),
        (Size(1, 1), Size(7, 9)),
        (Size(40, 40), Size(1, 1)),
        (Size(33, 40), Size(33, 40)),
        (Size(9, 12), Size(9, 90)),
        (Size(4, 4), Size(BAND + 1, 3)),
    ],
    ids=str,
)
def test_scores_are_resized_as_torch_does_and_added(old, new):
    scores, before = random_scores(old), random_scores(new, seed=1)

    total = before.copy()
    add_resized(total, scores)

    expected = torch_resize(torch.from_numpy(scores)[None], new)[0].numpy()
    np.testing.assert_allclose(total - before, expected, rtol=0, atol=SCORE_ATOL)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("logits", "network", "original"),
    [
        (Size(16, 32), Size(128, 256), Size(256, 512)),
        (Size(53, 109), Size(422, 870), Size(241, 497)),
        (Size(31, 63), Size(241, 497), Size(241, 497)),
        (Size(4, 6), Size(25, 41), Size(51, 82)),
        (Size(25, 41), Size(25, 41), Size(51, 82)),
        (Size(5, 5), Size(33, 40), Size(33, 20)),
    ],
)
def test_probabilities_are_those_of_two_torch_resizes_with_the_mirror_between(
    logits, network, original, mirrored
):
    scores = random_scores(logits)
    kept = scores.copy()

    total = np.ones((5, *original), np.float32)
    add_probabilities(total, scores, network, mirrored=mirrored)

    turned = torch_resize(torch.from_numpy(scores)[None], network)
    if mirrored:
        turned = turned.flip(dims=(3,))
    expected = torch_resize(turned, original)[0].softmax(dim=0).numpy()
    np.testing.assert_allclose(total - 1, expected, rtol=0, atol=PROBABILITY_ATOL)
    assert np.array_equal(scores, kept)
