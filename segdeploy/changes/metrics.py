"""The numbers of a row that can change, and a change with its confidence interval."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from segdeploy.measurement import Measurement
from segdeploy.steadiness import CONFIDENCE, FEWEST, LIMIT, SEED, Interval, Times, redrawn
from segdeploy.timing import Latency

UNDECIDED = "no difference that these samples can show"


class Metric(StrEnum):
    """As `--fail-if` spells them."""

    FPS = "fps"
    P50_MS = "p50_ms"
    P90_MS = "p90_ms"
    P95_MS = "p95_ms"
    P99_MS = "p99_ms"
    P999_MS = "p999_ms"
    MIOU = "miou"
    MACC = "macc"
    AACC = "aacc"
    MEGABYTES = "megabytes"
    MEMORY = "memory"

    @property
    def is_score(self) -> bool:
        """Whether it is in percent already, so that it changes by points."""
        return self in (Metric.MIOU, Metric.MACC, Metric.AACC)

    @property
    def unit(self) -> str:
        """Of its value; a score changes by points."""
        if self.is_score:
            return " points"
        if self is Metric.FPS:
            return " fps"
        return " MB" if self in (Metric.MEGABYTES, Metric.MEMORY) else " ms"


# Each is taken of many draws at once: (draws, steps) to (draws,).
STATISTICS: Mapping[Metric, Callable[[Times], Times]] = {
    Metric.FPS: lambda steps: 1000 / steps.mean(axis=1),
    Metric.P50_MS: lambda steps: np.percentile(steps, 50, axis=1),
    Metric.P90_MS: lambda steps: np.percentile(steps, 90, axis=1),
    Metric.P95_MS: lambda steps: np.percentile(steps, 95, axis=1),
    Metric.P99_MS: lambda steps: np.percentile(steps, 99, axis=1),
    Metric.P999_MS: lambda steps: np.percentile(steps, 99.9, axis=1),
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A number before and after.

    Args:
        before: its value.
        after: its value.
        ratio: where after / before lies with 95 % confidence; None: it was counted, not sampled.
        few: whether there are too few samples on either side to show anything.
    """

    before: float
    after: float
    ratio: Interval | None = None
    few: bool = False

    @property
    def difference(self) -> float:
        """In its own unit."""
        return self.after - self.before

    @property
    def percent(self) -> float | None:
        """Of the value before; None: that was 0."""
        return 100 * (self.after / self.before - 1) if self.before else None

    @property
    def interval(self) -> Interval | None:
        """The same in percent, with 95 % confidence."""
        if self.ratio is None:
            return None
        return Interval(100 * (self.ratio.low - 1), 100 * (self.ratio.high - 1))

    @property
    def is_shown(self) -> bool:
        """Whether the samples speak against no change at all."""
        if self.ratio is None:
            return True
        return not self.few and not self.ratio.low <= 1 <= self.ratio.high

    @property
    def verdict(self) -> str:
        """Of a time: faster, slower, or undecided.

        A row is one process, and two of them differ by up to `LIMIT` with nothing changed: what is
        smaller is never called a difference, however sure it is of these two.
        """
        if not self.is_shown or abs(self.after / self.before - 1) <= LIMIT:
            return UNDECIDED
        return "faster" if self.after < self.before else "slower"


def time_changes(before: Latency, after: Latency, batches: tuple[int, int]) -> dict[Metric, Change]:
    """All that is read off the steps, with the interval of each ratio by drawing steps anew.

    Both sides are drawn apart, in blocks of neighbouring steps, as `steadiness` does.
    """
    sides = (before, after)
    drawn = [
        _statistics(latency.steps_ms, SEED + side, batches[side])
        for side, latency in enumerate(sides)
    ]
    values = [
        {metric: float(of(np.array([latency.steps_ms]))[0]) for metric, of in STATISTICS.items()}
        for latency in sides
    ]
    few = min(len(latency.steps_ms) for latency in sides) < FEWEST
    outside = 100 * (1 - CONFIDENCE) / 2
    changes = {}
    for metric in STATISTICS:
        ratios = drawn[1][metric] / drawn[0][metric]
        low, high = np.percentile(ratios, [outside, 100 - outside])
        first, second = (
            side[metric] * (batch if metric is Metric.FPS else 1)
            for side, batch in zip(values, batches, strict=True)
        )
        interval = Interval(float(low), float(high))
        changes[metric] = Change(before=first, after=second, ratio=interval, few=few)
    return changes


def _statistics(steps_ms: tuple[float, ...], seed: int, batch: int) -> dict[Metric, Times]:
    parts: dict[Metric, list[Times]] = {metric: [] for metric in STATISTICS}
    for draws in redrawn(steps_ms, seed):
        for metric, statistic in STATISTICS.items():
            parts[metric].append(statistic(draws) * (batch if metric is Metric.FPS else 1))
    return {metric: np.concatenate(own) for metric, own in parts.items()}


def counted_changes(before: Measurement, after: Measurement) -> dict[Metric, Change]:
    """What is counted and not sampled, where both rows have it."""
    both = {
        Metric.MEGABYTES: [_mega(m.artifact_bytes) for m in (before, after)],
        Metric.MEMORY: [_mega(m.peak_memory_bytes) for m in (before, after)],
    }
    if are_scored_alike(before, after):
        for metric in (Metric.MIOU, Metric.MACC, Metric.AACC):
            both[metric] = [getattr(m, metric.value) for m in (before, after)]
    return {
        metric: Change(before=first, after=second)
        for metric, (first, second) in both.items()
        if first is not None and second is not None
    }


def are_scored_alike(before: Measurement, after: Measurement) -> bool:
    """Whether scores are of the same images of the same classes."""
    first, second = before.tally, after.tally
    if first is None or second is None:
        return False
    return (before.dataset, first.images, first.classes) == (
        after.dataset,
        second.images,
        second.classes,
    )


def _mega(size: int | None) -> float | None:
    return None if size is None else size / 1e6
