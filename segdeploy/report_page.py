"""A report for people: a Markdown page, a terminal table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from statistics import median
from urllib.parse import quote

from rich import box
from rich.table import Table
from rich.text import Text

from segdeploy.markdown import escape, table
from segdeploy.measurement import Boundary, Measurement, Part
from segdeploy.recipes import Target
from segdeploy.reference import against, footnotes, marks
from segdeploy.report import SOURCE, Report
from segdeploy.spec import Precision, Runtime
from segdeploy.steadiness import Interval
from segdeploy.telemetry import GpuState, others_share

NONE = "-"


def markdown_page(report: Report, pictures: Sequence[str] = ()) -> str:
    """A page for people; `pictures` are paths relative to it."""
    sections = [
        f"# Benchmark of {report.created}",
        *_headline(report),
        *_beside(report),
        *_timed(report),
        *_artifacts(report),
        *_agreement(report),
        *_tails(report),
        *_machine(report),
        *_per_class(report),
        *_pictures(pictures),
        "## Environment",
        "\n".join(f"- {name}: {escape(text)}" for name, text in report.environment.facts()),
        "## Repeat it",
        "\n".join(f"    {line}" for line in report.command.splitlines()),
    ]
    return "\n\n".join(sections) + "\n"


def terminal_table(report: Report) -> Table:
    """The headline for stdout; rich leaves out colour in a pipe, and folds rather than cuts."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("model", overflow="fold")
    table.add_column("runtime", overflow="fold")
    words = ("", "verdict")
    for column in ("", "mIoU %", "fps", "x PyTorch", "p50 ms", "p99 ms", "verdict"):
        table.add_column(column, overflow="fold", justify="left" if column in words else "right")
    for row in _rows(report):
        cells = [row.name, row.runtime, row.precision, row.miou, row.fps, row.speedup]
        cells += [row.p50_ms, row.p99_ms, row.verdict]
        table.add_row(*map(Text, cells), style="dim" if row.is_reference else "")
    doubts = [
        f"{m.runtime_name} {m.precision}, {m.steadiness}"
        for m in report.measurements
        if not m.steadiness.is_stable
    ]
    table.caption = Text("\n".join(doubts)) if doubts else None
    table.caption_justify = "left"
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
    verdict: str = NONE
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
        note="; ".join(filter(None, (target.note, _size_note(own, target)))),
        is_reference=True,
    )


def _size_note(own: Sequence[Measurement], target: Target) -> str:
    """Another resolution is another task: said, since the eye compares what stands side by side."""
    if any(target.resolution.split(",")[0] == m.resolution.split(",")[0] for m in own):
        return ""
    return "timed at another resolution than the rows beside it"


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
        speedup=report.speedup_told(m) or NONE,
        p50_ms=_number(m.latency.p50_ms, ".2f"),
        p99_ms=_number(m.latency.p99_ms, ".2f"),
        verdict=m.steadiness.verdict,
        memory_mb=_number(m.peak_memory_bytes, ".0f", scale=1e-6),
        file_mb=_number(m.artifact_bytes, ".1f", scale=1e-6),
        note=m.note,
    )


