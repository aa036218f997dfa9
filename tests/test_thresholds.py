"""Where the methods clip."""

import numpy as np
import pytest

from segdeploy.errors import SegdeployError
from segdeploy.histograms import ChannelHistogram
from segdeploy.thresholds import METHODS, channel_thresholds, check_method, threshold

BIN = 1 / 16  # a bin's largest relative width


def histogram(values: np.ndarray) -> ChannelHistogram:
    found = ChannelHistogram.empty(1)
    found.count(values.reshape(1, 1, -1).astype(np.float32))
    return found


def normal(count: int = 100_000) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(count)


def rectified() -> np.ndarray:
    """What a ReLU6 returns: two thirds zeros, some saturated, a long tail."""
    drawn = np.random.default_rng(2).standard_normal(100_000) * 1.5 - 0.6
    return np.clip(drawn, 0, 6)


def error(values: np.ndarray, clip: float) -> float:
    step = clip / 127
    return float(((np.rint(values / step).clip(-127, 127) * step - values) ** 2).sum())


def test_max_clips_nothing():
    values = normal()

    assert threshold(histogram(values), "max") == np.abs(values).max().astype(np.float32)


def test_a_percentile_is_that_of_the_magnitudes():
    exact = np.percentile(np.abs(normal()), 99)

    assert threshold(histogram(normal()), "percentile", 99) == pytest.approx(exact, rel=BIN)


def test_the_hundredth_percentile_is_the_maximum():
    seen = histogram(normal())

    assert threshold(seen, "percentile", 100) == threshold(seen, "max")


@pytest.mark.parametrize("draw", [normal, rectified])
def test_mse_clips_where_int8_loses_least(draw):
    values = np.concatenate([draw(), [50.0]])

    found = threshold(histogram(values), "mse")

    best = min(error(values, clip) for clip in np.linspace(1, 50, 500))
    assert error(values, found) < 1.02 * best
    assert error(values, found) < error(values, 50)


def test_entropy_is_not_ruled_by_the_zeros_of_a_relu():
    found = threshold(histogram(rectified()), "entropy")

    # The plain recipe clips far below; measured with zeros counted: 1.9 of 6.
    assert 4 < found <= 6
    assert error(rectified(), found) < 2 * error(
        rectified(), threshold(histogram(rectified()), "mse")
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_zeros_has_the_threshold_zero(method):
    assert threshold(histogram(np.zeros(100)), method) == 0


@pytest.mark.parametrize("steps", [127, 255])
def test_each_channel_has_a_threshold_of_its_own(steps):
    values = np.stack([normal(20_000) * scale for scale in (0.01, 1, 30)])
    seen = ChannelHistogram.empty(3)
    seen.count(values[None].astype(np.float32))

    found = channel_thresholds(seen, steps)

    np.testing.assert_allclose(found[1:] / found[:-1], [100, 30], rtol=0.15)
    assert (found <= seen.magnitude).all()


@pytest.mark.parametrize(("method", "percentile"), [("kl", 99.99), ("percentile", 101)])
def test_an_unknown_method_is_refused(method, percentile):
    with pytest.raises(SegdeployError, match="wanted"):
        check_method(method, percentile)
