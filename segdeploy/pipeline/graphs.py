"""From a checkpoint to a graph, and from a floating graph to an int8 one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segdeploy.artifacts import Graph, Manifest, Store, request_hash, writing
from segdeploy.datasets import find_facts
from segdeploy.datasets.scenes import draw_scene
from segdeploy.errors import SegdeployError, needs
from segdeploy.pipeline.calibration import CalibrationImages
from segdeploy.pipeline.source import Source
from segdeploy.pipeline.statistics import statistics_of
from segdeploy.progress import progress_bar, track
from segdeploy.spec import Images, Output, Precision, Runtime, Size, Tuning
from segdeploy.version import __version__

if TYPE_CHECKING:
    from segdeploy.export import ExportOptions, Parity
    from segdeploy.histograms import Statistics
    from segdeploy.quantize.model import QuantizeOptions
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


def logits_of(model: Any, manifest: Manifest, batches: Iterable[Images]) -> list[NDArray[Any]]:
    """What a graph's head returns for each batch, by ONNX Runtime; no mask is made of it."""
    from segdeploy.graph import logits_tensor, with_outputs

    with needs("onnxruntime", extra="onnxruntime"):
        from segdeploy.runtime.onnxruntime import OnnxRuntimeSession
    name = logits_tensor(model)
    exposed = with_outputs(model, [name]).SerializeToString()
    with OnnxRuntimeSession(exposed, replace(manifest, output=Output.LOGITS)) as session:
        return [session.outputs(batch)[name] for batch in batches]


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


@dataclass(frozen=True, kw_only=True)
class QuantizeRequest:
    """What an int8 graph shall be, beside the floating graph it is made of."""

    calibration: CalibrationImages
    runtime: Runtime
    keep_fp32: tuple[str, ...] = ()  # beside what the calibration set keeps
    full_range: bool = False  # for ONNX Runtime on a CPU alone
    statistics: "Callable[[], Statistics] | None" = None  # None: those in the store, or collected
    store: Store = field(default_factory=Store)


def quantize_options(request: QuantizeRequest) -> "QuantizeOptions":
    """How a runtime's graph is quantized."""
    from segdeploy.placement import QuantizationForm
    from segdeploy.quantize.model import QuantizeOptions

    recipe, on_cpu = request.calibration.recipe, request.runtime is Runtime.ONNXRUNTIME
    if request.full_range and not on_cpu:
        raise SegdeployError(
            f"the full range of uint8 is for ONNX Runtime alone, {request.runtime} refuses it",
            hint="leave it out, or --target onnxruntime",
        )
    form = QuantizationForm.TENSORRT
    if on_cpu:
        form = QuantizationForm.FULL_RANGE if request.full_range else QuantizationForm.ONNXRUNTIME
        with needs("onnxruntime", extra="onnxruntime"):
            from segdeploy.runtime.onnxruntime import int8_weight_bits
    return QuantizeOptions(
        form=form,
        method=recipe.method,
        percentile=recipe.percentile,
        keep_fp32=(*recipe.keep_fp32, *request.keep_fp32),
        quantize_depthwise=request.runtime is not Runtime.TENSORRT_RTX,
        weight_bits=int8_weight_bits() if on_cpu else 8,
    )


def quantize_graph(graph: Graph, request: QuantizeRequest, out: Path) -> Graph:
    """Calibrate a floating graph and write its int8 form, if it is not there yet."""
    from segdeploy.graph import read_model, save_graph
    from segdeploy.quantize.model import quantize_model

    calibration, options = request.calibration, quantize_options(request)
    hashed = request_hash(
        graph=graph.manifest.request,
        images=calibration.content,
        options=options,
        segdeploy=__version__,
    )
    if (present := _existing(out, hashed)) is not None:
        return present
    check_floating(graph)
    if request.statistics is None:
        statistics = statistics_of(graph, calibration, request.store)
    else:
        statistics = request.statistics()
    quantized = quantize_model(read_model(graph.path), statistics, options)
    kept = f", {len(options.keep_fp32)} kept floating" if options.keep_fp32 else ""
    manifest = replace(
        graph.manifest,
        precision=Precision.INT8,
        calibration=f"{calibration.summary}, {options.weight_bits}-bit weights{kept}",
        calibration_split=calibration.split,
        calibration_images=calibration.ids,
        quantization=str(options.form),
        request=hashed,
    )
    return save_graph(quantized, manifest, out)


def quantize_trained(source: Source, floating: Graph, runtime: Runtime, out: Path) -> Graph:
    """The int8 graph of a checkpoint from quantization-aware training, if it is not there yet.

    Args:
        source: with ranges in its checkpoint.
        floating: exported of it as trained, `Tuning.PLAIN`.
        runtime: what will run it.
        out: the graph to write.
    """
    from segdeploy.graph import read_model, save_graph
    from segdeploy.placement import QuantizationForm
    from segdeploy.quantize.as_trained import quantize_as_trained

    with needs("torch", extra="torch"):
        from segdeploy.nets.quantizers import trained_convolutions
    on_cpu = runtime is Runtime.ONNXRUNTIME
    form = QuantizationForm.ONNXRUNTIME if on_cpu else QuantizationForm.TENSORRT
    hashed = request_hash(graph=floating.manifest.request, trained=str(form), segdeploy=__version__)
    if (present := _existing(out, hashed)) is not None:
        return present
    trained = trained_convolutions(source.spec, source.checkpoint)
    model = quantize_as_trained(read_model(floating.path), trained, form)
    manifest = replace(
        floating.manifest,
        precision=Precision.INT8,
        calibration=f"as trained: {len(trained)} convolutions of {source.checkpoint.name}",
        quantization=str(form),
        request=hashed,
    )
    return save_graph(model, manifest, out)


def in_form_of(graph: Graph, runtime: Runtime, store: Store) -> Graph:
    """An int8 graph as it is, such as one from quantization-aware training.

    For ONNX Runtime the same numbers are written in the form that its CPU kernels like.
    """
    from segdeploy.graph import read_model, save_graph
    from segdeploy.placement import QuantizationForm
    from segdeploy.quantize.cpu_form import to_cpu_form

    manifest = graph.manifest
    is_int8 = manifest.precision is Precision.INT8
    symmetric = manifest.quantization == QuantizationForm.TENSORRT
    if not (is_int8 and symmetric and runtime is Runtime.ONNXRUNTIME):
        return graph
    form = str(QuantizationForm.ONNXRUNTIME)
    hashed = request_hash(graph=manifest.request, form=form, segdeploy=__version__)
    out = store.graph(manifest.model, f"{graph.path.stem}.as.{runtime}")
    if (present := _existing(out, hashed)) is not None:
        return present
    written = replace(manifest, quantization=form, request=hashed)
    return save_graph(to_cpu_form(read_model(graph.path)), written, out)


def check_floating(graph: Graph) -> None:
    """Refuse to quantize what is not made for it."""
    if graph.manifest.tuning is Tuning.CPU:
        raise SegdeployError(
            f"{graph.path}: is rewritten for float32 on a CPU, which int8 would lose accuracy with",
            hint="export it without --for cpu",
        )
    if graph.manifest.precision is Precision.INT8:
        raise SegdeployError(f"{graph.path}: is an int8 graph already")


def _existing(path: Path, request: str) -> Graph | None:
    from segdeploy.graph import read_graph

    if not path.is_file():
        return None
    try:
        graph = read_graph(path)
    except SegdeployError:  # damaged or written by something else: made again
        return None
    return graph if graph.manifest.request == request else None
