"""Latency: what is timed, what is not, and what is read off the times."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from segdeploy.errors import SegdeployError
from segdeploy.timing import (
    Latency,
    Timer,
    check_timer,
    measure_in_turns,
    measure_latency,
    peak_memory_bytes,
    reset_peak_memory,
)


def test_percentiles_interpolate_linearly() -> None:
    latency = Latency(tuple(float(ms) for ms in range(1, 101)))

    assert latency.p50_ms == pytest.approx(50.5)
    assert latency.p90_ms == pytest.approx(90.1)
    assert latency.p95_ms == pytest.approx(95.05)
    assert latency.p99_ms == pytest.approx(99.01)
    assert latency.p999_ms == pytest.approx(99.901)


def test_fps_is_steps_by_their_sum_and_not_a_mean_of_rates() -> None:
    latency = Latency((10.0, 30.0))

    assert latency.mean_ms == 20.0
    assert latency.fps == 50.0


def test_warmup_is_never_mixed_in() -> None:
    latency = Latency((10.0, 10.0), warmup_ms=(500.0,))

    assert latency.p99_ms == 10.0
    assert latency.fps == 100.0


@pytest.mark.parametrize("times", [(), (0.0,), (-1.0,), (float("nan"),), (1.0, float("inf"))])
def test_impossible_times_are_refused(times: tuple[float, ...]) -> None:
    with pytest.raises(SegdeployError):
        Latency(times)


def test_each_step_is_timed_once_and_warmup_apart() -> None:
    pauses = iter([0.2, 0.002, 0.05, 0.15])

    latency = measure_latency(lambda: time.sleep(next(pauses)), warmup=1, steps=3)

    (warmup,), (first, second, third) = latency.warmup_ms, latency.steps_ms
    assert warmup >= 200
    assert first >= 2
    assert second >= 50
    assert third >= 150


def test_three_steps_are_made_when_the_time_is_spent() -> None:
    latency = measure_latency(lambda: time.sleep(0.01), warmup=5, steps=50, max_seconds=0.001)

    assert len(latency.warmup_ms) == 1
    assert len(latency.steps_ms) == 3


def test_time_limit_leaves_steps_after_the_warmup() -> None:
    latency = measure_latency(lambda: time.sleep(0.01), warmup=1000, steps=1000, max_seconds=0.4)

    assert len(latency.warmup_ms) <= 11
    assert 3 <= len(latency.steps_ms) <= 40


def test_garbage_collector_rests_meanwhile_and_returns() -> None:
    seen: list[bool] = []

    measure_latency(lambda: seen.append(gc.isenabled()), warmup=1, steps=3)

    assert seen == [False] * 4
    assert gc.isenabled()


def test_garbage_collector_returns_after_an_error() -> None:
    def step() -> None:
        raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="gone"):
        measure_latency(step)

    assert gc.isenabled()


def test_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        measure_latency(lambda: None, warmup=0, steps=1)

        assert not gc.isenabled()
    finally:
        gc.enable()


def test_no_thread_redraws_the_bar_while_a_step_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    before = threading.active_count()
    seen: list[int] = []

    def step() -> None:
        time.sleep(0.1)
        seen.append(threading.active_count())

    measure_latency(step, warmup=0, steps=5)

    assert seen == [before] * 5
    captured = capsys.readouterr()
    assert "latency" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(("warmup", "steps", "seconds"), [(-1, 5, None), (0, 0, None), (0, 1, 0.0)])
def test_impossible_counts_are_refused(warmup: int, steps: int, seconds: float | None) -> None:
    with pytest.raises(SegdeployError):
        measure_latency(lambda: None, warmup=warmup, steps=steps, max_seconds=seconds)


def test_peak_memory_remembers_what_was_freed_until_reset() -> None:
    if not reset_peak_memory():
        pytest.skip("this system does not let a process reset its peak")
    before = peak_memory_bytes()
    block = np.ones(200_000_000, np.uint8)
    del block

    peak = peak_memory_bytes()
    reset_peak_memory()
    after = peak_memory_bytes()

    assert before is not None
    assert peak is not None
    assert after is not None
    assert peak >= before + 190_000_000
    assert after <= peak - 190_000_000


def test_turns_go_round_and_one_thing_is_open_at_a_time() -> None:
    calls: list[str] = []

    @contextmanager
    def opening(name: str) -> Iterator[Callable[[], object]]:
        calls.append(f"open {name}")
        yield lambda: calls.append(name)
        calls.append(f"close {name}")

    latencies = measure_in_turns([partial(opening, "a"), partial(opening, "b")], rounds=2, steps=3)

    turns = [["open", *[name] * 5, "close"] for name in "abab"]
    assert [call.partition(" ")[0] for call in calls] == [call for turn in turns for call in turn]
    assert [(len(found.steps_ms), len(found.warmup_ms)) for found in latencies] == [(6, 4), (6, 4)]


def test_turns_need_a_round() -> None:
    with pytest.raises(SegdeployError, match="0 rounds"):
        measure_in_turns([], rounds=0)


def test_a_clock_has_a_cost_and_a_resolution() -> None:
    times = iter(range(0, 10**9, 70))
    coarse = iter([0] * 20_000 + [15_600_000] * 3)

    assert check_timer(lambda: next(times)) == Timer(cost_ns=70, resolution_ns=70)
    assert check_timer(lambda: next(coarse)) == Timer(cost_ns=0, resolution_ns=15_600_000)


def test_the_clock_of_this_machine_passes_its_own_test() -> None:
    found = check_timer()

    assert found.cost_ns > 0
    assert found.resolution_ns >= 1


@pytest.mark.parametrize(("cost", "resolution"), [(-1, 1), (float("nan"), 1), (1, 0)])
def test_impossible_clocks_are_refused(cost: float, resolution: int) -> None:
    with pytest.raises(SegdeployError, match="a clock"):
        Timer(cost, resolution)
