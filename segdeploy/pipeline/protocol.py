"""The test protocol: what is scored, what an artifact must be for it, and how an image passes."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segdeploy.accuracy import Score
from segdeploy.artifacts import EnginePlan, Manifest
from segdeploy.datasets import Dataset, find_facts, open_dataset
from segdeploy.errors import SegdeployError
from segdeploy.evaluate import evaluate
from segdeploy.metrics import ConfusionMatrix
from segdeploy.pipeline.calibration import check_unseen
from segdeploy.pipeline.modes import WHOLE, Mode, mode_input
from segdeploy.pipeline.segment import segment_input
from segdeploy.runtime import Session, open_session
from segdeploy.spec import ClassSet, Image, LabelMap, Output, Size
from segdeploy.timing import Latency, measure_in_turns

TIMED_IMAGES = 8  # held in memory and taken in turn


def open_evaluation(dataset: str, data: Path) -> tuple[Dataset, str]:
    """The split that published scores are of, and its name."""
    known = None if Path(dataset).is_dir() else find_facts(dataset)
    split = known.evaluation_split if known else "val"
    return open_dataset(dataset, data, split), split


def scored_output(dataset: str) -> Output:
    """Logits where images are resized for the test, which labels cannot stand in for."""
    known = find_facts(dataset)
    resized = known is not None and known.scale is not None and not known.uniform
    return Output.LOGITS if resized else Output.LABELS


def check_scorable(manifest: Manifest, dataset: Dataset, split: str) -> None:
    """Refuse what would score an artifact on other classes, or on images it was calibrated on."""
    if len(manifest.classes) != len(dataset.classes):
        raise SegdeployError(
            f"{manifest.model} tells {len(manifest.classes)} classes apart, "
            f"{dataset.name} has {len(dataset.classes)}",
            hint="name the data set that it was trained on with --dataset",
        )
    check_unseen(manifest.calibration_split, manifest.calibration_images, dataset, split)


def first_inputs(
    manifest: Manifest, dataset: Dataset, mode: Mode = WHOLE, count: int = TIMED_IMAGES
) -> list[tuple[Image, Size]]:
    """The first images, resized as the artifact takes them, with their original sizes."""
    images = [dataset.load_image(k) for k in range(min(count, len(dataset)))]
    inputs = [(mode_input(image, dataset.scale, mode), Size(*image.shape[:2])) for image in images]
    found = Size(*inputs[0][0].shape[:2])
    if mode == WHOLE and manifest.size not in (None, found):
        raise SegdeployError(
            f"{manifest.model}: the artifact takes {manifest.size}, "
            f"images of {dataset.name} are {found} at test time",
            hint=f"export it with --size {found} or --dynamic",
        )
    return inputs


def predictor(
    session: Session, scale: tuple[int, int] | None, mode: Mode = WHOLE
) -> Callable[[Image], LabelMap]:
    """An image at its own size to its label map, through the test protocol's resize."""

    def predict(image: Image) -> LabelMap:
        return segment_input(session, mode_input(image, scale, mode), Size(*image.shape[:2]), mode)

    return predict


def percent_per_class(matrix: ConfusionMatrix, classes: ClassSet) -> dict[str, float | None]:
    """IoU by class name; None for a class that occurs neither in the truth nor in predictions."""
    scores = zip(classes.names, matrix.iou(), strict=True)
    return {name: None if np.isnan(iou) else 100 * float(iou) for name, iou in scores}


@dataclass(frozen=True)
class Evaluation:
    """The first images of a split, which engines are scored and timed on in this process."""

    dataset: Dataset
    split: str
    images: int
    threads: int = 0  # of a CPU runtime; 0: as many as suit the cores

    def score(self, plan: EnginePlan) -> Score:
        """Open the engine and count every image."""
        with open_session(plan, threads=self.threads) as session:
            predict = predictor(session, self.dataset.scale)
            matrix = evaluate(predict, self.dataset, limit=self.images)
        per_class = percent_per_class(matrix, self.dataset.classes)
        return Score(100 * matrix.miou(), per_class)

    def time(self, plans: Sequence[EnginePlan], *, rounds: int = 5) -> tuple[Latency, ...]:
        """Time a step of each engine in turns: an image at network size in, its label map out."""
        if not plans:
            return ()
        inputs = first_inputs(plans[0].manifest, self.dataset)

        @contextmanager
        def opening(plan: EnginePlan) -> Iterator[Callable[[], object]]:
            turns = itertools.cycle(inputs)
            with open_session(plan, threads=self.threads) as session:
                yield lambda: segment_input(session, *next(turns))

        return measure_in_turns([partial(opening, plan) for plan in plans], rounds=rounds)
