"""A model to the engine that was asked for, through every graph on the way."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from segdeploy.artifacts import Artifact, Graph, Store
from segdeploy.engine_options import EngineOptions
from segdeploy.errors import SegdeployError, needs
from segdeploy.pipeline.asked import find_asked, hash_of_asked
from segdeploy.pipeline.built import Built
from segdeploy.pipeline.calibration import default_calibration, open_calibration
from segdeploy.pipeline.diagnosis import examined_statistics
from segdeploy.pipeline.engines import build_engine
from segdeploy.pipeline.graphs import (
    QuantizeRequest,
    existing_or_exported,
    in_form_of,
    quantize_graph,
    quantize_trained,
)
from segdeploy.pipeline.source import Source, resolve_source
from segdeploy.shapes import Profile
from segdeploy.spec import Device, Output, Precision, Runtime, Size, Tuning

if TYPE_CHECKING:
    from segdeploy.export import ExportOptions
    from segdeploy.histograms import Statistics


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """What an engine shall be; `calibration` and `data` matter to int8 only."""

    precision: Precision | None  # None: fp32 for a model, as it is for a graph
    runtime: Runtime
    calibration: str | None = None  # None: the set that belongs to the model's data set
    data: Path = Path("data")
    store: Store
    out: Path | None = None  # None: its place in the store
    keep_fp32: tuple[str, ...] = ()  # layers that int8 leaves floating, beside the set's own
    full_range: bool = False  # int8 for ONNX Runtime alone, see `placement.QuantizationForm`
    builder: EngineOptions | None = None  # of TensorRT; None: the usual ones
    save_log: Path | None = None  # of what TensorRT's builder said


def find_subject(model_or_graph: str, checkpoint: str | None, store: Store) -> Source | Graph:
    """A zoo model with its weights, or the .onnx file of one."""
    if not model_or_graph.endswith(".onnx"):
        return resolve_source(model_or_graph, checkpoint, store)
    return _find_graph(model_or_graph, checkpoint)


def _find_graph(path: str, checkpoint: str | None) -> Graph:
    if checkpoint is not None:
        raise SegdeployError(f"{path} has its weights in it; --checkpoint goes with a model")
    from segdeploy.graph import read_graph

    return read_graph(Path(path))


def make_engine_of(model_or_graph: str, checkpoint: str | None, request: EngineRequest) -> Built:
    """Build an engine of a zoo model, exported for the shapes that are asked for, or of a graph.

    Without shapes it takes single images of the model's usual size.
    """
    if model_or_graph.endswith(".onnx"):
        return engine_of_graph(_find_graph(model_or_graph, checkpoint), request)
    asked = hash_of_asked(model_or_graph, checkpoint, request)
    if asked and request.save_log is None:
        present = find_asked(model_or_graph, asked, request)
        if present is not None:
            return Built(present, seconds=0)
    graph, request, warnings = prepare_graph(model_or_graph, checkpoint, request)
    built = _build(graph, warnings, request)
    if not asked:
        return built
    plan = replace(built.plan, manifest=replace(built.plan.manifest, asked=asked))
    plan.save_manifest()
    return replace(built, plan=plan)


def prepare_graph(
    model_or_graph: str, checkpoint: str | None, request: EngineRequest
) -> tuple[Graph, EngineRequest, tuple[str, ...]]:
    """The graph that an engine is built of, the request as it fits the graph, and warnings.

    Shapes that leave nothing open make a graph of a fixed size, which has no profiles.
    """
    subject = find_subject(model_or_graph, checkpoint, request.store)
    if isinstance(subject, Graph):
        graph, warnings = _in_precision(subject, request)
        return graph, request, warnings
    builder = request.builder
    size, batch = _axes(builder.profiles if builder else (), subject.spec.size)
    if builder is not None and size is not None and batch is not None:
        request = replace(request, builder=replace(builder, profiles=()))
    options = export_options(
        size=size, batch=batch, precision=_floating(request), output=Output.LABELS
    )
    graph, warnings = _graph_of(subject, options, request)
    return graph, request, warnings


def _axes(profiles: tuple[Profile, ...], usual: Size | None) -> tuple[Size | None, int | None]:
    """Size and batch that a graph has to have for these shapes; None: open."""
    if not profiles:
        return usual, 1
    shapes = [
        shape
        for profile in profiles
        for of_input in profile
        for shape in (of_input.min, of_input.opt, of_input.max)
    ]
    batches = {shape[0] for shape in shapes}
    sizes = {Size(*shape[1:3]) for shape in shapes}
    return (
        sizes.pop() if len(sizes) == 1 else None,
        batches.pop() if len(batches) == 1 else None,
    )


def make_artifact(
    source: Source, options: "ExportOptions", request: EngineRequest, device: Device
) -> Artifact:
    """What `request.runtime` runs on `device`: an engine, but the graph for ONNX Runtime on CUDA.

    ONNX Runtime engines are optimized for the CPU.
    """
    artifact: Artifact
    if request.runtime is Runtime.ONNXRUNTIME and device.is_cuda:
        artifact, warnings = _graph_of(source, options, request)
    else:
        built = make_engine(source, options, request)
        artifact, warnings = built.plan, built.warnings
    for warning in warnings:
        logger.warning("%s: %s", artifact.path, warning)
    return artifact


def make_engine(source: Source, options: "ExportOptions", request: EngineRequest) -> Built:
    """Export, quantize and build; what is there already and still fits is used again."""
    graph, warnings = _graph_of(source, options, request)
    return _build(graph, warnings, request)


def make_graph(source: Source, options: "ExportOptions", request: EngineRequest) -> Graph:
    """Export, and quantize if int8 is asked for: what an engine is built of."""
    return _graph_of(source, options, request)[0]


def _graph_of(
    source: Source, options: "ExportOptions", request: EngineRequest
) -> tuple[Graph, tuple[str, ...]]:
    """The graph, and what is odd about the images that int8 was made with."""
    options = replace(options, precision=_floating(request))
    if request.precision is Precision.INT8 and source.checkpoint.ranges:
        return _as_trained(source, options, request), ()
    return _in_precision(make_floating_graph(source, options, request.store), request)


def _as_trained(source: Source, options: "ExportOptions", request: EngineRequest) -> Graph:
    """Of a checkpoint from quantization-aware training: nothing is left to choose."""
    if request.calibration or request.keep_fp32 or request.full_range:
        raise SegdeployError(
            f"{source.checkpoint.name}: was trained with int8 scales, which are used as they are",
            hint="leave out --calibration, --keep-fp32 and --full-range",
        )
    floating = make_floating_graph(source, replace(options, tuning=Tuning.PLAIN), request.store)
    variant = int8_variant(floating, full_range=False)
    out = request.store.graph(source.spec.name, f"{variant}.{request.runtime}")
    return quantize_trained(source, floating, request.runtime, out)


def make_floating_graph(source: Source, options: "ExportOptions", store: Store) -> Graph:
    """Export to the store, or find the same graph there."""
    return existing_or_exported(source, options, default_graph_path(source, options, store))


def engine_of_graph(graph: Graph, request: EngineRequest) -> Built:
    """Build an engine of a graph, after calibration if int8 is asked of a floating one."""
    return _build(*_in_precision(graph, request), request)


def _build(graph: Graph, warnings: tuple[str, ...], request: EngineRequest) -> Built:
    built = build_engine(
        graph,
        request.runtime,
        engine_place(graph, request),
        request.builder,
        store=request.store,
        save_log=request.save_log,
    )
    return replace(built, warnings=(*warnings, *built.warnings))


def engine_place(graph: Graph, request: EngineRequest) -> Path:
    """Where the engine goes: where it was asked to, or its place in the store."""
    variant = graph.path.stem.removesuffix(f".{request.runtime}")
    usual = request.store.engine(graph.manifest.model, variant, request.runtime)
    return request.out or usual


def _in_precision(graph: Graph, request: EngineRequest) -> tuple[Graph, tuple[str, ...]]:
    """The graph itself if it has the precision that is asked for, or its int8 form.

    With what is odd about the images, where int8 had to be made of them.
    """
    found, model = graph.manifest.precision, graph.manifest.model
    if request.precision in (None, found):
        return in_form_of(graph, request.runtime, request.store), ()
    if request.precision is not Precision.INT8:
        raise SegdeployError(
            f"{graph.path}: is {found}, asked for {request.precision}; "
            "an engine computes as its graph says",
            hint=f"segdeploy export {model} --precision {request.precision}",
        )
    chosen = request.calibration or default_calibration(graph.manifest.dataset)
    variant = int8_variant(graph, full_range=request.full_range)
    calibration = open_calibration(chosen, request.data)
    warnings: tuple[str, ...] = ()

    def statistics() -> "Statistics":
        nonlocal warnings
        found, warnings = examined_statistics(graph, calibration, request.data, request.store)
        return found

    how = QuantizeRequest(
        calibration=calibration,
        runtime=request.runtime,
        keep_fp32=request.keep_fp32,
        full_range=request.full_range,
        store=request.store,
        statistics=statistics,
    )
    out = request.store.graph(model, f"{variant}.{request.runtime}")
    quantized = quantize_graph(graph, how, out)
    return quantized, warnings  # which are known only now


def int8_variant(graph: Graph, *, full_range: bool) -> str:
    """What the int8 form of a graph is called in the store: int8 for fp32, int8-mine for mine."""
    precision, name = graph.manifest.precision, graph.path.stem
    is_ours = name == precision or name.startswith(f"{precision}-")
    rest = name.removeprefix(precision) if is_ours else f"-{name}"
    return f"{Precision.INT8}{rest}{'-full-range' if full_range else ''}"


def default_graph_path(source: Source, options: "ExportOptions", store: Store) -> Path:
    """For example artifacts/demo/fp32.onnx, or artifacts/fcn-ade20k/fp16-dynamic-logits.onnx."""
    size = None if options.size == source.spec.size else options.size or "dynamic"
    parts = [
        options.precision,
        size,
        f"batch{options.batch or 'N'}",
        options.output,
        options.tuning,
    ]
    usual = ("batch1", Output.LABELS, Tuning.ANY)
    parts = [part for part in parts if part and part not in usual]
    return store.graph(source.spec.name, "-".join(map(str, parts)))


def export_options(
    *,
    size: Size | None,
    batch: int | None,
    precision: Precision,
    output: Output,
    tuning: Tuning = Tuning.ANY,
) -> "ExportOptions":
    """How a graph is traced; an error says what to install if nothing here can trace."""
    with needs("torch", "onnxscript", extra="torch"):
        from segdeploy.export import ExportOptions
    return ExportOptions(size=size, batch=batch, precision=precision, output=output, tuning=tuning)


def _floating(request: EngineRequest) -> Precision:
    """The precision of the layers that int8 leaves floating: half on a GPU, single on a CPU."""
    if request.precision is not Precision.INT8:
        return request.precision or Precision.FP32
    return Precision.FP32 if request.runtime is Runtime.ONNXRUNTIME else Precision.FP16
