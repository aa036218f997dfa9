"""An engine that does not fit this machine, built again here from the graph that it was made of."""

from segdeploy.artifacts import EnginePlan
from segdeploy.pipeline.engines import build_engine


def rebuild_engine(plan: EnginePlan) -> EnginePlan:
    """Build it in its place, as it was told the first time.

    Args:
        plan: its manifest; the file itself may be damaged.

    Raises:
        SegdeployError: the graph is no longer beside it, or it cannot be built here.
    """
    from segdeploy.graph import read_graph

    runtime, build = plan.manifest.runtime, plan.manifest.build
    assert runtime is not None  # a plan is of a runtime
    graph = read_graph(plan.find_source())
    return build_engine(graph, runtime, plan.path, build.options if build else None).plan
