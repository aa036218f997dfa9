"""From a graph to an engine of the runtime that a machine has."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from segdeploy.artifacts import (
    EnginePlan,
    Graph,
    Manifest,
    engine_suffix,
    request_hash,
    sha256_of,
)
from segdeploy.cuda import driver_problem
from segdeploy.datasets import find_facts
from segdeploy.datasets.scenes import draw_scene
from segdeploy.engine_options import EngineOptions
from segdeploy.environment import query_gpus
from segdeploy.errors import SegdeployError, needs
from segdeploy.nvinfer import MODULES, load_library
from segdeploy.pipeline.graphs import logits_of, nominal_size
from segdeploy.shapes import Profile, ShapeProfile
from segdeploy.spec import INPUT, MIN_SIDE, MaskPlace, Output, Precision, Runtime, Size, Tuning
from segdeploy.version import __version__

MAX_BATCH = 8  # of a dynamic engine
LARGEST = Size(1024, 2048)
CHECKED = Size(161, 227)  # where a dynamic graph is compared with its rewritten form: odd
LOGIT_ERROR = 1e-3  # of the logit range, as on export; measured: at most 6e-6


@dataclass(frozen=True)
class Built:
    """An engine and what building it took; `seconds` 0: the same one was there already."""

    plan: EnginePlan
    seconds: float
    convolutions: Mapping[Precision, int] = field(default_factory=dict)
    activation_bytes: int | None = None
    warnings: tuple[str, ...] = ()


def best_runtime() -> Runtime:
    """What builds the fastest engine that this machine can also run."""
    if driver_problem() is None:
        for runtime in (Runtime.TENSORRT, Runtime.TENSORRT_RTX):
            if find_spec(MODULES[runtime]) is not None:
                return runtime
    return Runtime.ONNXRUNTIME


def build_engine(
    graph: Graph,
    runtime: Runtime,
    out: Path,
    options: EngineOptions | None = None,
    *,
    save_log: Path | None = None,
) -> Built:
    """Compile `graph` for `runtime`, or find the same engine already there.

    Args:
        graph: floating, or in the int8 form of the runtime.
        runtime: what will run the engine.
        out: the engine to write.
        options: for TensorRT; shape profiles follow from the graph. None: the usual ones.
        save_log: where to write what TensorRT's builder said; it then builds in any case.
    """
    if runtime is not Runtime.PYTORCH and out.suffix != engine_suffix(runtime):
        raise SegdeployError(f"{out}: wanted a name that ends in {engine_suffix(runtime)}")
    match runtime:
        case Runtime.ONNXRUNTIME:
            if options is not None or save_log is not None:
                raise SegdeployError(
                    "workspace, optimization level, TF32, compute capabilities and the build log "
                    "are TensorRT's; onnxruntime has none of them",
                    hint="leave them out, or --target tensorrt-rtx",
                )
            return _build_onnxruntime(graph, out)
        case Runtime.TENSORRT | Runtime.TENSORRT_RTX:
            return _build_tensorrt(graph, runtime, out, options, save_log)
        case Runtime.PYTORCH:
            raise SegdeployError(
                "pytorch runs checkpoints, it has no engines", hint="--target onnxruntime"
            )


def _build_onnxruntime(graph: Graph, out: Path) -> Built:
    with needs("onnxruntime", "onnx_ir", extra="onnxruntime"):
        from segdeploy.rewrite.passes import prepare_for_cpu
        from segdeploy.runtime.onnxruntime import VERSION, optimize_graph, processor_kind
    from segdeploy.graph import read_model

    _check_tuning(graph, Tuning.CPU)
    request = request_hash(
        graph=graph.manifest.request,
        segdeploy=__version__,
        runtime=VERSION,
        machine=processor_kind(),
        mask=MaskPlace.HOST,
    )
    if (present := _existing(out, request)) is not None:
        return Built(present, seconds=0)
    start = time.perf_counter()
    given = read_model(graph.path)
    model, steps = prepare_for_cpu(given, graph.manifest.tuning, nominal_size(graph.manifest))
    rewrites = tuple(step.name for step in steps if step.places)
    if set(rewrites) - {"leave_mask_to_host"}:
        _check_same_logits(graph, given, model)
    optimize_graph(model.SerializeToString(), out)
    seconds = time.perf_counter() - start
    manifest = replace(
        graph.manifest,
        tuning=graph.manifest.tuning if graph.manifest.tuning is Tuning.PLAIN else Tuning.CPU,
        rewrites=(*graph.manifest.rewrites, *rewrites),
        mask=MaskPlace.HOST if graph.manifest.output is Output.LABELS else MaskPlace.GRAPH,
        runtime=Runtime.ONNXRUNTIME,
        runtime_version=VERSION,
        machine=processor_kind(),
        request=request,
    )
    return Built(_save(graph, manifest, out), seconds)


def _check_same_logits(graph: Graph, given: Any, rewritten: Any) -> None:
    """The graph was compared with PyTorch; what became of it is compared with the graph.

    In integers a value halfway between two steps may go either way, and then its neighbourhood
    differs by a step: there the error is that of all logits together.
    """
    size = graph.manifest.size or CHECKED
    images = np.stack([draw_scene(k, size)[0] for k in range(graph.manifest.batch or 2)])
    found = [logits_of(model, graph.manifest, [images])[0] for model in (given, rewritten)]
    differences = np.abs(found[1] - found[0])
    is_int8 = graph.manifest.precision is Precision.INT8
    error = float(np.sqrt(np.square(differences).mean()) if is_int8 else differences.max())
    if not error <= LOGIT_ERROR * float(np.ptp(found[0])):  # also where it is not a number
        raise SegdeployError(
            f"{graph.path}: its logits differ by {error:.2e} once rewritten; nothing was built",
            hint=f"segdeploy export {graph.manifest.model} --plain is not rewritten; "
            "please report this",
        )


def _check_tuning(graph: Graph, wanted: Tuning) -> None:
    """A graph that was rewritten for another kind of machine is right but slow."""
    found = graph.manifest.tuning
    if found not in (Tuning.PLAIN, Tuning.ANY, wanted):
        raise SegdeployError(
            f"{graph.path}: is rewritten for a {found}, this engine is for a {wanted}",
            hint=f"segdeploy export {graph.manifest.model} without --for serves both",
        )


def _build_tensorrt(
    graph: Graph,
    runtime: Runtime,
    out: Path,
    options: EngineOptions | None,
    save_log: Path | None,
) -> Built:
    from segdeploy.engine.builder import build_plan

    _check_tuning(graph, Tuning.GPU)
    if graph.manifest.quantization.startswith(Runtime.ONNXRUNTIME):
        raise SegdeployError(
            f"{graph.path}: is quantized for ONNX Runtime, {runtime} refuses its zero points",
            hint=f"segdeploy build-engine {graph.manifest.model} --int8 --target {runtime}",
        )
    if runtime is Runtime.TENSORRT:
        _require_tensorrt()
    options = replace(options or EngineOptions(), profiles=_profiles(graph.manifest))
    version = load_library(runtime).__version__
    gpus = query_gpus()[0] if runtime is Runtime.TENSORRT else ()
    machine = gpus[0].name if gpus else "NVIDIA GPUs of compute capability 8.0 and later"
    request = request_hash(
        graph=graph.manifest.request, runtime=(runtime, version), machine=machine, options=options
    )
    if save_log is None and (present := _existing(out, request)) is not None:
        return Built(present, seconds=0)
    built = build_plan(
        graph.path,
        out,
        runtime=runtime,
        options=options,
        expected=graph.manifest.precision,
        save_log=save_log,
    )
    manifest = replace(
        graph.manifest,
        runtime=runtime,
        runtime_version=version,
        machine=machine,
        request=request,
    )
    return Built(
        _save(graph, manifest, out),
        built.seconds,
        built.convolutions,
        built.activation_bytes,
        built.warnings,
    )


def _require_tensorrt() -> None:
    """All that is missing in one sentence, before any of TensorRT's objects is created."""
    problem = driver_problem()
    missing = [problem] if problem else []
    if find_spec(MODULES[Runtime.TENSORRT]) is None:
        missing.append("the package tensorrt is not installed")
    if missing:
        raise SegdeployError(
            f"TensorRT cannot build on this machine: {', and '.join(missing)}",
            hint="pip install 'segdeploy[tensorrt]' on the machine with the GPU; "
            "--target tensorrt-rtx builds without one",
        )


