"""An engine that does not fit this machine, built again here from the graph that it was made of."""

from segdeploy.artifacts import EnginePlan, Graph, sha256_of
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.engines import build_engine


def rebuild_engine(plan: EnginePlan) -> EnginePlan:
    """Build it in its place, as it was told the first time.

    Args:
        plan: its manifest; the file itself may be damaged.

    Raises:
        SegdeployError: the graph is no longer beside it, or it cannot be built here.
    """
    runtime, build = plan.manifest.runtime, plan.manifest.build
    assert runtime is not None  # a plan is of a runtime
    graph = find_source(plan)
    return build_engine(graph, runtime, plan.path, build.options if build else None).plan


def find_source(plan: EnginePlan) -> Graph:
    """The graph that an engine was built of, told by its sha256 among those in the same folder."""
    from segdeploy.graph import read_graph

    wanted = plan.manifest.source_sha256
    for path in sorted(plan.path.parent.glob("*.onnx")):
        if sha256_of(path) == wanted:
            return read_graph(path)
    raise SegdeployError(
        f"{plan.path}: the graph it was built of (sha256 {wanted[:12]}) is not beside it",
        hint="put the .onnx file there, or segdeploy build-engine "
        f"{plan.manifest.model} --target {plan.manifest.runtime}",
    )
