"""The doctors at work: a calibration set, or a quantized graph, shown to the network."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import Graph, Store
from segdeploy.complaints import Complaint, Fault, Severity, raise_refusals
from segdeploy.datasets import Dataset, find_facts, indices_of, open_dataset
from segdeploy.errors import SegdeployError, needs
from segdeploy.pipeline.calibration import (
    CalibrationImages,
    check_unseen,
    default_calibration,
    graph_batch,
    open_calibration,
)
from segdeploy.pipeline.statistics import statistics_of
from segdeploy.progress import track
from segdeploy.spec import ClassSet, Image, LabelMap, Precision, Size

if TYPE_CHECKING:
    from segdeploy.calibration_doctor import ColorResponse
    from segdeploy.histograms import Statistics

PROBED = 16  # images that the network is shown, spread over the set; each up to three times
LOOKED_AT = 64  # images that it is asked the classes of, where there are no label maps
SCALED = 6  # images that the scales of a quantized graph are compared with
STEP = 32.0  # of 255, by which a flat image is made redder, greener and bluer


def diagnose_calibration(
    graph: Graph,
    calibration: CalibrationImages,
    *,
    labels: Iterable[LabelMap] | None = None,
    scored: tuple[Dataset, str] | None = None,
) -> tuple[Complaint, ...]:
    """What is wrong with a calibration set, refusals among it; see `complaints.raise_refusals`.

    Args:
        graph: floating, of ours: its manifest tells what BatchNorm saw in training.
        calibration: the images.
        labels: what `label_maps` returned; None: the network is asked for the classes.
        scored: the data set and split whose score will be told.
    """
    from segdeploy.calibration_doctor import check_images

    found = [*_check_split(graph, calibration, scored)]
    chosen, probes = set(_spread(len(calibration.ids), PROBED)), []

    def named_images() -> Iterator[tuple[str, Image]]:
        loaded = zip(calibration.ids, calibration.load(), strict=True)
        for index, (name, image) in enumerate(track(loaded, "examining", len(calibration.ids))):
            if index in chosen:
                probes.append(image)
            yield name, image

    found += check_images(named_images())
    if any(complaint.severity is Severity.REFUSE for complaint in found):
        return tuple(found)  # the network has nothing to say about noise
    with ExitStack() as stack:
        network = _Network(graph, stack)
        found += _check_pixels(graph, network, probes)
        found += _check_classes(graph, calibration, network, labels)
    return tuple(found)


def examine(graph: Graph, calibration: CalibrationImages, data: Path) -> tuple[str, ...]:
    """Refuse images that are certainly wrong; return what is odd about the others."""
    labels = label_maps(calibration, data, graph.manifest.classes)
    complaints = diagnose_calibration(graph, calibration, labels=labels)
    raise_refusals(complaints)
    return tuple(f"{complaint.sentence}; {complaint.hint}" for complaint in complaints)


def examined_statistics(
    graph: Graph, calibration: CalibrationImages, data: Path, store: Store
) -> tuple["Statistics", tuple[str, ...]]:
    """Statistics from the store, or of images that are examined first; and what is odd of them."""
    warnings: tuple[str, ...] = ()

    def look() -> None:
        nonlocal warnings
        warnings = examine(graph, calibration, data)

    statistics = statistics_of(graph, calibration, store, before=look)
    return statistics, warnings


def diagnose_scales(
    graph: Graph, floating: Graph | None, calibration: CalibrationImages
) -> tuple[Complaint, ...]:
    """Whether the scales of a quantized graph suit the values that reach them.

    Args:
        graph: with Q/DQ pairs.
        floating: what it was made of. None is for graphs of other tools alone: in ours, scales take
            the place of activations, and what they clip is told by the floating graph.
        calibration: images, of which a few are run.
    """
    from segdeploy.graph import cut_graph, read_model
    from segdeploy.scale_doctor import (
        Floating,
        activated_tensors,
        activation_scales,
        check_scales,
    )

    with needs("onnxruntime", extra="onnxruntime"):
        from segdeploy.runtime.onnxruntime import PieceByPiece
    model = read_model(graph.path)
    scales = activation_scales(model)
    true = None
    if floating is not None:
        reference = read_model(floating.path)
        tensors = activated_tensors(reference, scales)
        names = {known.tensor for known in tensors.values()}
        true = Floating(tensors, PieceByPiece(cut_graph(reference, names)).run)
    runner = PieceByPiece(cut_graph(model, [scale.tensor for scale in scales]))
    images = (graph_batch(graph.manifest, image) for image in _some(calibration, SCALED))
    return check_scales(model, runner.run, images, true)


def inspect_scales(
    path: Path, floating: Path | None, calibration: str | None, data: Path
) -> tuple[Complaint, ...]:
    """`diagnose_scales` of files; without a name, the set of the model's own data set is taken."""
    from segdeploy.graph import read_graph

    graph = read_graph(path)
    if graph.manifest.precision is not Precision.INT8:
        raise SegdeployError(
            f"{path}: is {graph.manifest.precision}, and has no scales to look at",
            hint=f"segdeploy build-engine {graph.manifest.model} --int8",
        )
    if floating is None and graph.manifest.quantization:
        raise SegdeployError(
            f"{path}: its scales stand for activations, which only the floating graph can tell",
            hint="--floating F.onnx, the graph that it was made of",
        )
    chosen = calibration or default_calibration(graph.manifest.dataset)
    reference = None if floating is None else read_graph(floating)
    return diagnose_scales(graph, reference, open_calibration(chosen, data))


