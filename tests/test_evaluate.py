"""The evaluation loop, with a predictor that is a lambda and a data set that lies in memory."""

import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from segdeploy.datasets import Sample
from segdeploy.errors import SegdeployError
from segdeploy.evaluate import evaluate
from segdeploy.metrics import ConfusionMatrix
from segdeploy.spec import ClassSet, Size

CLASSES, SIZE = ClassSet.numbered(3), Size(6, 8)


@dataclass
class InMemory:
    """Images whose red channel is their label map."""

    count: int = 5
    broken: int | None = None
    loaded: list[int] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    name: str = "memory"
    classes: ClassSet = CLASSES
    scale: tuple[int, int] | None = None
    nominal_size: Size = SIZE

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(f"image-{k}" for k in range(self.count))

    def __len__(self) -> int:
        return self.count

    def load_image(self, index):
        labels = np.random.default_rng(index).integers(0, 3, self.nominal_size, dtype=np.uint8)
        return np.repeat(labels[..., np.newaxis], 3, axis=2)

    def load(self, index):
        if index == self.broken:
            raise SegdeployError(f"image-{index}.png: the file is empty")
        self.loaded.append(index)
        self.threads.add(threading.get_ident())
        image = self.load_image(index)
        return Sample(self.ids[index], image, image[..., 0])


def test_a_perfect_predictor_scores_one():
    matrix = evaluate(lambda image: image[..., 0], InMemory())

    assert matrix.miou() == 1.0
    assert matrix.counts.sum() == 5 * 6 * 8


def test_counts_are_those_of_each_image_added_up():
    dataset = InMemory()
    expected = ConfusionMatrix.zeros(3)
    for index in range(len(dataset)):
        image = dataset.load_image(index)
        expected += ConfusionMatrix.from_labels(image[..., 0], (image[..., 0] + 1) % 3, 3)

    matrix = evaluate(lambda image: (image[..., 0] + 1) % 3, dataset)

    assert matrix == expected


def test_every_image_is_predicted_once_and_in_order():
    dataset, seen = InMemory(), []

    def predict(image):
        seen.append(image)
        return image[..., 0]

    evaluate(predict, dataset)

    assert dataset.loaded == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(seen, [dataset.load_image(k) for k in range(5)])


def test_decoding_runs_beside_the_prediction():
    dataset = InMemory()

    evaluate(lambda image: image[..., 0], dataset)

    assert threading.get_ident() not in dataset.threads


def test_the_next_image_is_decoded_while_one_is_predicted():
    decoding_two = threading.Event()

    class Signals(InMemory):
        def load(self, index):
            if index == 1:
                decoding_two.set()
            return super().load(index)

    matrix = evaluate(
        lambda image: image[..., 0] if decoding_two.wait(10) else 255 - image[..., 0], Signals(2)
    )

    assert matrix.miou() == 1.0


@pytest.mark.parametrize(("limit", "loaded"), [(2, 2), (5, 5), (99, 5), (None, 5)])
def test_a_limit_takes_the_first_images_and_decodes_no_other(limit, loaded):
    dataset = InMemory()

    evaluate(lambda image: image[..., 0], dataset, limit=limit)

    assert dataset.loaded == list(range(loaded))


def test_a_limit_below_one_is_refused():
    with pytest.raises(SegdeployError, match="limit of 0 images"):
        evaluate(lambda image: image[..., 0], InMemory(), limit=0)


def test_a_damaged_image_stops_the_evaluation():
    with pytest.raises(SegdeployError, match=r"image-3\.png: the file is empty"):
        evaluate(lambda image: image[..., 0], InMemory(broken=3))


def test_an_error_of_the_predictor_comes_through():
    def predict(image):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(predict, InMemory())


def test_a_prediction_of_another_size_is_refused_and_the_image_named():
    with pytest.raises(SegdeployError, match=r"memory image-0: the prediction is 6x4, .* 6x8"):
        evaluate(lambda image: image[:, ::2, 0], InMemory())


def test_label_maps_are_seen_in_order_and_not_by_the_predicting_thread():
    seen = []

    def watch(index, labels):
        seen.append((index, int(labels[0, 0]), threading.get_ident()))

    evaluate(lambda image: image[..., 0], InMemory(), watch=watch)

    dataset = InMemory()
    assert [(k, label) for k, label, _ in seen] == [
        (k, int(dataset.load_image(k)[0, 0, 0])) for k in range(5)
    ]
    assert threading.get_ident() not in {thread for *_, thread in seen}


def test_an_image_is_predicted_while_the_one_before_it_is_counted():
    counting, predicting = threading.Event(), threading.Event()

    def watch(index, labels):
        if index == 0:
            counting.set()
            assert predicting.wait(10)

    first = InMemory().load_image(0)

    def predict(image):
        if not np.array_equal(image, first):
            assert counting.wait(10)
            predicting.set()
        return image[..., 0]

    matrix = evaluate(predict, InMemory(), watch=watch)

    assert predicting.is_set()
    assert matrix.miou() == 1.0


def test_an_error_while_counting_comes_through():
    def watch(index, labels):
        raise SegdeployError("the disk is full")

    with pytest.raises(SegdeployError, match="the disk is full"):
        evaluate(lambda image: image[..., 0], InMemory(), watch=watch)


def test_the_counts_of_each_image_are_given_alone_and_in_order():
    seen = []

    total = evaluate(
        lambda image: image[..., 0],
        InMemory(),
        judge=lambda index, matrix: seen.append((index, matrix)),
    )

    assert [index for index, _ in seen] == list(range(5))
    assert np.array_equal(sum(matrix.counts for _, matrix in seen), total.counts)
    assert all(matrix.counts.sum() < total.counts.sum() for _, matrix in seen)
