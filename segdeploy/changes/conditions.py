"""What must not happen from one report to the next: `p99_ms>+5%`, `miou<-0.3`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from segdeploy.changes.metrics import Change, Metric
from segdeploy.changes.pairs import Changes
from segdeploy.errors import SegdeployError
from segdeploy.measurement import Boundary

FORM = re.compile(r"\s*([a-z0-9_]+)\s*([<>])\s*([+-]\d+(?:\.\d+)?)\s*(%?)\s*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A change that is too large: of `metric`, above or below `bound`."""

    metric: Metric
    above: bool
    bound: float
    in_percent: bool

    def __str__(self) -> str:
        sign = ">" if self.above else "<"
        return f"{self.metric}{sign}{self.bound:+g}{'%' if self.in_percent else ''}"

    def is_passed(self, change: Change) -> bool:
        """Whether the change, as it was measured, goes beyond the bound."""
        value = change.percent if self.in_percent else change.difference
        if value is None:  # percent of nothing
            return change.difference > 0 if self.above else False
        return value > self.bound if self.above else value < self.bound


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A condition that a row goes beyond; it holds where the change is sure.

    Args:
        condition: as it was asked for.
        row: its name.
        change: of the condition's metric.
        shaky: whether a run behind it was inconclusive.
    """

    condition: Condition
    row: str
    change: Change
    shaky: bool = False

    @property
    def holds(self) -> bool:
        """Whether the comparison fails for it."""
        return self.change.is_sure


def parse_condition(text: str) -> Condition:
    """Read a metric, > or <, a number with its sign, and % for a share of the value before.

    Raises:
        SegdeployError: it is written otherwise.
    """
    match = FORM.fullmatch(text)
    if match is None:
        raise SegdeployError(
            f"{text!r} is no condition",
            hint="such as p99_ms>+5%, fps<-3% or miou<-0.3, with a sign",
        )
    name, sign, number, percent = match.groups()
    if name not in list(Metric):
        raise SegdeployError(f"{text!r}: {name!r} is unknown, wanted {', '.join(Metric)}")
    metric = Metric(name)
    if metric.is_score and percent:
        raise SegdeployError(
            f"{text!r}: {name} is in percent already",
            hint=f"{metric}{sign}{number} means percentage points",
        )
    return Condition(
        metric=metric, above=sign == ">", bound=float(number), in_percent=bool(percent)
    )


def check(
    changes: Changes, conditions: Sequence[Condition], *, allow_missing: bool = False
) -> tuple[Broken, ...]:
    """Every condition against every row.

    Raises:
        SegdeployError: a metric was not measured, or a row is in the first report only (unless
            `allow_missing`), so that nothing can be said: never a silent pass.
    """
    if conditions and changes.only_before and not allow_missing:
        raise SegdeployError(
            f"{conditions[0]}: {'; '.join(changes.only_before)} is in the first report only",
            hint="--allow-missing compares the other rows",
        )
    return tuple(broken for condition in conditions for broken in _check_rows(changes, condition))


def _check_rows(changes: Changes, condition: Condition) -> list[Broken]:
    metric = condition.metric
    for row in changes.rows:
        if metric in row.lost:
            why = f" ({row.caveats[-1]})" if metric.is_score else f": {metric} was not measured"
            raise SegdeployError(
                f"{condition}: {row.name} cannot be compared{why}",
                hint="measure both with the same --dataset and --limit" if metric.is_score else "",
            )
    rows = [row for row in changes.rows if metric in row.metrics]
    if not rows:
        raise SegdeployError(
            f"{condition}: no row of both reports has {metric}",
            hint="the condition would pass whatever happened: leave it out, or measure it",
        )
    return [
        Broken(
            condition=condition,
            row=row.name,
            change=row.metrics[metric],
            shaky=metric not in row.counted and Boundary.MMSEG in row.shaky,
        )
        for row in rows
        if condition.is_passed(row.metrics[metric])
    ]