def _headline(report: Report) -> list[str]:
    header = [
        "Model", "Runtime", "Precision", "Device", "Resolution", "mIoU %", "Δ mIoU", "fps",
        "x PyTorch", "p50 ms", "p99 ms", "Memory MB", "File MB", "Verdict",
    ]  # fmt: skip
    lines: list[list[str]] = []
    notes: list[str] = []
    for row in _rows(report):
        runtime = row.runtime
        if row.note:
            notes.append(f"{len(notes) + 1}. {escape(f'{row.name}, {row.runtime}: {row.note}')}")
            runtime = f"{runtime} ({len(notes)})"
        lines.append([
            row.name, runtime, row.precision, row.device, row.resolution, row.miou, row.miou_change,
            row.fps, row.speedup, row.p50_ms, row.p99_ms, row.memory_mb, row.file_mb, row.verdict,
        ])  # fmt: skip
    texts = [_table(header, lines, left=5)]
    if notes:
        texts.append("\n".join(notes))
    if report.references:
        texts.append(
            f"Reference rows: {SOURCE}; PyTorch, FP32, batch 1, on the GPU in the Device column. "
            "They come from another device than this run's, and were timed at the boundary mmseg, "
            "as was every other row of this table."
        )
    texts.append(
        "x PyTorch compares with PyTorch FP32 in this run (same device, resolution, batch and "
        "threads; ~: either run is inconclusive), Δ mIoU with its mIoU on the same images, in "
        "percentage points. Memory is the peak resident set of the process on the host, without "
        "GPU memory."
    )
    if any(m.is_random for m in report.measurements):
        texts.append(
            "Random weights: the network computes as much as a trained one, so the speed holds, "
            "but its labels mean nothing. Such a row never has an mIoU."
        )
    return texts


def _beside(report: Report) -> list[str]:
    """Every row beside the published one of its model, with the numbers of its footnotes."""
    header = [
        "Model", "Runtime", "Precision", "Verdict", "Why", "Oddities", "mIoU %", "Published",
        "fps", "Published",
    ]  # fmt: skip
    notes = footnotes(report.references.values())
    lines = []
    for m in report.measurements:
        if (target := report.references.get(m.model)) is None:
            continue
        found = against(m, target)
        lines.append([
            m.name, m.runtime_name, m.precision.value, found.verdict, found.sentence,
            marks(target, notes), _number(m.miou, ".2f"), _number(target.miou, ".2f"),
            _number(m.fps, ".2f"), f"{target.fps:.1f}",
        ])  # fmt: skip
    if not lines:
        return []
    numbered = "\n".join(f"{number}. {escape(note)}" for number, note in enumerate(notes, start=1))
    return ["## Beside the reference table", _table(header, lines, left=6), numbered]


def _timed(report: Report) -> list[str]:
    with_miou = [m for m in report.measurements if m.miou is not None]
    scored = dict.fromkeys(f"{m.images} images of {m.dataset}" for m in with_miou)
    boundaries = [b for b in Boundary if any(b in m.boundaries for m in report.measurements)]
    meanings = "\n".join(f"- `{boundary}`: {boundary.meaning}" for boundary in boundaries)
    text = (
        "One step is one batch. In the first table it is that of `mmseg`: uint8 image at network "
        "size in, label map at original size out; decoding and resizing the file are not counted. "
        "fps is images by the sum of the step times; warm-up is left out."
    )
    if scored:
        text += (
            f" mIoU by the arithmetic of mmseg's IoUMetric, over {escape(' and '.join(scored))}."
        )
    if len(with_miou) < len(report.measurements):
        text += ' "Not measured" marks a row that was run for its speed only.'
    return ["## What was timed", text, meanings]


def _artifacts(report: Report) -> list[str]:
    header = ["Model", "Runtime", "Precision", "File", "sha256", "Output", "Calibration"]
    lines = []
    for m in report.measurements:
        facts = [m.artifact, m.artifact_sha256[:12], m.output.value, m.calibration]
        facts = [m.name, m.runtime_name, m.precision.value, *(fact or NONE for fact in facts)]
        lines.append([*facts, _number(m.macc, ".2f"), _number(m.aacc, ".2f")])
    return ["## What ran", _table([*header, "mAcc %", "aAcc %"], lines, left=len(header))]


def _agreement(report: Report) -> list[str]:
    header = ["Model", "Runtime", "Precision", "Same labels as", "%"]
    lines = [
        [
            m.name, m.runtime_name, m.precision.value,
            f"{other.runtime.display_name} {other.precision}", f"{other.percent:.3f}",
        ]
        for m in report.measurements
        for other in m.agreement
    ]  # fmt: skip
    return ["## Agreement", _table(header, lines, left=4)] if lines else []


