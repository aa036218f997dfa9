"""The three data folders, read and checked: models/, calibration/ and benchmarks/."""

import hashlib
import random
import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from segdeploy.errors import SegdeployError
from segdeploy.spec import ClassSet, Method, ModelSpec, Precision, RangeMethod, Runtime, Size

_PACKAGED = Path(__file__).parent / "data"  # where the wheel keeps the three folders
ROOT = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1]
MODELS, CALIBRATION, BENCHMARKS = ROOT / "models", ROOT / "calibration", ROOT / "benchmarks"

MODEL_KEYS = {
    "method": str, "classes": str, "dataset": str, "size": list, "width": float,
    "head_channels": int, "checkpoint": str, "checkpoint_url": str, "sha256_prefix": str,
    "license": str,
}  # fmt: skip
CALIBRATION_KEYS = {
    "dataset": str, "split": str, "method": str, "images": str, "count": int, "seed": int,
    "percentile": float, "keep_fp32": list,
}  # fmt: skip
TARGET_KEYS = {
    "miou": float, "fps": float, "device": str, "memory_gb": float, "resolution": str, "note": str,
    "miou_ms_flip": float,
}  # fmt: skip
SUITE_KEYS = {"seed": int, "runs": list}
RUN_KEYS = {
    "models": list, "dataset": str, "precisions": list, "runtimes": list, "seconds": float,
    "limit": int, "weights": str, "accuracy": bool,
}  # fmt: skip
WEIGHTS = ("at-hand", "random")
NAMES = {
    bool: "true or false",
    str: "a text",
    int: "a whole number",
    float: "a number",
    list: "a list",
}


@dataclass(frozen=True)
class Target:
    """A row of the reference table: mIoU in percent, frames per second, and how both came about."""

    miou: float | None  # None: not to be shown, beside random weights
    fps: float
    device: str
    memory_gb: float
    resolution: str
    note: str = ""
    miou_ms_flip: float | None = None  # over six scales and their mirror images


@dataclass(frozen=True)
class CalibrationSet:
    """Which images ranges are collected on, and how a range is read off them.

    Either `images` lists ids of the data set, or `count` of them are drawn with `seed`.
    """

    name: str
    dataset: str
    split: str
    method: RangeMethod
    images: tuple[str, ...] = ()
    listed_in: str = ""  # the file that `images` came from
    count: int = 0
    seed: int = 0
    percentile: float = 99.99
    keep_fp32: tuple[str, ...] = ()  # nodes or modules left floating

    def draw(self, ids: Sequence[str]) -> tuple[str, ...]:
        """The ids to calibrate on, of those that the split has."""
        if self.images:
            self._check_listed(ids)
            return self.images
        if self.count > len(ids):
            raise SegdeployError(
                f"calibration set {self.name} wants {self.count} images, "
                f"{self.dataset}/{self.split} has {len(ids)}"
            )
        return tuple(random.Random(self.seed).sample(sorted(ids), self.count))

    def _check_listed(self, ids: Sequence[str]) -> None:
        known = set(ids)
        missing = [wanted for wanted in self.images if wanted not in known]
        if missing:
            raise SegdeployError(
                f"{self.listed_in}: {self.dataset}/{self.split} has no image {missing[0]!r}; "
                f"{len(missing)} of the {len(self.images)} ids of the list are missing",
                hint=f"{len(known)} images are there, such as {min(known, default='')!r}; for a "
                "part of a data set, see calibration/README.md",
            )


@dataclass(frozen=True, kw_only=True)
class SuiteRun:
    """Models that are measured in one way.

    Args:
        models: of the zoo.
        dataset: that they are scored on, and whose images they are timed on.
        precisions: of each model.
        runtimes: of each precision; PyTorch has one row, in fp32.
        seconds: for the boundary `mmseg` of each row; the other three get a third of it each.
        weights: "random", or "at-hand": the published ones, or random ones if they are missing.
        accuracy: whether to score where weights and data are at hand.
        limit: images that are scored; None: all.
    """

    models: tuple[str, ...]
    dataset: str
    precisions: tuple[Precision, ...]
    runtimes: tuple[Runtime, ...]
    seconds: float
    weights: str
    accuracy: bool
    limit: int | None = None


@dataclass(frozen=True)
class Suite:
    """What belongs together in one result, and the hash of the file that says so."""

    name: str
    seed: int  # of random weights
    runs: tuple[SuiteRun, ...]
    sha256: str


def model_names() -> list[str]:
    """The zoo: one name per TOML in models/."""
    return sorted(path.stem for path in MODELS.glob("*.toml"))


