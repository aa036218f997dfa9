"""An artifact becomes a folder that DeepStream's Gst-nvinfer runs."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from segdeploy.artifacts import EnginePlan, Graph, sha256_of
from segdeploy.compatibility import flavour_of
from segdeploy.deepstream.configuration import (
    CLASSES,
    CONFIGURATION,
    GUIDE,
    MAKEFILE,
    NETWORK,
    PARSER,
    NvinferOptions,
    NvinferOutput,
    class_lines,
    guide,
    nvinfer_configuration,
)
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.plans import check_graph
from segdeploy.pipeline.segment import read_artifact
from segdeploy.recipes import ROOT
from segdeploy.spec import MAX_SIDE, MIN_SIDE, Output, Runtime, Size

SOURCES = ROOT / "cpp" / "deepstream"


def export_deepstream(
    path: Path, out: Path, options: NvinferOptions, size: Size | None = None
) -> tuple[Path, ...]:
    """Write the network, its configuration and, for label maps, the parser; all or nothing.

    Args:
        path: a graph, or a plan beside the graph that it was built of: plans of segdeploy take
            pixels in uint8, which nvinfer cannot feed, so it builds an engine of its own.
        out: the folder, new or empty.
        options: how nvinfer shall run it.
        size: of the images, for a graph of any size.

    Raises:
        SegdeployError: nvinfer cannot run such an artifact, or not in this way.
    """
    graph = _graph_of(path)
    taken = _size_of(graph, size)
    _check_batch(graph, options)
    _check_place(out)
    texts = {
        CONFIGURATION: nvinfer_configuration(graph.manifest, taken, options, sha256_of(graph.path)),
        CLASSES: class_lines(graph.manifest),
        GUIDE: guide(graph.manifest, taken, options),
    }
    from segdeploy.deepstream.network import network_for_nvinfer

    network = network_for_nvinfer(graph, options.output, taken)
    copied = (PARSER, MAKEFILE) if options.output is NvinferOutput.LABELS else ()
    with _filling(out) as folder:
        (folder / NETWORK).write_bytes(network.SerializeToString())
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        for name in copied:
            shutil.copyfile(SOURCES / name, folder / name)
    return tuple(out / name for name in (CONFIGURATION, NETWORK, CLASSES, GUIDE, *copied))


def _graph_of(path: Path) -> Graph:
    """The artifact's graph, which TensorRT has to take and which has to return labels."""
    artifact = read_artifact(path)
    if isinstance(artifact, EnginePlan):
        flavour_of(path, artifact.manifest)  # no other engine is for TensorRT
        from segdeploy.graph import read_graph

        artifact = read_graph(artifact.find_source())
    if artifact.manifest.output is not Output.LABELS:
        raise SegdeployError(
            f"{artifact.path}: returns {artifact.manifest.output}; wanted labels, of which "
            "probabilities are made too",
            hint=f"segdeploy export {artifact.manifest.model} --output labels",
        )
    check_graph(artifact, Runtime.TENSORRT)
    return artifact


def _size_of(graph: Graph, asked: Size | None) -> Size:
    """Of the one size that every frame is stretched to."""
    fixed = graph.manifest.size
    if asked is not None and not MIN_SIDE <= min(asked) <= max(asked) <= MAX_SIDE:
        raise SegdeployError(f"size {asked}; wanted {MIN_SIDE} to {MAX_SIDE} a side")
    if fixed is not None and asked not in (None, fixed):
        raise SegdeployError(
            f"{graph.path}: takes images of {fixed}, asked for {asked}",
            hint=f"segdeploy export {graph.manifest.model} --size {asked}",
        )
    size = fixed or asked
    if size is None:
        raise SegdeployError(
            f"{graph.path}: takes images of any size, nvinfer gives it one", hint="--size HxW"
        )
    return size


def _check_batch(graph: Graph, options: NvinferOptions) -> None:
    """The batch of every graph is opened by nvinfer, which gives it 1 to batch-size frames."""
    fixed = graph.manifest.batch
    if fixed is None or fixed == options.batch == 1:
        return
    raise SegdeployError(
        f"{graph.path}: takes {fixed} images at a time, nvinfer would give it 1 to "
        f"{max(fixed, options.batch)}",
        hint=f"segdeploy export {graph.manifest.model} --batch dynamic, then --batch-size N",
    )


def _check_place(out: Path) -> None:
    """An engine that nvinfer built of another graph must not be found beside this one."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SegdeployError(f"{out}: is there already; wanted a new or an empty folder")


@contextmanager
def _filling(out: Path) -> Iterator[Path]:
    """Give a temporary folder, and move its files to `out` when the block succeeds.

    An empty `out` stays the folder that it is: the current one, a mounted one, one behind a link.
    """
    place = out.resolve()
    is_new = not place.exists()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".part-", dir=place) as folder:
            yield Path(folder)
            for path in sorted(Path(folder).iterdir()):
                path.replace(place / path.name)
    except OSError as error:
        if is_new:
            with suppress(OSError):
                place.rmdir()
        raise SegdeployError(f"{out}: cannot be written ({error.strerror})") from error
