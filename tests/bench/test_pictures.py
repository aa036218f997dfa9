"""Which images a report shows, and what of them."""

from dataclasses import replace

import numpy as np
from measured import INT8, PYTORCH, report

from segdeploy.bench.pictures import PICTURES, Worst, paint
from segdeploy.datasets.sample import Sample
from segdeploy.html.pictures import PANEL_WIDTH
from segdeploy.metrics import ConfusionMatrix
from segdeploy.spec import ClassSet


class Scenes:
    """Images that are as bright as their number."""

    classes = ClassSet.numbered(3)

    def __len__(self) -> int:
        return 9

    def load(self, index: int) -> Sample:
        image = np.full((20, 40, 3), 10 * index, np.uint8)
        return Sample(f"town/{index}", image, np.zeros((20, 40), np.uint8))


def counted(right: int) -> ConfusionMatrix:
    truth = np.zeros((10, 10), np.uint8)
    prediction = np.ones_like(truth)
    prediction.flat[:right] = 0
    return ConfusionMatrix.from_labels(truth, prediction, 3)


def test_images_of_the_lowest_miou_come_first() -> None:
    worst = Worst()

    for index, right in enumerate((90, 20, 100, 50, 20)):
        worst(index, counted(right))

    assert worst.shown(Scenes()) == (1, 4, 3)


def test_an_image_without_a_labelled_pixel_is_not_the_worst() -> None:
    worst = Worst()

    worst(0, ConfusionMatrix.zeros(3))
    worst(1, counted(100))

    assert worst.shown(Scenes()) == (1, 0)


def test_without_scores_the_first_images_are_shown() -> None:
    assert Worst().shown(Scenes()) == tuple(range(PICTURES))


def test_a_picture_holds_the_image_the_truth_and_each_row() -> None:
    wrong = np.ones((20, 40), np.uint8)

    (picture,) = paint([{5: wrong}, {5: wrong}], Scenes(), report(PYTORCH, INT8))

    assert picture.name == "town/5"
    assert [panel.caption for panel in picture.panels] == [
        "image",
        "ground truth",
        "FCN Cityscapes, PyTorch fp32",
        "FCN Cityscapes, ONNX Runtime int8",
    ]
    image, truth, first, second = (panel.image for panel in picture.panels)
    assert {panel.image.shape for panel in picture.panels} == {(256, PANEL_WIDTH, 3)}
    assert (image == 50).all()
    assert not np.array_equal(truth, first)
    assert np.array_equal(first, second)


def test_rows_without_label_maps_have_no_panel() -> None:
    rows = report(replace(PYTORCH, tally=None), INT8)

    (picture,) = paint([{}, {0: np.zeros((20, 40), np.uint8)}], Scenes(), rows)

    assert [panel.caption for panel in picture.panels] == [
        "image",
        "ground truth",
        "FCN Cityscapes, ONNX Runtime int8",
    ]
    assert paint([{}, {}], Scenes(), rows) == ()
