"""Compile a graph to an engine plan with TensorRT or TensorRT-RTX: one code path for both."""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from segdeploy.artifacts import writing
from segdeploy.cuda import require_driver
from segdeploy.engine import layers
from segdeploy.engine.monitor import PERCENT, make_monitor
from segdeploy.engine.network import Network, parse_graph
from segdeploy.engine_options import EngineOptions
from segdeploy.errors import SegdeployError
from segdeploy.nvinfer import (
    LAYER_LIST,
    TITLES,
    LogLine,
    last_error,
    load_library,
    open_log,
    warnings,
    write_log,
)
from segdeploy.progress import progress_bar
from segdeploy.shapes import TensorInfo, check_profiles
from segdeploy.spec import Precision, Runtime

POLL_S = 0.1  # how long Ctrl-C may go unseen
ACTIVATIONS = "Total Activation Memory: "  # begins a line of the log; "81592320 bytes" follows


@dataclass(frozen=True)
class BuiltPlan:
    """A plan file and what its build said.

    Args:
        seconds: of building, without parsing.
        bytes: size of the file.
        version: of the library, with its build number; the plan loads in no other.
        convolutions: how many the engine runs in each precision.
        activation_bytes: device memory of one context at the largest shapes; None: unknown.
    """

    path: Path
    seconds: float
    bytes: int
    version: str
    convolutions: Mapping[Precision, int]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    activation_bytes: int | None
    warnings: tuple[str, ...]


class _Compiled(NamedTuple):
    network: Network
    plan: Any  # IHostMemory
    seconds: float


def build_plan(
    graph: Path,
    out: Path,
    *,
    runtime: Runtime,
    options: EngineOptions,
    expected: Precision | None = None,
    save_log: Path | None = None,
) -> BuiltPlan:
    """Compile the ONNX file `graph` and write the plan to `out`, whole or not at all.

    TensorRT-RTX builds without a GPU. TensorRT needs the GPU that will run the plan.

    Args:
        graph: an ONNX file of ours, or of anybody else.
        out: the plan file; its folder is made.
        runtime: `tensorrt` or `tensorrt-rtx`.
        options: how to build.
        expected: refuse a graph in another precision, and prove by the build log that the engine
            runs every convolution in the precision that the graph gives it. None: no proof.
        save_log: where to write what the library said, also where the build fails.

    Raises:
        SegdeployError: the library or the driver is missing, the graph or the options are refused,
            or the engine is not what was asked for.
    """
    if not graph.is_file():
        raise SegdeployError(f"{graph}: no such file", hint="segdeploy export writes a graph")
    library = load_library(runtime)
    if runtime is Runtime.TENSORRT:  # before its first object: without a driver that may crash
        require_driver("building with TensorRT")
    log = open_log(library)
    try:
        compiled = _compile_in_thread(library, log, graph, options, expected, TITLES[runtime])
    finally:
        if save_log is not None:
            write_log(log.lines, save_log)
    engine_layers = layers.parse_layers(_layer_message(log.lines))
    convolutions = compiled.network.convolutions
    if expected is not None:
        layers.prove_precision(graph, engine_layers, convolutions)
    data = memoryview(compiled.plan)
    with writing(out) as temporary:
        temporary.write_bytes(data)
    return BuiltPlan(
        path=out,
        seconds=compiled.seconds,
        bytes=data.nbytes,
        version=library.__version__,
        convolutions=layers.count_precisions(engine_layers, convolutions),
        inputs=compiled.network.inputs,
        outputs=compiled.network.outputs,
        activation_bytes=_activation_bytes(log.lines),
        warnings=warnings(log.lines),
    )


def _compile_in_thread(
    library: ModuleType,
    log: Any,
    graph: Path,
    options: EngineOptions,
    expected: Precision | None,
    title: str,
) -> _Compiled:
    """Compile in a thread: the build blocks in C++, and there the main thread would miss Ctrl-C."""
    cancelled = threading.Event()
    with (
        progress_bar(f"building with {title}", PERCENT) as advance,
        ThreadPoolExecutor(1) as worker,
    ):
        monitor = make_monitor(library, advance, cancelled)
        future = worker.submit(_compile, library, log, graph, options, expected, monitor)
        try:
            while not future.done():
                wait([future], timeout=POLL_S)
        except BaseException:
            cancelled.set()
            raise
    return future.result()


def _compile(
    library: ModuleType,
    log: Any,
    graph: Path,
    options: EngineOptions,
    expected: Precision | None,
    monitor: Any,
) -> _Compiled:
    builder = library.Builder(log)
    network = parse_graph(library, builder, log, graph)
    if expected is not None:
        layers.check_asked(graph, network.convolutions, expected)
    check_profiles(network.inputs, options.profiles)
    config = _configure(library, builder, options)
    config.progress_monitor = monitor
    began, start = time.perf_counter(), len(log.lines)
    plan = builder.build_serialized_network(network.definition, config)
    seconds = time.perf_counter() - began
    if plan is None:
        reason = last_error(log.lines[start:]) or "TensorRT gave no reason"
        short = f"raise the workspace above {options.workspace_bytes} bytes"
        raise SegdeployError(
            f"{graph}: no engine could be built ({reason})",
            hint=short if "OutOfMemory" in reason else "",
        )
    return _Compiled(network, plan, seconds)


def _configure(library: ModuleType, builder: Any, options: EngineOptions) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.profiling_verbosity = (
        library.ProfilingVerbosity.DETAILED
    )  # the log then lists the layers
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.tf32:
        config.set_flag(library.BuilderFlag.TF32)
    else:
        config.clear_flag(library.BuilderFlag.TF32)
    if options.compute_capabilities:
        _set_compute_capabilities(library, config, options.compute_capabilities)
    for wanted in options.profiles:
        profile = builder.create_optimization_profile()
        for shapes in wanted:
            profile.set_shape(shapes.tensor, shapes.min, shapes.opt, shapes.max)
        if config.add_optimization_profile(profile) < 0:
            raise SegdeployError(f"the shape profile {', '.join(map(str, wanted))} was refused")
    return config


def _set_compute_capabilities(library: ModuleType, config: Any, wanted: tuple[str, ...]) -> None:
    if not hasattr(library, "ComputeCapability"):
        raise SegdeployError(
            "TensorRT builds for the GPU of this machine only, not for chosen compute capabilities",
            hint=f"leave them out, or build with {Runtime.TENSORRT_RTX}",
        )
    known = {
        f"{name[2:-1]}.{name[-1]}": value
        for name, value in library.ComputeCapability.__members__.items()
        if name.startswith("SM")
    }
    config.num_compute_capabilities = len(wanted)
    for index, capability in enumerate(wanted):
        if capability not in known or not config.set_compute_capability(known[capability], index):
            raise SegdeployError(
                f"TensorRT-RTX {library.__version__} does not build for compute capability "
                f"{capability}",
                hint=f"it builds for {', '.join(known)}",
            )


def _layer_message(lines: list[LogLine]) -> str:
    return next((line.text for line in lines if line.text.startswith(LAYER_LIST)), "")


def _activation_bytes(lines: list[LogLine]) -> int | None:
    found = [
        line.text.removeprefix(ACTIVATIONS) for line in lines if line.text.startswith(ACTIVATIONS)
    ]
    return int(found[-1].split()[0]) if found else None
