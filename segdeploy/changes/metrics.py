"""The numbers of a row that can change, and a change with its confidence interval."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from segdeploy.measurement import Measurement
from segdeploy.steadiness import CONFIDENCE, FEWEST, LIMIT, SEED, Interval, Times, redrawn
from segdeploy.timing import MIN_STEPS, Latency

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


PERCENTILES: Mapping[Metric, float] = {
    Metric.P50_MS: 50,
    Metric.P90_MS: 90,
    Metric.P95_MS: 95,
    Metric.P99_MS: 99,
    Metric.P999_MS: 99.9,
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """A number before and after.

    Args:
        before: its value.
        after: its value.
        ratio: where after / before lies with 95 % confidence; None: it was counted, not sampled.
        needed: samples that each side must have to show anything; 0: there are as many.
        apart: whether every sample after lies beyond every one before.
    """

    before: float
    after: float
    ratio: Interval | None = None
    needed: int = 0
    apart: bool = False

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
        if self.ratio is None or self.apart:
            return True
        return not self.needed and not self.ratio.low <= 1 <= self.ratio.high

    @property
    def is_small(self) -> bool:
        """Whether two runs of the same file may differ by as much: a row is one process."""
        return self.ratio is not None and abs(self.after / self.before - 1) <= LIMIT

    @property
    def is_sure(self) -> bool:
        """Whether it is a difference and no chance."""
        return self.is_shown and not self.is_small

    @property
    def verdict(self) -> str:
        """Of a time: faster, slower, or undecided."""
        if not self.is_sure:
            return UNDECIDED
        return "faster" if self.after < self.before else "slower"


def time_changes(before: Latency, after: Latency, batches: tuple[int, int]) -> dict[Metric, Change]:
    """All that is read off the steps, with the interval of each ratio by drawing steps anew.

    Both sides are drawn apart, in blocks of neighbouring steps, as `steadiness` does.
    """
    drawn = [
        _drawn_statistics(latency, SEED + side) for side, latency in enumerate((before, after))
    ]
    values = [_statistics(np.array([latency.steps_ms])) for latency in (before, after)]
    steps = min(len(before.steps_ms), len(after.steps_ms))
    apart = steps >= MIN_STEPS and (
        min(after.steps_ms) > max(before.steps_ms) or max(after.steps_ms) < min(before.steps_ms)
    )
    outside = 100 * (1 - CONFIDENCE) / 2
    changes = {}
    for metric in (Metric.FPS, *PERCENTILES):
        images = np.array(batches if metric is Metric.FPS else (1, 1))
        first, second = (images * [side[metric][0] for side in values]).tolist()
        ratios = drawn[1][metric] / drawn[0][metric] * images[1] / images[0]
        low, high = np.percentile(ratios, [outside, 100 - outside]).tolist()
        needed = steps_needed(metric)
        changes[metric] = Change(
            before=first,
            after=second,
            ratio=Interval(low, high),
            needed=needed if steps < needed else 0,
            apart=apart,
        )
    return changes


def steps_needed(metric: Metric) -> int:
    """So many that one of them is expected beyond the percentile: fewer have none of their own."""
    return max(FEWEST, math.ceil(round(100 / (100 - PERCENTILES.get(metric, 0)), 6)))


def _drawn_statistics(latency: Latency, seed: int) -> dict[Metric, Times]:
    parts = [_statistics(draws) for draws in redrawn(latency.steps_ms, seed)]
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}


def _statistics(steps: Times) -> dict[Metric, Times]:
    """Of many series at once: (series, steps) to (series,)."""
    found = np.percentile(steps, list(PERCENTILES.values()), axis=1)
    return {Metric.FPS: 1000 / steps.mean(axis=1), **dict(zip(PERCENTILES, found, strict=True))}


def counted_changes(before: Measurement, after: Measurement) -> dict[Metric, Change]:
    """What is counted and not sampled, where both rows have it."""
    first, second = counted(before), counted(after)
    return {
        metric: Change(before=first[metric], after=second[metric])
        for metric in first
        if metric in second and (not metric.is_score or are_scored_alike(before, after))
    }


def counted(m: Measurement) -> dict[Metric, float]:
    """Sizes and scores of one row, as far as it has them."""
    found = {
        Metric.MEGABYTES: _mega(m.artifact_bytes),
        Metric.MEMORY: _mega(m.peak_memory_bytes),
        Metric.MIOU: m.miou,
        Metric.MACC: m.macc,
        Metric.AACC: m.aacc,
    }
    return {metric: value for metric, value in found.items() if value is not None}


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
