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
from segdeploy.cuda import driver_problem, require_driver
from segdeploy.engine import layers
from segdeploy.engine.configuration import check_options, configure, own_warnings
from segdeploy.engine.monitor import PERCENT, make_monitor
from segdeploy.engine.network import Network, parse_graph
from segdeploy.engine.timing_cache import TimingCache
from segdeploy.engine_options import EngineOptions, Verbosity
from segdeploy.errors import SegdeployError
from segdeploy.nvinfer import (
    LAYER_LIST,
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
        convolutions: of the graph, by name, that the engine runs in each precision; none where
            the verbosity hides it.
        activation_bytes: device memory of one context at the largest shapes, for each profile;
            empty: the log does not say.
        warnings: ours, then the library's.
    """

    path: Path
    seconds: float
    bytes: int
    version: str
    convolutions: Mapping[Precision, tuple[str, ...]]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    activation_bytes: tuple[int, ...]
    warnings: tuple[str, ...]


class _Order(NamedTuple):
    """What is built, and how."""

    graph: Path
    runtime: Runtime
    options: EngineOptions
    expected: Precision | None
    timing_cache: Path | None


class _Compiled(NamedTuple):
    network: Network
    plan: Any  # IHostMemory
    seconds: float
    warnings: tuple[str, ...]


def build_plan(
    graph: Path,
    out: Path,
    *,
    runtime: Runtime,
    options: EngineOptions,
    expected: Precision | None = None,
    save_log: Path | None = None,
    timing_cache: Path | None = None,
) -> BuiltPlan:
    """Compile the ONNX file `graph` and write the plan to `out`, whole or not at all.

    TensorRT-RTX builds without a GPU. TensorRT needs the GPU that will run the plan. The proof of
    precision reads the layers off the log, which lists them at verbosity `detailed` alone: with
    another one the plan is written and a warning says that its precision is not proved.

    Args:
        graph: an ONNX file of ours, or of anybody else.
        out: the plan file; its folder is made.
        runtime: `tensorrt` or `tensorrt-rtx`.
        options: how to build.
        expected: refuse a graph in another precision, and prove by the build log that the engine
            runs every convolution in the precision that the graph gives it. None: no proof.
        save_log: where to write what the library said, also where the build fails.
        timing_cache: TensorRT's measured kernel times, read and written; None: none is kept.

    Raises:
        SegdeployError: the library or the driver is missing, the graph or the options are refused,
            or the engine is not what was asked for.
    """
    if not graph.is_file():
        raise SegdeployError(f"{graph}: no such file", hint="segdeploy export writes a graph")
    check_options(runtime, options)
    library = load_library(runtime)
    if runtime is Runtime.TENSORRT:  # before its first object: without a driver that may crash
        require_driver("building with TensorRT")
    log = open_log(library)
    try:
        order = _Order(graph, runtime, options, expected, timing_cache)
        compiled = _compile_in_thread(library, log, order)
    finally:
        if save_log is not None:
            write_log(log.lines, save_log)
    engine_layers = layers.parse_layers(_layer_message(log.lines))
    convolutions = compiled.network.convolutions
    if expected is not None and options.verbosity is Verbosity.DETAILED:
        layers.prove_precision(graph, engine_layers, convolutions)
    data = memoryview(compiled.plan)
    with writing(out) as temporary:
        temporary.write_bytes(data)
    return BuiltPlan(
        path=out,
        seconds=compiled.seconds,
        bytes=data.nbytes,
        version=library.__version__,
        convolutions=layers.by_precision(engine_layers, convolutions),
        inputs=compiled.network.inputs,
        outputs=compiled.network.outputs,
        activation_bytes=_activation_bytes(log.lines, max(1, len(options.profiles))),
        warnings=(*own_warnings(options), *compiled.warnings, *warnings(log.lines)),
    )


def _compile_in_thread(library: ModuleType, log: Any, order: _Order) -> _Compiled:
    """Compile in a thread: the build blocks in C++, and there the main thread would miss Ctrl-C."""
    cancelled = threading.Event()
    with (
        progress_bar(f"building with {order.runtime.display_name}", PERCENT) as bar,
        ThreadPoolExecutor(1) as worker,
    ):
        monitor = make_monitor(library, bar, cancelled)
        future = worker.submit(_compile, library, log, order, monitor)
        try:
            while not future.done():
                wait([future], timeout=POLL_S)
        except BaseException:
            cancelled.set()
            raise
    return future.result()


def _compile(library: ModuleType, log: Any, order: _Order, monitor: Any) -> _Compiled:
    options = order.options
    builder = library.Builder(log)
    network = parse_graph(library, builder, log, order.graph)
    if order.expected is not None:
        layers.check_asked(order.graph, network.convolutions, order.expected)
    check_profiles(network.inputs, options.profiles)
    config = configure(library, builder, order.runtime, options)
    cache = None if order.timing_cache is None else TimingCache(config, order.timing_cache)
    config.progress_monitor = monitor
    began, start = time.perf_counter(), len(log.lines)
    plan = builder.build_serialized_network(network.definition, config)
    seconds = time.perf_counter() - began
    if plan is None:
        raise _failure(order, last_error(log.lines[start:]) or "TensorRT gave no reason")
    if cache is not None:
        cache.save()
    return _Compiled(network, plan, seconds, tuple(cache.warnings) if cache else ())


def _failure(order: _Order, reason: str) -> SegdeployError:
    hint = ""
    if "OutOfMemory" in reason:
        hint = f"raise the workspace above {order.options.workspace_bytes} bytes"
    elif "for Turing" in reason:  # which has no fp32 matrix products in TensorRT-RTX
        hint = "leave out compute capability 7.5: FCN builds for it, PSPNet never, others in fp16"
    elif (order.options.refit or order.options.strip) and (problem := driver_problem()):
        hint = f"--refit and --strip-plan need a GPU to build, and {problem}"
    return SegdeployError(f"{order.graph}: no engine could be built ({reason})", hint=hint)


def _layer_message(lines: list[LogLine]) -> str:
    return next((line.text for line in lines if line.text.startswith(LAYER_LIST)), "")


def _activation_bytes(lines: list[LogLine], profiles: int) -> tuple[int, ...]:
    """One line of the log for each profile, in their order."""
    found = [
        int(line.text.removeprefix(ACTIVATIONS).split()[0])
        for line in lines
        if line.text.startswith(ACTIVATIONS)
    ]
    return tuple(found) if len(found) == profiles else ()
