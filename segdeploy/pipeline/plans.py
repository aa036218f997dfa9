"""From a graph to a plan of TensorRT or TensorRT-RTX, with the record of its build."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from segdeploy.artifacts import EnginePlan, Graph, Manifest, Store, request_hash
from segdeploy.build_record import BuildRecord
from segdeploy.compatibility import system_name
from segdeploy.cuda import describe_gpu, driver_problem
from segdeploy.datasets import find_facts
from segdeploy.engine_options import EngineOptions, Hardware
from segdeploy.environment import Gpu, query_gpus
from segdeploy.errors import SegdeployError
from segdeploy.nvinfer import MODULES, load_library
from segdeploy.pipeline.built import Built, existing_engine, save_engine
from segdeploy.pipeline.graphs import nominal_size
from segdeploy.shapes import DYNAMIC, Profile, ShapeProfile, TensorInfo, check_profiles, shape_text
from segdeploy.spec import (
    INPUT,
    MAX_BATCH,
    MAX_SIDE,
    MIN_SIDE,
    Precision,
    Runtime,
    Size,
    Tuning,
)

USUAL_BATCH = 8  # the most images of a dynamic engine that is told no shapes
LARGEST = Size(1024, 2048)


@dataclass(frozen=True)
class Blueprint:
    """All that decides about a plan, beside the graph: equal `request`, equal plan."""

    options: EngineOptions
    version: str
    gpu: Gpu | None  # None: it is built without one
    request: str

    @property
    def machine(self) -> str:
        """What the plan is tied to, for people."""
        if self.gpu is None:
            oldest = min(self.options.compute_capabilities, key=float, default="8.0")
            return f"NVIDIA GPUs of compute capability {oldest} and later"
        match self.options.hardware:
            case Hardware.SAME:
                return self.gpu.name
            case Hardware.SAME_CAPABILITY:
                return f"NVIDIA GPUs of compute capability {self.gpu.compute_capability}"
            case Hardware.AMPERE_PLUS:
                return "NVIDIA GPUs of compute capability 8.0 and later"


def draw_blueprint(graph: Graph, runtime: Runtime, options: EngineOptions | None) -> Blueprint:
    """Decide how a plan is built, or refuse; nothing is built yet.

    Raises:
        SegdeployError: the graph is not for this runtime, the shapes are not for the graph, or
            something is missing on this machine.
    """
    from segdeploy.engine.configuration import check_options

    check_graph(graph, runtime)
    options = options or EngineOptions()
    check_options(runtime, options)
    check_shapes(graph, options.profiles)
    if runtime is Runtime.TENSORRT:
        _require_tensorrt()
    options = replace(options, profiles=options.profiles or usual_profiles(graph.manifest))
    version = load_library(runtime).__version__
    gpu = building_gpu(runtime)
    request = request_hash(
        graph=graph.manifest.request,
        runtime=(runtime, version),
        machine=(gpu.name, gpu.compute_capability) if gpu else "",
        options=replace(options, timing_cache=True),  # it changes how long a build takes
    )
    return Blueprint(options, version, gpu, request)


def building_gpu(runtime: Runtime) -> Gpu | None:
    """The GPU that TensorRT builds for, which is CUDA's first; TensorRT-RTX builds without one."""
    if runtime is not Runtime.TENSORRT:
        return None
    facts = describe_gpu(0)  # nvidia-smi may count in another order
    known = next((gpu for gpu in query_gpus()[0] if gpu.name == facts.name), None)
    driver, memory = (known.driver, known.memory_bytes) if known else ("", None)
    return Gpu(facts.name, driver, facts.compute_capability, memory)


def build_tensorrt(
    graph: Graph,
    runtime: Runtime,
    out: Path,
    options: EngineOptions | None,
    *,
    store: Store,
    save_log: Path | None,
) -> Built:
    """Build a plan as its blueprint says, or find the same one already there."""
    from segdeploy.engine.builder import build_plan

    blueprint = draw_blueprint(graph, runtime, options)
    if save_log is None and (present := existing_plan(out, blueprint)) is not None:
        return Built(present, seconds=0)
    gpu = blueprint.gpu
    timing_cache = None
    if gpu is not None and blueprint.options.timing_cache:
        timing_cache = store.timing_cache(gpu.name, gpu.compute_capability, blueprint.version)
    built = build_plan(
        graph.path,
        out,
        runtime=runtime,
        options=blueprint.options,
        expected=graph.manifest.precision,
        save_log=save_log,
        timing_cache=timing_cache,
    )
    record = BuildRecord(
        os=system_name(),
        gpu=gpu.name if gpu else "",
        compute_capability=gpu.compute_capability if gpu else "",
        driver=gpu.driver if gpu else "",
        inputs=built.inputs,
        outputs=built.outputs,
        activation_bytes=built.activation_bytes,
        convolutions=_shares(graph, built.convolutions, blueprint.options.profiles),
        options=blueprint.options,
    )
    manifest = replace(
        graph.manifest,
        runtime=runtime,
        runtime_version=blueprint.version,
        machine=blueprint.machine,
        build=record,
        request=blueprint.request,
    )
    return Built(save_engine(graph, manifest, out), built.seconds, built.warnings)


