"""Files along the line: what each says of itself, and how it is written, whole or not at all."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from segdeploy.build_record import BuildRecord
from segdeploy.errors import MisfitError, SegdeployError
from segdeploy.records import read_record
from segdeploy.spec import (
    MAX_BATCH,
    MAX_SIDE,
    RANDOM,
    ClassSet,
    MaskPlace,
    Method,
    Normalization,
    Output,
    Precision,
    Runtime,
    Size,
    Tuning,
)

SCHEMA = 2  # 2: an engine of TensorRT has a record of its build
ADDED = {
    "tuning",
    "rewrites",
    "mask",
    "batch_norms",
    "build",
    "asked",
}  # keys that old manifests lack
MAX_KEYS = 64  # of a JSON object, of which ours have up to 31; C++ needs a bound, see records.cpp
PREFIX = "segdeploy."  # of the keys in an ONNX file's metadata_props


@dataclass(frozen=True)
class LayerMoments:
    """Mean and deviation per channel that BatchNorm gave a convolution's output in training."""

    weight: str  # of the convolution, by which it is found in the graph
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.means) == len(self.deviations):
            raise SegdeployError(
                f"{self.weight}: {len(self.means)} means and {len(self.deviations)} deviations"
            )
        if not all(map(math.isfinite, self.means)):
            raise SegdeployError(f"{self.weight}: a mean is not a finite number")
        if not all(0 <= value < math.inf for value in self.deviations):
            raise SegdeployError(f"{self.weight}: a deviation is not a finite number from 0 on")


@dataclass(frozen=True)
class Manifest:
    """What an artifact is, where it came from, what it takes and what it returns.

    Stored in `metadata_props` of an ONNX graph, and as JSON beside an engine.
    """

    model: str
    method: Method
    classes: ClassSet
    precision: Precision = Precision.FP32
    output: Output = Output.LABELS
    size: Size | None = None  # None: dynamic height and width
    batch: int | None = 1  # None: dynamic
    dataset: str | None = None
    normalization: Normalization = field(default_factory=Normalization)
    batch_norms: tuple[LayerMoments, ...] = ()  # of some first layers; none of random weights
    tuning: Tuning = Tuning.PLAIN  # for what it was rewritten
    rewrites: tuple[str, ...] = ()  # the passes that changed it
    mask: MaskPlace = MaskPlace.GRAPH  # where labels are made; of interest to labels only
    color_order: str = "RGB"
    layout: str = "NHWC"
    checkpoint: str = ""  # file name only, never a local path; "random:SEED" for random weights
    checkpoint_sha256: str = ""
    calibration: str = ""  # name, number of images, split and method
    calibration_split: str = ""  # "dataset/split" or "folder:NAME": what must not be scored
    calibration_images: tuple[str, ...] = ()  # their ids: none of them may be scored
    quantization: str = ""  # of int8: the runtime whose form of Q/DQ the graph has
    runtime: Runtime | None = None  # None: a graph; otherwise an engine of that runtime
    runtime_version: str = ""
    machine: str = ""  # what an engine is tied to: processor or GPU
    source_sha256: str = ""  # of the graph that an engine was built from
    sha256: str = ""  # of the engine file itself
    build: BuildRecord | None = None  # of an engine of TensorRT
    request: str = ""  # hash of all that went in: equal request, equal artifact
    asked: str = ""  # of an engine of a named model: hash of what was asked for, see pipeline.asked
    versions: tuple[tuple[str, str], ...] = ()
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        name = self.model  # of its folder in the store, so it must not lead out of there
        if not (name and name.isprintable() and Path(name).name == name):
            raise SegdeployError(f"model {name!r:.60}; wanted a name without folders")
        if self.size is not None and not 1 <= min(self.size) <= max(self.size) <= MAX_SIDE:
            raise SegdeployError(f"size {self.size}; wanted up to {MAX_SIDE} a side")
        if self.batch is not None and not 1 <= self.batch <= MAX_BATCH:
            raise SegdeployError(f"batch {self.batch}; wanted 1 to {MAX_BATCH}")
        if (self.color_order, self.layout) != ("RGB", "NHWC"):
            raise SegdeployError(f"takes {self.color_order} {self.layout}; wanted RGB NHWC")

    @property
    def is_random(self) -> bool:
        """Whether the weights are random: such an artifact has a speed but no accuracy."""
        return self.checkpoint.startswith(RANDOM)

    def to_strings(self) -> dict[str, str]:
        """One JSON text per field, as metadata_props holds them."""
        return {PREFIX + key: json.dumps(value) for key, value in asdict(self).items()}

    @classmethod
    def from_strings(cls, properties: Mapping[str, str], where: Path) -> Self:
        """Read what `to_strings` wrote; `where` names the file in an error."""
        wanted = {PREFIX + f.name: f.name for f in fields(cls)}
        found = {wanted[key]: text for key, text in properties.items() if key in wanted}
        try:
            values = {name: _parse(text, where) for name, text in found.items()}
        except (ValueError, RecursionError) as error:
            raise SegdeployError(f"{where}: its segdeploy metadata is damaged ({error})") from error
        return cls.from_dict(values, where)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: Path) -> Self:
        """Check and convert values that came from a file; nothing in them is trusted."""
        schema = values.get("schema")
        if schema is None:
            raise SegdeployError(
                f"{where}: carries no segdeploy manifest",
                hint="segdeploy export writes one into the graph",
            )
        if type(schema) is not int or not 1 <= schema <= SCHEMA:
            raise SegdeployError(
                f"{where}: manifest schema {schema!r}, this segdeploy reads up to {SCHEMA}",
                hint="upgrade segdeploy, or build the artifact again",
            )
        unknown = values.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise SegdeployError(f"{where}: unknown manifest key {sorted(unknown)[0]!r}")
        try:
            return read_record(cls, values, "the manifest", added=ADDED)
        except (TypeError, ValueError, OverflowError, SegdeployError) as error:
            raise SegdeployError(
                f"{where}: its segdeploy manifest is damaged ({type(error).__name__}: {error})",
                hint="build the artifact again",
            ) from error