def label_maps(
    calibration: CalibrationImages, data: Path, classes: ClassSet
) -> Iterator[LabelMap] | None:
    """Those of a set that is drawn from a data set; None where there are none of these classes."""
    recipe = calibration.recipe
    if not recipe.dataset:
        return None
    dataset = open_dataset(recipe.dataset, data, recipe.split)
    if dataset.classes.names != classes.names:
        return None
    indices = indices_of(dataset, calibration.ids)
    try:
        dataset.load(indices[0])
    except SegdeployError:  # images without annotations are enough to calibrate on
        return None
    return (dataset.load(index).labels for index in indices)


class _Network:
    """Sessions of two parts of a graph, each opened when it is first asked."""

    def __init__(self, graph: Graph, stack: ExitStack) -> None:
        from segdeploy.graph import convolved, logits_tensor, read_model

        self._graph, self._stack = graph, stack
        self._model = read_model(graph.path)
        norms = graph.manifest.batch_norms
        tensors = [convolved(self._model, norm.weight) for norm in norms]
        # A graph that was rewritten for a CPU has other convolutions.
        self.norms = tuple(
            (norm, tensor) for norm, tensor in zip(norms, tensors, strict=True) if tensor
        )
        self._layers = [tensor for _, tensor in self.norms]
        self._logits = logits_tensor(self._model)
        self._runs: dict[tuple[str, ...], Any] = {}

    def layers(self, pixels: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """What the normalized layers make of pixels (H, W, 3) of any value."""
        return self._run(self._layers, pixels.astype(np.float32))

    def logits(self, image: Image) -> NDArray[Any]:
        """(1, C, h, w)."""
        return self._run([self._logits], image.astype(np.float32))[self._logits]

    def _run(self, names: list[str], pixels: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        from segdeploy.graph import taking_floats, up_to

        with needs("onnxruntime", extra="onnxruntime"):
            from segdeploy.runtime.onnxruntime import OnnxRuntimeSession
        key = tuple(names)
        if key not in self._runs:
            part = taking_floats(up_to(self._model, names)).SerializeToString()
            session = OnnxRuntimeSession(part, self._graph.manifest)
            self._runs[key] = self._stack.enter_context(session).outputs
        found = self._runs[key](graph_batch(self._graph.manifest, pixels))
        return {name: found[name][:1] for name in names}


def _check_split(
    graph: Graph, calibration: CalibrationImages, scored: tuple[Dataset, str] | None
) -> Iterator[Complaint]:
    """Refuse images that will be scored; warn of the split that published scores are of."""
    if scored is not None:
        try:
            check_unseen(calibration.split, calibration.ids, *scored)
        except SegdeployError as error:
            yield Complaint(Severity.REFUSE, Fault.SCORED, error.problem, error.hint)
            return
    facts = find_facts(graph.manifest.dataset)
    if facts and calibration.split == f"{facts.name}/{facts.evaluation_split}":
        sentence = f"the images are of {calibration.split}, the split that scores are told of"
        hint = "calibrate on training images: segdeploy bench refuses to score these"
        yield Complaint(Severity.WARN, Fault.SCORED, sentence, hint)


def _check_pixels(graph: Graph, network: _Network, probes: list[Image]) -> tuple[Complaint, ...]:
    from segdeploy.calibration_doctor import (
        Moments,
        check_pixels,
        distance,
        fit_pixels,
        margin_of,
    )

    if not network.norms or network.norms[0][0] != graph.manifest.batch_norms[0]:
        return ()
    moments: dict[str, Moments] = {}
    for image in track(probes, "asking BatchNorm", len(probes)):
        for name, values in network.layers(image).items():
            seen = Moments.of(values)
            moments[name] = moments[name] + seen if name in moments else seen
    (first, tensor), *others = network.norms
    size = probes[0].shape[:2]
    response = _color_response(network, tensor, graph, Size(*size))
    color = np.mean([image.mean(axis=(0, 1)) for image in probes], axis=0)
    return check_pixels(
        graph.manifest.normalization,
        fit_pixels(first, moments[tensor], response),
        color,
        [distance(norm, moments[name]) for norm, name in others],
        (
            (margin_of(network.logits(image)), margin_of(network.logits(image[..., ::-1])))
            for image in probes
        ),
    )


def _color_response(network: _Network, tensor: str, graph: Graph, size: Size) -> "ColorResponse":
    from segdeploy.calibration_doctor import ColorResponse, Moments

    mean = np.array(graph.manifest.normalization.mean)

    def answer(color: NDArray[np.float64]) -> NDArray[np.float64]:
        flat = np.broadcast_to(color, (*size, 3))
        return Moments.of(network.layers(flat)[tensor]).mean

    rest = answer(mean)
    slope = [(answer(mean + STEP * direction) - rest) / STEP for direction in np.eye(3)]
    return ColorResponse(rest, np.stack(slope, axis=1))


def _check_classes(
    graph: Graph,
    calibration: CalibrationImages,
    network: _Network,
    labels: Iterable[LabelMap] | None,
) -> tuple[Complaint, ...]:
    from segdeploy.calibration_doctor import check_classes

    names = graph.manifest.classes.names
    if labels is not None:
        with suppress(SegdeployError):  # annotations that are missing or damaged: not needed here
            return check_classes(names, labels, predicted=False)
    if graph.manifest.is_random:
        return ()
    predictions = (
        network.logits(image).argmax(axis=1)[0].astype(np.uint8)
        for image in _some(calibration, LOOKED_AT)
    )
    return check_classes(names, predictions, predicted=True)


def _some(calibration: CalibrationImages, count: int) -> Iterator[Image]:
    """So many images, spread over the set."""
    chosen = _spread(len(calibration.ids), count)
    loaded = islice(calibration.load(), chosen[-1] + 1)
    wanted = set(chosen)
    return (image for index, image in enumerate(loaded) if index in wanted)


def _spread(total: int, count: int) -> list[int]:
    return sorted({int(k) for k in np.linspace(0, total - 1, min(count, total))})
