"""Dilated convolutions by phases give the same map, where so few products are left that it pays."""

import numpy as np
import pytest
from onnx import helper

from segdeploy.rewrite import dilated_winograd
from segdeploy.rewrite.dilated_winograd import apply_dilated_winograd

ERROR = 2e-4  # of outputs with deviation 1; measured: at most 4e-5
CHANNELS, OUTPUTS = 6, 5


def dilated(normal, dilation):
    constants = {"w": normal(OUTPUTS, CHANNELS, 3, 3) / np.float32(7), "b": normal(OUTPUTS)}
    node = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], dilations=[dilation] * 2, pads=[dilation] * 4
    )
    return [node], constants


@pytest.mark.parametrize("dilation", [2, 5, 12, 24, 36])
@pytest.mark.parametrize(("height", "width"), [(64, 128), (33, 47), (12, 24), (7, 90)])
def test_the_map_is_the_same_at_every_size(small, normal, monkeypatch, dilation, height, width):
    monkeypatch.setattr(dilated_winograd, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(dilated_winograd, "LARGEST_SHARE", np.inf)
    shape = (2, CHANNELS, height, width)
    model = small.build(*dilated(normal, dilation), shape=shape)

    fast = small.rewritten(model, apply_dilated_winograd)

    x = normal(*shape)
    np.testing.assert_allclose(small.run(fast, x), small.run(model, x), atol=ERROR)


@pytest.mark.parametrize(("dilation", "places"), [(12, 1), (24, 1), (36, 0)])
def test_of_the_branches_of_deeplabv3_two_pay(small, normal, monkeypatch, dilation, places):
    monkeypatch.setattr(dilated_winograd, "LEAST_CHANNELS", 1)
    model = small.build(*dilated(normal, dilation), shape=(1, CHANNELS, 64, 128))

    small.rewritten(model, apply_dilated_winograd, places)


@pytest.mark.parametrize("shape", [(1, CHANNELS, "h", 48), (1, CHANNELS, 48, "w")])
def test_dynamic_maps_are_left_alone(small, normal, monkeypatch, shape):
    monkeypatch.setattr(dilated_winograd, "LEAST_CHANNELS", 1)

    small.rewritten(small.build(*dilated(normal, 12), shape=shape), apply_dilated_winograd, 0)


def test_few_channels_and_no_dilation_are_left_alone(small, normal):
    for dilation in (1, 12):
        model = small.build(*dilated(normal, dilation), shape=(1, CHANNELS, 64, 128))

        small.rewritten(model, apply_dilated_winograd, 0)
