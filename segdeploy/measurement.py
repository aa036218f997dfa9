"""One row of a report: what ran, its raw times and counts, and what is read off them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Self

import numpy as np

from segdeploy.errors import SegdeployError
from segdeploy.metrics import ConfusionMatrix, Scores
from segdeploy.spec import RANDOM, Device, Output, Precision, Runtime
from segdeploy.steadiness import LIMIT, Steadiness, judge_steps
from segdeploy.telemetry import MachineState, disturbances
from segdeploy.timing import Latency, Timer

TRAINED = "trained"


class Boundary(StrEnum):
    """What of an image's way is timed."""

    ENGINE = "engine"
    HOST = "host"
    MMSEG = "mmseg"
    E2E = "e2e"

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        match self:
            case Boundary.ENGINE:
                return "the runtime alone: pixels and result lie where it reads and writes them"
            case Boundary.HOST:
                return "pixels in host memory to the runtime's result there, copies included"
            case Boundary.MMSEG:
                return (
                    "what mmseg's tools/benchmark.py times: forward, both resizes and argmax at "
                    "the test resolution"
                )
            case Boundary.E2E:
                return "an image file, decoded and resized, to the label map at its own size"


# What a boundary's work is a part of: it cannot take longer than the whole. `host` makes its mask
# at the network's size, which is no part of the others.
WITHIN: Mapping[Boundary, tuple[Boundary, ...]] = {
    Boundary.ENGINE: (Boundary.HOST, Boundary.MMSEG, Boundary.E2E),
    Boundary.MMSEG: (Boundary.E2E,),
}


