"""The three data folders, read and checked: models/, calibration/ and benchmarks/."""

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from segdeploy.errors import SegdeployError
from segdeploy.spec import ClassSet, Method, ModelSpec, RangeMethod, Size

_PACKAGED = Path(__file__).parent / "data"  # where the wheel keeps the three folders
ROOT = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1]
MODELS, CALIBRATION, BENCHMARKS = ROOT / "models", ROOT / "calibration", ROOT / "benchmarks"


@dataclass(frozen=True)
class Target:
    """A row of the reference table: mIoU in percent, frames per second, and how both were measured."""

    miou: float
    fps: float
    device: str
    memory_gb: float
    resolution: str
    note: str = ""


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
    count: int = 0
    seed: int = 0
    percentile: float = 99.99
    keep_fp32: tuple[str, ...] = ()  # nodes or modules left floating

    def draw(self, ids: Sequence[str]) -> tuple[str, ...]:
        """The ids to calibrate on, of those that the split has."""
        if self.images:
            return self.images
        if self.count > len(ids):
            raise SegdeployError(
                f"calibration set {self.name} wants {self.count} images, "
                f"{self.dataset}/{self.split} has {len(ids)}"
            )
        return tuple(random.Random(self.seed).sample(sorted(ids), self.count))


def model_names() -> list[str]:
    """The zoo: one name per TOML in models/."""
    return sorted(path.stem for path in MODELS.glob("*.toml"))


def load_model(name: str) -> ModelSpec:
    """A model of the zoo, a path to a TOML like those in models/, or just a method."""
    path = Path(name) if name.endswith(".toml") else MODELS / f"{Path(name).name}.toml"
    if path.is_file():
        return _parse_model(path)
    if name in list(Method):
        return ModelSpec(name=name, method=Method(name))
    raise SegdeployError(
        f"{name!r} is not a model",
        hint=f"one of {', '.join([*model_names(), *Method])}, or a TOML file; see segdeploy models",
    )


def _parse_model(path: Path) -> ModelSpec:
    values = _read_toml(path)
    required, optional = {"method", "license"}, {
        "classes", "dataset", "size", "width", "head_channels", "checkpoint", "checkpoint_url", "sha256_prefix",
    }  # fmt: skip
    _check_keys(path, values, required, optional, "models/README.md")
    try:
        return ModelSpec(
            name=path.stem,
            method=_one_of(path, "method", values["method"], list(Method)),
            classes=load_classes(values["classes"], path) if "classes" in values else None,
            dataset=values.get("dataset"),
            size=Size(*map(int, values["size"])) if "size" in values else None,
            width=float(values.get("width", 1.0)),
            head_channels=int(values.get("head_channels", 512)),
            checkpoint=path.parent / values["checkpoint"] if "checkpoint" in values else None,
            checkpoint_url=str(values.get("checkpoint_url", "")),
            sha256_prefix=str(values.get("sha256_prefix", "")),
            license=str(values["license"]),
        )
    except (TypeError, ValueError) as error:
        raise SegdeployError(
            f"{path}: {error}", hint="see models/README.md for the keys"
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
    except (KeyError, TypeError, ValueError) as error:
        raise SegdeployError(
            f"{path}: a class needs a name and rgb = [r, g, b] ({error})"
        ) from error
    return ClassSet(names, palette)


def load_targets() -> dict[str, Target]:
    """The reference table, keyed by model name."""
    path = BENCHMARKS / "reference.toml"
    targets = {}
    for name, row in _read_toml(path).items():
        _check_keys(
            path, row, {"miou", "fps", "device", "memory_gb", "resolution"}, {"note"}, str(path)
        )
        targets[name] = Target(**row)
    return targets


def calibration_names() -> list[str]:
    """One name per TOML in calibration/."""
    return sorted(path.stem for path in CALIBRATION.glob("*.toml"))


def load_calibration(name: str) -> CalibrationSet:
    """A calibration set of calibration/, or a path to a TOML like those."""
    path = Path(name) if name.endswith(".toml") else CALIBRATION / f"{Path(name).name}.toml"
    if not path.is_file():
        raise SegdeployError(
            f"{name!r} is not a calibration set",
            hint=f"one of {', '.join(calibration_names())}, a TOML file, or a folder of images",
        )
    values = _read_toml(path)
    optional = {"images", "count", "seed", "percentile", "keep_fp32"}
    _check_keys(path, values, {"dataset", "split", "method"}, optional, "calibration/README.md")
    if ("images" in values) == ("count" in values):
        raise SegdeployError(
            f"{path}: wanted one of `images` (a list of ids) and `count` with `seed`"
        )
    try:
        return CalibrationSet(
            name=path.stem,
            dataset=str(values["dataset"]),
            split=str(values["split"]),
            method=_one_of(path, "method", values["method"], list(get_args(RangeMethod))),
            images=_read_ids(path.parent / str(values["images"])) if "images" in values else (),
            count=int(values.get("count", 0)),
            seed=int(values.get("seed", 0)),
            percentile=float(values.get("percentile", 99.99)),
            keep_fp32=tuple(map(str, values.get("keep_fp32", ()))),
        )
    except (TypeError, ValueError) as error:
        raise SegdeployError(f"{path}: {error}", hint="see calibration/README.md") from error


def _read_ids(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SegdeployError(f"{path}: cannot be read ({error.strerror})") from error
    ids = tuple(line for line in lines if line and not line.startswith("#"))
    if not ids:
        raise SegdeployError(f"{path}: lists no image")
    return ids


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SegdeployError(f"{path}: no such file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SegdeployError(f"{path}: is not TOML ({error})") from error


def _check_keys(
    path: Path, values: Any, required: set[str], optional: set[str], manual: str
) -> None:
    if not isinstance(values, dict):
        raise SegdeployError(f"{path}: wanted a table, found {values!r}")
    for key in values.keys() - required - optional:
        raise SegdeployError(f"{path}: unexpected key `{key}`", hint=f"see {manual} for the keys")
    for key in sorted(required - values.keys()):
        raise SegdeployError(
            f"{path}: the key `{key}` is missing", hint=f"see {manual} for the keys"
        )


def _one_of(path: Path, key: str, value: Any, known: list[Any]) -> Any:
    if value not in known:
        raise SegdeployError(f"{path}: {key} = {value!r}; wanted one of {', '.join(known)}")
    return type(known[0])(value)
