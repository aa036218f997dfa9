"""An artifact by its file, and images through it: resize, run, label map."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segdeploy.artifacts import Artifact, EnginePlan, Store
from segdeploy.datasets import find_facts
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.images import (
    SUFFIXES,
    list_images,
    read_image,
    resize,
    resize_labels,
    write_png,
)
from segdeploy.images import overlay as paint
from segdeploy.pipeline.make import EngineRequest, export_options, make_artifact
from segdeploy.pipeline.modes import (
    WHOLE,
    Mode,
    best_labels,
    mode_input,
    run_one,
    segment_averaged,
)
from segdeploy.pipeline.rebuild import rebuild_engine
from segdeploy.pipeline.source import resolve_source
from segdeploy.progress import track
from segdeploy.runtime import Engine, RunOptions, Session, open_engine
from segdeploy.runtime.shared import SharedEngine
from segdeploy.spec import CPU, Device, Image, LabelMap, Output, Precision, Runtime, Size

ENGINE_SUFFIXES = (".ort", ".plan")


def is_artifact(text: str) -> bool:
    """Whether a command's argument is meant as a file rather than as the name of a model."""
    return text.endswith((".onnx", *ENGINE_SUFFIXES))


def read_artifact(path: Path) -> Artifact:
    """A graph or an engine, by its suffix; what it is says its manifest."""
    if path.suffix == ".onnx":
        from segdeploy.graph import read_graph

        return read_graph(path)
    if path.suffix in ENGINE_SUFFIXES:
        return EnginePlan.load(path)
    raise SegdeployError(
        f"{path}: is not an artifact; wanted .onnx, {' or '.join(ENGINE_SUFFIXES)}",
        hint="segdeploy export and segdeploy build-engine write them",
    )


def protocol_scale(dataset: str | None) -> tuple[int, int] | None:
    """(long side, short side) that a data set's test protocol resizes to; None keeps the size."""
    known = find_facts(dataset)
    return known.scale if known else None


def segment_input(session: Session, image: Image, original: Size, mode: Mode = WHOLE) -> LabelMap:
    """A network input, already resized, to the label map at the original size, as mmseg makes it.

    Args:
        session: whose artifact takes images of this size.
        image: resized as the test protocol and the mode say.
        original: size of the image before that.
        mode: how it passes through the network.

    Raises:
        SegdeployError: the artifact cannot be run in this mode; or the sizes differ and the
            artifact returns labels: mmseg resizes the logits twice, which labels cannot stand in
            for.
    """
    if mode != WHOLE:
        return segment_averaged(session, image, original, mode)
    network = Size(*image.shape[:2])
    result = run_one(session, image)
    if session.manifest.output is Output.LOGITS:
        return best_labels(result, network, original)
    if network != original:
        raise SegdeployError(
            f"the image was resized from {original} to {network}, and this artifact returns labels",
            hint="export it with --output logits: the test protocol resizes logits, not labels",
        )
    labels: LabelMap = result
    return labels


def segment(session: Session, image: Image, mode: Mode = WHOLE) -> LabelMap:
    """An image of any size to its label map of the same size.

    The image is resized as the data set's test protocol and the mode say. A whole image is resized
    to the artifact's own size if that is fixed; labels come back by nearest neighbour then, logits
    exactly.
    """
    manifest = session.manifest
    original = Size(*image.shape[:2])
    fitted = mode_input(image, protocol_scale(manifest.dataset), mode)
    if mode == WHOLE and manifest.size is not None:
        fitted = resize(image, manifest.size)
    if mode != WHOLE or manifest.output is Output.LOGITS:
        return segment_input(session, fitted, original, mode)
    return resize_labels(segment_input(session, fitted, Size(*fitted.shape[:2])), original)


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What to open beside its name, and how.

    Args:
        checkpoint: weights of a model; None: the bundled or downloaded file.
        runtime: what runs it; None: the artifact's own, ONNX Runtime for a model.
        device: where; None: a GPU for an engine of TensorRT, the CPU for all else.
        rebuild: build an engine that does not fit this machine again, from the graph beside it.
        run: how it is run.
        store: where a model's graph and engine go.
    """

    checkpoint: str | None = None
    runtime: Runtime | None = None
    device: Device | None = None
    rebuild: bool = False
    run: RunOptions = field(default_factory=RunOptions)
    store: Store = field(default_factory=Store)


def open_named(name: str, opening: Opening) -> Engine:
    """Load an artifact by its file, or a model: its checkpoint in PyTorch, or an engine of it.

    Raises:
        SegdeployError: there is no such model or file, or it cannot be run as asked for.
    """
    if is_artifact(name):
        return _open_file(Path(name), opening)
    source = resolve_source(name, opening.checkpoint, opening.store)
    if opening.runtime is Runtime.PYTORCH:
        from segdeploy.runtime.pytorch import PyTorchSession

        return SharedEngine(
            PyTorchSession(
                source.spec,
                source.checkpoint,
                output=Output.LOGITS,
                device=opening.device or CPU,
                threads=opening.run.threads,
            )
        )
    options = export_options(size=None, batch=1, precision=Precision.FP32, output=Output.LOGITS)
    runtime = opening.runtime or Runtime.ONNXRUNTIME
    request = EngineRequest(precision=None, runtime=runtime, store=opening.store)
    artifact = make_artifact(source, options, request, opening.device or CPU)
    return open_engine(artifact, opening.device, opening.run)


def _open_file(path: Path, opening: Opening) -> Engine:
    try:
        artifact = read_artifact(path)
        return _open_artifact(artifact, opening)
    except MisfitError:
        if not opening.rebuild:
            raise
    return _open_artifact(rebuild_engine(EnginePlan.describe(path)), opening)


def _open_artifact(artifact: Artifact, opening: Opening) -> Engine:
    own = artifact.manifest.runtime or Runtime.ONNXRUNTIME
    if opening.runtime not in (None, own):
        raise SegdeployError(f"{artifact.path}: is run by {own}, asked for {opening.runtime}")
    return open_engine(artifact, opening.device, opening.run)


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The files, and the image files of the folders."""
    files: list[Path] = []
    for path in paths:
        found = list_images(path) if path.is_dir() else [path]
        if not found:
            raise SegdeployError(f"{path}: holds no image", hint=f"wanted {', '.join(SUFFIXES)}")
        files += found
    return files


def segment_files(
    session: Session, files: Sequence[Path], out: Path, *, overlay: bool, mode: Mode = WHOLE
) -> list[Path]:
    """Write NAME.png, the class ids of each image, and with `overlay` NAME-overlay.png."""
    _check_places(files, out, overlay=overlay)
    written = []
    for path in track(files, "segmenting", len(files)):
        image = read_image(path)
        labels = segment(session, image, mode)
        written.append(out / f"{path.stem}.png")
        write_png(written[-1], labels)
        if overlay:
            written.append(out / f"{path.stem}-overlay.png")
            write_png(written[-1], paint(image, labels, session.manifest.classes))
    return written


def _check_places(files: Sequence[Path], out: Path, *, overlay: bool) -> None:
    """Refuse to write over an image, or over what was written a moment before."""
    endings = (".png", "-overlay.png") if overlay else (".png",)
    places = [out / f"{path.stem}{ending}" for path in files for ending in endings]
    twice = next((place for place, count in Counter(places).items() if count > 1), None)
    if twice is not None:
        raise SegdeployError(f"{twice}: two of the images would be written there")
    images = {path.resolve() for path in files}
    lost = next((place for place in places if place.resolve() in images), None)
    if lost is not None:
        raise SegdeployError(f"{lost}: is an image to segment", hint="-o another folder")
