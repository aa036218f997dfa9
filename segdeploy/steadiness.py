"""Whether step times can be trusted: their uncertainty, drift, warm-up and levels, as a verdict.

No step is ever left out: a spike is a part of the tail. What is judged is whether another run would
find the same median.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segdeploy.errors import SegdeployError

Times = NDArray[np.float64]

FEWEST = 20  # steps that a verdict can be given on
LIMIT = 0.03  # share of the median: what two quiet runs may differ by
CLOCK_LIMIT = 0.01  # share of a step that reading the clock may take
CONFIDENCE = 0.95
RESAMPLES = 1000
SEED = 0
AT_ONCE = 1 << 20  # steps that are drawn together: 8 MB
BINS = 50  # whose medians show a drift: neighbouring steps are no independent witnesses
DRIFT_Z = 2.576  # two-sided 1 %: how sure a drift must be (Mann 1945)
WINDOW = 9  # steps, at least, that must all in all be slow to count as warm-up
LEVEL_GAP = 0.05  # share of the lower level between two of them
LEVEL_SHARE = 0.1  # of the steps, at least, on either level: fewer are spikes
LEVEL_VARIANCE = 0.85  # that two levels explain (Otsu 1979); of an even spread they explain 0.75


class Interval(NamedTuple):
    """Where a percentile lies, in milliseconds, with 95 % confidence; infinity: nobody knows."""

    low: float
    high: float

    def told(self, number: Callable[[float], str]) -> str:
        """In words, with its ends as `number` writes them."""
        if math.isinf(self.high):
            return f"{number(self.low)} or more"
        return f"{number(self.low)} to {number(self.high)}"


@dataclass(frozen=True, kw_only=True)
class Steadiness:
    """What was read off the steps of one run, and why they are not to be trusted, if so.

    Args:
        p50_ms: where the median lies.
        p99_ms: where the 99th percentile lies.
        drift: share of the median by which steps became slower over the run; 0: no sure trend.
        settling_steps: timed steps at the beginning that were still slower than the later ones.
        reasons: why the run is inconclusive.
    """

    p50_ms: Interval
    p99_ms: Interval
    drift: float
    settling_steps: int
    reasons: tuple[str, ...]

    @property
    def is_stable(self) -> bool:
        """Whether nothing speaks against the run."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """One word."""
        return "stable" if self.is_stable else "inconclusive"

    def __str__(self) -> str:
        return ": ".join([self.verdict, *(["; ".join(self.reasons)] if self.reasons else [])])


def judge_steps(
    steps_ms: Sequence[float],
    *,
    warmup_ms: Sequence[float] = (),
    clock_ns: float = 0.0,
    disturbances: Sequence[str] = (),
) -> Steadiness:
    """Read the uncertainty off the steps of one run and say whether it is stable.

    Args:
        steps_ms: in the order they were made, all of them.
        warmup_ms: those before, which must not have been the faster ones.
        clock_ns: what reading the clock costs, and what it cannot tell apart.
        disturbances: what is known to have slowed the run.
    """
    steps = np.asarray(steps_ms, np.float64)
    if steps.ndim != 1 or not steps.size or not (np.isfinite(steps) & (steps > 0)).all():
        raise SegdeployError("step times must be positive numbers, at least one")
    median = float(np.median(steps))
    p50, p99 = median_interval(steps), tail_interval(steps, 99)
    trend, settling = drift(steps), settling_steps(steps)
    reasons = []
    if steps.size < FEWEST:
        reasons.append(f"too few steps: {steps.size} of {FEWEST}")
    if clock_ns / 1e6 > CLOCK_LIMIT * median:
        share = clock_ns / 1e6 / median
        reasons.append(f"reading the clock takes {share:.0%} of a step")
    if settling:
        reasons.append(f"the first {settling} timed steps were still warming up")
    elif abs(trend) > LIMIT:
        direction = "slower" if trend > 0 else "faster"
        reasons.append(f"steps became {abs(trend):.0%} {direction} over the run")
    if len(warmup_ms) and (gain := faster_before(warmup_ms, steps)):
        reasons.append(f"steps of the warm-up took {gain:.0%} less than those after it")
    if (levels := two_levels(steps)) is not None:
        reasons.append(f"{levels.share:.0%} of the steps take {levels.ratio:.2f} times as long")
    half = (p50.high - p50.low) / 2 / median
    if half > LIMIT:
        reasons.append(f"the median is known to ±{half:.0%} only")
    return Steadiness(
        p50_ms=p50,
        p99_ms=p99,
        drift=trend,
        settling_steps=settling,
        reasons=(*reasons, *disturbances),
    )


def median_interval(steps: Times | Sequence[float]) -> Interval:
    """Of the median, by drawing blocks of neighbouring steps anew (circular block bootstrap).

    Single steps would show too small an uncertainty: what slows one of them slows the next.
    """
    medians = np.concatenate([np.median(draws, axis=1) for draws in redrawn(steps)])
    outside = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(medians, [outside, 100 - outside])
    return Interval(float(low), float(high))


def tail_interval(steps: Times | Sequence[float], percent: float) -> Interval:
    """Of a percentile far out, between two of the steps, by the binomial distribution.

    How many of `n` steps lie below the percentile is binomial, whatever their distribution (David
    and Nagaraja, Order Statistics, 7.1), if they are independent: slow steps that come in groups
    make it wider. Drawing steps anew would never find a slower one than was seen; where the
    percentile may well lie above all of them, as p99 does below 368, the upper end is infinity.
    """
    ordered, share = np.sort(np.asarray(steps, np.float64)), percent / 100
    count = ordered.size
    log_factorials = np.concatenate([[0.0], np.log(np.arange(1, count + 1)).cumsum()])
    below = np.arange(count + 1)
    chances = np.exp(
        log_factorials[-1]
        - log_factorials
        - log_factorials[::-1]
        + below * math.log(share)
        + below[::-1] * math.log1p(-share)
    )
    outside = (1 - CONFIDENCE) / 2
    at_most = chances.cumsum()  # so many steps below the percentile, or fewer
    low = int((at_most <= outside).sum())  # the highest place that is too high as rarely as that
    high = int((at_most < 1 - outside).sum())  # the lowest that is too low as rarely
    return Interval(
        float(ordered[low - 1]) if low else 0.0,
        float(ordered[high]) if high < count else math.inf,
    )


def redrawn(steps: Times | Sequence[float], seed: int = SEED) -> Iterator[Times]:
    """As many steps drawn anew in blocks of neighbours: `RESAMPLES` rows, some at a time."""
    values = np.asarray(steps, np.float64)
    count = values.size
    length = block_length(values)
    blocks = math.ceil(count / length)
    rows = max(1, AT_ONCE // count)
    dice = np.random.default_rng(seed)
    for drawn in range(0, RESAMPLES, rows):
        starts = dice.integers(0, count, (min(rows, RESAMPLES - drawn), blocks, 1))
        places = (starts + np.arange(length)).reshape(len(starts), -1)[:, :count] % count
        yield values[places]


def block_length(steps: Times | Sequence[float]) -> int:
    """How many neighbours are drawn together: the more, the longer steps resemble each other.

    As Politis and White 2004 choose it, corrected by Patton, Politis and White 2009, on whether a
    step is above the median: a single spike then counts as one step. At least the cube root of
    their number (Hall, Horowitz, Jing 1995), at most a fourth of them.
    """
    values = np.asarray(steps, np.float64)
    count = values.size
    least, most = max(1, round(math.cbrt(count))), max(1, count // 4)
    sides = (values > np.median(values)) - (values > np.median(values)).mean()
    variance = float(sides @ sides) / count
    if not variance > 0:
        return least
    reach = min(count - 1, 2 * math.ceil(math.sqrt(count)) + 10)
    lags = np.array([sides[k:] @ sides[: count - k] for k in range(reach + 1)]) / count
    small = np.abs(lags[1:]) < 2 * math.sqrt(math.log10(count) / count) * variance
    in_a_row = max(5, math.ceil(math.sqrt(math.log10(count))))
    starts = [k for k in range(len(small)) if small[k : k + in_a_row].all()]
    related = 2 * max(1, starts[0] if starts else reach)  # lags behind which nothing is left
    lags = lags[: related + 1]
    distance = np.arange(len(lags))
    weights = np.minimum(1, 2 * (1 - distance / related))  # flat, then falling to 0
    spread = 2 * float(weights @ lags) - variance
    slope = 2 * float(weights @ (distance * lags))
    if not spread > 0:
        return least
    best = math.ceil(math.cbrt(count * 1.5 * (slope / spread) ** 2))
    return min(max(least, best), max(least, most))


def drift(steps: Times | Sequence[float]) -> float:
    """Share of the median by which steps grew over the run, where the trend is sure; else 0.

    The slope is Theil and Sen's, the test is Mann and Kendall's; single spikes move neither.
    """
    values = np.asarray(steps, np.float64)
    medians = np.array([np.median(part) for part in np.array_split(values, min(BINS, values.size))])
    count = medians.size
    if count < 4:
        return 0.0
    first, second = np.triu_indices(count, 1)
    differences = medians[second] - medians[first]
    score = np.sign(differences).sum()
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    if abs(score) <= DRIFT_Z * deviation:
        return 0.0
    slope = np.median(differences / (second - first))
    return float(slope * (count - 1) / np.median(values))


def settling_steps(steps: Times | Sequence[float]) -> int:
    """How many steps at the beginning were slower than the second half of the run."""
    values = np.asarray(steps, np.float64)
    window = max(WINDOW, values.size // 20)
    later = values[values.size // 2 :]
    slow = max((1 + LIMIT) * np.median(later), np.percentile(later, 90))
    settled = 0
    while settled + window <= values.size // 2 + window // 2:
        if np.median(values[settled : settled + window]) <= slow:
            break
        settled += window
    return settled


def faster_before(warmup: Sequence[float], steps: Times | Sequence[float]) -> float:
    """Share of the median by which warm-up took less: the machine can do better; else 0."""
    before, after = float(np.median(warmup)), float(np.median(steps))
    gain = 1 - before / after
    is_sure = before < np.percentile(steps, 10)
    return gain if gain > LEVEL_GAP and is_sure else 0.0


class Levels(NamedTuple):
    """Steps on the upper of two levels: their share, and how much longer they take."""

    share: float
    ratio: float


def two_levels(steps: Times | Sequence[float]) -> Levels | None:
    """The two speeds between which a run changes, if there are such; by Otsu's threshold."""
    values = np.sort(np.log(np.asarray(steps, np.float64)))
    count = values.size
    variance = values.var()
    if count < FEWEST or not variance > 0:
        return None
    below = np.arange(1, count)
    sums = values.cumsum()
    lower, upper = sums[:-1] / below, (sums[-1] - sums[:-1]) / (count - below)
    between = below * (count - below) / count**2 * (upper - lower) ** 2
    best = int(between.argmax())
    share = 1 - (best + 1) / count
    gap = float(upper[best] - lower[best])
    if (
        between[best] < LEVEL_VARIANCE * variance
        or gap < math.log1p(LEVEL_GAP)
        or not LEVEL_SHARE <= share <= 1 - LEVEL_SHARE
    ):
        return None
    return Levels(share, math.exp(gap))
