"""A report as the tables and texts of the page: no HTML here, and no numbers in the template."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from segdeploy.measurement import Boundary, Measurement, Timing
from segdeploy.reference import Against, against, marks
from segdeploy.report import Report
from segdeploy.spec import Precision, Runtime
from segdeploy.steadiness import Interval
from segdeploy.telemetry import others_share

NONE = "-"
TAIL_STEPS = 1000  # below, p99.9 lies near the slowest step
CONFUSED = 5  # pairs of classes that are named
CONFUSED_LEAST = 0.01  # share of a class


@dataclass(frozen=True)
class Cell:
    """Text of a table; `tone` is good, bad or faint, `share` the length of a bar behind it."""

    text: str
    tone: str = ""
    share: float | None = None
    note: str = ""  # below, smaller


@dataclass(frozen=True)
class Table:
    """A table whose first `left` columns are text; the first cell of a row names it."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left: int = 1


@dataclass(frozen=True)
class Subject:
    """A row of the report with its names: short beside its like, long on its own."""

    measurement: Measurement
    short: str
    long: str


def subjects_of(report: Report) -> tuple[Subject, ...]:
    """All rows, PyTorch FP32 first in each model; two of one name are told apart by a number."""
    found: list[Subject] = []
    for _, group in groupby(_in_order(report), key=lambda m: (m.model, m.weights)):
        used: dict[str, int] = {}
        for m in group:
            batch = "" if m.batch == 1 else f", batch {m.batch}"
            short = f"{m.runtime_name} {m.precision}{batch}"
            used[short] = used.get(short, 0) + 1
            short += "" if used[short] == 1 else f" ({used[short]})"
            found.append(Subject(m, short, f"{m.name}, {short}"))
    return tuple(found)


def by_model(subjects: Sequence[Subject]) -> Iterator[tuple[str, tuple[Subject, ...]]]:
    """Title of a model, and its rows."""
    for _, group in groupby(subjects, key=lambda s: (s.measurement.model, s.measurement.weights)):
        own = tuple(group)
        yield own[0].measurement.name, own


def _in_order(report: Report) -> list[Measurement]:
    models = list(dict.fromkeys((m.model, m.weights) for m in report.measurements))
    first = (Runtime.PYTORCH, Precision.FP32)
    return sorted(
        report.measurements,
        key=lambda m: (models.index((m.model, m.weights)), (m.runtime, m.precision) != first),
    )


def summary(report: Report, subjects: Sequence[Subject]) -> Table:
    """The headline: one line for each row."""
    rows = []
    for subject in subjects:
        m = subject.measurement
        change = report.miou_change(m)
        rows.append((
            Cell(m.name, note=subject.short),
            Cell(m.device, note=m.resolution),
            _score(m),
            Cell(NONE if change is None else f"{change:+.2f}"),
            Cell(number(m.fps)),
            Cell(report.speedup_told(m) or NONE),
            timed(m.latency.p50_ms, m.steadiness.p50_ms),
            timed(m.latency.p99_ms, m.steadiness.p99_ms),
            Cell(m.steadiness.verdict, "good" if m.steadiness.is_stable else "bad"),
        ))  # fmt: skip
    header = (
        "Model", "Where", "mIoU %", "Δ mIoU", "fps", "x PyTorch", "p50 ms", "p99 ms", "Timing",
    )  # fmt: skip
    return Table("All rows, at the boundary mmseg", header, tuple(rows), left=2)


def _score(m: Measurement) -> Cell:
    if m.miou is None:
        return Cell("not measured", "faint", note="random weights" if m.is_random else "")
    return Cell(f"{m.miou:.2f}", note=f"{m.images} images")


