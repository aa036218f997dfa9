"""Two reports, row by row."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from segdeploy.changes.metrics import (
    Change,
    Metric,
    are_scored_alike,
    counted,
    counted_changes,
    time_changes,
)
from segdeploy.environment import differences
from segdeploy.errors import SegdeployError
from segdeploy.measurement import Boundary, Measurement
from segdeploy.report import Report

NAMED = 4  # differences of two environments that an error names
# Rows that agree in these are one subject, measured twice.
IDENTITY = (
    "model", "weights", "runtime", "precision", "device", "output", "resolution", "mode", "batch",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """One subject in both reports.

    Args:
        name: of the row.
        times: by boundary, all that is read off the steps.
        counted: scores and sizes.
        caveats: why not all can be trusted or compared.
        shaky: boundaries whose steps are inconclusive in either report.
        lost: what the row before has and the one after has not; and scores of other images.
    """

    name: str
    times: Mapping[Boundary, Mapping[Metric, Change]]
    counted: Mapping[Metric, Change]
    caveats: tuple[str, ...] = ()
    shaky: frozenset[Boundary] = frozenset()
    lost: frozenset[Metric] = frozenset()

    @property
    def metrics(self) -> dict[Metric, Change]:
        """All changes: times at the boundary of the reference table, `mmseg`."""
        return {**self.times[Boundary.MMSEG], **self.counted}

    @property
    def verdict(self) -> str:
        """Of the median at that boundary."""
        return self.times[Boundary.MMSEG][Metric.P50_MS].verdict


@dataclass(frozen=True, kw_only=True)
class Changes:
    """All subjects of two reports; `differences` are those of the environments."""

    rows: tuple[RowChange, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def headline(self) -> str:
        """How many rows became faster, slower, or neither."""
        counts = Counter(row.verdict for row in self.rows)
        told = [f"{counts[word]} {word}" for word in ("faster", "slower") if counts[word]]
        rest = len(self.rows) - counts["faster"] - counts["slower"]
        shaky = sum(Boundary.MMSEG in row.shaky for row in self.rows)
        told += [f"{rest} undecided"] if rest else []
        return ", ".join(told) + (f" ({shaky} of inconclusive runs)" if shaky else "")


def find_changes(before: Report, after: Report, *, across_machines: bool = False) -> Changes:
    """Pair the rows of two reports and compare them.

    Raises:
        SegdeployError: the environments differ, unless `across_machines`; or no row is in both.
    """
    found = differences(before.environment, after.environment)
    if found and not across_machines:
        more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise SegdeployError(
            f"the environments differ ({'; '.join(found[:NAMED])}{more})",
            hint="--across-machines compares them all the same",
        )
    first, second = _by_identity(before), _by_identity(after)
    shared = [key for key in first if key in second]
    if not shared:
        raise SegdeployError(
            "no row is in both reports",
            hint="rows are paired by model, weights, runtime, precision, device and resolution",
        )
    return Changes(
        rows=tuple(_compare(key[-1], first[key], second[key]) for key in shared),
        only_before=tuple(_name(m) for key, m in first.items() if key not in second),
        only_after=tuple(_name(m) for key, m in second.items() if key not in first),
        differences=found,
    )


def _by_identity(report: Report) -> dict[tuple[Any, ...], Measurement]:
    """The rows; the last part of a key counts those that agree in all others."""
    rows: dict[tuple[Any, ...], Measurement] = {}
    seen: Counter[tuple[Any, ...]] = Counter()
    for m in report.measurements:
        identity = tuple(getattr(m, name) for name in IDENTITY)
        seen[identity] += 1
        rows[(*identity, seen[identity])] = m
    return rows


def _compare(place: int, before: Measurement, after: Measurement) -> RowChange:
    batches = (before.batch, after.batch)
    both = [boundary for boundary in before.boundaries if boundary in after.boundaries]
    return RowChange(
        name=_name(before) + ("" if place == 1 else f" ({place})"),
        times={
            boundary: time_changes(
                before.boundaries[boundary].latency, after.boundaries[boundary].latency, batches
            )
            for boundary in both
        },
        counted=counted_changes(before, after),
        caveats=_caveats(before, after),
        shaky=frozenset(b for b in both if any(_reasons(m, b) for m in (before, after))),
        lost=frozenset(_lost(before, after)),
    )


def _lost(before: Measurement, after: Measurement) -> Iterator[Metric]:
    """A score that only the second row has is none that the first can be compared with either."""
    first, second = counted(before), counted(after)
    for metric in Metric:
        if metric.is_score and (metric in first or metric in second):
            if not are_scored_alike(before, after):
                yield metric
        elif metric in first and metric not in second:
            yield metric


def _caveats(before: Measurement, after: Measurement) -> tuple[str, ...]:
    found = []
    for when, m in (("before", before), ("after", after)):
        for boundary in m.boundaries:
            if reasons := _reasons(m, boundary):
                found.append(f"{boundary} {when}: {'; '.join(reasons)}")
    if before.threads != after.threads:
        found.append(f"threads: {before.threads or 'any'} before, {after.threads or 'any'} after")
    if (before.tally or after.tally) and not are_scored_alike(before, after):
        found.append(f"scores are not of the same images: {_scored(before)} / {_scored(after)}")
    return tuple(found)


def _reasons(m: Measurement, boundary: Boundary) -> tuple[str, ...]:
    return m.steadiness_of(boundary).reasons


def _scored(m: Measurement) -> str:
    return f"{m.images} of {m.dataset}" if m.tally else "none"


def _name(m: Measurement) -> str:
    batch = "" if m.batch == 1 else f", batch {m.batch}"
    return f"{m.name}, {m.runtime_name} {m.precision}{batch}"
