"""What is read off step times, on series that are made up."""

import math
import re

import numpy as np
import pytest

from segdeploy.errors import SegdeployError
from segdeploy.steadiness import (
    Steadiness,
    block_length,
    drift,
    judge_steps,
    median_interval,
    settling_steps,
    tail_interval,
    two_levels,
)

SEEDS = range(20)  # of a promise that is about chance


def steady(seed: int = 0, count: int = 195, spread: float = 0.01) -> np.ndarray:
    """Ten milliseconds with some noise, skewed as step times are: nothing is faster than fast."""
    return 10 * (1 + spread * np.random.default_rng(seed).gamma(2, 1, count))


def drifting(seed: int = 0) -> np.ndarray:
    return steady(seed) * np.linspace(1, 1.15, 195)


def jumping(seed: int = 0) -> np.ndarray:
    return steady(seed) * np.where(np.arange(195) < 120, 1, 1.1)


def warming(seed: int = 0) -> np.ndarray:
    return steady(seed) * (1 + 0.5 * np.exp(-np.arange(195) / 15))


def spiky(seed: int = 0) -> np.ndarray:
    return steady(seed) * np.where(np.arange(195) % 40 == 7, 5, 1)


def bimodal(seed: int = 0) -> np.ndarray:
    upper = np.random.default_rng(seed + 100).random(195) < 0.3
    return steady(seed) * np.where(upper, 1.4, 1)


def noisy(seed: int = 0) -> np.ndarray:
    return steady(seed, spread=0.5)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (steady, None),
        (spiky, None),  # a spike is a part of the tail, not of the median
        (drifting, r"steps became 1\d% slower over the run"),
        (lambda seed: drifting(seed)[::-1], r"faster over the run|still warming up"),
        (jumping, r"slower over the run"),
        (warming, r"the first \d+ timed steps were still warming up"),
        (bimodal, r"3\d% of the steps take 1\.4\d times as long|2\d% of the steps take 1\.[34]"),
        (noisy, r"the median is known to ±\d+% only"),
        (lambda seed: steady(seed)[:8], "too few steps: 8 of 20"),
    ],
    ids=["steady", "spiky", "slower", "faster", "jump", "warm-up", "levels", "noisy", "short"],
)
def test_each_kind_of_run_has_its_verdict(make, reason) -> None:
    found = [judge_steps(make(seed)) for seed in SEEDS]

    if reason is None:
        assert [one.reasons for one in found if not one.is_stable] == []
    else:
        for one in found:
            assert not one.is_stable
            assert any(re.search(reason, text) for text in one.reasons), one.reasons


def test_a_verdict_is_words() -> None:
    found = judge_steps(steady()[:8], disturbances=("the GPU was slowed by temperature",))

    assert judge_steps(steady()).verdict == str(judge_steps(steady())) == "stable"
    assert found.verdict == "inconclusive"
    assert str(found) == ("inconclusive: too few steps: 8 of 20; the GPU was slowed by temperature")


def test_no_step_is_left_out() -> None:
    found = judge_steps(spiky())

    assert found.p99_ms.high == math.inf  # 195 steps have seen too little of the tail
    assert judge_steps(np.tile(spiky(), 4)).p99_ms.high > 50  # the spikes, five times the median
    assert found.p50_ms.high < 10.3


def test_an_interval_holds_the_true_percentile_about_as_often_as_it_says() -> None:
    median = float(np.median(10 * (1 + 0.05 * np.random.default_rng(7).gamma(2, 1, 10**6))))
    intervals = [median_interval(steady(seed, spread=0.05)) for seed in range(100)]

    held = sum(low <= median <= high for low, high in intervals)

    assert 88 <= held <= 99  # 95 by its name; 92 of these seeds


@pytest.mark.parametrize("count", [20, 195, 368, 2000])
def test_so_does_that_of_a_tail(count: int) -> None:
    dice = np.random.default_rng(11)
    p99 = -math.log(0.01)  # of the exponential distribution

    intervals = [tail_interval(dice.exponential(size=count), 99) for _ in range(400)]

    held = sum(low <= p99 <= high for low, high in intervals)
    assert held >= 0.93 * 400  # 95 % at least, since it lies between two steps
    assert all(math.isfinite(high) is (count >= 368) for _, high in intervals)


def test_a_tail_lies_between_two_steps_by_the_binomial_distribution() -> None:
    steps = np.arange(1.0, 1001.0)

    assert tail_interval(steps, 99) == (983, 997)  # scipy.stats.binom(1000, 0.99).ppf: 983, 996
    assert tail_interval(steps[::-1], 95) == (936, 964)
    assert tail_interval([3.0], 99) == (3.0, math.inf)
    assert tail_interval(steps[:195], 99).told("{:.0f}".format) == "190 or more"


