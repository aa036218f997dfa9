"""The two sides of a comparison: whatever the user named, opened so that it shows all it knows."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import EnginePlan, Graph, Manifest, Store
from segdeploy.causes import equal_share
from segdeploy.errors import SegdeployError, needs
from segdeploy.images import resize, resize_labels
from segdeploy.pipeline.make import export_options, make_floating_graph
from segdeploy.pipeline.modes import best_labels
from segdeploy.pipeline.segment import ENGINE_SUFFIXES, is_artifact
from segdeploy.pipeline.source import Source, resolve_source
from segdeploy.runtime import Session, open_session
from segdeploy.spec import Image, LabelMap, MaskPlace, Output, Precision, Size, Tuning

INTEGERS = ("uint8", "int8", "int32", "int64")


@dataclass(frozen=True, eq=False)
class Answer:
    """What an artifact makes of one image, at the size that it was given."""

    labels: LabelMap
    logits: NDArray[np.float32] | None  # (C, h, w), where they can be had
    network: Size  # of what the network saw
    is_finite: bool = True  # the logits
    from_logits: bool = False  # the labels are made here, as the test protocol makes them

    def at(self, size: Size) -> LabelMap:
        """The label map at the size that the image had before the test protocol resized it."""
        if self.labels.shape == size:
            return self.labels
        if self.from_logits and self.logits is not None:
            return best_labels(self.logits, self.network, size)
        return resize_labels(self.labels, size)


@dataclass(frozen=True, eq=False)
class Kept:
    """An image as the network takes it, and what both made of it."""

    id: str
    image: Image
    reference: Answer
    other: Answer

    @property
    def agreement(self) -> float:
        """The share of pixels with equal labels."""
        return equal_share(self.reference.labels, self.other.labels)


Run = Callable[[Image], Answer]


@dataclass(frozen=True, eq=False)
class Layered:
    """A graph, in which layers can be seen and changed."""

    model: Any  # an onnx.ModelProto
    manifest: Manifest
    is_widened: bool = False  # fp16 was made fp32, for ONNX Runtime has no int8 with fp16 scales


@dataclass(frozen=True, eq=False)
class Side:
    """One artifact: how it answers, and its graph."""

    name: str
    manifest: Manifest
    run: Run
    find_graph: Callable[[], Layered | None]
    is_graph: bool = False  # what runs is the graph itself

    @cached_property
    def graph(self) -> Layered | None:
        """None: there is none, as of an engine whose graph is not beside it."""
        return self.find_graph()

    @property
    def labels_are_given(self) -> bool:
        """Whether the artifact itself resizes its logits to a mask."""
        return self.manifest.output is Output.LABELS and self.manifest.mask is MaskPlace.GRAPH


@contextmanager
def open_sides(
    names: tuple[str, str], checkpoint: str | None, store: Store
) -> Iterator[tuple[Side, Side]]:
    """Open both: files, or models as their checkpoint in PyTorch.

    Raises:
        SegdeployError: one cannot be run here, or is neither ours nor like the other.
    """
    if checkpoint is not None and all(map(is_artifact, names)):
        raise SegdeployError(f"--checkpoint {checkpoint}: goes with a model, both are files")
    sources = [None if is_artifact(n) else resolve_source(n, checkpoint, store) for n in names]
    artifacts = [_read(Path(n)) if is_artifact(n) else None for n in names]
    known = next((artifact.manifest for artifact in artifacts if artifact), None)
    with ExitStack() as stack:
        made = []
        for name, source, artifact in zip(names, sources, artifacts, strict=True):
            if source is not None:
                made.append(_open_source(name, source, known, store, stack))
                continue
            like = known or next((_manifest_of(s) for s in sources if s is not None), None)
            made.append(_open_file(artifact or _foreign(Path(name), like), stack))
        reference, other = made
        if not any(map(is_artifact, names)) and names[0] == names[1]:
            raise SegdeployError(f"{names[0]} would be compared with itself")
        yield reference, other


def _read(path: Path) -> Graph | EnginePlan | None:
    """None: an ONNX file that is not ours."""
    if path.suffix in ENGINE_SUFFIXES:
        return EnginePlan.load(path)
    from segdeploy.graph import read_model

    properties = {entry.key: entry.value for entry in read_model(path).metadata_props}
    if not any(key.startswith("segdeploy.") for key in properties):
        return None
    return Graph(path, Manifest.from_strings(properties, path))


def _foreign(path: Path, like: Manifest | None) -> Graph:
    """A graph of another tool with our input and output; what else it is, the other side says."""
    from segdeploy.graph import inputs_and_outputs, operator_counts, read_model

    if like is None:
        raise SegdeployError(
            f"{path}: carries no segdeploy manifest, and neither does the other file",
            hint="compare it with a model or with an artifact of segdeploy",
        )
    model = read_model(path)
    inputs, outputs = inputs_and_outputs(model)
    image = inputs[0] if len(inputs) == 1 else None
    if image is None or image.dtype != "uint8" or len(image.shape) != 4 or image.shape[3] != 3:
        found = ", ".join(map(str, inputs))
        raise SegdeployError(f"{path}: takes {found}; wanted one image (N, H, W, 3) uint8")
    result = outputs[0]
    returns = {3: Output.LABELS, 4: Output.LOGITS}.get(len(result.shape))
    if returns is None or (returns is Output.LABELS) != (result.dtype in INTEGERS):
        raise SegdeployError(f"{path}: returns {result}; wanted labels (N, H, W) or logits")
    batch, height, width, _ = (side if isinstance(side, int) else None for side in image.shape)
    is_int8 = "QuantizeLinear" in operator_counts(model)
    return Graph(
        path,
        Manifest(
            model=path.stem,
            method=like.method,
            classes=like.classes,
            precision=Precision.INT8 if is_int8 else Precision.FP32,
            output=returns,
            size=Size(height, width) if height and width else None,
            batch=batch,
            dataset=like.dataset,
            normalization=like.normalization,
        ),
    )


def _manifest_of(source: Source) -> Manifest:
    spec, weights = source.spec, source.checkpoint
    classes = spec.classes or weights.classes
    if classes is None:
        raise SegdeployError(f"{spec.name}: names no classes, so no foreign graph fits it")
    return Manifest(spec.name, spec.method, classes, dataset=spec.dataset, size=spec.size)


def _open_source(
    name: str, source: Source, like: Manifest | None, store: Store, stack: ExitStack
) -> Side:
    with needs("torch", extra="torch"):
        from segdeploy.runtime.pytorch import PyTorchSession
    session = PyTorchSession(source.spec, source.checkpoint, output=Output.LOGITS)
    size = like.size if like else source.spec.size

    def graph() -> Layered:
        from segdeploy.graph import read_model

        options = export_options(
            size=size, batch=1, precision=Precision.FP32, output=Output.LABELS, tuning=Tuning.PLAIN
        )
        made = make_floating_graph(source, options, store)
        return Layered(read_model(made.path), made.manifest)

    return Side(name, session.manifest, session_run(stack.enter_context(session)), graph)


def _open_file(artifact: Graph | EnginePlan, stack: ExitStack) -> Side:
    from segdeploy.graph import read_graph

    if isinstance(artifact, Graph):
        layered = _layered(artifact)
        run = stack.enter_context(open_model(layered))
        return Side(artifact.path.name, artifact.manifest, run, lambda: layered, is_graph=True)
    shown = artifact
    if artifact.manifest.mask is MaskPlace.HOST:  # its own output is logits
        shown = replace(artifact, manifest=replace(artifact.manifest, output=Output.LOGITS))
    session = stack.enter_context(open_session(shown))

    def graph() -> Layered | None:
        try:
            source = read_graph(artifact.find_source())
        except SegdeployError:  # it need not be there; the comparison says that there are no layers
            return None
        return _layered(source)

    return Side(artifact.path.name, artifact.manifest, session_run(session), graph)


def _layered(graph: Graph) -> Layered:
    from segdeploy.graph import read_model
    from segdeploy.repairs import in_float32, is_half

    model = read_model(graph.path)
    if graph.manifest.precision is Precision.INT8 and is_half(model):
        return Layered(in_float32(model), graph.manifest, is_widened=True)
    return Layered(model, graph.manifest)


def session_run(session: Session) -> Run:
    """How a session answers: by logits if it returns them, else by labels alone."""
    manifest = session.manifest

    def run(image: Image) -> Answer:
        fitted = _fitted(image, manifest)
        found = session.run(_batch(fitted, manifest))[0]
        if manifest.output is Output.LOGITS:
            return _of_logits(found, image, fitted)
        labels = resize_labels(found, Size(*image.shape[:2]))
        return Answer(labels, None, Size(*fitted.shape[:2]))

    return run


@contextmanager
def open_model(layered: Layered) -> Iterator[Run]:
    """How a graph answers, its logits beside its labels; pixels may be float32 if it takes them."""
    from segdeploy.graph import with_outputs
    from segdeploy.repairs import scores_tensor

    with needs("onnxruntime", extra="onnxruntime"):
        from segdeploy.runtime.onnxruntime import OnnxRuntimeSession
    model, manifest = layered.model, layered.manifest
    logits, result = scores_tensor(model), str(model.graph.output[0].name)
    exposed = with_outputs(model, [logits] if logits else []).SerializeToString()
    with OnnxRuntimeSession(exposed, manifest) as session:

        def run(image: NDArray[Any]) -> Answer:
            fitted = _fitted(image, manifest)
            found = session.outputs(_batch(fitted, manifest))
            if manifest.output is Output.LOGITS:
                return _of_logits(found[result][0], image, fitted)
            scores = found[logits][0].astype(np.float32) if logits else None
            labels = resize_labels(found[result][0].astype(np.uint8), Size(*image.shape[:2]))
            is_finite = scores is None or bool(np.isfinite(scores).all())
            return Answer(labels, scores, Size(*fitted.shape[:2]), is_finite)

        yield run


def _of_logits(logits: NDArray[Any], image: Image, fitted: Image) -> Answer:
    scores = np.asarray(logits, np.float32)
    is_finite = bool(np.isfinite(scores).all())
    if not is_finite:  # labels of a kind, so that the other images can still be compared
        scores = np.nan_to_num(scores)
    network = Size(*fitted.shape[:2])
    labels = best_labels(scores, network, Size(*image.shape[:2]))
    return Answer(labels, scores, network, is_finite, from_logits=True)


def _fitted(image: NDArray[Any], manifest: Manifest) -> NDArray[Any]:
    return resize(image, manifest.size or Size(*image.shape[:2]))


def _batch(image: NDArray[Any], manifest: Manifest) -> NDArray[Any]:
    return np.repeat(image[None], manifest.batch or 1, axis=0)
