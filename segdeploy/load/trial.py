"""One run under load: what became of every query, and what may be concluded from it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from segdeploy.load.early_stopping import (
    estimate_percentile,
    is_beyond,
    is_within,
    queries_needed,
)
from segdeploy.load.line import Query
from segdeploy.load.scenario import Generator, LoadOptions, Scenario
from segdeploy.load.sequential import is_broken, is_kept, queries_to_keep
from segdeploy.steadiness import judge_steps
from segdeploy.telemetry import MachineState, disturbances

PERCENTILES = {"p50_ms": 50.0, "p90_ms": 90.0, "p95_ms": 95.0, "p99_ms": 99.0, "p999_ms": 99.9}


class Ruling(StrEnum):
    """Whether a run counts: VALID keeps its bound, or measures what it has no bound for."""

    VALID = "valid"
    INVALID = "invalid"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A run, with every query of it.

    Args:
        options: of the whole load; the rate or the number of streams of this run is its own.
        queries: in the order they came.
        seed: of this run.
        rate: queries per second of the server.
        streams: cameras.
        before: the machine when it began.
        after: the machine when it ended.
        foreign: what another generator than our own said of it.
    """

    options: LoadOptions
    queries: tuple[Query, ...]
    seed: int
    rate: float | None = None
    streams: int | None = None
    before: MachineState = field(default_factory=MachineState)
    after: MachineState = field(default_factory=MachineState)
    foreign: Mapping[str, Any] = field(default_factory=dict)

    @property
    def latencies_s(self) -> list[float]:
        """Of each query of which it is known; infinite where it was dropped, or left late.

        A query that was left in the line says nothing if it had not waited for the bound by then.
        """
        known = [math.inf if self._is_late(query) else query.latency_s for query in self.queries]
        return [latency_s for latency_s in known if latency_s is not None]

    @property
    def left(self) -> int:
        """Queries that still waited when a lost run ended."""
        return sum(query.left_s is not None for query in self.queries)

    @property
    def left_late(self) -> int:
        """Of these, the ones that had waited longer than the bound."""
        return sum(self._is_late(query) for query in self.queries)

    @property
    def seconds(self) -> float:
        """Until the last answer, or until the rest was left."""
        return max((q.done_s or q.left_s or 0.0 for q in self.queries), default=0.0)

    @property
    def over(self) -> int:
        """Queries over the bound, those that were dropped or left late among them."""
        bound_s = self.options.bound_s
        return 0 if bound_s is None else sum(found > bound_s for found in self.latencies_s)

    @property
    def samples_per_s(self) -> float:
        """Images that were answered, by the time until the last of them."""
        is_multi = self.options.scenario is Scenario.MULTI_STREAM
        answered = sum(query.done_s is not None for query in self.queries)
        samples = self.options.samples if is_multi else 1
        return answered * samples / self.seconds if self.seconds else 0.0

    @property
    def estimate_ms(self) -> float | None:
        """MLPerf's early-stopping estimate of the percentile; None: too few queries, or dropped."""
        found = estimate_percentile(self.latencies_s, self.options.percent)
        return None if found is None or math.isinf(found) else found * 1000

    def judge(self) -> tuple[Ruling, tuple[str, ...]]:
        """The ruling, and why it is not VALID."""
        disturbed = disturbances(self.before, self.after)
        if not self.latencies_s:
            return Ruling.INCONCLUSIVE, ("no query was answered",)
        if self.options.scenario.has_schedule:
            return self._judge_bound(disturbed)
        reasons = disturbed
        if self.options.scenario is Scenario.OFFLINE:
            if self.seconds < self.options.seconds:
                wanted = f"{self.options.seconds:g} s were asked for"
                reasons = (f"it took {self.seconds:.1f} s; {wanted}", *reasons)
        else:
            reasons = (*self._too_few(), *self._unsteady(disturbed))
        return (Ruling.INCONCLUSIVE if reasons else Ruling.VALID), tuple(reasons)

    def _judge_bound(self, disturbed: Sequence[str]) -> tuple[Ruling, tuple[str, ...]]:
        over, count, percent = self.over, len(self.latencies_s), self.options.percent
        bound_ms = 1000 * (self.options.bound_s or 0)
        kept, broken, needed = is_kept, is_broken, queries_to_keep
        if self.options.generator is Generator.LOADGEN:  # which fixes their number beforehand
            kept, broken, needed = is_within, is_beyond, queries_needed
        if kept(over, count, percent):
            return Ruling.VALID, ()
        said = f"{over} of {count} queries took longer than {bound_ms:.4g} ms"
        if broken(over, count, percent):
            return (Ruling.INCONCLUSIVE if disturbed else Ruling.INVALID), (said, *disturbed)
        wanted = f"with so many late, p{percent:g} takes {needed(over, percent)} queries"
        return Ruling.INCONCLUSIVE, (f"{said}; {wanted}",)

    def _is_late(self, query: Query) -> bool:
        """Whether it was left in the line, and had waited longer than the bound by then."""
        waited_s, bound_s = query.waited_s, self.options.bound_s
        return waited_s is not None and bound_s is not None and waited_s > bound_s

    def _too_few(self) -> list[str]:
        count, percent = len(self.latencies_s), self.options.percent
        needed = queries_needed(1, percent)
        return [f"{count} queries; p{percent:g} takes {needed}"] if count < needed else []

    def _unsteady(self, disturbed: Sequence[str]) -> tuple[str, ...]:
        steps_ms = [1000 * found for found in self.latencies_s]
        return judge_steps(steps_ms, disturbances=disturbed).reasons

    def derived(self) -> dict[str, Any]:
        """What is read off the queries, for JSON."""
        ruling, reasons = self.judge()
        latencies = [1000 * found for found in self.latencies_s]
        waited = [1000 * (q.began_s - q.scheduled_s) for q in self.queries if q.began_s is not None]
        return {
            "ruling": ruling.value,
            "reasons": list(reasons),
            "queries": len(latencies),
            "over": self.over,
            "dropped": sum(query.is_dropped for query in self.queries),
            "left": self.left,
            "left_late": self.left_late,
            "seconds": self.seconds,
            "samples_per_s": self.samples_per_s,
            "estimate_ms": self.estimate_ms,
            **{name: _percentile(latencies, percent) for name, percent in PERCENTILES.items()},
            "max_ms": _percentile(latencies, 100),
            "waited_p50_ms": _percentile(waited, 50),
        }

    def to_row(self) -> dict[str, Any]:
        """The raw times and what is read off them, for JSON.

        What was dropped or left has no latency; `left_waited_ms` is how long what was left, in the
        order of `left`, had waited.
        """
        return {
            "rate": self.rate,
            "streams": self.streams,
            "seed": self.seed,
            "derived": self.derived(),
            "foreign": dict(self.foreign),
            "before": vars(self.before),
            "after": vars(self.after),
            "scheduled_ms": [round(1000 * query.scheduled_s, 3) for query in self.queries],
            "latency_ms": [_finite(query.latency_s, 1000, 4) for query in self.queries],
            "dropped": [number for number, q in enumerate(self.queries) if q.is_dropped],
            "left": [number for number, q in enumerate(self.queries) if q.left_s is not None],
            "left_waited_ms": [
                round(1000 * q.waited_s, 3) for q in self.queries if q.waited_s is not None
            ],
        }


def _percentile(values: Sequence[float], percent: float) -> float | None:
    """A time that was measured, not one between two; None where that query has no answer."""
    if not values:
        return None
    return _finite(float(np.percentile(values, percent, method="higher")), 1, 6)


def _finite(value: float | None, factor: float, digits: int) -> float | None:
    return None if value is None or math.isinf(value) else round(value * factor, digits)