def load_model(name: str) -> ModelSpec:
    """A model of the zoo, a path to a TOML like those in models/, or just a method."""
    if name.endswith(".toml") and Path(name).is_file():
        return _parse_model(Path(name))
    if name in model_names():
        return _parse_model(MODELS / f"{name}.toml")
    if name in list(Method):
        return ModelSpec(name=name, method=Method(name))
    raise SegdeployError(
        f"{name!r} is not a model",
        hint=f"one of {', '.join([*model_names(), *Method])}, or a TOML file; see segdeploy models",
    )


def _parse_model(path: Path) -> ModelSpec:
    values = _read_toml(path)
    _check_keys(path, values, MODEL_KEYS, {"method", "license"}, "models/README.md")
    try:
        return ModelSpec(
            name=path.stem,
            method=_one_of(path, "method", values["method"], list(Method)),
            classes=load_classes(values["classes"], path) if "classes" in values else None,
            dataset=values.get("dataset"),
            size=Size(*map(int, values["size"])) if "size" in values else None,
            width=values.get("width", 1.0),
            head_channels=values.get("head_channels", 512),
            checkpoint=path.parent / values["checkpoint"] if "checkpoint" in values else None,
            checkpoint_url=values.get("checkpoint_url", ""),
            sha256_prefix=values.get("sha256_prefix", ""),
            license=values["license"],
        )
    except (TypeError, ValueError) as error:
        raise SegdeployError(
            f"{path}: size = {values['size']}; wanted [height, width]",
            hint="see models/README.md for the keys",
        ) from error


def load_classes(name: str, where: Path) -> ClassSet:
    """Class names and colours: a name in models/classes/, or a TOML file beside `where`."""
    path = (
        where.parent / name
        if name.endswith(".toml")
        else MODELS / "classes" / f"{Path(name).name}.toml"
    )
    return read_classes(path)


def read_classes(path: Path) -> ClassSet:
    """Read a TOML that lists `classes = [{ name = "road", rgb = [128, 64, 128] }, ...]`."""
    values = _read_toml(path)
    rows = values.get("classes")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SegdeployError(f"{path}: wanted classes = [{{ name = ..., rgb = [r, g, b] }}, ...]")
    try:
        names = tuple(str(row["name"]) for row in rows)
        palette = tuple((int(r), int(g), int(b)) for r, g, b in (row["rgb"] for row in rows))
        return ClassSet(names, palette)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SegdeployError(
            f"{path}: a class needs a name and rgb = [r, g, b] ({error})"
        ) from error
    except SegdeployError as error:
        raise SegdeployError(f"{path}: {error.problem}") from error


def load_targets() -> dict[str, Target]:
    """The reference table, keyed by model name."""
    path = BENCHMARKS / "reference.toml"
    targets = {}
    for name, row in _read_toml(path).items():
        _check_keys(
            path, row, TARGET_KEYS, TARGET_KEYS.keys() - {"note", "miou_ms_flip"}, str(path)
        )
        targets[name] = Target(**row)
    return targets


def suite_names() -> list[str]:
    """One name per TOML in benchmarks/suites/."""
    return sorted(path.stem for path in (BENCHMARKS / "suites").glob("*.toml"))


def load_suite(name: str) -> Suite:
    """A suite of benchmarks/suites/, or a path to a TOML like those."""
    is_path = name.endswith(".toml")
    path = Path(name) if is_path else BENCHMARKS / "suites" / f"{name}.toml"
    if not (path.is_file() and (is_path or name in suite_names())):
        raise SegdeployError(
            f"{name!r} is not a suite", hint=f"one of {', '.join(suite_names())}, or a TOML file"
        )
    values = _read_toml(path)
    manual = "benchmarks/suites/README.md"
    _check_keys(path, values, SUITE_KEYS, SUITE_KEYS.keys(), manual)
    for run in values["runs"]:
        _check_keys(path, run, RUN_KEYS, RUN_KEYS.keys() - {"limit"}, manual)
    runs = tuple(_parse_run(path, run) for run in values["runs"])
    if not runs:
        raise SegdeployError(f"{path}: has no run", hint=f"see {manual} for the keys")
    return Suite(path.stem, values["seed"], runs, hashlib.sha256(path.read_bytes()).hexdigest())