def _profiles(manifest: Manifest) -> tuple[Profile, ...]:
    """The shapes that a dynamic graph's engine takes: all that the test protocol can ask for."""
    if manifest.size is not None and manifest.batch is not None:
        return ()
    if manifest.size is not None:
        smallest = usual = largest = manifest.size
    else:
        facts = find_facts(manifest.dataset)
        smallest = Size(MIN_SIDE, MIN_SIDE)
        usual = nominal_size(manifest)
        # Upright images turn the long side: both axes must reach it.
        largest = Size(max(facts.scale), max(facts.scale)) if facts and facts.scale else LARGEST
    few, many = (1, MAX_BATCH) if manifest.batch is None else (manifest.batch, manifest.batch)
    shapes = ShapeProfile(
        tensor=INPUT, min=(few, *smallest, 3), opt=(few, *usual, 3), max=(many, *largest, 3)
    )
    return ((shapes,),)


def _save(graph: Graph, manifest: Manifest, out: Path) -> EnginePlan:
    plan = EnginePlan(
        out, replace(manifest, source_sha256=sha256_of(graph.path), sha256=sha256_of(out))
    )
    plan.save_manifest()
    return plan


def _existing(path: Path, request: str) -> EnginePlan | None:
    if not path.is_file():
        return None
    try:
        plan = EnginePlan.load(path)
    except SegdeployError:  # damaged, or without its manifest: built again
        return None
    return plan if plan.manifest.request == request else None
