"""How often an interval of `segdeploy bench` holds the true percentile, on made-up steps.

    python benchmarks/intervals.py

Steps are lognormal with a spread of 10 %, so their true median and p99 are known. Of related ones
each keeps a share of what the one before it deviated by. The same table comes out each time.
"""

import math

import numpy as np
from numpy.typing import NDArray

from segdeploy.steadiness import median_interval, tail_interval

RUNS = 1000
SPREAD = 0.1
P99 = math.exp(SPREAD * 2.326348)  # of the lognormal distribution, whose median is 1


def main() -> None:
    """Print a line for each length and each kind of steps."""
    print("| steps | kept of the one before | holds p50 % | holds p99 % | p99 has an upper end % |")
    print("|---:|---:|---:|---:|---:|")
    for kept in (0.0, 0.5, 0.8, 0.9):
        for count in (20, 50, 195, 1000):
            dice = np.random.default_rng(0)
            series = [made_up(dice, count, kept) for _ in range(RUNS)]
            medians = [median_interval(steps) for steps in series]
            tails = [tail_interval(steps, 99) for steps in series]
            held = [low <= 1 <= high for low, high in medians]
            tail_held = [low <= P99 <= high for low, high in tails]
            ended = [math.isfinite(high) for _, high in tails]
            shares = [f"{100 * np.mean(of):.0f}" for of in (held, tail_held, ended)]
            print(f"| {count} | {kept} | {' | '.join(shares)} |")


def made_up(dice: np.random.Generator, count: int, kept: float) -> NDArray[np.float64]:
    """Steps in milliseconds, in the order they were made."""
    noise = dice.standard_normal(count + 100)
    for step in range(1, len(noise)):
        noise[step] = kept * noise[step - 1] + math.sqrt(1 - kept**2) * noise[step]
    return np.exp(SPREAD * noise[100:])


if __name__ == "__main__":
    main()
