"""A report for people: a Markdown page, a terminal table."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

from rich import box
from rich.table import Table
from rich.text import Text

from segdeploy.measurement import Measurement
from segdeploy.recipes import Target
from segdeploy.report import SOURCE, Report
from segdeploy.spec import Precision, Runtime

NONE = "-"


def markdown_page(report: Report, pictures: Sequence[str] = ()) -> str:
    """A page for people; `pictures` are paths relative to it."""
    sections = [
        f"# Benchmark of {report.created}",
        *_headline(report),
        *_timed(report),
        *_artifacts(report),
        *_tails(report),
        *_per_class(report),
        *_pictures(pictures),
        "## Environment",
        "\n".join(f"- {name}: {_escape(text)}" for name, text in report.environment.facts()),
        "## Repeat it",
        "\n".join(f"    {line}" for line in report.command.splitlines()),
    ]
    return "\n\n".join(sections) + "\n"


def terminal_table(report: Report) -> Table:
    """The headline for stdout; rich leaves out colour in a pipe, and folds rather than cuts."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("runtime", overflow="fold")
    for column in ("", "mIoU %", "fps", "x PyTorch", "p50 ms", "p99 ms"):
        table.add_column(column, overflow="fold", justify="left" if not column else "right")
    for row in _rows(report):
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
    """The published row of these measurements."""
    return _Row(
        name=own[0].title,
        runtime="mmseg reference",
        precision="fp32",
        device=target.device,
        resolution=target.resolution,
        miou=_number(target.miou, ".2f"),
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
