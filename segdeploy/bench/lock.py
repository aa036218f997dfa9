"""What a result depends on, written beside it, so that it can be made again and nothing else is."""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from segdeploy.artifacts import sha256_of, write_json
from segdeploy.bench.run import SPEED_ONLY, Run
from segdeploy.datasets import Dataset
from segdeploy.environment import (
    OWN,
    PACKAGES,
    find_checkout,
    installed_version,
    source_sha256,
)
from segdeploy.errors import SegdeployError
from segdeploy.pipeline.calibration import default_calibration
from segdeploy.recipes import Suite, load_model, recipe_hashes
from segdeploy.records import read_record
from segdeploy.spec import RANDOM, Device, Precision, Runtime

SCHEMA = 2  # 2: weights and data of each run, and the hash of our own modules
LOOKED_AT = 8  # images that are hashed, at least: all of Cityscapes would take minutes
SHOWN = 12  # characters of a commit or a hash, for people
NONE = "none: speed only"
CUDA_PACKAGES = ("cuda-python", "pycuda")
RUNTIME_PACKAGES = {  # of PACKAGES: what no other runtime loads
    Runtime.TENSORRT: ("tensorrt", "tensorrt-cu12", *CUDA_PACKAGES),
    Runtime.TENSORRT_RTX: ("tensorrt-rtx", "tensorrt-rtx-cu12", *CUDA_PACKAGES),
}
WITH_CHANGES = " with changes"  # of a checkout that differs from its commit


@dataclass(frozen=True, kw_only=True)
class LockedRun:
    """What one model of a suite is measured with.

    Args:
        model: of the zoo.
        weights: the file's sha256, or random:SEED.
        dataset: its name.
        data: the split's images and their hash.
    """

    model: str
    weights: str
    dataset: str
    data: str


@dataclass(frozen=True, kw_only=True)
class Lock:
    """All that a result depends on but for the machine, whose speed is what is measured.

    Args:
        schema: of this file.
        suite: its name.
        suite_sha256: of its TOML.
        seed: of random weights.
        device: that was asked for; "": what each artifact is made for.
        code: the commit of segdeploy, where it ran from a checkout; for people.
        source_sha256: of segdeploy's modules.
        versions: of Python and of every package that can change a speed or a label of the suite.
        runs: every model in the suite's order; one may be there twice.
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
    source_sha256: str
    versions: Mapping[str, str]
    runs: tuple[LockedRun, ...]
    recipes: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    result: str = ""
    result_sha256: str = ""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read back what `write` wrote; nothing is trusted."""
        try:
            values = json.loads(path.read_text("utf-8"))
            _check_schema(path, values)
            return read_record(cls, values, "the lock")
        except FileNotFoundError as error:
            raise SegdeployError(f"{path}: no such file") from error
        except OSError as error:
            raise SegdeployError(f"{path}: cannot be read ({error.strerror})") from error
        except (TypeError, ValueError, RecursionError) as error:
            raise SegdeployError(
                f"{path}: is not a lock ({error})", hint="segdeploy bench --suite NAME --lock FILE"
            ) from error

    def write(self, path: Path, result: Path | None) -> None:
        """Write it, with the name and the hash of the result that it belongs to."""
        named = self
        if result is not None:
            named = replace(self, result=result.name, result_sha256=sha256_of(result))
        write_json(path, asdict(named))


def make_lock(suite: Suite, runs: Sequence[Run], device: Device | None = None) -> Lock:
    """What a suite depends on here and now.

    Args:
        suite: that is run.
        runs: its models, with what they are measured on.
        device: that is asked for; None: what each artifact is made for.
    """
    checkout = find_checkout()
    changes = WITH_CHANGES if checkout and checkout.is_dirty else ""
    return Lock(
        suite=suite.name,
        suite_sha256=suite.sha256,
        seed=suite.seed,
        device=str(device or ""),
        code=f"{checkout.commit}{changes}" if checkout else "",
        source_sha256=source_sha256(),
        versions=_versions(suite, device),
        runs=tuple(_locked_runs(runs)),
        recipes=recipe_hashes(
            {_model(run) for run in runs},
            {_calibration(run) for run in runs if Precision.INT8 in run.comparison.precisions},
        ),
    )


def check_lock(locked: Lock, here: Lock) -> None:
    """Refuse to measure something else than the lock says.

    Raises:
        SegdeployError: names all that differs, and what makes it equal.
    """
    found = list(_differences(locked, here))
    if found:
        raise SegdeployError(
            "; ".join(found),
            hint="; ".join(_remedies(locked, here)) or "without --locked the suite runs as it is",
        )


def _check_schema(path: Path, values: Any) -> None:
    schema = values.get("schema", SCHEMA) if isinstance(values, dict) else SCHEMA
    if schema == SCHEMA:
        return
    code = values.get("code")
    is_named = isinstance(code, str) and code != ""
    raise SegdeployError(
        f"{path}: lock of schema {schema!r:.20}, this version reads {SCHEMA}",
        hint=f"git checkout {code[:SHOWN]}, which reads it: docs/benchmark.md, Suites"
        if is_named
        else "upgrade segdeploy, or write it again with --suite NAME --lock FILE",
    )


