"""MLPerf's early stopping: how many queries a percentile takes, at an error of 1 %.

MLPerf Inference Rules, appendix "Early Stopping Criterion", with its tolerance 0 and confidence
0.99 (https://github.com/mlcommons/inference_policies/blob/master/inference_rules.adoc). Latencies
are taken as independent, which neighbouring ones are not: so a run is never shorter than asked.
The error holds for one look at a number of queries that was fixed before; sequential.py has the
test for a run that ends when it is decided.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

CONFIDENCE = 0.99  # of the rules
CACHED = 4096  # results that are kept: a run asks for the same few again and again


def is_within(over: int, count: int, percent: float) -> bool:
    """Whether at least `percent` of all queries keep the bound, at an error of 1 %.

    So few over the bound would be seen with less than 1 % probability if fewer of them did.
    """
    return _at_most(over, count, percent) <= 1 - CONFIDENCE


def is_beyond(over: int, count: int, percent: float) -> bool:
    """Whether fewer than `percent` of all queries keep the bound, at an error of 1 %.

    The same test from the other side, which the rules have no use for: they know no third ruling.
    """
    return over > 0 and 1 - _at_most(over - 1, count, percent) <= 1 - CONFIDENCE


@lru_cache(CACHED)
def queries_needed(over: int, percent: float) -> int:
    """The least number of queries that may have so many over the bound, and be within it."""
    return least_count(over, lambda count: is_within(over, count, percent))


def least_count(over: int, is_enough: Callable[[int], bool]) -> int:
    """The least number of queries, more than `over`, that is enough, as all above it then are."""
    low = over + 1
    high = 2 * low
    while not is_enough(high):
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle + 1, high)
    return low


def over_allowed(count: int, percent: float) -> int:
    """The most queries over a bound with which `count` are still within it; -1: not even none."""
    low, high = -1, count
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if is_within(middle, count, percent) else (low, middle - 1)
    return low


def estimate_percentile(latencies: Sequence[float], percent: float) -> float | None:
    """A latency that bounds the percentile, at an error of 1 %; None: it takes more queries.

    The rules discard one query less than are allowed to be over, and take the slowest of the rest.
    """
    allowed = over_allowed(len(latencies), percent)
    return None if allowed < 1 else sorted(latencies)[len(latencies) - allowed]


def _at_most(over: int, count: int, percent: float) -> float:
    """Probability of at most `over` queries over the bound, if exactly `percent` keep it."""
    if over >= count:
        return 1.0
    rare = 1 - percent / 100
    k = np.arange(1, over + 1)
    ratios = np.log(count - k + 1) - np.log(k) + math.log(rare / (1 - rare))
    logarithms = count * math.log1p(-rare) + np.concatenate([[0.0], ratios.cumsum()])
    return float(np.exp(np.logaddexp.reduce(logarithms)))
