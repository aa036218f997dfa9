"""The scores, against counts done by hand and MMSegmentation's own IoUMetric."""

import math

import numpy as np
import pytest

from segdeploy.metrics import ConfusionMatrix


def labels(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_a_perfect_prediction_scores_one():
    truth = labels([0, 1, 2], [2, 1, 0])

    matrix = ConfusionMatrix.from_labels(truth, truth, 3)

    assert matrix.miou() == matrix.macc() == matrix.aacc() == 1.0


def test_counts_have_the_true_class_in_the_row():
    matrix = ConfusionMatrix.from_labels(labels([0, 0, 1]), labels([0, 1, 1]), 2)

    np.testing.assert_array_equal(matrix.counts, [[1, 1, 0], [0, 1, 0], [0, 0, 0]])


def test_scores_equal_those_worked_out_by_hand():
    truth = labels([0, 0, 0, 1], [1, 1, 2, 2])
    prediction = labels([0, 0, 1, 1], [1, 2, 2, 0])

    matrix = ConfusionMatrix.from_labels(truth, prediction, 3)

    np.testing.assert_allclose(matrix.iou(), [2 / 4, 2 / 4, 1 / 3])
    np.testing.assert_allclose(matrix.accuracy(), [2 / 3, 2 / 3, 1 / 2])
    assert matrix.miou() == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)
    assert matrix.macc() == pytest.approx((2 / 3 + 2 / 3 + 1 / 2) / 3)
    assert matrix.aacc() == pytest.approx(5 / 8)


def test_ignored_pixels_count_nowhere():
    truth = labels([0, 255, 255], [1, 255, 1])
    prediction = labels([0, 0, 1], [1, 7, 0])

    matrix = ConfusionMatrix.from_labels(truth, prediction, 2)

    assert matrix.counts.sum() == 3
    np.testing.assert_allclose(matrix.iou(), [1 / 2, 1 / 2])


def test_a_class_that_occurs_nowhere_is_left_out_of_the_mean():
    truth = labels([0, 0, 1, 1])
    prediction = labels([0, 0, 1, 0])

    matrix = ConfusionMatrix.from_labels(truth, prediction, 3)

    assert math.isnan(matrix.iou()[2])
    assert matrix.miou() == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_class_that_is_only_predicted_lowers_miou_but_not_macc():
    truth = labels([0, 0, 1, 1])
    prediction = labels([0, 2, 1, 1])

    matrix = ConfusionMatrix.from_labels(truth, prediction, 3)

    np.testing.assert_allclose(matrix.iou(), [1 / 2, 1, 0])
    assert math.isnan(matrix.accuracy()[2])
    assert matrix.miou() == pytest.approx(0.5)
    assert matrix.macc() == pytest.approx(0.75)


def test_a_prediction_outside_the_classes_is_still_a_miss():
    truth = labels([0, 0, 1, 1])
    prediction = labels([0, 255, 1, 200])

    matrix = ConfusionMatrix.from_labels(truth, prediction, 2)

    np.testing.assert_allclose(matrix.iou(), [1 / 2, 1 / 2])
    assert matrix.aacc() == pytest.approx(1 / 2)


def test_a_true_value_outside_the_classes_makes_its_prediction_a_false_positive():
    truth = labels([0, 0, 200, 200])
    prediction = labels([0, 0, 1, 200])

    matrix = ConfusionMatrix.from_labels(truth, prediction, 2)

    np.testing.assert_allclose(matrix.iou(), [1, 0])
    assert math.isnan(matrix.accuracy()[1])
    assert matrix.aacc() == 1.0


def test_all_oddities_together_equal_what_mmseg_reports():
    y, x = np.mgrid[0:40, 0:50]
    truth = ((x * 7 + y * 3) % 5).astype(np.uint8)  # classes 0..4 of 7
    prediction = np.where((x + y) % 3 == 0, (x // 5 + y) % 6, truth).astype(np.uint8)
    truth[:4] = 255
    truth[4:6, :10] = 30
    prediction[30:33, :20] = 99

    matrix = ConfusionMatrix.from_labels(truth, prediction, 7)

    # IoUMetric(ignore_index=255) of mmseg 1.2.2 on these arrays: its areas and its summary.
    union = np.array([442, 430, 429, 430, 432, 100, 0])
    iou = np.array([247, 251, 255, 254, 250, 0, np.nan]) / np.maximum(union, 1)
    np.testing.assert_array_equal(matrix.iou(), iou)
    assert matrix.counts.sum(axis=0)[:7].tolist() == [333, 325, 328, 328, 326, 100, 0]
    assert matrix.counts.sum(axis=1)[:7].tolist() == [356, 356, 356, 356, 356, 0, 0]
    percent = [round(100 * score, 2) for score in (matrix.aacc(), matrix.miou(), matrix.macc())]
    assert percent == [70.62, 48.44, 70.62]


def test_images_add_up():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 7, (2, 6, 20, 30), dtype=np.uint8)

    total = ConfusionMatrix.zeros(5)
    for one_truth, one_prediction in zip(truth, prediction, strict=True):
        total += ConfusionMatrix.from_labels(one_truth, one_prediction, 5)

    at_once = ConfusionMatrix.from_labels(truth.reshape(-1, 30), prediction.reshape(-1, 30), 5)
    assert total == at_once
    assert total != ConfusionMatrix.zeros(5)


def test_no_scored_pixel_gives_no_score():
    truth = np.full((3, 3), 255, np.uint8)

    matrix = ConfusionMatrix.from_labels(truth, np.zeros_like(truth), 4)

    assert all(map(math.isnan, (matrix.miou(), matrix.macc(), matrix.aacc())))


def test_255_classes_fit():
    truth = labels([254, 0, 255])

    matrix = ConfusionMatrix.from_labels(truth, truth, 255)

    assert matrix.counts.sum() == 2
    assert matrix.miou() == 1.0


@pytest.mark.parametrize(
    "prediction", [np.zeros((2, 3), np.uint8), np.zeros((2, 2), np.int64)], ids=["shape", "dtype"]
)
def test_labels_of_another_kind_are_refused(prediction):
    with pytest.raises(ValueError, match="wanted"):
        ConfusionMatrix.from_labels(np.zeros((2, 2), np.uint8), prediction, 2)


def test_matrices_of_different_class_sets_do_not_add_up():
    with pytest.raises(ValueError, match="do not add up"):
        ConfusionMatrix.zeros(2) + ConfusionMatrix.zeros(3)


@pytest.mark.parametrize("classes", [1, 3, 19, 150, 255])
@pytest.mark.parametrize("coarse", [1, 7])
def test_counts_are_those_of_a_plain_count(classes, coarse):
    dice = np.random.default_rng(classes)
    truth, found = dice.integers(0, 256, (2, 40, 30), np.uint8).repeat(coarse, 2)
    row = np.minimum(truth, classes)
    expected = np.zeros((classes + 1, classes + 1), np.int64)
    known = truth != 255
    np.add.at(expected, (row[known], np.minimum(found, classes)[known]), 1)

    counts = ConfusionMatrix.from_labels(truth, found, classes).counts

    np.testing.assert_array_equal(counts, expected)


def test_maps_that_are_views_are_counted_as_they_look():
    truth = np.random.default_rng(0).integers(0, 3, (8, 8), np.uint8)

    matrix = ConfusionMatrix.from_labels(truth[::2].T, truth[::2].T.copy(), 3)

    assert matrix.aacc() == 1.0
    assert matrix.counts.sum() == 32
