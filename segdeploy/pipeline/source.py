"""A model and its weights, found and read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segdeploy.artifacts import Store
from segdeploy.errors import SegdeployError, needs
from segdeploy.recipes import load_model
from segdeploy.spec import ModelSpec

if TYPE_CHECKING:
    from segdeploy.nets.checkpoint import Checkpoint

RANDOM = "random:"


@dataclass(frozen=True)
class Source:
    """A model and its weights, before anything is made of them."""

    spec: ModelSpec
    checkpoint: "Checkpoint"


def resolve_source(model: str, checkpoint: str | None, store: Store) -> Source:
    """Find a model's weights and read them.

    Args:
        model: a name of the zoo, a method, or a TOML file.
        checkpoint: a file, "random:SEED", or None for the bundled or downloaded one.
        store: where downloads are.
    """
    spec = load_model(model)
    if checkpoint is None:
        path = default_checkpoint(
            spec, store
        )  # before torch is loaded: the common mistake is cheap
    with needs("torch", extra="torch"):
        from segdeploy.nets.checkpoint import random_checkpoint, read_checkpoint
    if checkpoint is None:
        return Source(spec, read_checkpoint(path))
    if not checkpoint.startswith(RANDOM):
        return Source(spec, read_checkpoint(Path(checkpoint)))
    seed = checkpoint.removeprefix(RANDOM)
    if not seed.isdecimal():
        raise SegdeployError(
            f"--checkpoint {checkpoint}: wanted random:SEED", hint="for example random:0"
        )
    return Source(spec, random_checkpoint(spec, int(seed)))


def default_checkpoint(spec: ModelSpec, store: Store) -> Path:
    """Where the weights of a model are when the user names none."""
    if spec.checkpoint is not None:
        return spec.checkpoint
    if not spec.checkpoint_url:
        raise SegdeployError(
            f"{spec.name}: which weights?", hint="--checkpoint FILE, or --checkpoint random:0"
        )
    path = store.checkpoint(Path(spec.checkpoint_url).name)
    if not path.is_file():
        raise SegdeployError(
            f"{spec.name}: no checkpoint at {path}",
            hint=f"segdeploy download {spec.name}, or --checkpoint FILE, or --checkpoint random:0",
        )
    return path
