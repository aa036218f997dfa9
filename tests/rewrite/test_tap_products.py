"""Winograd's transforms are exact, and the tile with the fewest products is chosen."""

import numpy as np
import pytest

from segdeploy.rewrite.tap_products import SIZES, best_length, best_size, tiles, transforms


@pytest.mark.parametrize("size", SIZES)
def test_products_of_a_tile_make_the_filter(size):
    dice = np.random.default_rng(size)
    data, taps = dice.standard_normal(size + 2), dice.standard_normal(3)
    tile = transforms(size)

    found = tile.outputs @ ((tile.taps @ taps) * (tile.inputs @ data))

    expected = [data[k : k + 3] @ taps for k in range(size)]
    np.testing.assert_allclose(found, expected, atol=1e-13)
    assert tile.size == size


@pytest.mark.parametrize("size", SIZES)
def test_one_place_reaches_every_pixel_with_weight_one(size):
    assert (transforms(size).outputs[:, 1] == 1).all()


def test_the_usual_map_of_cityscapes_takes_tiles_of_six():
    assert best_size(64, 128) == 6
    assert best_size(None, 128) == 6


def test_small_maps_take_small_tiles():
    assert best_size(2, 2) == 2
    assert best_size(4, 4) == 4
    assert [best_length(length) for length in (2, 3, 4, 6, 12)] == [2, 3, 4, 6, 6]


def test_tiles_cover_the_axis():
    assert [tiles(length, 6) for length in (1, 6, 7, 12)] == [1, 1, 2, 2]