def _differences(locked: Lock, here: Lock) -> Iterator[str]:
    if locked.suite != here.suite:
        yield _said("suite", locked.suite, here.suite)
        return
    for name in ("suite_sha256", "seed", "device", "source_sha256"):
        wanted, found = getattr(locked, name), getattr(here, name)
        if wanted != found:
            yield _said(name.replace("_", " "), wanted, found)
    for what in ("versions", "recipes"):
        wanted, found = getattr(locked, what), getattr(here, what)
        for key in dict.fromkeys([*wanted, *found]):
            if wanted.get(key) != found.get(key):
                named = key if what == "versions" else f"recipe of {key}"
                yield _said(named, wanted.get(key), found.get(key))
    if len(locked.runs) != len(here.runs):
        yield _said("number of runs", len(locked.runs), len(here.runs))
    for number, (wanted, found) in enumerate(zip(locked.runs, here.runs, strict=False), start=1):
        for name in ("model", "weights", "dataset", "data"):
            one, other = getattr(wanted, name), getattr(found, name)
            if one != other:
                yield _said(f"{name} of {wanted.model} (run {number})", one, other)


def _said(what: str, wanted: Any, found: Any) -> str:
    here, there = (_short(v) if v not in (None, "") else "missing" for v in (found, wanted))
    return f"{what} is {here}, the lock says {there}"


def _short(value: Any) -> str:
    """A hash by its first characters."""
    text = str(value)
    return text[:SHOWN] if len(text) == hashlib.sha256().digest_size * 2 else text


def _remedies(locked: Lock, here: Lock) -> Iterator[str]:
    """What to do, in words or as a command."""
    if locked.suite != here.suite:
        yield f"--suite {locked.suite}"
        return
    files = ("suite_sha256", "source_sha256", "recipes")
    if any(getattr(locked, name) != getattr(here, name) for name in files):
        if locked.code.endswith(WITH_CHANGES):
            yield "it was made from a checkout with changes, which no commit has"
        elif locked.code:
            yield f"git checkout {locked.code[:SHOWN]}"
        else:
            yield f"install the segdeploy {locked.versions.get(OWN, '')} that it was made with"
    differing = {
        name: locked.versions.get(name)
        for name in dict.fromkeys([*locked.versions, *here.versions])
        if locked.versions.get(name) != here.versions.get(name) and name != OWN
    }
    if python := differing.pop("python", None):
        yield f"use Python {python}"
    if wanted := [f"{name}=={version}" for name, version in differing.items() if version]:
        yield f"pip install {' '.join(wanted)}"
    if others := [name for name, version in differing.items() if not version]:
        yield f"pip uninstall {' '.join(others)}"
    if locked.device != here.device:
        yield f"--device {locked.device}" if locked.device else "leave out --device"


def _versions(suite: Suite, device: Device | None) -> dict[str, str]:
    """Of what the suite loads: a package for other runtimes may be there or not.

    On a GPU all count: ONNX Runtime's TensorRT provider loads TensorRT too.
    """
    used = {runtime for run in suite.runs for runtime in run.runtimes}
    own = {name for runtime in used for name in RUNTIME_PACKAGES.get(runtime, ())}
    every = {name for names in RUNTIME_PACKAGES.values() for name in names}
    unused = set() if device is not None and device.is_cuda else every - own
    names = [name for name in PACKAGES if name not in unused]
    versions = {name: found for name in names if (found := installed_version(name))}
    return {"python": platform.python_version(), **versions}


def _locked_runs(runs: Sequence[Run]) -> Iterator[LockedRun]:
    known: dict[str, str] = {}  # fingerprints of data sets, which take time
    for run in runs:
        options, data = run.options, NONE
        if not options.speed_only:
            if options.dataset not in known:
                dataset, split = options.open()
                known[options.dataset] = f"{split}, {fingerprint(dataset)}"
            data = known[options.dataset]
        weights = _weights(run)
        yield LockedRun(model=_model(run), weights=weights, dataset=options.dataset, data=data)


def _model(run: Run) -> str:
    return run.comparison.subjects[0]


def _calibration(run: Run) -> str:
    if run.options.speed_only:
        return SPEED_ONLY
    return default_calibration(load_model(_model(run)).dataset or run.options.dataset)


def _weights(run: Run) -> str:
    checkpoint = run.comparison.checkpoint
    assert checkpoint is not None  # every run of a suite names it
    return checkpoint if checkpoint.startswith(RANDOM) else sha256_of(Path(checkpoint))


def fingerprint(dataset: Dataset) -> str:
    """How many images, and the hash of all their ids and of a few images and their labels."""
    count = len(dataset)
    digest = hashlib.sha256("\n".join(dataset.ids).encode())
    for k in range(0, count, max(1, count // LOOKED_AT)):
        digest.update(dataset.fingerprint(k).encode())
        digest.update(dataset.load(k).labels.tobytes())
    return f"{count} images, sha256 {digest.hexdigest()}"
