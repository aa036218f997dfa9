"""Noise of layers, scores between artifacts, and the sentence."""

import math

import numpy as np
import pytest

from segdeploy.accuracy import Score
from segdeploy.causes import Attempt, Cause, Fact
from segdeploy.difference import (
    ClassChange,
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
            "between": Score(90, {"road": 88.0, "car": 95.0}),
            "pixels": {"road": 900, "car": 100},
            **fields,
        }
    )


def scored(car: float, miou: float) -> dict[str, Score]:
    """With ground truth, where the other artifact has this IoU of cars."""
    return {
        "before": Score(80.0, {"road": 90.0, "car": 70.0}),
        "after": Score(miou, {"road": 90.0, "car": car}),
    }


SWAPPED = Attempt(Cause.CHANNELS, "the channels of the image swapped", 0.612, 0.9998, 4)
OTHER = Fact(Cause.CHECKPOINT, "b.onnx was made of other.pth")
PREDICTED = {"road": 1000, "car": 0, "bus": 0}
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
        (
            difference(0.99, **scored(car=69.0, miou=79.5), logits_sqnr_db=33.0),
            "Nothing is wrong: a.onnx and b.onnx agree on 99.00 % of the pixels, "
            "and int8 usually leaves 98.50 % or more.",
        ),
        (
            difference(0.99, **scored(car=9.9, miou=49.95), layers=(layer("stem", 30.0),)),
            "Unexplained: a.onnx and b.onnx agree on 99.00 % of the pixels, car lost 60.1 points "
            "of IoU (mIoU -30.05), and none of 0 causes that were undone explains it. No layer "
            "departs: look behind the last convolution.",
        ),
        (
            difference(0.99, between=Score(70, {"road": 99.0, "car": 41.0})),
            "Unexplained: a.onnx and b.onnx agree on 99.00 % of the pixels, car has an IoU of 41.0 "
            "with the labels of a.onnx, and none of 0 causes that were undone explains it.",
        ),
        (
            difference(0.99, logits_sqnr_db=-17.1),
            "Little is wrong: a.onnx and b.onnx agree on 99.00 % of the pixels, and int8 usually "
            "leaves 98.50 % or more. The logits have -17.1 dB.",
        ),
    ],
)
def test_the_sentence_says_what_was_found(found, sentence):
    assert found.sentence == sentence


def test_a_fact_is_no_cause_where_nothing_is_lost_unless_values_are_infinite():
    assert difference(0.99, facts=(OTHER,)).likely is None
    assert difference(0.99, facts=(OTHER, OVERFLOW)).likely is OVERFLOW


def test_a_fact_is_a_cause_where_a_class_is_lost():
    assert difference(0.99, **scored(car=9.9, miou=49.95), facts=(OTHER,)).likely is OTHER


def test_a_class_is_lost_that_the_reference_had_wrong_too():
    found = difference(
        0.99, **scored(car=69.9, miou=79.95), between=Score(50, {"road": 99.0, "car": 0.0})
    )

    assert ", car has an IoU of 0.0 with the labels of a.onnx, " in found.sentence


def test_a_few_pixels_of_the_reference_say_nothing():
    found = difference(
        0.9999,
        between=Score(60, {"road": 100.0, "car": 20.0}),
        pixels={"road": 99_990, "car": 10},
    )

    assert found.sentence.startswith("Nothing is wrong: ")


def test_a_class_that_only_the_other_predicts_comes_first():
    names = ("road", "car", "bus")
    truth = dict(zip(names, (90.0, 70.0, None), strict=True))
    made = dict(zip(names, (85.0, 70.0, 0.0), strict=True))

    found = difference(
        0.99,
        before=Score(80.0, truth),
        after=Score(51.67, made),
        pixels=dict(zip(names, (900, 100, 0), strict=True)),
    )

    assert found.class_changes[0] == ClassChange("bus", None, 0.0)
    assert [str(change) for change in found.class_changes] == [
        "bus absent -> 0.00",
        "road -5.00",
        "car +0.00",
    ]
    assert ", only b.onnx predicts bus, road lost 5.0 points of IoU (mIoU -28.33)," in (
        found.sentence
    )


def test_a_class_that_nobody_predicts_is_not_told():
    found = difference(
        0.9, between=Score(50, {"road": 90.0, "car": 0.0, "bus": None}), pixels=PREDICTED
    )

    assert found.class_changes == (ClassChange("car", None, 0.0), ClassChange("road", 100.0, 90.0))


def test_classes_that_lose_most_come_first():
    scores = Score(50, {"road": 60.0, "car": 70.0}), Score(50, {"road": 61.0, "car": 40.0})

    with_truth = difference(0.9, before=scores[0], after=scores[1])

    assert list(map(str, with_truth.class_changes)) == ["car -30.00", "road +1.00"]
    assert list(map(str, difference(0.9).class_changes)) == ["road -12.00", "car -5.00"]