def _parse(text: str, where: Path) -> Any:
    """JSON of a file; an object of more keys than any of ours is refused."""

    def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(pairs) > MAX_KEYS:
            raise SegdeployError(
                f"{where}: has an object of {len(pairs)} keys; wanted up to {MAX_KEYS}"
            )
        return dict(pairs)

    return json.loads(text, object_pairs_hook=checked)


@dataclass(frozen=True)
class Graph:
    """An ONNX file of ours and its manifest."""

    path: Path
    manifest: Manifest


@dataclass(frozen=True)
class EnginePlan:
    """A file that one runtime loads without further work, and its manifest (beside it, `.json`)."""

    path: Path
    manifest: Manifest

    @property
    def manifest_path(self) -> Path:
        """The JSON file beside the plan."""
        return self.path.with_name(self.path.name + ".json")

    def save_manifest(self) -> None:
        """Write the JSON beside the plan."""
        write_json(self.manifest_path, asdict(self.manifest))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the manifest and refuse a plan that is not the file it describes."""
        plan = cls.describe(path)
        found = sha256_of(path)
        if found != plan.manifest.sha256:
            raise MisfitError(
                f"{path}: sha256 is {found[:12]}, its manifest says {plan.manifest.sha256[:12]}",
                hint="the file is damaged or was replaced: build the engine again, or --rebuild",
            )
        return plan

    @classmethod
    def describe(cls, path: Path) -> Self:
        """Read the manifest alone; the plan itself may be damaged."""
        if not path.is_file():
            raise SegdeployError(f"{path}: no such file", hint="segdeploy build-engine writes it")
        beside = path.with_name(path.name + ".json")
        try:
            values = _parse(beside.read_text(), beside)
        except FileNotFoundError as error:
            raise SegdeployError(
                f"{path}: its manifest {beside.name} is missing", hint="keep both files together"
            ) from error
        except (ValueError, RecursionError) as error:
            raise SegdeployError(f"{beside}: is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise SegdeployError(f"{beside}: holds no JSON object")
        return cls(path, Manifest.from_dict(values, beside))

    def find_source(self) -> Path:
        """The graph that it was built of, told by its sha256 among those in the same folder."""
        wanted = self.manifest.source_sha256
        for path in sorted(self.path.parent.glob("*.onnx")):
            if sha256_of(path) == wanted:
                return path
        raise SegdeployError(
            f"{self.path}: the graph it was built of (sha256 {wanted[:12]}) is not beside it",
            hint="put the .onnx file there, or segdeploy build-engine "
            f"{self.manifest.model} --target {self.manifest.runtime}",
        )


Artifact = Graph | EnginePlan


@dataclass(frozen=True)
class Store:
    """The folder artifacts/: where each artifact goes when the user names no place."""

    root: Path = Path("artifacts")

    def checkpoint(self, file_name: str) -> Path:
        """Where `segdeploy download` puts a checkpoint."""
        return self.root / "checkpoints" / file_name

    def graph(self, model: str, variant: str) -> Path:
        """For example artifacts/demo/fp32.onnx."""
        return self.root / model / f"{variant}.onnx"

    def engine(self, model: str, variant: str, runtime: Runtime) -> Path:
        """For example artifacts/demo/int8.tensorrt-rtx.plan."""
        return self.root / model / f"{variant}.{runtime}{engine_suffix(runtime)}"

    def timing_cache(self, gpu: str, compute_capability: str, version: str) -> Path:
        """For example artifacts/timing/NVIDIA-A100-PCIE-40GB-8.0-10.16.1.11.cache."""
        name = re.sub(r"[^\w.-]+", "-", f"{gpu}-{compute_capability}-{version}")
        return self.root / "timing" / f"{name}.cache"


def engine_suffix(runtime: Runtime) -> str:
    """Of the engine files of a runtime, by which they are told from graphs."""
    return ".ort" if runtime is Runtime.ONNXRUNTIME else ".plan"


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise SegdeployError(f"{path}: no such file") from error


def request_hash(**inputs: Any) -> str:
    """A short hash of all that determines an artifact."""
    text = json.dumps(inputs, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder, and rename it to `path` when the block succeeds."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            temporary.replace(path)
    except OSError as error:
        raise SegdeployError(f"{path}: cannot be written ({error.strerror})") from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file for people, too; whole or not at all."""
    with writing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
