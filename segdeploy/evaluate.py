"""Accuracy: a predictor over a data set, counted pixel by pixel."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from segdeploy.datasets import Dataset, Sample
from segdeploy.errors import SegdeployError
from segdeploy.metrics import ConfusionMatrix
from segdeploy.progress import track
from segdeploy.spec import Image, LabelMap, Size

BEHIND = 2  # label maps that wait to be counted: memory is bounded

Predict = Callable[[Image], LabelMap]  # an image at its own size to labels at that size


def evaluate(
    predict: Predict,
    dataset: Dataset,
    *,
    limit: int | None = None,
    watch: Callable[[int, LabelMap], None] | None = None,
    judge: Callable[[int, ConfusionMatrix], None] | None = None,
) -> ConfusionMatrix:
    """Count the predictions of every image, or of the first `limit`, against the ground truth.

    One image is decoded ahead, and the last ones are counted, each in a thread of its own.

    Args:
        predict: called in this thread, in order.
        dataset: with annotations.
        limit: of images.
        watch: is given each label map with its place, in order, in the thread that counts.
        judge: is given the counts of each image alone, in the same way.
    """
    if limit is not None and limit < 1:
        raise SegdeployError(f"limit of {limit} images; wanted at least 1")
    images = len(dataset) if limit is None else min(limit, len(dataset))
    total = ConfusionMatrix.zeros(len(dataset.classes))

    def count(index: int, truth: LabelMap, prediction: LabelMap) -> ConfusionMatrix:
        if watch is not None:
            watch(index, prediction)
        matrix = ConfusionMatrix.from_labels(truth, prediction, total.classes)
        if judge is not None:
            judge(index, matrix)
        return matrix

    with ThreadPoolExecutor(1, thread_name_prefix="count") as thread:
        counted: deque[Future[ConfusionMatrix]] = deque()
        samples = track(_decode_ahead(dataset, images), f"evaluating on {dataset.name}", images)
        for index, sample in enumerate(samples):
            prediction = predict(sample.image)
            if prediction.shape != sample.labels.shape:
                raise SegdeployError(
                    f"{dataset.name} {sample.id}: the prediction is {Size(*prediction.shape)}, "
                    f"the ground truth {Size(*sample.labels.shape)}"
                )
            counted.append(thread.submit(count, index, sample.labels, prediction))
            if len(counted) > BEHIND:
                total += counted.popleft().result()
        for last in counted:
            total += last.result()
    return total


def _decode_ahead(dataset: Dataset, images: int) -> Iterator[Sample]:
    """Load in order, one image ahead in a thread; what goes wrong there is raised here."""
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
        coming = thread.submit(dataset.load, 0)
        for index in range(1, images + 1):
            sample = coming.result()
            if index < images:
                coming = thread.submit(dataset.load, index)
            yield sample
