"""From a graph to an engine of the runtime that a machine has."""

import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from segdeploy.artifacts import Graph, Store, engine_suffix, request_hash
from segdeploy.cuda import driver_problem
from segdeploy.datasets.scenes import draw_scene
from segdeploy.engine_options import EngineOptions
from segdeploy.errors import SegdeployError, needs
from segdeploy.nvinfer import MODULES
from segdeploy.pipeline.built import Built, existing_engine, save_engine
from segdeploy.pipeline.graphs import logits_of, nominal_size
from segdeploy.pipeline.plans import build_tensorrt, check_tuning
from segdeploy.spec import MaskPlace, Output, Precision, Runtime, Size, Tuning
from segdeploy.version import __version__

CHECKED = Size(161, 227)  # where a dynamic graph is compared with its rewritten form: odd
LOGIT_ERROR = 1e-3  # of the logit range, as on export; measured: at most 6e-6


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
    store: Store | None = None,
    save_log: Path | None = None,
) -> Built:
    """Compile `graph` for `runtime`, or find the same engine already there.

    Args:
        graph: floating, or in the int8 form of the runtime.
        runtime: what will run the engine.
        out: the engine to write.
        options: for TensorRT; without shape profiles they follow from the graph. None: the usual
            ones.
        store: where TensorRT's timing caches are; None: the usual place.
        save_log: where to write what TensorRT's builder said; it then builds in any case.
    """
    if runtime is not Runtime.PYTORCH and out.suffix != engine_suffix(runtime):
        raise SegdeployError(f"{out}: wanted a name that ends in {engine_suffix(runtime)}")
    match runtime:
        case Runtime.ONNXRUNTIME:
            if options is not None or save_log is not None:
                raise SegdeployError(
                    "shapes, workspace, optimization level, TF32, the build log and such are "
                    "TensorRT's; onnxruntime has none of them",
                    hint="leave them out, or --target tensorrt-rtx",
                )
            return _build_onnxruntime(graph, out)
        case Runtime.TENSORRT | Runtime.TENSORRT_RTX:
            return build_tensorrt(
                graph, runtime, out, options, store=store or Store(), save_log=save_log
            )
        case Runtime.PYTORCH:
            raise SegdeployError(
                "pytorch runs checkpoints, it has no engines", hint="--target onnxruntime"
            )


def _build_onnxruntime(graph: Graph, out: Path) -> Built:
    with needs("onnxruntime", "onnx_ir", extra="onnxruntime"):
        from segdeploy.rewrite.passes import prepare_for_cpu
        from segdeploy.runtime.onnxruntime import VERSION, optimize_graph, processor_kind
    from segdeploy.graph import read_model

    check_tuning(graph, Tuning.CPU)
    request = request_hash(
        graph=graph.manifest.request,
        segdeploy=__version__,
        runtime=VERSION,
        machine=processor_kind(),
        mask=MaskPlace.HOST,
    )
    present = existing_engine(out)
    if present is not None and present.manifest.request == request:
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
    return Built(save_engine(graph, manifest, out), seconds)


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