def verdicts(report: Report, subjects: Sequence[Subject], footnotes: Sequence[str]) -> Table:
    """Every row beside the published one of its model, with the numbers of its footnotes."""
    rows = []
    for subject in subjects:
        m = subject.measurement
        target = report.references.get(m.model)
        if target is None:
            continue
        found = against(m, target)
        rows.append((
            Cell(m.name, note=subject.short),
            Cell(found.verdict, _tone(found)),
            Cell(found.sentence),
            Cell(NONE if m.miou is None else f"{m.miou:.2f}"),
            Cell(NONE if target.miou is None else f"{target.miou:.2f}"),
            Cell(number(m.fps)),
            Cell(f"{target.fps:.1f}", note=f"{target.device} [{marks(target, footnotes)}]"),
        ))  # fmt: skip
    header = ("Model", "Verdict", "Why", "mIoU %", "published", "fps", "published")
    return Table("Each row beside the published one", header, tuple(rows), left=3)


def _tone(found: Against) -> str:
    return {"reached": "good", "not reached": "bad"}.get(found.verdict, "faint")


def latency(subjects: Sequence[Subject]) -> Table:
    """Percentiles of the headline's boundary, with what is known of them."""
    rows = []
    for subject in subjects:
        m = subject.measurement
        steps = m.latency
        rows.append((
            Cell(subject.short),
            timed(steps.p50_ms, m.steadiness.p50_ms),
            Cell(number(steps.p90_ms)),
            Cell(number(steps.p95_ms)),
            timed(steps.p99_ms, m.steadiness.p99_ms),
            Cell(number(steps.p999_ms), "" if len(steps.steps_ms) >= TAIL_STEPS else "faint"),
            Cell(number(max(steps.steps_ms))),
            Cell(number(steps.mean_ms)),
            Cell(str(len(steps.steps_ms)), note=f"+ {len(steps.warmup_ms)} warm-up"),
        ))  # fmt: skip
    header = ("Row", "p50", "p90", "p95", "p99", "p99.9", "slowest", "mean", "steps")
    return Table("Milliseconds a step, with 95 % confidence intervals", header, tuple(rows))


def trust(subjects: Sequence[Subject]) -> Table:
    """Whether each boundary of each row can be trusted, and why not."""
    rows = []
    for subject in subjects:
        m = subject.measurement
        for boundary, timing in m.boundaries.items():
            found = m.steadiness_of(boundary)
            rows.append((
                Cell(subject.long, note=boundary.value),
                Cell(found.verdict, "good" if found.is_stable else "bad"),
                Cell("; ".join(found.reasons) or "nothing speaks against it"),
                Cell(f"{found.drift:+.1%}" if found.drift else "none"),
                *_machine(timing),
            ))  # fmt: skip
    header = ("Row, boundary", "Verdict", "Reasons", "Drift", "Others' work", "Clock", "GPU")
    return Table("What the steps and the machine say of each run", header, tuple(rows), left=3)


def _machine(timing: Timing) -> tuple[Cell, Cell, Cell]:
    share = others_share(timing.before, timing.after)
    clocks = [s.clock_mhz for s in (timing.before, timing.after) if s.clock_mhz is not None]
    gpu = timing.after.gpu
    facts = []
    if gpu is not None:
        facts = [
            f"{value}{unit}"
            for value, unit in (
                (gpu.clock_mhz, " MHz"),
                (gpu.temperature_c, " °C"),
                (gpu.power_w, " W"),
            )
            if value is not None
        ]
    return (
        Cell(NONE if share is None else f"{share:.0%} of the cores"),
        Cell(" to ".join(f"{clock:.0f}" for clock in clocks) + " MHz" if clocks else NONE),
        Cell(", ".join(facts) or NONE),
    )


def boundaries(subjects: Sequence[Subject]) -> Table:
    """Median and 99th percentile of every boundary, and the parts of a step on a GPU."""
    kinds = [b for b in Boundary if any(b in s.measurement.boundaries for s in subjects)]
    rows = []
    for subject in subjects:
        cells = [Cell(subject.long)]
        for kind in kinds:
            timing = subject.measurement.boundaries.get(kind)
            cells.append(_boundary(timing) if timing else Cell(NONE, "faint"))
        rows.append(tuple(cells))
    header = ("Row", *(kind.value for kind in kinds))
    return Table("Milliseconds: the median, and p99 below it", header, tuple(rows))


