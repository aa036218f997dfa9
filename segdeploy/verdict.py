"""Whether int8 keeps its accuracy and pays: a floor, a search for what must stay floating, an end.

Nothing here runs a network: what measures a candidate is a callable.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np

from segdeploy.accuracy import AccuracyFloor, Score
from segdeploy.errors import SegdeployError
from segdeploy.spec import Precision

WORTH_WHILE = 0.97  # of a rival's time: what an int8 engine must stay below to pay
CONFIDENCE = 97.5  # percent, one-sided, of the bootstrap that compares two medians
RESAMPLES = 2000
NAMED = 4  # layers that a sentence lists; a report has them all


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One engine: what it computes in integers, how well and how fast."""

    precision: Precision
    floating: tuple[str, ...] = ()  # layers that int8 could compute and that were moved back
    floating_macs: float = 1.0  # share of all multiplications that is computed in floating point
    score: Score | None = None  # None: it was not scored
    latency_ms: tuple[float, ...] = ()  # of each step, as measured; empty: not timed
    artifact_bytes: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.floating_macs <= 1:
            raise SegdeployError(f"a share of {self.floating_macs}; wanted 0 to 1")
        if not all(math.isfinite(step) and step > 0 for step in self.latency_ms):
            raise SegdeployError("a step time that is no positive number")

    @property
    def name(self) -> str:
        """For tables and sentences: the precision, and how many layers were moved back."""
        count = len(self.floating)
        return f"{self.precision} with {count} floating" if count else str(self.precision)

    @property
    def median_ms(self) -> float:
        """Of the step times; infinite if there are none."""
        return statistics.median(self.latency_ms) if self.latency_ms else math.inf


@dataclass(frozen=True)
class LayerError:
    """A convolution that int8 could compute: what it costs the output, and what it computes."""

    name: str
    macs_share: float  # of all multiplications
    noise: float | None = None  # power of the logits' error by that of the logits; None: no time


@dataclass(frozen=True)
class Budget:
    """Seconds that a search may take, by a clock that started at `start`."""

    seconds: float
    clock: Callable[[], float]
    start: float

    @classmethod
    def from_now(cls, seconds: float, clock: Callable[[], float]) -> Self:
        """A budget that begins to run."""
        return cls(seconds, clock, clock())

    @property
    def left_s(self) -> float:
        """What is not spent yet; negative when it is overdrawn."""
        return self.start + self.seconds - self.clock()


@dataclass(frozen=True)
class Found:
    """All candidates in the order they were measured; whether the budget let the search end."""

    candidates: tuple[Candidate, ...]
    is_complete: bool


def search(
    rank: Callable[[], Sequence[LayerError]],
    measure: Callable[[frozenset[str]], Candidate],
    meets: Callable[[Candidate], bool],
    *,
    budget: Budget,
    known: Iterable[Candidate] = (),
) -> Found:
    """Find few layers to leave floating so that `meets` holds.

    All int8 comes first, and is measured whatever the budget. If it fails, the number of worst
    layers left floating is bisected, on the assumption that more of them are not worse; what comes
    out was measured, not assumed. Then single layers go back to int8, those with most
    multiplications first. Nothing is measured that would most likely end after the budget.

    Args:
        rank: the layers, most harmful first; called only when all int8 fails.
        measure: the candidate with these layers floating.
        meets: whether a candidate is accurate enough.
        budget: the time there is.
        known: candidates that an earlier run measured.
    """
    found = {frozenset(candidate.floating): candidate for candidate in known}
    slowest_s = 0.0

    def ask(floating: frozenset[str]) -> Candidate | None:
        """None: there is no time for it."""
        nonlocal slowest_s
        if floating not in found:
            if floating and budget.left_s <= slowest_s:
                return None
            before = budget.clock()
            found[floating] = measure(floating)
            slowest_s = max(slowest_s, budget.clock() - before)
        return found[floating]

    def ended(*, is_complete: bool) -> Found:
        return Found(tuple(found.values()), is_complete)

    whole = ask(frozenset())
    if whole is not None and meets(whole):
        return ended(is_complete=True)
    layers = rank()
    low, high = 0, len(layers)  # so many floating fail; so many would be the floating network
    while high - low > 1:
        middle = _between(low, high)
        candidate = ask(frozenset(layer.name for layer in layers[:middle]))
        if candidate is None:
            return ended(is_complete=False)
        low, high = (low, middle) if meets(candidate) else (middle, high)
    if high == len(layers):
        return ended(is_complete=True)
    kept = frozenset(layer.name for layer in layers[:high])
    for layer in sorted(layers[:high], key=lambda layer: -layer.macs_share):
        candidate = ask(kept - {layer.name})
        if candidate is None:
            return ended(is_complete=False)
        if meets(candidate):
            kept -= {layer.name}
    return ended(is_complete=True)


def _between(low: int, high: int) -> int:
    """The geometric middle: most often few layers are to blame."""
    middle = round(math.sqrt(max(low, 1) * high))
    return min(max(middle, low + 1), high - 1)


class VerdictKind(StrEnum):
    """How it ended."""

    MET = "MET"
    NOT_MET = "NOT MET"
    DOES_NOT_PAY = "MET BUT DOES NOT PAY"


