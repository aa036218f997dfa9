"""A model and its weights, found and read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segdeploy.artifacts import Manifest, Store, sha256_of
from segdeploy.errors import SegdeployError, needs
from segdeploy.recipes import load_model, model_names
from segdeploy.spec import RANDOM, Method, ModelSpec

if TYPE_CHECKING:
    from segdeploy.nets.checkpoint import Checkpoint

MAX_SEED = 2**32 - 1


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
    if not (seed.isdecimal() and int(seed) <= MAX_SEED):
        raise SegdeployError(
            f"--checkpoint {checkpoint:.40}: wanted random:SEED", hint="for example random:0"
        )
    return Source(spec, random_checkpoint(spec, int(seed)))


def default_checkpoint(spec: ModelSpec, store: Store) -> Path:
    """Where the weights of a model are when the user names none."""
    path = _usual_place(spec, store)
    if path is None:
        raise SegdeployError(
            f"{spec.name}: which weights?", hint="--checkpoint FILE, or --checkpoint random:0"
        )
    if not path.is_file():
        raise SegdeployError(
            f"{spec.name}: no checkpoint at {path}",
            hint=f"segdeploy download {spec.name}, or --checkpoint FILE, or --checkpoint random:0",
        )
    return path


def find_checkpoint(manifest: Manifest, given: str | None, store: Store) -> str | None:
    """What an artifact was made of, as `--checkpoint` takes it; None if it is not at hand.

    Raises:
        SegdeployError: `given` is not what it was made of.
    """
    if manifest.model not in [*model_names(), *Method]:
        return None  # a TOML of the user's own: which one, the artifact does not know
    if given is not None:
        found = given if given.startswith(RANDOM) else sha256_of(Path(given))
        if found != manifest.checkpoint_sha256:
            raise SegdeployError(
                f"{given}: the artifact was made of {manifest.checkpoint}, another checkpoint",
                hint="without --checkpoint the artifact is measured alone",
            )
        return given
    if manifest.is_random:
        return manifest.checkpoint
    path = _usual_place(load_model(manifest.model), store)
    is_it = path is not None and path.is_file() and sha256_of(path) == manifest.checkpoint_sha256
    return str(path) if is_it else None


def _usual_place(spec: ModelSpec, store: Store) -> Path | None:
    if spec.checkpoint is not None:
        return spec.checkpoint
    return store.checkpoint(Path(spec.checkpoint_url).name) if spec.checkpoint_url else None
