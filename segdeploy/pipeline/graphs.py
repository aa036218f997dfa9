"""From a checkpoint to a graph, and from a floating graph to an int8 one."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import Graph, Manifest, request_hash, writing
from segdeploy.datasets import find_facts
from segdeploy.datasets.scenes import draw_scene
from segdeploy.errors import SegdeployError, needs
from segdeploy.images import resize
from segdeploy.pipeline.calibration import CalibrationImages
from segdeploy.pipeline.source import Source
from segdeploy.progress import progress_bar, track
from segdeploy.spec import Images, Output, Precision, Runtime, Size, Tuning

if TYPE_CHECKING:
    from segdeploy.export import ExportOptions, Parity
    from segdeploy.rewrite.passes import Step

USUAL = Size(512, 1024)  # of an image, where no data set says otherwise


@dataclass(frozen=True)
class Exported:
    """A graph, how it compares with PyTorch, and what each rewrite saved."""

    graph: Graph
    parities: tuple["Parity", ...]
    steps: tuple["Step", ...]


def export_model(
    source: Source, options: "ExportOptions", out: Path, *, verify: bool = True
) -> Exported:
    """Export and rewrite a graph and prove it equal to PyTorch; if it is not, nothing is left."""
    with needs("torch", "onnxscript", extra="torch"):
        from segdeploy.export import export_graph
    if out.suffix != ".onnx":
        raise SegdeployError(f"{out}: wanted a name that ends in .onnx")
    with writing(out) as temporary:
        with progress_bar(f"exporting {source.spec.name}", total=None):
            plain = export_graph(source.spec, source.checkpoint, temporary, options=options)
            graph, steps = rewrite_graph(plain, options.tuning)
        parities = _verify(graph, source, options) if verify else ()
    return Exported(replace(graph, path=out), parities, steps)


def rewrite_graph(graph: Graph, tuning: Tuning) -> tuple[Graph, tuple["Step", ...]]:
    """Replace the file of a plain graph by its rewritten form."""
    from segdeploy.graph import read_model, save_graph
    from segdeploy.rewrite.passes import PASSES, rewrite_model

    model, steps = rewrite_model(
        read_model(graph.path), PASSES[tuning], nominal_size(graph.manifest)
    )
    names = tuple(step.name for step in steps if step.places)
    manifest = replace(graph.manifest, tuning=tuning, rewrites=names)
    return save_graph(model, manifest, graph.path), steps


def nominal_size(manifest: Manifest) -> Size:
    """Of an image: the graph's own, else what its data set's images have at test time."""
    facts = find_facts(manifest.dataset)
    return manifest.size or (facts.nominal_size if facts else USUAL)


def existing_or_exported(source: Source, options: "ExportOptions", out: Path) -> Graph:
    """The graph at `out` if it was made of the very same input, otherwise a fresh one."""
    with needs("torch", "onnxscript", extra="torch"):
        from segdeploy.export import request_of
    return _existing(out, request_of(source.spec, source.checkpoint, options)) or (
        export_model(source, options, out).graph
    )


def _verify(graph: Graph, source: Source, options: "ExportOptions") -> tuple["Parity", ...]:
    from segdeploy.export import measure_parity, parity_sizes
    from segdeploy.graph import logits_tensor, read_model, with_outputs

    with needs("onnxruntime", extra="onnxruntime"):
        from segdeploy.runtime.onnxruntime import OnnxRuntimeSession
    model = read_model(graph.path)
    logits = logits_tensor(model)
    sizes = parity_sizes(options)
    batches = (
        np.stack([draw_scene(seed, size)[0] for seed in range(batch)]) for batch, size in sizes
    )
    exposed = with_outputs(model, [logits]).SerializeToString()
    with OnnxRuntimeSession(exposed, graph.manifest) as session:

        def run(images: Images) -> tuple[NDArray[Any], NDArray[Any] | None]:
            found = session.outputs(images)
            return found[logits], found.get(Output.LABELS)

        parities = measure_parity(
            run, source.spec, source.checkpoint, track(batches, "verifying", len(sizes))
        )
    for parity in parities:
        if not parity.holds(options.precision):
            raise SegdeployError(
                f"{graph.path.name}: differs from PyTorch at {parity.size}: "
                f"{parity.equal_labels:.4%} of the labels equal, largest logit difference "
                f"{parity.logit_error:.2e} of {parity.logit_range:.1f}; nothing was written",
                hint="--no-verify writes it for a look; please report this",
            )
    return parities


def quantize_graph(
    graph: Graph, calibration: CalibrationImages, runtime: Runtime, out: Path
) -> Graph:
    """Calibrate a floating graph and write its int8 form for `runtime`, if it is not there yet."""
    from segdeploy.calibrate import collect_ranges, observe_graph
    from segdeploy.graph import read_model, save_graph
    from segdeploy.placement import QuantizationForm, graph_sha256
    from segdeploy.quantize import quantize_model

    with needs("onnxruntime", extra="onnxruntime"):
        from segdeploy.runtime.onnxruntime import OnnxRuntimeSession, int8_weight_bits
    recipe = calibration.recipe
    is_embedded = runtime is Runtime.ONNXRUNTIME
    form = QuantizationForm.ONNXRUNTIME if is_embedded else QuantizationForm.TENSORRT
    quantize_depthwise = runtime is not Runtime.TENSORRT_RTX  # which pads depthwise weights 4x
    weight_bits = int8_weight_bits() if is_embedded else 8
    request = request_hash(
        graph=graph.manifest.request,
        images=calibration.content,
        recipe=(recipe.method, recipe.percentile, recipe.keep_fp32),
        form=(form, quantize_depthwise, weight_bits),
    )
    if (present := _existing(out, request)) is not None:
        return present
    model = read_model(graph.path)
    if graph.manifest.tuning is Tuning.CPU:
        raise SegdeployError(
            f"{graph.path}: is rewritten for float32 on a CPU, which int8 would lose accuracy with",
            hint="export it without --for cpu",
        )
    if graph.manifest.precision is Precision.INT8:
        raise SegdeployError(f"{graph.path}: is an int8 graph already")
    observed = observe_graph(model).SerializeToString()
    with OnnxRuntimeSession(observed, graph.manifest) as session:
        ranges = collect_ranges(
            session.outputs,
            track(_batches(graph, calibration), "calibrating", len(calibration.ids)),
            graph_sha256=graph_sha256(model),
            method=recipe.method,
            percentile=recipe.percentile,
        )
    quantized = quantize_model(
        model,
        ranges,
        form=form,
        keep_fp32=recipe.keep_fp32,
        quantize_depthwise=quantize_depthwise,
        weight_bits=weight_bits,
    )
    manifest = replace(
        graph.manifest,
        precision=Precision.INT8,
        calibration=f"{calibration.summary}, {weight_bits}-bit weights",
        calibration_split=calibration.split,
        calibration_images=calibration.ids,
        quantization=str(form),
        request=request,
    )
    return save_graph(quantized, manifest, out)


def _batches(graph: Graph, calibration: CalibrationImages) -> Iterator[Images]:
    """One image at a time, at the graph's own size and batch; a static batch repeats the image."""
    for image in calibration.load():
        fitted = resize(image, graph.manifest.size or Size(*image.shape[:2]))
        yield np.repeat(fitted[None], graph.manifest.batch or 1, axis=0)


def _existing(path: Path, request: str) -> Graph | None:
    from segdeploy.graph import read_graph

    if not path.is_file():
        return None
    try:
        graph = read_graph(path)
    except SegdeployError:  # damaged or written by something else: made again
        return None
    return graph if graph.manifest.request == request else None
