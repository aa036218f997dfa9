"""What must not happen from one report to the next: `p99_ms>+5%`, `miou<-0.3`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from segdeploy.changes.metrics import Change, Metric
from segdeploy.changes.pairs import Changes, RowChange
from segdeploy.errors import SegdeployError

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
    """A condition that a row goes beyond; it holds where the samples can show the change."""

    condition: Condition
    row: str
    change: Change

    @property
    def holds(self) -> bool:
        """Whether the comparison fails for it."""
        return self.change.is_shown


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


def check(changes: Changes, conditions: Sequence[Condition]) -> tuple[Broken, ...]:
    """Every condition against every row.

    Raises:
        SegdeployError: a metric was not measured, so that nothing can be said: never a silent pass.
    """
    return tuple(broken for condition in conditions for broken in _check_rows(changes, condition))


def _check_rows(changes: Changes, condition: Condition) -> list[Broken]:
    for row in changes.rows:
        if condition.metric in row.lost:
            raise SegdeployError(
                f"{condition}: {row.name} cannot be compared ({row.caveats[-1]})",
                hint="measure both with the same --dataset and --limit",
            )
    rows = [row for row in changes.rows if condition.metric in row.metrics]
    if not rows:
        raise SegdeployError(
            f"{condition}: no row of both reports has {condition.metric}",
            hint="the condition would pass whatever happened: leave it out, or measure it",
        )
    return [_broken(row, condition) for row in rows if _goes_beyond(row, condition)]


def _goes_beyond(row: RowChange, condition: Condition) -> bool:
    return condition.is_passed(row.metrics[condition.metric])


def _broken(row: RowChange, condition: Condition) -> Broken:
    return Broken(condition=condition, row=row.name, change=row.metrics[condition.metric])
