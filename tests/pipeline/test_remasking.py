"""Masks made wrongly are those that PyTorch makes when it is told to."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from segdeploy.pipeline.remasking import Resizing, remask
from segdeploy.spec import Size

SIZES = [Size(64, 96), Size(61, 99), Size(200, 96)]


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 8, 12)).astype(np.float32)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_corners_are_aligned(logits, size):
    wanted = interpolate(
        torch.from_numpy(logits[None]), size=size, mode="bilinear", align_corners=True
    )

    found = remask(logits, size, Resizing.ALIGN_CORNERS)

    assert np.mean(found == wanted[0].argmax(0).numpy()) > 0.999  # ties


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("resizing", "mode"),
    [(Resizing.NEAREST, "nearest"), (Resizing.NEAREST_CENTRE, "nearest-exact")],
)
def test_the_nearest_label_is_taken(logits, size, resizing, mode):
    labels = torch.from_numpy(logits.argmax(0)[None, None].astype(np.float32))
    wanted = interpolate(labels, size=size, mode=mode)[0, 0].numpy()

    found = remask(logits, size, resizing)

    # Half-way PyTorch goes up and ONNX down.
    assert np.mean(found == wanted) > (0.999 if mode == "nearest" else 0.9)


def test_without_the_half_pixel_the_first_source_is_the_first_pixel(logits):
    found = remask(logits, Size(64, 96), Resizing.ASYMMETRIC)

    assert (found[::8, ::8] == logits.argmax(0)).all()