def _parse_run(path: Path, run: Mapping[str, Any]) -> SuiteRun:
    known: dict[str, list[Any]] = {
        "models": model_names(), "precisions": list(Precision), "runtimes": list(Runtime),
    }  # fmt: skip
    chosen = {
        key: tuple(_one_of(path, key, value, names) for value in run[key])
        for key, names in known.items()
    }
    empty = next((key for key, values in chosen.items() if not values), None)
    if empty or not run["seconds"] > 0 or run.get("limit", 1) < 1:
        key = empty or ("limit" if run["seconds"] > 0 else "seconds")
        raise SegdeployError(f"{path}: {key} = {run[key]}; wanted more than none")
    return SuiteRun(
        **chosen,
        dataset=run["dataset"],
        seconds=run["seconds"],
        weights=_one_of(path, "weights", run["weights"], list(WEIGHTS)),
        accuracy=run["accuracy"],
        limit=run.get("limit"),
    )


def recipe_hashes(models: Set[str], calibrations: Set[str]) -> dict[str, str]:
    """The sha256 of every recipe that a result depends on, by its place in the data folders."""
    paths = [MODELS / f"{name}.toml" for name in models]
    paths += [path for name in calibrations for path in CALIBRATION.glob(f"{name}.t*")]
    found = {f"{path.parent.name}/{path.name}": path for path in paths}
    return {n: hashlib.sha256(found[n].read_bytes()).hexdigest() for n in sorted(found)}


def calibration_names() -> list[str]:
    """One name per TOML in calibration/: cityscapes-64 stands before cityscapes-500."""

    def in_order_of_numbers(name: str) -> list[str | int]:
        parts = re.split(r"(\d+)", name)  # text and digits by turns
        return [int(part) if k % 2 else part for k, part in enumerate(parts)]

    return sorted((path.stem for path in CALIBRATION.glob("*.toml")), key=in_order_of_numbers)


def load_calibration(name: str) -> CalibrationSet:
    """A calibration set of calibration/, or a path to a TOML like those."""
    path = Path(name) if name.endswith(".toml") else CALIBRATION / f"{name}.toml"
    if not (path.is_file() and (name.endswith(".toml") or name in calibration_names())):
        raise SegdeployError(
            f"{name!r} is not a calibration set",
            hint=f"one of {', '.join(calibration_names())}, a TOML file, or a folder of images",
        )
    values = _read_toml(path)
    required = {"dataset", "split", "method"}
    _check_keys(path, values, CALIBRATION_KEYS, required, "calibration/README.md")
    if ("images" in values) == ("count" in values):
        raise SegdeployError(
            f"{path}: wanted one of `images` (a list of ids) and `count` with `seed`"
        )
    if values.get("count", 1) < 1:
        raise SegdeployError(f"{path}: count = {values['count']}; wanted 1 or more")
    listed_in = path.parent / values["images"] if "images" in values else None
    return CalibrationSet(
        name=path.stem,
        dataset=values["dataset"],
        split=values["split"],
        method=_one_of(path, "method", values["method"], list(get_args(RangeMethod))),
        images=_read_ids(listed_in) if listed_in else (),
        listed_in=str(listed_in or ""),
        count=values.get("count", 0),
        seed=values.get("seed", 0),
        percentile=values.get("percentile", 99.99),
        keep_fp32=tuple(map(str, values.get("keep_fp32", ()))),
    )


def _read_ids(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SegdeployError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SegdeployError(f"{path}: is not a text of one id a line ({error})") from error
    ids = tuple(line for line in lines if line and not line.startswith("#"))
    if not ids:
        raise SegdeployError(f"{path}: lists no image")
    repeated = [wanted for wanted, times in Counter(ids).items() if times > 1]
    if repeated:
        raise SegdeployError(f"{path}: lists {repeated[0]!r} more than once")
    return ids


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SegdeployError(f"{path}: no such file") from error
    except OSError as error:
        raise SegdeployError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SegdeployError(f"{path}: is not TOML ({error})") from error


def _check_keys(
    path: Path, values: Any, known: Mapping[str, type], required: Set[str], manual: str
) -> None:
    if not isinstance(values, dict):
        raise SegdeployError(f"{path}: wanted a table, found {values!r}")
    hint = f"see {manual} for the keys"
    for key in sorted(values.keys() - known.keys()):
        raise SegdeployError(f"{path}: unexpected key `{key}`", hint=hint)
    for key in sorted(required - values.keys()):
        raise SegdeployError(f"{path}: the key `{key}` is missing", hint=hint)
    for key, value in values.items():
        if type(value) is not known[key] and not (known[key] is float and type(value) is int):
            wanted = NAMES[known[key]]
            raise SegdeployError(f"{path}: {key} = {value!r}; wanted {wanted}", hint=hint)


def _one_of(path: Path, key: str, value: Any, known: list[Any]) -> Any:
    if value not in known:
        raise SegdeployError(f"{path}: {key} = {value!r}; wanted one of {', '.join(known)}")
    return type(known[0])(value)