def related(seed: int, share: float, count: int = 195) -> np.ndarray:
    """Each step remembers `share` of what the one before it differed by."""
    noise = np.random.default_rng(seed).standard_normal(count + 100)
    for k in range(1, len(noise)):
        noise[k] = share * noise[k - 1] + math.sqrt(1 - share**2) * noise[k]
    return 10 * np.exp(0.05 * noise[100:])


def test_blocks_are_as_long_as_steps_resemble_each_other() -> None:
    lengths = [
        np.median([block_length(related(seed, share)) for seed in SEEDS])
        for share in (0, 0.5, 0.8, 0.95)
    ]

    assert lengths[0] == 6  # the cube root of 195
    assert lengths == sorted(lengths)
    assert lengths[-1] > 15
    assert block_length(spiky()) == 6
    assert block_length([1.0, 1.0]) == block_length([2.0]) == 1
    held = [
        low <= 10 <= high
        for low, high in map(median_interval, map(related, range(100), [0.8] * 100))
    ]
    assert sum(held) >= 82  # 80 with blocks of 6


def test_neighbours_that_are_alike_make_an_interval_wider() -> None:
    alike = np.repeat(steady(count=40, spread=0.05), 5)
    shuffled = np.random.default_rng(1).permutation(alike)

    wide, narrow = median_interval(alike), median_interval(shuffled)

    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


def test_an_interval_is_the_same_each_time() -> None:
    assert median_interval(noisy()) == median_interval(noisy())


def test_a_trend_is_as_large_as_it_is_and_no_spike_makes_one() -> None:
    assert drift(drifting()) == pytest.approx(0.14, abs=0.02)
    assert drift(drifting()[::-1]) == pytest.approx(-0.14, abs=0.02)
    assert [drift(spiky(seed)) for seed in SEEDS if abs(drift(spiky(seed))) > 0.01] == []
    assert drift([1.0, 2.0, 3.0]) == 0


def test_settling_is_counted_in_steps() -> None:
    slow = np.concatenate([np.full(18, 20.0), np.full(100, 10.0)])

    assert settling_steps(slow) == 18
    assert settling_steps(slow[18:]) == 0
    assert settling_steps([5.0, 1.0, 1.0]) == 0


def test_two_levels_are_told_from_a_spread() -> None:
    found = two_levels(bimodal())
    even = np.random.default_rng(0).uniform(10, 14, 195)
    share = (bimodal() > 12).mean()

    assert found is not None
    assert found.ratio == pytest.approx(1.4, abs=0.02)
    assert found.share == pytest.approx(share)
    assert two_levels(even) is None
    assert two_levels(spiky()) is None
    assert two_levels(np.full(195, 10.0)) is None


def test_a_warm_up_that_was_faster_spoils_a_run() -> None:
    run = steady()

    slowed = judge_steps(run, warmup_ms=run[:5] * 0.64)

    assert slowed.reasons == ("steps of the warm-up took 36% less than those after it",)
    assert judge_steps(run, warmup_ms=run[:5] * 3).is_stable  # as it should be
    assert all(judge_steps(steady(k)[5:], warmup_ms=steady(k)[:5]).is_stable for k in SEEDS)
    assert judge_steps(noisy(), warmup_ms=noisy()[:5]).reasons == judge_steps(noisy()).reasons


@pytest.mark.parametrize(("clock_ns", "is_stable"), [(70, True), (90_000, True), (110_000, False)])
def test_a_clock_that_takes_a_hundredth_of_a_step_spoils_it(clock_ns, is_stable) -> None:
    found = judge_steps(steady(), clock_ns=clock_ns)

    assert found.is_stable is is_stable
    assert is_stable or found.reasons == ("reading the clock takes 1% of a step",)


@pytest.mark.parametrize("steps", [[], [0.0], [-1.0], [float("nan")], [[1.0]]])
def test_what_are_no_times_is_refused(steps) -> None:
    with pytest.raises(SegdeployError, match="positive numbers"):
        judge_steps(steps)


def test_a_single_step_is_judged_too() -> None:
    assert judge_steps([3.0]) == Steadiness(
        p50_ms=(3.0, 3.0),
        p99_ms=(3.0, math.inf),
        drift=0.0,
        settling_steps=0,
        reasons=("too few steps: 1 of 20",),
    )
