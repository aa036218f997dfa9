"""What `build-engine` would build, without building it."""

from dataclasses import dataclass
from pathlib import Path

from segdeploy.artifacts import Graph
from segdeploy.engine_options import EngineOptions
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.make import EngineRequest, engine_place, prepare_graph
from segdeploy.pipeline.plans import draw_blueprint, existing_plan, profile_shapes
from segdeploy.shapes import ShapeProfile
from segdeploy.spec import Runtime


@dataclass(frozen=True)
class DryRun:
    """An engine that was not built.

    Args:
        graph: that it would be built of.
        engine: where it would go.
        is_there: whether the very same engine is there already.
        runtime: with `version`, what would build it.
        version: of the library.
        machine: what the engine would be tied to.
        options: with the shapes of every context.
        shapes: of the images, one for each context.
        activation_bytes: estimated device memory of each context.
        warnings: of what went into the graph.
    """

    graph: Graph
    engine: Path
    is_there: bool
    runtime: Runtime
    version: str
    machine: str
    options: EngineOptions
    shapes: tuple[ShapeProfile, ...]
    activation_bytes: tuple[int, ...]
    warnings: tuple[str, ...]


def dry_run(model_or_graph: str, checkpoint: str | None, request: EngineRequest) -> DryRun:
    """Decide all that a build decides, and refuse what it refuses.

    The graph is made where it is missing: its tensors say how much memory a context needs.

    Raises:
        SegdeployError: it could not be built, or the runtime is not TensorRT.
    """
    if request.runtime is Runtime.ONNXRUNTIME:
        raise SegdeployError(
            "--dry-run is about TensorRT's options, shapes and memory; onnxruntime has none of "
            "them",
            hint="--target tensorrt-rtx, or build it: that takes a second",
        )
    from segdeploy.graph import read_model
    from segdeploy.rewrite.activation_memory import activation_bytes

    graph, request, warnings = prepare_graph(model_or_graph, checkpoint, request)
    blueprint = draw_blueprint(graph, request.runtime, request.builder)
    engine = engine_place(graph, request)
    shapes = profile_shapes(graph.manifest, blueprint.options.profiles)
    model = read_model(graph.path)
    rounds_apart = request.runtime is Runtime.TENSORRT_RTX
    return DryRun(
        graph=graph,
        engine=engine,
        is_there=existing_plan(engine, blueprint) is not None,
        runtime=request.runtime,
        version=blueprint.version,
        machine=blueprint.machine,
        options=blueprint.options,
        shapes=shapes,
        activation_bytes=tuple(
            activation_bytes(model, each.max, rounds_apart=rounds_apart) for each in shapes
        ),
        warnings=warnings,
    )