def _boundary(timing: Timing) -> Cell:
    parts = "".join(
        f", {part} {number(float(np.median(times)))}" for part, times in timing.parts_ms.items()
    )
    note = f"p99 {number(timing.latency.p99_ms)}{parts}"
    return Cell(number(timing.latency.p50_ms), note=note)


def per_class(subjects: Sequence[Subject]) -> Iterator[Table]:
    """IoU of each class, one table for each set of classes; a class that never occurs is absent."""
    scored = [s for s in subjects if s.measurement.per_class_iou]
    for classes in dict.fromkeys(tuple(s.measurement.per_class_iou) for s in scored):
        own = [s for s in scored if tuple(s.measurement.per_class_iou) == classes]
        rows = tuple(
            (Cell(name), *(_iou(s.measurement.per_class_iou[name]) for s in own))
            for name in classes
        )
        titles = {s.measurement.name for s in own}
        header = ("Class", *(s.short if len(titles) == 1 else s.long for s in own))
        yield Table(f"IoU in percent: {', '.join(sorted(titles))}", header, rows)


def _iou(iou: float | None) -> Cell:
    return Cell("absent", "faint") if iou is None else Cell(f"{iou:.1f}", share=iou / 100)


def confused(m: Measurement) -> tuple[str, ...]:
    """The pairs of classes that are mistaken most often, by their share of the true class."""
    assert m.tally is not None
    shares = confusion_shares(m)
    np.fill_diagonal(shares, 0)
    names = m.tally.classes
    order = np.argsort(-np.nan_to_num(shares), axis=None, kind="stable")[:CONFUSED]
    pairs = [np.unravel_index(place, shares.shape) for place in order]
    return tuple(
        f"{names[row]} taken for {names[column]}: {shares[row, column]:.1%}"
        for row, column in pairs
        if shares[row, column] >= CONFUSED_LEAST
    )


def confusion_shares(m: Measurement) -> NDArray[np.float64]:
    """Rows by their sum: nan where a class does not occur in the truth."""
    assert m.tally is not None
    counts = m.tally.matrix.counts.astype(np.float64)
    sums = counts[:-1].sum(axis=1, keepdims=True)  # the last row: ids outside the classes
    shares = np.full((len(sums), len(sums)), np.nan)
    np.divide(counts[:-1, :-1], sums, out=shares, where=sums > 0)
    return shares


def artifacts(subjects: Sequence[Subject]) -> Table:
    """What ran: the file, how it came about, and what else was scored."""
    rows = []
    for subject in subjects:
        m = subject.measurement
        agreement = [
            f"{a.percent:.3f} % {a.runtime.display_name} {a.precision}" for a in m.agreement
        ]
        rows.append((
            Cell(subject.long, note=m.note),
            Cell(m.artifact or NONE, note=m.artifact_sha256[:16]),
            Cell(m.output.value),
            Cell(m.calibration or NONE),
            Cell("; ".join(agreement) or NONE),
            Cell(NONE if m.macc is None else f"{m.macc:.2f}"),
            Cell(NONE if m.aacc is None else f"{m.aacc:.2f}"),
            Cell(NONE if m.artifact_bytes is None else f"{m.artifact_bytes / 1e6:.1f}"),
            Cell(NONE if m.peak_memory_bytes is None else f"{m.peak_memory_bytes / 1e6:.0f}"),
            Cell(NONE if m.threads is None else str(m.threads)),
        ))  # fmt: skip
    header = (
        "Row", "File, sha256", "Returns", "Calibration", "Labels equal to", "mAcc %", "aAcc %",
        "File MB", "Memory MB", "Threads",
    )  # fmt: skip
    return Table("The files that ran", header, tuple(rows), left=5)


def timed(value: float, interval: Interval) -> Cell:
    """A time with its confidence interval below."""
    return Cell(number(value), note=interval.told(number))


def number(value: float) -> str:
    """Three digits at least, and two behind the point at most."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"