@dataclass(frozen=True)
class Verdict:
    """How it ended, the int8 engine that is best, and the same in sentences."""

    kind: VerdictKind
    chosen: Candidate
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}: {' '.join(self.sentences)}"


def judge(
    floating: Sequence[Candidate], found: Found, floor: AccuracyFloor, reference: Score
) -> Verdict:
    """End with a verdict a user can act on.

    Of the int8 candidates that meet the floor, the one with fewest floating multiplications is
    chosen. It pays if it is faster than every floating engine that meets the floor too: with 97.5 %
    confidence its median step takes less than 97 % of theirs, by a bootstrap over the step times.

    Args:
        floating: fp32, and fp16 where there is one.
        found: at least all int8.
        floor: what must be kept.
        reference: the score of fp32.
    """

    def misses(candidate: Candidate) -> tuple[str, ...]:
        return floor.misses(reference, candidate.score or Score(0.0))

    rivals = [rival for rival in floating if rival.score and not misses(rival)]
    good = [candidate for candidate in found.candidates if not misses(candidate)]
    if not good:
        best = min(found.candidates, key=lambda c: (len(misses(c)), -(c.score or Score(0)).miou))
        sentences = _why_not(best, misses(best), found, rivals)
        return Verdict(VerdictKind.NOT_MET, best, sentences)
    chosen = min(good, key=lambda c: (c.floating_macs, len(c.floating), c.floating))
    rest = [] if found.is_complete else ["The budget ended the search: fewer may be enough."]
    cost = _cost(chosen, found, reference)
    rival = min(rivals, key=lambda rival: rival.median_ms, default=None)
    if rival is None or is_faster(chosen, rival):
        gain = [] if rival is None else [_gain(chosen, rival)]
        return Verdict(VerdictKind.MET, chosen, (*cost, *gain, *rest))
    advice = (
        f"{rival.name} is as fast or faster here: {rival.median_ms:.2f} ms a step, "
        f"{chosen.name} {chosen.median_ms:.2f} ms.",
        f"Use {rival.name}.",
    )
    return Verdict(VerdictKind.DOES_NOT_PAY, chosen, (*advice, *cost, *rest))


def is_faster(candidate: Candidate, rival: Candidate) -> bool:
    """Whether the medians differ by more than noise; see `judge`. Equal data, equal answer."""
    if not (candidate.latency_ms and rival.latency_ms):
        return False
    dice = np.random.default_rng(0)
    medians = []
    for steps in (candidate.latency_ms, rival.latency_ms):
        drawn = dice.integers(len(steps), size=(RESAMPLES, len(steps)))
        medians.append(np.median(np.asarray(steps)[drawn], axis=1))
    return float(np.percentile(medians[0] / medians[1], CONFIDENCE)) < WORTH_WHILE


def pareto(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """Those that no other beats in time without losing mIoU or the reverse, fastest first."""
    known = [(c.median_ms, -c.score.miou, c) for c in candidates if c.score and c.latency_ms]
    front: list[Candidate] = []
    best = math.inf
    for _, loss, candidate in sorted(known, key=lambda row: row[:2]):
        if loss < best:
            front.append(candidate)
            best = loss
    return tuple(front)


def _why_not(
    best: Candidate, misses: tuple[str, ...], found: Found, rivals: Sequence[Candidate]
) -> tuple[str, ...]:
    sentences = [f"The best found is {best.name}: {'; '.join(misses)}."]
    if found.is_complete:
        sentences.append("Leaving more layers floating did not help.")
    else:
        count = len(found.candidates)
        tried = f"{count} candidate{'s' * (count > 1)}"
        sentences.append(f"The budget ended the search after {tried}: give it more.")
    if rivals:
        rival = min(rivals, key=lambda rival: rival.median_ms)
        sentences.append(f"{rival.name} is accurate enough, in {rival.median_ms:.2f} ms a step.")
    return tuple(sentences)


def _cost(chosen: Candidate, found: Found, reference: Score) -> list[str]:
    score = chosen.score or Score(0)
    kept = f"mIoU is {score.miou:.2f}, fp32's is {reference.miou:.2f}."
    if not chosen.floating:
        return [f"Every layer that can be int8 is; {kept}"]
    count, names = len(chosen.floating), ", ".join(chosen.floating[:NAMED])
    more = f" and {count - NAMED} more" if count > NAMED else ""
    sentences = [
        f"{count} layer{'s stay' if count > 1 else ' stays'} floating ({names}{more}), with them "
        f"{chosen.floating_macs:.1%} of the multiplications; {kept}"
    ]
    whole = next((c for c in found.candidates if not c.floating), None)
    if whole is not None and whole.latency_ms and chosen.latency_ms:
        slower = chosen.median_ms - whole.median_ms
        larger = (chosen.artifact_bytes - whole.artifact_bytes) / 1e6
        sentences.append(f"That costs {slower:+.2f} ms and {larger:+.2f} MB against all int8.")
    return sentences


def _gain(chosen: Candidate, rival: Candidate) -> str:
    ratio = rival.median_ms / chosen.median_ms
    return (
        f"A step takes {chosen.median_ms:.2f} ms, {ratio:.2f} times as fast as {rival.name} "
        f"({rival.median_ms:.2f} ms)."
    )
