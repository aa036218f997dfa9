"""An engine on disk: written with its manifest, found again, and what building it took."""

from dataclasses import dataclass, replace
from pathlib import Path

from segdeploy.artifacts import EnginePlan, Graph, Manifest, sha256_of
from segdeploy.errors import SegdeployError


@dataclass(frozen=True)
class Built:
    """An engine and what building it took; `seconds` 0: the same one was there already."""

    plan: EnginePlan
    seconds: float
    warnings: tuple[str, ...] = ()


def save_engine(graph: Graph, manifest: Manifest, out: Path) -> EnginePlan:
    """Write the manifest of an engine that is there, with the hashes of both files."""
    plan = EnginePlan(
        out, replace(manifest, source_sha256=sha256_of(graph.path), sha256=sha256_of(out))
    )
    plan.save_manifest()
    return plan


def existing_engine(path: Path) -> EnginePlan | None:
    """The engine at `path`; None if there is none, or none that is whole."""
    if not path.is_file():
        return None
    try:
        return EnginePlan.load(path)
    except SegdeployError:  # damaged, or without its manifest: built again
        return None