def existing_plan(out: Path, blueprint: Blueprint) -> EnginePlan | None:
    """The plan at `out`, if it was built by an equal blueprint."""
    present = existing_engine(out)
    return present if present and present.manifest.request == blueprint.request else None


def usual_profiles(manifest: Manifest) -> tuple[Profile, ...]:
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
    few, many = (1, USUAL_BATCH) if manifest.batch is None else (manifest.batch, manifest.batch)
    shapes = ShapeProfile(
        tensor=INPUT, min=(few, *smallest, 3), opt=(few, *usual, 3), max=(many, *largest, 3)
    )
    return ((shapes,),)


def check_shapes(graph: Graph, profiles: tuple[Profile, ...]) -> None:
    """Refuse shapes that the graph or the network cannot take, before anything is built."""
    if not profiles:
        return
    manifest = graph.manifest
    sides = manifest.size or (DYNAMIC, DYNAMIC)
    image = TensorInfo(INPUT, "uint8", (manifest.batch or DYNAMIC, *sides, 3))
    if not image.is_dynamic:
        raise SegdeployError(
            f"{graph.path}: takes {shape_text(image.shape[:3])} and nothing else, so it has no "
            "shapes to choose",
            hint=f"segdeploy export {manifest.model} --dynamic --batch dynamic, or name the model",
        )
    check_profiles([image], profiles)
    least, most = (1, MIN_SIDE, MIN_SIDE, 3), (MAX_BATCH, MAX_SIDE, MAX_SIDE, 3)
    limits = ShapeProfile(tensor=INPUT, min=least, opt=least, max=most)
    for shapes in (shapes for profile in profiles for shapes in profile):
        if not (limits.covers(shapes.min) and limits.covers(shapes.max)):
            raise SegdeployError(f"shapes {shapes}; wanted from {limits}")


def profile_shapes(manifest: Manifest, profiles: tuple[Profile, ...]) -> tuple[ShapeProfile, ...]:
    """The shapes of the images, one for each context: those of the profiles, or the fixed one."""
    if profiles:
        return tuple(shapes for profile in profiles for shapes in profile)
    assert manifest.size is not None  # an open graph has profiles
    assert manifest.batch is not None
    fixed = (manifest.batch, *manifest.size, 3)
    return (ShapeProfile(tensor=INPUT, min=fixed, opt=fixed, max=fixed),)


def _shares(
    graph: Graph, found: Mapping[Precision, tuple[str, ...]], profiles: tuple[Profile, ...]
) -> tuple[tuple[str, int, float], ...]:
    """How many convolutions run in each precision, and their share of all multiplications.

    Counted at the shape that the first profile is fastest at.
    """
    if not found:
        return ()
    from segdeploy.graph import read_model
    from segdeploy.rewrite.cost import macs_by_node

    model = read_model(graph.path)
    _, height, width, _ = profile_shapes(graph.manifest, profiles)[0].opt
    macs = macs_by_node(model, Size(height, width))
    by_name = {node.name: macs.get(node.output[0], 0) for node in model.graph.node}
    total = sum(macs.values())
    shares = [
        (str(precision), len(names), sum(by_name[name] for name in names) / total)
        for precision, names in found.items()
    ]
    return tuple(sorted(shares, key=lambda share: -share[2]))


def check_graph(graph: Graph, runtime: Runtime) -> None:
    """Refuse what is made for ONNX Runtime or a CPU."""
    check_tuning(graph, Tuning.GPU)
    if graph.manifest.quantization.startswith(Runtime.ONNXRUNTIME):
        raise SegdeployError(
            f"{graph.path}: is quantized for ONNX Runtime, {runtime} refuses its zero points",
            hint=f"segdeploy build-engine {graph.manifest.model} --int8 --target {runtime}",
        )


def check_tuning(graph: Graph, wanted: Tuning) -> None:
    """A graph that was rewritten for another kind of machine is right but slow."""
    found = graph.manifest.tuning
    if found not in (Tuning.PLAIN, Tuning.ANY, wanted):
        raise SegdeployError(
            f"{graph.path}: is rewritten for a {found}, this engine is for a {wanted}",
            hint=f"segdeploy export {graph.manifest.model} without --for serves both",
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