class Part(StrEnum):
    """A part of a step on a GPU, by its events."""

    UPLOAD = "upload"
    COMPUTE = "compute"
    DOWNLOAD = "download"


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The steps of one boundary, and the machine before and after them."""

    latency: Latency
    before: MachineState = field(default_factory=MachineState)
    after: MachineState = field(default_factory=MachineState)
    parts_ms: Mapping[Part, tuple[float, ...]] = field(default_factory=dict)  # of each timed step

    def __post_init__(self) -> None:
        for part, times in self.parts_ms.items():
            if len(times) != len(self.latency.steps_ms):
                raise SegdeployError(
                    f"{part} has {len(times)} times, the boundary {len(self.latency.steps_ms)}"
                )
            if not all(math.isfinite(time) and time >= 0 for time in times):
                raise SegdeployError(f"{part} has a time that is no positive number")

    def steadiness(self, timer: Timer | None) -> Steadiness:
        """What these steps and the machine say; `Measurement` knows what the others say."""
        return judge_steps(
            self.latency.steps_ms,
            warmup_ms=self.latency.warmup_ms,
            clock_ns=timer.cost_ns + timer.resolution_ns if timer else 0,
            disturbances=disturbances(self.before, self.after),
        )

    def derived(self, steadiness: Steadiness) -> dict[str, Any]:
        """What is read off the raw times, for JSON; never read back."""
        latency = self.latency
        medians = {part.value: float(np.median(times)) for part, times in self.parts_ms.items()}
        return {
            "steps": len(latency.steps_ms),
            "fps": latency.fps,
            "mean_ms": latency.mean_ms,
            "p50_ms": latency.p50_ms,
            "p90_ms": latency.p90_ms,
            "p95_ms": latency.p95_ms,
            "p99_ms": latency.p99_ms,
            "p999_ms": latency.p999_ms,
            "max_ms": max(latency.steps_ms),
            "p50_interval_ms": list(steadiness.p50_ms),
            "p99_interval_ms": [end if math.isfinite(end) else None for end in steadiness.p99_ms],
            "parts_p50_ms": medians,
            "drift": steadiness.drift,
            "settling_steps": steadiness.settling_steps,
            "verdict": steadiness.verdict,
            "reasons": list(steadiness.reasons),
        }


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Pixels counted over the scored images, and the scores read off them, in percent.

    Args:
        images: that were counted.
        classes: names in the order of their ids.
        counts: as in `ConfusionMatrix`: row is the true class, column the predicted one, and the
            last of each holds ids outside the classes.
    """

    images: int
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        side = len(self.classes) + 1
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise SegdeployError("a confusion matrix needs classes of different names")
        if len(self.counts) != side or any(len(row) != side for row in self.counts):
            raise SegdeployError(
                f"a confusion matrix of {len(self.classes)} classes needs {side} rows of {side}"
            )
        if self.images < 1 or any(not 0 <= count < 1 << 62 for row in self.counts for count in row):
            raise SegdeployError("a confusion matrix holds counts from 0, of at least one image")

    @classmethod
    def of(cls, matrix: ConfusionMatrix, classes: Sequence[str], images: int) -> Self:
        """Take over what `evaluate` counted."""
        counts = tuple(tuple(map(int, row)) for row in matrix.counts)
        return cls(images=images, classes=tuple(classes), counts=counts)

    @cached_property
    def matrix(self) -> ConfusionMatrix:
        """The same as an array."""
        return ConfusionMatrix(np.array(self.counts, np.int64))

    @property
    def per_class_iou(self) -> dict[str, float | None]:
        """By name; None for a class that occurs neither in the truth nor in predictions."""
        return self._by_name(self.matrix.iou())

    @property
    def per_class_accuracy(self) -> dict[str, float | None]:
        """By name; None for a class that does not occur in the truth."""
        return self._by_name(self.matrix.accuracy())

    def _by_name(self, scores: Scores) -> dict[str, float | None]:
        return {
            name: None if np.isnan(score) else 100 * float(score)
            for name, score in zip(self.classes, scores, strict=True)
        }


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How many labels of the scored images are those of another row of the same run."""

    runtime: Runtime
    precision: Precision
    pixels: int
    equal_pixels: int

    def __post_init__(self) -> None:
        if not 0 <= self.equal_pixels <= self.pixels or self.pixels < 1:
            raise SegdeployError(
                f"{self.equal_pixels} of {self.pixels} labels agree; that cannot be"
            )

    @property
    def percent(self) -> float:
        """Share of equal labels."""
        return 100 * self.equal_pixels / self.pixels


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What ran and what came out. Scores are in percent; None: not measured."""

    model: str
    title: str
    precision: Precision
    runtime: Runtime
    device: Device
    output: Output
    boundaries: Mapping[Boundary, Timing]  # of one step: one batch
    resolution: str  # HEIGHTxWIDTH of the network's input, or a rule like "short side 512"
    mode: str = "whole"  # how an image passes through the network
    weights: str = TRAINED  # or "random:SEED"
    artifact: str = ""  # file name, never a local path
    artifact_sha256: str = ""
    artifact_bytes: int | None = None
    calibration: str = ""
    batch: int = 1
    threads: int | None = None  # of the runtime's pool; None: its own choice
    dataset: str = ""
    tally: Tally | None = None
    agreement: tuple[Agreement, ...] = ()
    peak_memory_bytes: int | None = None  # resident on the host, of the whole process
    timer: Timer | None = None  # of the process that measured
    note: str = ""

    def __post_init__(self) -> None:
        if self.weights != TRAINED and not self.weights.startswith(RANDOM):
            raise SegdeployError(
                f"{self.model}: weights {self.weights!r}; wanted trained or random:SEED"
            )
        for size in (self.artifact_bytes, self.peak_memory_bytes):
            if size is not None and not 0 <= size < 1 << 62:
                raise SegdeployError(f"{self.model}: a file or memory of so many bytes cannot be")
        if self.batch < 1:
            raise SegdeployError(f"{self.model}: a batch of {self.batch}; wanted at least 1")
        if Boundary.MMSEG not in self.boundaries:
            raise SegdeployError(f"{self.model}: was not timed at the boundary {Boundary.MMSEG}")
        if self.is_random and self.tally:
            raise SegdeployError(f"{self.model}: random weights have no mIoU")
        if self.tally and not self.dataset:
            raise SegdeployError(f"{self.model}: has an mIoU, but names no data set")

    @property
    def is_random(self) -> bool:
        """Whether the weights are random: a speed, never an accuracy."""
        return self.weights.startswith(RANDOM)

    @property
    def latency(self) -> Latency:
        """Of the boundary that the reference table timed."""
        return self.boundaries[Boundary.MMSEG].latency

    @property
    def steadiness(self) -> Steadiness:
        """Of the same boundary."""
        return self.steadiness_of(Boundary.MMSEG)

    def steadiness_of(self, boundary: Boundary) -> Steadiness:
        """Of a boundary that was timed; computed once."""
        return self._steadiness[boundary]

    @cached_property
    def _steadiness(self) -> dict[Boundary, Steadiness]:
        found = {b: timing.steadiness(self.timer) for b, timing in self.boundaries.items()}
        for part, whole, excess in self._contradictions():
            longer = f"took {excess:.0%} longer than {whole}, of which it is a part"
            less = f"{part}, a part of it, took {excess:.0%} longer"
            for boundary, reason in ((part, longer), (whole, less)):
                own = found[boundary]
                found[boundary] = replace(own, reasons=(*own.reasons, reason))
        return found

    def _contradictions(self) -> Iterator[tuple[Boundary, Boundary, float]]:
        """A part, the whole that took less, and by what share the part took longer."""
        medians = {b: timing.latency.p50_ms for b, timing in self.boundaries.items()}
        for part, wholes in WITHIN.items():
            for whole in wholes:
                if part in medians and whole in medians:
                    excess = medians[part] / medians[whole] - 1
                    if excess > LIMIT:
                        yield part, whole, excess

    @property
    def fps(self) -> float:
        """Images per second at that boundary: `batch` of them per step."""
        return self.latency.fps * self.batch

    @property
    def images(self) -> int:
        """That the scores are counted over."""
        return self.tally.images if self.tally else 0

    @property
    def miou(self) -> float | None:
        """Mean IoU over the classes that occur."""
        return self._percent(self.tally.matrix.miou()) if self.tally else None

    @property
    def macc(self) -> float | None:
        """Mean accuracy over the classes that occur in the truth."""
        return self._percent(self.tally.matrix.macc()) if self.tally else None

    @property
    def aacc(self) -> float | None:
        """Share of the pixels that are right."""
        return self._percent(self.tally.matrix.aacc()) if self.tally else None

    @property
    def per_class_iou(self) -> dict[str, float | None]:
        """By name; None: the class does not occur; empty: not measured."""
        return self.tally.per_class_iou if self.tally else {}

    @staticmethod
    def _percent(score: float) -> float | None:
        return None if math.isnan(score) else 100 * score  # no pixel was counted

    @property
    def name(self) -> str:
        """For a table: the title, and whether the weights are random."""
        seed = self.weights.removeprefix(RANDOM)
        return f"{self.title}, random weights (seed {seed})" if self.is_random else self.title

    @property
    def runtime_name(self) -> str:
        """As its makers spell it."""
        return self.runtime.display_name

    def to_row(self) -> dict[str, Any]:
        """The facts and raw times for JSON, and what is read off them under `derived`."""
        peak = self.peak_memory_bytes
        timings = {b.value: t.derived(self.steadiness_of(b)) for b, t in self.boundaries.items()}
        derived = {
            "fps": self.fps,
            "miou": self.miou,
            "macc": self.macc,
            "aacc": self.aacc,
            "per_class_iou": self.per_class_iou,
            "agreement_percent": {f"{a.runtime} {a.precision}": a.percent for a in self.agreement},
            "peak_memory_mb": None if peak is None else peak / 1e6,
            "boundaries": timings,
        }
        return {"derived": derived, **asdict(self)}
