"""What a result depends on, written beside it, so that it can be made again and nothing else is."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from segdeploy.artifacts import sha256_of, write_json
from segdeploy.bench.measure import BenchOptions
from segdeploy.bench.run import SPEED_ONLY
from segdeploy.datasets import Dataset
from segdeploy.environment import PACKAGES, find_checkout, installed_version
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.calibration import default_calibration
from segdeploy.pipeline.source import default_checkpoint
from segdeploy.recipes import Suite, load_model, recipe_hashes
from segdeploy.records import read_record

SCHEMA = 1
LOOKED_AT = 8  # images that are hashed, at least: all of Cityscapes would take minutes
NONE = "none: speed only"


@dataclass(frozen=True, kw_only=True)
class Lock:
    """All that a result depends on but for the machine, whose speed is what is measured.

    Args:
        schema: of this file.
        suite: its name.
        suite_sha256: of its TOML.
        seed: of random weights.
        device: that was asked for; "": what each artifact is made for.
        code: the commit of segdeploy, where it ran from a checkout.
        versions: of Python and of every package that can change a speed or a label.
        weights: by model: the file's sha256, or random:SEED.
        data: by data set: the split's images and their hash.
        recipes: sha256 of the TOMLs of models and calibration sets.
        command: that made the result; for people.
        result: file name of the rows; for people.
        result_sha256: of that file.
    """

    schema: int = SCHEMA
    suite: str
    suite_sha256: str
    seed: int
    device: str = ""
    code: str
    versions: Mapping[str, str]
    weights: Mapping[str, str]
    data: Mapping[str, str]
    recipes: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    result: str = ""
    result_sha256: str = ""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read back what `write` wrote; nothing is trusted."""
        try:
            lock = read_record(cls, json.loads(path.read_text("utf-8")), "the lock")
        except FileNotFoundError as error:
            raise SegdeployError(f"{path}: no such file") from error
        except OSError as error:
            raise SegdeployError(f"{path}: cannot be read ({error.strerror})") from error
        except (TypeError, ValueError, RecursionError) as error:
            raise SegdeployError(
                f"{path}: is not a lock ({error})", hint="segdeploy bench --suite NAME --lock FILE"
            ) from error
        if lock.schema != SCHEMA:
            raise SegdeployError(
                f"{path}: lock of schema {lock.schema}, this version reads {SCHEMA}"
            )
        return lock

    def write(self, path: Path, result: Path | None) -> None:
        """Write it, with the name and the hash of the result that it belongs to."""
        named = self
        if result is not None:
            named = replace(self, result=result.name, result_sha256=sha256_of(result))
        write_json(path, asdict(named))


def make_lock(suite: Suite, runs: Mapping[str, tuple[str | None, BenchOptions]]) -> Lock:
    """What a suite depends on here and now.

    Args:
        suite: that is run.
        runs: by model: its checkpoint (None: the usual file), and what it is measured on.
    """
    checkout = find_checkout()
    changes = " with changes" if checkout and checkout.is_dirty else ""
    versions = {name: found for name in PACKAGES if (found := installed_version(name))}
    calibrations = {_calibration(options) for _, options in runs.values()}
    return Lock(
        suite=suite.name,
        suite_sha256=suite.sha256,
        seed=suite.seed,
        code=f"{checkout.commit}{changes}" if checkout else "",
        versions={"python": platform.python_version(), **versions},
        weights={m: _weights(m, checkpoint, options) for m, (checkpoint, options) in runs.items()},
        data=_data(options for _, options in runs.values()),
        recipes=recipe_hashes(runs.keys(), calibrations),
    )


def check_lock(locked: Lock, here: Lock) -> None:
    """Refuse to measure something else than the lock says.

    Raises:
        SegdeployError: names all that differs.
    """
    found = list(_differences(locked, here))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise SegdeployError(
            f"{found[0]}{more}",
            hint="; ".join(found[1:]) or "make it equal, or run the suite without --locked",
        )


def _differences(locked: Lock, here: Lock) -> Iterator[str]:
    for name in ("suite", "suite_sha256", "seed", "device", "code"):
        wanted, found = getattr(locked, name), getattr(here, name)
        if wanted != found:
            yield _said(name.replace("_", " "), wanted, found)
    for name in ("versions", "weights", "data", "recipes"):
        wanted, found = getattr(locked, name), getattr(here, name)
        for key in dict.fromkeys([*wanted, *found]):
            if wanted.get(key) != found.get(key):
                what = key if name == "versions" else f"{name.removesuffix('s')} of {key}"
                yield _said(what, wanted.get(key), found.get(key))


def _said(what: str, wanted: Any, found: Any) -> str:
    missing = (None, "")
    here, there = ("missing" if v in missing else v for v in (found, wanted))
    return f"{what} is {here}, the lock says {there}"


def _calibration(options: BenchOptions) -> str:
    return SPEED_ONLY if options.speed_only else default_calibration(options.dataset)


def _weights(model: str, checkpoint: str | None, options: BenchOptions) -> str:
    if checkpoint is not None:
        return checkpoint
    return sha256_of(default_checkpoint(load_model(model), options.store))


def _data(runs: Iterator[BenchOptions]) -> dict[str, str]:
    found: dict[str, str] = {}
    for options in runs:
        if options.speed_only:
            found.setdefault(options.dataset, NONE)
        elif found.get(options.dataset, NONE) == NONE:
            dataset, split = options.open()
            found[options.dataset] = f"{split}, {fingerprint(dataset)}"
    return found


def fingerprint(dataset: Dataset) -> str:
    """How many images, and the hash of all their ids and of a few images and their labels."""
    count = len(dataset)
    digest = hashlib.sha256("\n".join(dataset.ids).encode())
    for k in range(0, count, max(1, count // LOOKED_AT)):
        digest.update(dataset.fingerprint(k).encode())
        digest.update(dataset.load(k).labels.tobytes())
    return f"{count} images, sha256 {digest.hexdigest()}"