def _tails(report: Report) -> list[str]:
    header = [
        "Model", "Runtime", "Precision", "Boundary", "p50 ms", "95 %", "p90", "p95", "p99", "95 %",
        "p99.9", "Slowest", "Mean", "Steps", "Warm-up", "First", "Verdict",
    ]  # fmt: skip
    lines = []
    for m in report.measurements:
        for boundary, timing in m.boundaries.items():
            latency, steadiness = timing.latency, m.steadiness_of(boundary)
            lines.append([
                m.name, m.runtime_name, m.precision.value, boundary.value,
                f"{latency.p50_ms:.2f}", _interval(steadiness.p50_ms),
                f"{latency.p90_ms:.2f}", f"{latency.p95_ms:.2f}",
                f"{latency.p99_ms:.2f}", _interval(steadiness.p99_ms),
                f"{latency.p999_ms:.2f}", f"{max(latency.steps_ms):.2f}", f"{latency.mean_ms:.2f}",
                str(len(latency.steps_ms)), str(len(latency.warmup_ms)),
                _number(next(iter(latency.warmup_ms), None), ".2f"), str(steadiness),
            ])  # fmt: skip
    text = (
        "All times in ms. Percentiles interpolate linearly between the sorted steps, of which none "
        "is left out; with fewer than 100 steps p99 lies near the slowest, with fewer than 1000 "
        "p99.9 does. The columns 95 % hold the percentile before them with that confidence; p99 "
        "may well lie above all of fewer than 368 steps. First is the first warm-up step."
    )
    return ["## Latency", _table(header, lines, left=4), text, *_parts(report)]


def _interval(interval: Interval) -> str:
    return interval.told("{:.2f}".format)


def _parts(report: Report) -> list[str]:
    """Copies and work of a step at the boundary `host`, where a GPU's events tell them apart."""
    lines = []
    for m in report.measurements:
        timing = m.boundaries.get(Boundary.HOST)
        if timing is not None and timing.parts_ms:
            medians = [f"{median(timing.parts_ms[part]):.3f}" for part in Part]
            lines.append([m.name, m.runtime_name, m.precision.value, *medians])
    header = ["Model", "Runtime", "Precision", *(f"{part.capitalize()} p50 ms" for part in Part)]
    return [_table(header, lines, left=3)] if lines else []


def _machine(report: Report) -> list[str]:
    """What else the machine did while the first table was measured."""
    header = [
        "Model", "Runtime", "Precision", "Threads", "Load before", "Load after", "Other work %",
        "Clock MHz", "GPU MHz", "GPU W", "GPU °C",
    ]  # fmt: skip
    lines = []
    for m in report.measurements:
        timing = m.boundaries[Boundary.MMSEG]
        before, after = timing.before, timing.after
        gpu = after.gpu or GpuState()
        lines.append([
            m.name, m.runtime_name, m.precision.value, _number(m.threads, "d"),
            _number(before.load_average, ".2f"), _number(after.load_average, ".2f"),
            _number(others_share(before, after), ".0f", scale=100),
            _number(after.clock_mhz, ".0f"), _number(gpu.clock_mhz, "d"),
            _number(gpu.power_w, ".0f"), _number(gpu.temperature_c, "d"),
        ])  # fmt: skip
    return ["## The machine meanwhile", _table(header, lines, left=3)]


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
    shown = [f"![{escape(PurePosixPath(path).stem)}]({quote(path)})" for path in pictures]
    order = "From left: the image, the ground truth, and each measured row of the first table."
    return ["## Pictures", order, *shown] if shown else []


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """A table of plain texts."""
    first, *others = ([escape(cell) for cell in row] for row in (header, *rows))
    return table(first, others, left=left)


def _number(value: float | None, form: str, *, scale: float = 1, none: str = NONE) -> str:
    return none if value is None else format(value if scale == 1 else value * scale, form)
