"""Noise of layers, scores between artifacts, and the sentence."""

import math

import numpy as np
import pytest

from segdeploy.accuracy import Score
from segdeploy.causes import Attempt, Cause, Fact
from segdeploy.difference import (
    Difference,
    ImageMatch,
    LayerNoise,
    PairedMoments,
    count_pairs,
    first_departure,
    sample,
    score_of,
)
from segdeploy.spec import Precision

CHANNELS, PLACES = 4, 500


@pytest.fixture
def pair():
    dice = np.random.default_rng(0)
    x = dice.normal(3, 1, (CHANNELS, PLACES))
    return x, x + dice.normal(0, 0.01, x.shape)


def test_noise_is_told_in_decibels(pair):
    assert PairedMoments.of(*pair).sqnr_db(fitted=False) == pytest.approx(40, abs=0.5)


def test_a_stretched_and_moved_channel_has_no_noise_once_fitted(pair):
    x, y = pair
    moved = y * np.array([[2], [-0.1], [30], [1]]) + np.array([[5], [0], [-3], [1]])

    moments = PairedMoments.of(x, moved)

    assert moments.sqnr_db(fitted=True) == pytest.approx(40, abs=0.5)
    assert moments.sqnr_db(fitted=False) < 0


def test_images_add_up(pair):
    x, y = pair
    half = PLACES // 2

    parts = PairedMoments.of(x[:, :half], y[:, :half]) + PairedMoments.of(x[:, half:], y[:, half:])

    assert parts.sqnr_db(fitted=True) == pytest.approx(PairedMoments.of(x, y).sqnr_db(fitted=True))


def test_equal_layers_have_no_noise(pair):
    x, _ = pair

    assert PairedMoments.of(x, x).sqnr_db(fitted=False) == math.inf


def test_values_that_are_not_finite_are_counted(pair):
    x, y = pair
    y[0, :3] = np.inf, -np.inf, np.nan

    moments = PairedMoments.of(x, y)

    assert moments.not_finite == 3
    assert math.isfinite(moments.sqnr_db(fitted=True))


def test_a_sample_sees_every_row_and_column_of_a_large_map():
    values = np.zeros((1, 1, 256, 256), np.float32)
    values[0, 0] = np.arange(256)

    assert len(np.unique(sample(values))) == 256


def layer(name: str, sqnr_db: float, not_finite: int = 0) -> LayerNoise:
    return LayerNoise(name, name, name, sqnr_db, not_finite)


def test_the_first_layer_with_more_noise_than_rounding_departs():
    layers = [layer("a", 30), layer("b", 12), layer("c", 9)]

    assert first_departure(layers, Precision.INT8).name == "b"
    assert first_departure(layers, Precision.FP16).name == "a"
    assert first_departure(layers[:1], Precision.INT8) is None
    assert first_departure([layer("a", 90, 1)], Precision.FP32).name == "a"


def test_iou_between_label_maps():
    reference = np.array([[0, 0], [1, 1]], np.uint8)
    other = np.array([[0, 1], [1, 1]], np.uint8)

    score = score_of(count_pairs(reference, other), ("road", "car", "sky"))

    assert score.per_class == {"road": 50, "car": pytest.approx(200 / 3), "sky": None}
    assert score.miou == pytest.approx((50 + 200 / 3) / 2)


def difference(agreement: float, **fields) -> Difference:
    return Difference(
        **{
            "reference": "a.onnx",
            "other": "b.onnx",
            "dataset": "demo",
            "images": (ImageMatch("0", agreement),),
            "precision": Precision.INT8,
            "agreement": agreement,
            "between": Score(90, {"road": 80.0, "car": 95.0}),
            **fields,
        }
    )


SWAPPED = Attempt(Cause.CHANNELS, "the channels of the image swapped", 0.612, 0.9998, 4)
OTHER = Fact(Cause.CHECKPOINT, "b.onnx was made of other.pth")
OVERFLOW = Fact(Cause.OVERFLOW, "values of a layer are not finite")


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (difference(1.0), "No difference: a.onnx and b.onnx agree on 100.00 % of the pixels."),
        (
            difference(0.99),
            "Nothing is wrong: a.onnx and b.onnx agree on 99.00 % of the pixels, "
            "and int8 usually leaves 98.50 % or more.",
        ),
        (
            difference(0.99, layers=(layer("stem", 9.0),)),
            "Little is wrong: a.onnx and b.onnx agree on 99.00 % of the pixels, and int8 usually "
            "leaves 98.50 % or more. The first layer that departs is stem (9.0 dB).",
        ),
        (
            difference(0.6, attempts=(SWAPPED,), facts=(OTHER,)),
            "Swapped channels: with the channels of the image swapped, 99.98 % of the pixels "
            "agree instead of 61.20 % (4 images).",
        ),
        (
            difference(0.6, facts=(OTHER,)),
            "Other checkpoint: b.onnx was made of other.pth; 60.00 % of the pixels agree.",
        ),
        (
            difference(0.6, layers=(layer("stem", 9.0),)),
            "Unexplained: a.onnx and b.onnx agree on 60.00 % of the pixels, and none of 0 causes "
            "that were undone explains it. The first layer that departs is stem (9.0 dB).",
        ),
    ],
)
def test_the_sentence_says_what_was_found(found, sentence):
    assert found.sentence == sentence


def test_a_fact_is_no_cause_where_nothing_is_lost_unless_values_are_infinite():
    assert difference(0.99, facts=(OTHER,)).likely is None
    assert difference(0.99, facts=(OTHER, OVERFLOW)).likely is OVERFLOW


def test_classes_that_lose_most_come_first():
    scores = Score(50, {"road": 60.0, "car": 70.0}), Score(50, {"road": 61.0, "car": 40.0})

    with_truth = difference(0.9, before=scores[0], after=scores[1])

    assert list(with_truth.class_changes.items()) == [("car", -30.0), ("road", 1.0)]
    assert difference(0.9).class_changes == {"road": -20.0, "car": -5.0}
