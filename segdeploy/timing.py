"""Step times of anything callable, what is read off them, and the peak memory of this process."""

import gc
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import perf_counter, perf_counter_ns

import numpy as np
from rich.console import Console
from rich.progress import Progress

from segdeploy.errors import SegdeployError

MAX_MS = 1e9  # of a step: eleven days; more is no time
MIN_STEPS = 3  # timed even when the time is spent: fewer show no spread at all
WARMUP_SHARE = 4  # warm-up takes at most one part in four of `max_seconds`
TURN_WARMUP = 2  # steps of each turn: the engine was just opened
TIMER_READINGS = 10_000  # half a millisecond of them
REDRAW_SECONDS = 0.25  # how often the progress bar is drawn, always between two steps

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Latency:
    """Wall-clock milliseconds of each step; warm-up is kept, never mixed in.

    Percentiles interpolate linearly between the sorted step times (numpy's default, type 7 of
    Hyndman and Fan), so with fewer than 100 steps the 99th lies near the slowest step.
    """

    steps_ms: tuple[float, ...]
    warmup_ms: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.steps_ms:
            raise SegdeployError("no step was timed; wanted at least 1")
        for value in (*self.steps_ms, *self.warmup_ms):
            if not 0 < value <= MAX_MS:
                raise SegdeployError(
                    f"a step took {value} ms; wanted more than 0, at most {MAX_MS:g}"
                )

    @property
    def p50_ms(self) -> float:
        """The median."""
        return self._percentile(50)

    @property
    def p90_ms(self) -> float:
        """Nine steps in ten took no longer."""
        return self._percentile(90)

    @property
    def p95_ms(self) -> float:
        """One step in twenty took longer."""
        return self._percentile(95)

    @property
    def p99_ms(self) -> float:
        """The tail."""
        return self._percentile(99)

    @property
    def p999_ms(self) -> float:
        """The end of the tail; the slowest step, nearly, where there are not thousands."""
        return self._percentile(99.9)

    @property
    def mean_ms(self) -> float:
        """The sum of the steps by their number."""
        return math.fsum(self.steps_ms) / len(self.steps_ms)

    @property
    def fps(self) -> float:
        """Steps per second: the steps by their sum, as mmseg's tools/benchmark.py computes it."""
        return 1000.0 / self.mean_ms

    def _percentile(self, percent: float) -> float:
        return float(np.percentile(self.steps_ms, percent))


@dataclass(frozen=True)
class Timer:
    """What timing takes: one reading of the clock, and the least time that it tells apart."""

    cost_ns: float
    resolution_ns: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cost_ns) and self.cost_ns >= 0 and self.resolution_ns >= 1):
            raise SegdeployError(
                f"a clock that takes {self.cost_ns} ns and tells {self.resolution_ns} ns apart; "
                "wanted at least 0 and 1"
            )


def check_timer(clock: Callable[[], int] = perf_counter_ns) -> Timer:
    """Read the clock again and again: the mean cost of a reading, the least step it shows."""
    readings = [clock() for _ in range(TIMER_READINGS)]
    steps = [after - before for before, after in pairwise(readings)]
    ticks = [step for step in steps if step > 0]
    resolution = min(ticks) if ticks else _wait_for_tick(clock)
    return Timer((readings[-1] - readings[0]) / len(steps), resolution)


def _wait_for_tick(clock: Callable[[], int]) -> int:
    """How far a coarse clock goes on when it does."""
    start = clock()
    while (now := clock()) <= start:
        pass
    return now - start


def measure_latency(
    step: Callable[[], object],
    *,
    warmup: int = 5,  # as many as mmseg's tools/benchmark.py leaves out
    steps: int = 50,
    max_seconds: float | None = None,
) -> Latency:
    """Call `step` again and again and time each call; it must return only when its work is done.

    The garbage collector is off meanwhile, and the progress bar is drawn between the steps by this
    thread, so neither falls into a timed interval.

    Args:
        step: one forward pass; a device must be synchronized before it returns.
        warmup: calls that are timed apart.
        steps: calls that count.
        max_seconds: stop early when warm-up and steps together took this long. Warm-up gets a
            quarter of it; one warm-up call (unless `warmup` is 0) and three steps are made anyway.
    """
    _check(warmup, steps, max_seconds)
    with collector_off():
        return _measure(step, warmup, steps, max_seconds)


