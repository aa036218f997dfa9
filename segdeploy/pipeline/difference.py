"""`segdeploy diff` at work: the same images through two artifacts, layer by layer where it can."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from segdeploy.accuracy import Score
from segdeploy.artifacts import Store
from segdeploy.datasets import Dataset
from segdeploy.difference import (
    IDS,
    Difference,
    ImageMatch,
    LayerNoise,
    PairedMoments,
    count_pairs,
    decibels,
    sample,
    score_of,
)
from segdeploy.errors import SegdeployError, needs
from segdeploy.images import list_images, network_input, read_image
from segdeploy.metrics import ConfusionMatrix
from segdeploy.pipeline.protocol import open_evaluation, percent_per_class
from segdeploy.pipeline.sides import Kept, Side, open_sides
from segdeploy.pipeline.undoing import Undoing
from segdeploy.progress import track
from segdeploy.spec import ClassSet, Image, LabelMap, Precision, Size

IMAGES = 20  # of a data set, unless more are asked for
WORST = 4  # images that are kept, to look at layers, to undo causes on, and to show
COARSENESS = (Precision.FP32, Precision.FP16, Precision.INT8)


@dataclass(frozen=True, kw_only=True)
class DifferenceRequest:
    """What is compared, on what.

    Args:
        reference: a model, or a .onnx, .ort or .plan file.
        other: the same.
        dataset: a name, a folder in our layout, or one of images; None: the artifact's own.
        data: where the data sets are.
        limit: so many images at most.
        checkpoint: weights of what is a model; None: the bundled or downloaded file.
        store: where graphs of models go.
    """

    reference: str
    other: str
    dataset: str | None = None
    data: Path = Path("data")
    limit: int = IMAGES
    checkpoint: str | None = None
    store: Store = field(default_factory=Store)


@dataclass(frozen=True, eq=False)
class Compared:
    """What was found, and the images that differ most, worst first."""

    difference: Difference
    worst: tuple[Kept, ...]
    classes: ClassSet


@dataclass(frozen=True, eq=False)
class _Images:
    """What is run: annotated images, or bare ones."""

    name: str
    count: int
    scale: tuple[int, int] | None
    load: Callable[[int], tuple[str, Image, LabelMap | None]]


@dataclass(eq=False)
class _Tally:
    """What is counted on the way; memory does not grow with the images."""

    classes: int
    counts: np.ndarray = field(default_factory=lambda: np.zeros((IDS, IDS), np.int64))
    before: ConfusionMatrix | None = None
    after: ConfusionMatrix | None = None
    signal: float = 0.0
    noise: float = 0.0
    has_logits: bool = True
    not_finite: int = 0
    matches: list[ImageMatch] = field(default_factory=list)
    worst: list[tuple[float, int, Kept]] = field(default_factory=list)

    def add(self, kept: Kept, original: Size, truth: LabelMap | None) -> None:
        """Count one image."""
        a, b = kept.reference, kept.other
        self.counts += count_pairs(a.labels, b.labels)
        self.matches.append(ImageMatch(kept.id, kept.agreement))
        entry = (-kept.agreement, -len(self.matches), kept)
        (heapq.heappush if len(self.worst) < WORST else heapq.heappushpop)(self.worst, entry)
        self.not_finite += not b.is_finite
        if a.logits is None or b.logits is None or a.logits.shape != b.logits.shape:
            self.has_logits = False
        else:
            x, y = a.logits.astype(np.float64), np.nan_to_num(b.logits).astype(np.float64)
            self.signal += float(np.square(x).sum())
            self.noise += float(np.square(x - y).sum())
        if truth is not None:
            pair = [
                ConfusionMatrix.from_labels(truth, answer.at(original), self.classes)
                for answer in (a, b)
            ]
            self.before = pair[0] + (self.before or ConfusionMatrix.zeros(self.classes))
            self.after = pair[1] + (self.after or ConfusionMatrix.zeros(self.classes))


def compare_artifacts(request: DifferenceRequest) -> Compared:
    """Run the images once through both, then the worst of them through what undoes each cause."""
    if request.limit < 1:
        raise SegdeployError(f"limit of {request.limit} images; wanted at least 1")
    with open_sides((request.reference, request.other), request.checkpoint, request.store) as (
        reference,
        other,
    ):
        classes = reference.manifest.classes
        images = _open_images(request, reference, other)
        tally = _run(reference, other, images)
        worst = tuple(kept for _, _, kept in sorted(tally.worst, key=lambda entry: entry[:2])[::-1])
        layers = _compare_layers(reference, other, worst)
        made = _difference(reference, other, images, tally, layers)
        undoing = Undoing(reference, other, worst, layers=layers, not_finite=tally.not_finite)
        found = undoing.try_all(tally.counts, made.agreement, len(tally.matches))
        return Compared(
            replace(made, attempts=found.attempts, facts=found.facts, untried=found.untried),
            worst,
            classes,
        )


def _run(reference: Side, other: Side, images: _Images) -> _Tally:
    tally = _Tally(len(reference.manifest.classes))
    for index in track(range(images.count), "comparing", images.count):
        name, image, truth = images.load(index)
        fitted = network_input(image, images.scale)
        answers = reference.run(fitted), other.run(fitted)
        tally.add(Kept(name, fitted, *answers), Size(*image.shape[:2]), truth)
    return tally


def _difference(
    reference: Side, other: Side, images: _Images, tally: _Tally, layers: Sequence[LayerNoise]
) -> Difference:
    names = reference.manifest.classes.names
    return Difference(
        reference=reference.name,
        other=other.name,
        dataset=images.name,
        images=tuple(tally.matches),
        precision=max(reference.manifest.precision, other.manifest.precision, key=COARSENESS.index),
        agreement=float(np.trace(tally.counts) / tally.counts.sum()),
        between=score_of(tally.counts, names),
        pixels=dict(zip(names, tally.counts.sum(axis=1).tolist(), strict=False)),
        before=_score(tally.before, reference.manifest.classes),
        after=_score(tally.after, reference.manifest.classes),
        logits_sqnr_db=decibels(tally.signal, tally.noise) if tally.has_logits else None,
        layers=tuple(layers),
        notes=tuple(_notes(reference, other)),
    )


def _score(matrix: ConfusionMatrix | None, classes: ClassSet) -> Score | None:
    if matrix is None or np.isnan(matrix.miou()):
        return None
    return Score(100 * matrix.miou(), percent_per_class(matrix, classes))


def _notes(reference: Side, other: Side) -> list[str]:
    notes = []
    for side in (reference, other):
        if side.graph is None:
            notes.append(f"{side.name}: has no graph beside it, so no layers are compared")
        elif not side.is_graph:
            notes.append(f"{side.name}: layers are those of its graph, which runs in ONNX Runtime")
        if side.graph is not None and side.graph.is_widened:
            notes.append(
                f"{side.name}: what its graph computes in fp16 is computed in fp32 here, since "
                "ONNX Runtime has no int8 with fp16 scales"
            )
    own, others = reference.manifest.classes, other.manifest.classes
    if own.names != others.names and len(own) == len(others):
        first = next(k for k in range(len(own)) if own.names[k] != others.names[k])
        notes.append(
            f"class {first} is called {own.names[first]} in {reference.name} "
            f"and {others.names[first]} in {other.name}"
        )
    return notes


def _open_images(request: DifferenceRequest, reference: Side, other: Side) -> _Images:
    name = request.dataset or reference.manifest.dataset or other.manifest.dataset
    if name is None:
        raise SegdeployError(
            "neither artifact names a data set", hint="--dataset NAME, or a folder of images"
        )
    folder = Path(name)
    files = list_images(folder) if folder.is_dir() else []
    if files:
        chosen = files[: request.limit]
        return _Images(
            folder.name, len(chosen), None, lambda k: (chosen[k].stem, read_image(chosen[k]), None)
        )
    dataset, _ = open_evaluation(name, request.data)
    classes = reference.manifest.classes
    if len(dataset.classes) != len(classes):
        raise SegdeployError(
            f"{reference.name} tells {len(classes)} classes apart, "
            f"{dataset.name} has {len(dataset.classes)}",
            hint="--dataset of the data that it was trained on, or a folder of images alone",
        )
    return _Images(dataset.name, min(request.limit, len(dataset)), dataset.scale, _loader(dataset))


def _loader(dataset: Dataset) -> Callable[[int], tuple[str, Image, LabelMap | None]]:
    def load(index: int) -> tuple[str, Image, LabelMap | None]:
        sample = dataset.load(index)
        return sample.id, sample.image, sample.labels

    return load


def _compare_layers(reference: Side, other: Side, worst: Sequence[Kept]) -> tuple[LayerNoise, ...]:
    """Each convolution that both have, on the worst images; a sample of each map is kept."""
    from segdeploy.graph import cut_graph
    from segdeploy.layer_pairs import pair_layers
    from segdeploy.pipeline.calibration import graph_batch

    own, others = reference.graph, other.graph
    if own is None or others is None:
        return ()
    with needs("onnxruntime", extra="onnxruntime"):
        from segdeploy.runtime.onnxruntime import PieceByPiece
    pairs = pair_layers(own.model, others.model)
    if not pairs:
        return ()
    runners = (
        PieceByPiece(cut_graph(own.model, [pair.reference for pair in pairs])),
        PieceByPiece(cut_graph(others.model, [pair.other for pair in pairs])),
    )
    moments: dict[str, PairedMoments] = {}
    for kept in track(worst, "comparing layers", len(worst)):
        seen, made = (
            {
                name: (values.shape[1:], sample(values))
                for name, values in runner.run(graph_batch(layered.manifest, kept.image))
            }
            for runner, layered in zip(runners, (own, others), strict=True)
        )
        for pair in pairs:
            (shape, x), (other_shape, y) = seen[pair.reference], made[pair.other]
            if shape == other_shape:
                found = PairedMoments.of(x, y)
                before = moments.get(pair.reference)
                moments[pair.reference] = found if before is None else before + found
    precisions = (own.manifest.precision, others.manifest.precision)
    fitted = Precision.INT8 in precisions
    return tuple(
        LayerNoise(
            pair.name,
            pair.reference,
            pair.other,
            moments[pair.reference].sqnr_db(fitted=fitted),
            moments[pair.reference].not_finite,
        )
        for pair in pairs
        if pair.reference in moments
    )
