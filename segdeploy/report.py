"""What was measured, beside the reference: JSON rows, a Markdown page, a terminal table."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from rich import box
from rich.table import Table
from rich.text import Text

from segdeploy.environment import Environment
from segdeploy.errors import SegdeployError
from segdeploy.recipes import Target
from segdeploy.spec import RANDOM, Device, Output, Precision, Runtime
from segdeploy.timing import Latency

SCHEMA = 1
SOURCE = "MMSegmentation 1.2.2, configs/mobilenet_v2/README.md"  # of every reference row
TRAINED = "trained"
NONE = "-"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What ran and what came out. Scores are in percent; None: not measured."""

    model: str
    title: str
    precision: Precision
    runtime: Runtime
    device: Device
    output: Output
    latency: Latency  # of one step: one batch
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
    images: int = 0  # that the scores are counted over
    miou: float | None = None
    macc: float | None = None
    aacc: float | None = None
    per_class_iou: Mapping[str, float | None] = field(default_factory=dict)  # None: class absent
    peak_memory_bytes: int | None = None  # resident on the host, of the whole process
    note: str = ""

    def __post_init__(self) -> None:
        if self.weights != TRAINED and not self.weights.startswith(RANDOM):
            raise SegdeployError(
                f"{self.model}: weights {self.weights!r}; wanted trained or random:SEED"
            )
        if self.batch < 1:
            raise SegdeployError(f"{self.model}: a batch of {self.batch}; wanted at least 1")
        scores = [self.miou, self.macc, self.aacc, *self.per_class_iou.values()]
        measured = [score for score in scores if score is not None]
        if self.is_random and measured:
            raise SegdeployError(f"{self.model}: random weights have no mIoU")
        if measured and not (self.images > 0 and self.dataset):
            raise SegdeployError(f"{self.model}: has an mIoU, but names no data set or no images")
        for score in measured:
            if not (math.isfinite(score) and 0 <= score <= 100):
                raise SegdeployError(f"{self.model}: a score of {score}; wanted percent, 0 to 100")

    @property
    def is_random(self) -> bool:
        """Whether the weights are random: a speed, never an accuracy."""
        return self.weights.startswith(RANDOM)

    @property
    def fps(self) -> float:
        """Images per second: `batch` of them per step."""
        return self.latency.fps * self.batch

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
        """One flat JSON row: the facts, what is read off the times, and the times themselves."""
        latency, peak = self.latency, self.peak_memory_bytes
        facts = {key: value for key, value in vars(self).items() if key != "latency"}
        return {
            **facts,
            "per_class_iou": dict(self.per_class_iou),
            "fps": self.fps,
            "p50_ms": latency.p50_ms,
            "p90_ms": latency.p90_ms,
            "p99_ms": latency.p99_ms,
            "mean_ms": latency.mean_ms,
            "peak_memory_mb": None if peak is None else peak / 1e6,
            "steps_ms": list(latency.steps_ms),
            "warmup_ms": list(latency.warmup_ms),
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """The measurements of one run, and what is needed to read and to repeat them."""

    measurements: tuple[Measurement, ...]
    environment: Environment
    command: str  # repeats the run
    created: str  # ISO date
    targets: Mapping[str, Target] = field(default_factory=dict)  # reference rows by model

    def __post_init__(self) -> None:
        if not self.measurements:
            raise SegdeployError("the report has no measurement; wanted at least 1")

    def speedup(self, measurement: Measurement) -> float | None:
        """Times the fps of PyTorch FP32 on the same device, at the same size, batch and threads."""
        same = ("model", "weights", "device", "resolution", "batch", "threads")
        pytorch = self._pytorch(measurement, same)
        return None if pytorch is None else measurement.fps / pytorch.fps

    def miou_change(self, measurement: Measurement) -> float | None:
        """Percentage points above PyTorch FP32 on the same images at the same size."""
        same = ("model", "weights", "resolution", "dataset", "images")
        pytorch = self._pytorch(measurement, same)
        if pytorch is None or pytorch.miou is None or measurement.miou is None:
            return None
        return measurement.miou - pytorch.miou

    def _pytorch(self, measurement: Measurement, same: Sequence[str]) -> Measurement | None:
        wanted = {"runtime": Runtime.PYTORCH, "precision": Precision.FP32}
        wanted |= {key: getattr(measurement, key) for key in same}
        return next((m for m in self.measurements if wanted.items() <= vars(m).items()), None)

    @property
    def references(self) -> dict[str, Target]:
        """The reference rows of the models that were measured, in the order they were."""
        models = dict.fromkeys(measurement.model for measurement in self.measurements)
        return {model: self.targets[model] for model in models if model in self.targets}

    def to_json(self) -> str:
        """The whole report as JSON text."""
        rows = [
            {**m.to_row(), "speedup": self.speedup(m), "miou_change": self.miou_change(m)}
            for m in self.measurements
        ]
        whole = {
            "schema": SCHEMA,
            "created": self.created,
            "command": self.command,
            "environment": self.environment.to_dict(),
            "rows": rows,
            "reference": {
                "source": SOURCE,
                "rows": {model: self._reference(model) for model in self.references},
            },
        }
        return json.dumps(whole, indent=1, allow_nan=False) + "\n"

    def _reference(self, model: str) -> dict[str, Any]:
        """A reference row for JSON; random weights are never set beside an mIoU."""
        is_random = all(m.is_random for m in self.measurements if m.model == model)
        return asdict(self.references[model]) | ({"miou": None} if is_random else {})

    def to_markdown(self, pictures: Sequence[str] = ()) -> str:
        """A page for people; `pictures` are paths relative to it."""
        sections = [
            f"# Benchmark of {self.created}",
            *_headline(self),
            *_timed(self),
            *_artifacts(self),
            *_tails(self),
            *_per_class(self),
            *_pictures(pictures),
            "## Environment",
            "\n".join(f"- {name}: {_escape(text)}" for name, text in self.environment.facts()),
            "## Repeat it",
            "\n".join(f"    {line}" for line in self.command.splitlines()),
        ]
        return "\n\n".join(sections) + "\n"

    def to_terminal(self) -> Table:
        """The headline for stdout; rich leaves out colour in a pipe, and folds rather than cuts."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
        table.add_column("model", overflow="fold")
        table.add_column("runtime", overflow="fold")
        for column in ("", "mIoU %", "fps", "x PyTorch", "p50 ms", "p99 ms"):
            table.add_column(column, overflow="fold", justify="left" if not column else "right")
        for row in _rows(self):
            cells = [row.name, row.runtime, row.precision, row.miou, row.fps, row.speedup]
            style = "dim" if row.is_reference else ""
            table.add_row(*(Text(cell) for cell in (*cells, row.p50_ms, row.p99_ms)), style=style)
        return table


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One line of the headline table, all cells as text."""

    name: str
    runtime: str
    precision: str
    device: str
    resolution: str
    miou: str
    fps: str
    miou_change: str = NONE
    speedup: str = NONE
    p50_ms: str = NONE
    p99_ms: str = NONE
    memory_mb: str = NONE
    file_mb: str = NONE
    note: str = ""
    is_reference: bool = False


def _rows(report: Report) -> list[_Row]:
    """Model by model: the reference, PyTorch FP32, then the others in the order they ran."""
    rows = []
    for model in dict.fromkeys(m.model for m in report.measurements):
        own = [m for m in report.measurements if m.model == model]
        if target := report.references.get(model):
            rows.append(_reference_row(own, target))
        own.sort(key=lambda m: (m.runtime, m.precision) != (Runtime.PYTORCH, Precision.FP32))
        rows += [_measured_row(report, m) for m in own]
    return rows


def _reference_row(own: Sequence[Measurement], target: Target) -> _Row:
    """The reference of these measurements; random weights are never set beside an mIoU."""
    return _Row(
        name=own[0].title,
        runtime="mmseg reference",
        precision="fp32",
        device=target.device,
        resolution=target.resolution,
        miou=NONE if all(m.is_random for m in own) else f"{target.miou:.2f}",
        fps=f"{target.fps:.1f}",
        note=target.note,
        is_reference=True,
    )


def _measured_row(report: Report, m: Measurement) -> _Row:
    return _Row(
        name=m.name,
        runtime=m.runtime_name,
        precision=m.precision.value,
        device=m.device,
        resolution=m.resolution if m.batch == 1 else f"{m.resolution}, batch {m.batch}",
        miou="not measured" if m.miou is None else f"{m.miou:.2f}",
        miou_change=_number(report.miou_change(m), "+.2f"),
        fps=_number(m.fps, ".2f"),
        speedup=_number(report.speedup(m), ".2f"),
        p50_ms=_number(m.latency.p50_ms, ".2f"),
        p99_ms=_number(m.latency.p99_ms, ".2f"),
        memory_mb=_number(m.peak_memory_bytes, ".0f", scale=1e-6),
        file_mb=_number(m.artifact_bytes, ".1f", scale=1e-6),
        note=m.note,
    )


def _headline(report: Report) -> list[str]:
    header = [
        "Model", "Runtime", "Precision", "Device", "Resolution", "mIoU %", "Δ mIoU", "fps",
        "x PyTorch", "p50 ms", "p99 ms", "Memory MB", "File MB",
    ]  # fmt: skip
    lines: list[list[str]] = []
    notes: list[str] = []
    for row in _rows(report):
        runtime = row.runtime
        if row.note:
            notes.append(f"{len(notes) + 1}. {_escape(f'{row.name}, {row.runtime}: {row.note}')}")
            runtime = f"{runtime} ({len(notes)})"
        lines.append([
            row.name, runtime, row.precision, row.device, row.resolution, row.miou, row.miou_change,
            row.fps, row.speedup, row.p50_ms, row.p99_ms, row.memory_mb, row.file_mb,
        ])  # fmt: skip
    texts = [_table(header, lines, left=5)]
    if notes:
        texts.append("\n".join(notes))
    if report.references:
        texts.append(
            f"Reference rows: {SOURCE}; PyTorch, FP32, batch 1, on the GPU in the Device column. "
            "They come from another device than this run's: shown, never judged."
        )
    texts.append(
        "x PyTorch compares with PyTorch FP32 in this run (same device, resolution, batch and "
        "threads), Δ mIoU with its mIoU on the same images, in percentage points. Memory is the "
        "peak resident set of the process on the host, without GPU memory."
    )
    if any(m.is_random for m in report.measurements):
        texts.append(
            "Random weights: the network computes as much as a trained one, so the speed holds, "
            "but its labels mean nothing. Such a row never has an mIoU."
        )
    return texts


def _timed(report: Report) -> list[str]:
    with_miou = [m for m in report.measurements if m.miou is not None]
    scored = dict.fromkeys(f"{m.images} images of {m.dataset}" for m in with_miou)
    text = (
        "One step is one batch: uint8 image at network size in, label map at original size out. "
        "Decoding and resizing of the image file are not counted. fps is images by the sum of the "
        "step times; warm-up is left out."
    )
    if scored:
        text += (
            f" mIoU by the arithmetic of mmseg's IoUMetric, over {_escape(' and '.join(scored))}."
        )
    if len(with_miou) < len(report.measurements):
        text += ' "Not measured" marks a row that was run for its speed only.'
    return ["## What was timed", text]


def _artifacts(report: Report) -> list[str]:
    header = ["Model", "Runtime", "Precision", "File", "sha256", "Output", "Calibration"]
    lines = []
    for m in report.measurements:
        facts = [m.artifact, m.artifact_sha256[:12], m.output.value, m.calibration]
        facts = [m.name, m.runtime_name, m.precision.value, *(fact or NONE for fact in facts)]
        lines.append([*facts, _number(m.macc, ".2f"), _number(m.aacc, ".2f")])
    return ["## What ran", _table([*header, "mAcc %", "aAcc %"], lines, left=len(header))]


def _tails(report: Report) -> list[str]:
    header = [
        "Model", "Runtime", "Precision", "Device", "Threads", "p50 ms", "p90 ms", "p99 ms",
        "Slowest ms", "Mean ms", "Steps", "Warm-up", "First ms",
    ]  # fmt: skip
    lines = []
    for m in report.measurements:
        latency, first = m.latency, next(iter(m.latency.warmup_ms), None)
        times = (latency.p50_ms, latency.p90_ms, latency.p99_ms, max(latency.steps_ms))
        lines.append([
            m.name, m.runtime_name, m.precision.value, m.device, _number(m.threads, "d"),
            *(_number(value, ".2f") for value in (*times, latency.mean_ms)),
            str(len(latency.steps_ms)), str(len(latency.warmup_ms)), _number(first, ".2f"),
        ])  # fmt: skip
    text = (
        "Percentiles interpolate linearly between the sorted steps, of which none is left out; "
        "with fewer than 100 steps p99 lies near the slowest. First is the first warm-up step."
    )
    return ["## Latency", _table(header, lines, left=4), text]


def _per_class(report: Report) -> list[str]:
    scored = [m for m in report.measurements if m.per_class_iou]
    texts = ["## IoU per class, %"] if scored else []
    for classes in dict.fromkeys(tuple(m.per_class_iou) for m in scored):  # one table per class set
        columns = [m for m in scored if tuple(m.per_class_iou) == classes]
        header = ["Class", *(f"{m.title} {m.runtime_name} {m.precision}" for m in columns)]
        lines = [
            [name, *(_number(m.per_class_iou[name], ".2f", none="absent") for m in columns)]
            for name in classes
        ]
        texts.append(_table(header, lines, left=1))
    return texts


def _pictures(pictures: Sequence[str]) -> list[str]:
    shown = [f"![{_escape(PurePosixPath(path).stem)}]({quote(path)})" for path in pictures]
    order = "From left: the image, the ground truth, and each measured row of the first table."
    return ["## Pictures", order, *shown] if shown else []


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """A Markdown table whose columns after the first `left` are numbers."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    body = [[_escape(cell) for cell in row] for row in (header, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (body[0], rule, *body[1:]))


def _escape(text: str) -> str:
    """Class names and titles come from files: as Markdown they are one line of plain text."""
    return re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(text.split()))


def _number(value: float | None, form: str, *, scale: float = 1, none: str = NONE) -> str:
    return none if value is None else format(value if scale == 1 else value * scale, form)