def measure_in_turns(
    openings: Sequence[Callable[[], AbstractContextManager[Callable[[], object]]]],
    *,
    rounds: int = 5,
    steps: int = 20,  # of each in each round
    max_seconds: float = 2.0,  # of each in each round, as `measure_latency` takes it
) -> tuple[Latency, ...]:
    """Time several things round by round, so that a slow moment of the machine meets them all.

    Only one of them is open at a time: memory does not grow with their number.

    Args:
        openings: each opens a thing to be timed and gives its step.
        rounds: how often each of them has its turn.
        steps: that count in one turn, after some of warm-up.
        max_seconds: one turn ends early when it took this long; three steps are made anyway.
    """
    if rounds < 1:
        raise SegdeployError(f"{rounds} rounds; wanted at least 1")
    _check(TURN_WARMUP, steps, max_seconds)
    turns: list[list[Latency]] = [[] for _ in openings]
    with collector_off():  # once: a collection takes longer than a turn where torch is loaded
        for _ in range(rounds):
            for opening, own in zip(openings, turns, strict=True):
                with opening() as step:
                    own.append(_measure(step, TURN_WARMUP, steps, max_seconds))
    return tuple(
        Latency(
            tuple(step for turn in own for step in turn.steps_ms),
            tuple(step for turn in own for step in turn.warmup_ms),
        )
        for own in turns
    )


def _check(warmup: int, steps: int, max_seconds: float | None) -> None:
    if warmup < 0 or steps < 1:
        raise SegdeployError(f"{warmup} warm-up and {steps} timed steps; wanted at least 0 and 1")
    if max_seconds is not None and not max_seconds > 0:
        raise SegdeployError(f"max_seconds is {max_seconds}; wanted more than 0")


def _measure(
    step: Callable[[], object], warmup: int, steps: int, max_seconds: float | None
) -> Latency:
    start = perf_counter()
    limit = math.inf if max_seconds is None else max_seconds
    with _bar(warmup + steps) as advance:
        warmup_ms = _repeat(step, warmup, 1, start + limit / WARMUP_SHARE, advance)
        steps_ms = _repeat(step, steps, MIN_STEPS, start + limit, advance)
    return Latency(steps_ms, warmup_ms)


def _repeat(
    step: Callable[[], object],
    count: int,
    at_least: int,
    deadline: float,
    advance: Callable[[], None],
) -> tuple[float, ...]:
    times_ms: list[float] = []
    while len(times_ms) < count and (len(times_ms) < at_least or perf_counter() < deadline):
        before = perf_counter_ns()
        step()
        after = perf_counter_ns()
        times_ms.append(max(after - before, 1) / 1e6)  # a coarse clock may show no difference
        advance()
    return tuple(times_ms)


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector from falling into what is timed."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """Like `progress.progress_bar`, without its redrawing thread, which would disturb a step."""
    console = Console(stderr=True)
    with Progress(
        console=console, auto_refresh=False, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task("latency", total=total)
        drawn = perf_counter()

        def advance() -> None:
            nonlocal drawn
            bars.advance(task)
            if perf_counter() - drawn > REDRAW_SECONDS:
                bars.refresh()
                drawn = perf_counter()

        yield advance


def reset_peak_memory() -> bool:
    """Let the peak start again at what is resident now; False where that is not allowed."""
    if not _CLEAR_REFS.exists():
        return False
    try:
        _CLEAR_REFS.write_text("5")  # proc(5): 5 resets the peak resident set size
    except PermissionError:
        return False
    return True


def peak_memory_bytes() -> int | None:
    """Peak resident memory of this process since `reset_peak_memory`, or else since its start.

    All that the process held in host memory: interpreter, libraries, weights and activations. GPU
    memory is not in it. None on Windows, where neither source of the number exists.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024  # proc(5): in kB, meaning KiB
    if sys.platform == "win32":
        return None
    import resource  # POSIX only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): bytes there, KiB here
